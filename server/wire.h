/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The NBD wire format: constants, and a pure codec between bytes and structs.
 *
 * Nothing here does I/O or keeps state, so every function can be tested and fuzzed by itself.
 * Numbers and names are those of doc/proto.md of the NBD project. Decoders never read outside the
 * bytes that they were given and leave policy (limits, unknown values) to their callers.
 */
#ifndef SERVER_WIRE_H
#define SERVER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

#define NBD_MAGIC UINT64_C(0x4e42444d41474943)        /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_REP_MAGIC UINT64_C(0x0003e889045565a9)
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu
#define NBD_EXTENDED_REQUEST_MAGIC 0x21e41c71u
#define NBD_EXTENDED_REPLY_MAGIC 0x6e8a278cu

enum { /* handshake flags, both ways */
       NBD_FLAG_FIXED_NEWSTYLE = 1,
       NBD_FLAG_NO_ZEROES = 2,
};

enum { /* transmission flags */
       NBD_FLAG_HAS_FLAGS = 1 << 0,
       NBD_FLAG_READ_ONLY = 1 << 1,
       NBD_FLAG_SEND_FLUSH = 1 << 2,
       NBD_FLAG_SEND_FUA = 1 << 3,
       NBD_FLAG_SEND_TRIM = 1 << 5,
       NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
       NBD_FLAG_SEND_DF = 1 << 7,
       NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
       NBD_FLAG_SEND_RESIZE = 1 << 9,
       NBD_FLAG_SEND_CACHE = 1 << 10,
       NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
       NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12,
};

enum { /* options */
       NBD_OPT_EXPORT_NAME = 1,
       NBD_OPT_ABORT = 2,
       NBD_OPT_LIST = 3,
       NBD_OPT_STARTTLS = 5,
       NBD_OPT_INFO = 6,
       NBD_OPT_GO = 7,
       NBD_OPT_STRUCTURED_REPLY = 8,
       NBD_OPT_LIST_META_CONTEXT = 9,
       NBD_OPT_SET_META_CONTEXT = 10,
       NBD_OPT_EXTENDED_HEADERS = 11,
};

#define NBD_REP_ERR(n) (0x80000000u + (n))
#define NBD_REP_ACK 1u
#define NBD_REP_SERVER 2u
#define NBD_REP_INFO 3u
#define NBD_REP_META_CONTEXT 4u
#define NBD_REP_ERR_UNSUP NBD_REP_ERR(1)
#define NBD_REP_ERR_POLICY NBD_REP_ERR(2)
#define NBD_REP_ERR_INVALID NBD_REP_ERR(3)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERR(5)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERR(6)
#define NBD_REP_ERR_SHUTDOWN NBD_REP_ERR(7)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERR(9)
#define NBD_REP_ERR_EXT_HEADER_REQD NBD_REP_ERR(10)

enum { /* information types of INFO and GO */
       NBD_INFO_EXPORT = 0,
       NBD_INFO_NAME = 1,
       NBD_INFO_DESCRIPTION = 2,
       NBD_INFO_BLOCK_SIZE = 3,
};

enum nbd_cmd {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
    NBD_CMD_RESIZE = 8,
    NBD_CMD_COUNT
};

enum { /* command flags */
       NBD_CMD_FLAG_FUA = 1 << 0,
       NBD_CMD_FLAG_NO_HOLE = 1 << 1,
       NBD_CMD_FLAG_DF = 1 << 2,
       NBD_CMD_FLAG_REQ_ONE = 1 << 3,
       NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
       NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5,
};

#define NBD_REPLY_FLAG_DONE 1
enum { /* chunk types of structured replies */
       NBD_REPLY_TYPE_NONE = 0,
       NBD_REPLY_TYPE_OFFSET_DATA = 1,
       NBD_REPLY_TYPE_OFFSET_HOLE = 2,
       NBD_REPLY_TYPE_BLOCK_STATUS = 5,
       NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6,
       NBD_REPLY_TYPE_ERROR = 0x8001,
};

enum nbd_error {
    NBD_SUCCESS = 0,
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

#define NBD_NAME_MAX 4096 /* bytes of any string */

/* Sizes of the fixed parts, in bytes. */
#define WIRE_GREETING_SIZE 18
#define WIRE_OPTION_SIZE 16
#define WIRE_OPTION_REPLY_SIZE 20
#define WIRE_REQUEST_SIZE 28
#define WIRE_SIMPLE_SIZE 16
#define WIRE_CHUNK_SIZE 20
#define WIRE_EXT_REQUEST_SIZE 32
#define WIRE_EXT_CHUNK_SIZE 32

/* --- Handshake --- */

/* wire_put_greeting: the server's first WIRE_GREETING_SIZE bytes. */
void wire_put_greeting(uint8_t *p, uint16_t flags);

struct wire_option {
    uint32_t type;
    uint32_t len; /* of the data that follows, bytes */
};
/* wire_get_option: decode WIRE_OPTION_SIZE bytes; false if the magic is wrong. */
bool wire_get_option(const uint8_t *p, struct wire_option *out);
void wire_put_option_reply(uint8_t *p, uint32_t option, uint32_t type, uint32_t len);

/* A cursor over bytes from the peer. Reading past the end sets bad and returns zero or NULL. */
struct wire_reader {
    const uint8_t *p;
    size_t left;
    bool bad;
};
uint16_t wire_u16(struct wire_reader *r);
uint32_t wire_u32(struct wire_reader *r);
/* wire_bytes: the next n bytes (they stay where they are), or NULL. */
const uint8_t *wire_bytes(struct wire_reader *r, size_t n);

struct wire_str { /* not terminated */
    const char *p;
    size_t len;
};
/* wire_string: a 32-bit length and so many bytes. A string that is over NBD_NAME_MAX or holds a NUL
 * sets bad ("Conventions"). */
struct wire_str wire_string(struct wire_reader *r);

/* Data of NBD_OPT_INFO and NBD_OPT_GO. */
struct wire_go {
    struct wire_str name;
    uint16_t n_info;
    const uint8_t *info; /* n_info big-endian 16-bit numbers */
};
/* wire_get_go: false if malformed (a length that does not add up, an overlong name, a NUL). */
bool wire_get_go(const uint8_t *data, size_t len, struct wire_go *out);
/* wire_go_asks: does the list hold this information type? */
bool wire_go_asks(const struct wire_go *g, uint16_t type);

/* Data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
struct wire_meta {
    struct wire_str name;
    uint32_t n_queries;
    struct wire_reader queries; /* fetch with wire_string, n_queries times */
};
/* wire_get_meta: checks the whole list of queries as well: the lengths add up exactly, no string is
 * overlong or holds a NUL. False if malformed. */
