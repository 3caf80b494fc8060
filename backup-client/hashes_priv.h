/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The layout of hash files, shared by their writer and reader. All integers are big-endian.
 */
#ifndef BACKUP_CLIENT_HASHES_PRIV_H
#define BACKUP_CLIENT_HASHES_PRIV_H

#define HASH_MAGIC "BWHASH\r\n" /* 8 bytes; shows a transfer in text mode */
#define HASH_VERSION 1
#define HASH_HEADER_LEN 64 /* magic, version:4, block:4, disk size:8, uuid:16, zero */
#define HASH_RECORD_LEN 24 /* type:4, zero:4, a:8, b:8 */

enum hash_record {
    HASH_REC_DATA = 1, /* a: first block, b: blocks; then b digests */
    HASH_REC_ZERO = 2, /* a: first block, b: blocks */
    HASH_REC_END = 3,  /* a: blocks of data in the file, b: blocks of zeros; nothing follows */
};

#endif
