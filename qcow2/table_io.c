/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tables in the host file, read and written in chunks: one request of 32 MiB would keep the disk
 * from everybody else's.
 */
#include "qcow2/qcow2_priv.h"

#define CHUNK (UINT64_C(2) << 20)

int qc_read_table(struct qc *q, uint64_t host_off, uint8_t *buf, uint64_t len)
{
    int r = 0;
    for (uint64_t done = 0; r == 0 && done < len; done += CHUNK)
        r = qc_read_host(q, host_off + done, buf + done, min_u64(len - done, CHUNK));
    return r;
}

int qc_write_table(struct qc *q, uint64_t host_off, const uint8_t *buf, uint64_t len,
                   enum req_kind kind)
{
    int r = 0;
    for (uint64_t done = 0; r == 0 && done < len; done += CHUNK)
        r = node_write_kind(q->file, host_off + done, buf + done, min_u64(len - done, CHUNK), 0,
                            kind);
    return r;
}
