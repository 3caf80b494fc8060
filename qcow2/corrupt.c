/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What happens when the tables turn out to be wrong while the image is in use.
 *
 * The first finding is logged with file and offset. An image that is open for writing is marked
 * corrupt on disk (version 3) and gets no further write from us, neither data nor cached metadata:
 * what is durable so far stays as it is, and what can be read still can.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "qcow2/qcow2_priv.h"

int qc_corrupt(struct qc *q, const char *fmt, ...)
{
    if (q->corrupt)
        return -EIO;
    q->corrupt = true;

    va_list ap;
    va_start(ap, fmt);
    AUTO_FREE char *what = mem_vprintf(fmt, ap);
    va_end(ap);
    log_error("%s: image is corrupt: %s%s", q->node->name, what ? what : "(no memory for details)",
              q->read_only ? "" : "; no more writes are accepted");
    if (q->read_only || q->version < 3)
        return -EIO;

    uint8_t be[8];
    q->incompatible |= QC_INCOMPAT_CORRUPT;
    put_be64(be, q->incompatible);
    int r = node_write_kind(q->file, QCH_INCOMPATIBLE, be, sizeof(be), 0, KIND_HEADER);
    if (r < 0)
        log_error("%s: cannot mark the image corrupt: error %d", q->node->name, -r);
    return -EIO;
}
