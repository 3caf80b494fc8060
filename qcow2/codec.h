/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The two ways in which a cluster can be compressed. Pure functions over bytes, for any thread.
 * Source: qcow2.txt, "Additional fields" (compression type) and "Compressed Clusters Descriptor".
 */
#ifndef QCOW2_CODEC_H
#define QCOW2_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum qc_codec { QC_CODEC_DEFLATE = 0, QC_CODEC_ZSTD = 1 }; /* values of the header field */

/* qc_codec_unpack: src must yield exactly len bytes; what follows their end in src is ignored. 0,
 * -EIO (short, too long, garbage), -ENOMEM. Whatever src says, no more memory is used than the
 * library's fixed state. */
int qc_codec_unpack(enum qc_codec codec, const uint8_t *src, size_t n, uint8_t *dst, size_t len);
/* qc_codec_pack: the packed length, or 0 if it would exceed room or memory is short. */
size_t qc_codec_pack(enum qc_codec codec, const uint8_t *src, size_t len, uint8_t *dst,
                     size_t room);

/* A packer keeps the tables of one codec between clusters; one thread at a time uses it.
 * qc_packer_new: NULL without memory. qc_packer_pack: as qc_codec_pack. */
struct qc_packer;
struct qc_packer *qc_packer_new(enum qc_codec codec);
void qc_packer_free(struct qc_packer *p);
size_t qc_packer_pack(struct qc_packer *p, const uint8_t *src, size_t len, uint8_t *dst,
                      size_t room);

/* qc_codec_hopeless: would deflate gain nothing on this? Much faster than trying. */
bool qc_codec_hopeless(const uint8_t *src, size_t len);

#endif
