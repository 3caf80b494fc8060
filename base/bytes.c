/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/bytes.h"

bool bytes_are_zero(const void *p, size_t len)
{
    const unsigned char *c = p;
    /* The first 16 bytes decide in nearly every non-zero buffer; if they are zero, the rest is zero
     * exactly when it equals itself shifted by 16, which memcmp tests at memory speed. */
    size_t head = len < 16 ? len : 16;
    for (size_t i = 0; i < head; i++)
        if (c[i])
            return false;
    return len <= 16 || memcmp(c, c + 16, len - 16) == 0;
}