bool wire_get_meta(const uint8_t *data, size_t len, struct wire_meta *out);

/* wire_printable: text for messages: at most 80 bytes of s, odd bytes replaced by '?', "..." when
 * it was cut. Returns buf. */
#define WIRE_PRINTABLE_SIZE 88
char *wire_printable(char buf[WIRE_PRINTABLE_SIZE], struct wire_str s);

/* --- Transmission: these are on the hot path --- */

struct wire_request {
    uint16_t flags;
    uint16_t type;
    uint64_t cookie;
    uint64_t off; /* bytes */
    uint64_t len; /* bytes of the export that it is about; below 4 GiB without extended headers */
    uint64_t payload; /* bytes that follow the header */
};

/* wire_get_request: decode WIRE_REQUEST_SIZE bytes; false if the magic is wrong. */
static inline bool wire_get_request(const uint8_t *p, struct wire_request *out)
{
    out->flags = get_be16(p + 4);
    out->type = get_be16(p + 6);
    memcpy(&out->cookie, p + 8, 8); /* opaque: kept in wire order */
    out->off = get_be64(p + 16);
    out->len = get_be32(p + 24);
    out->payload = out->type == NBD_CMD_WRITE ? out->len : 0;
    return get_be32(p) == NBD_REQUEST_MAGIC;
}

/* wire_get_ext_request: the same of WIRE_EXT_REQUEST_SIZE bytes, as they are once extended headers
 * were negotiated. Whether the length is a payload's is what PAYLOAD_LEN says; but a WRITE always
 * has one: QEMU's client (9.0) leaves the flag out. */
static inline bool wire_get_ext_request(const uint8_t *p, struct wire_request *out)
{
    out->flags = get_be16(p + 4);
    out->type = get_be16(p + 6);
    memcpy(&out->cookie, p + 8, 8);
    out->off = get_be64(p + 16);
    out->len = get_be64(p + 24);
    bool has_payload = out->type == NBD_CMD_WRITE || out->flags & NBD_CMD_FLAG_PAYLOAD_LEN;
    out->payload = has_payload ? out->len : 0;
    return get_be32(p) == NBD_EXTENDED_REQUEST_MAGIC;
}

/* wire_put_simple: WIRE_SIMPLE_SIZE bytes. */
static inline void wire_put_simple(uint8_t *p, uint32_t error, uint64_t cookie)
{
    put_be32(p, NBD_SIMPLE_REPLY_MAGIC);
    put_be32(p + 4, error);
    memcpy(p + 8, &cookie, 8);
}

/* wire_put_chunk: the WIRE_CHUNK_SIZE bytes before a structured reply's payload of len bytes. */
static inline void wire_put_chunk(uint8_t *p, uint16_t flags, uint16_t type, uint64_t cookie,
                                  uint32_t len)
{
    put_be32(p, NBD_STRUCTURED_REPLY_MAGIC);
    put_be16(p + 4, flags);
    put_be16(p + 6, type);
    memcpy(p + 8, &cookie, 8);
    put_be32(p + 16, len);
}

/* wire_put_ext_chunk: the WIRE_EXT_CHUNK_SIZE bytes before the payload of an extended reply; off is
 * the request's. */
static inline void wire_put_ext_chunk(uint8_t *p, uint16_t flags, uint16_t type, uint64_t cookie,
                                      uint64_t off, uint64_t len)
{
    put_be32(p, NBD_EXTENDED_REPLY_MAGIC);
    put_be16(p + 4, flags);
    put_be16(p + 6, type);
    memcpy(p + 8, &cookie, 8);
    put_be64(p + 16, off);
    put_be64(p + 24, len);
}

/* wire_error: the NBD error for a positive or negative errno; 0 for 0. EDQUOT and EFBIG become
 * ENOSPC, what the protocol does not know becomes EIO. */
enum nbd_error wire_error(int error);
/* wire_error_text: a sentence fragment for people. */
const char *wire_error_text(enum nbd_error error);
/* wire_cmd_name: "read" etc.; "unknown command" for others. */
const char *wire_cmd_name(uint16_t type);

#endif
