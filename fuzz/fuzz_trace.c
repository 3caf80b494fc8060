/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Any bytes as a trace of faults: each record that is read fits into its bound, is within the
 * tables that print it, and comes back the same from its own bytes.
 */
#include "fuzz/fuzz.h"

#include <string.h>

#include "base/bytes.h"
#include "faults/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const words[] = {"one", "two", "three"};
    static const struct rules_names names = {words, 3, words, 3};
    uint8_t again[TRACE_RECORD_MAX];
    struct trace_record t, back;
    uint64_t seed;
    size_t n;

    if (!trace_header_seed(data, size, &seed))
        return 0;
    for (size_t at = TRACE_HEADER_LEN; at < size; at += n) {
        n = trace_decode(data + at, size - at, &names, &t);
        if (n == 0)
            return 0;
        if (t.event >= 3 || t.kind >= TRACE_KINDS || !fault_deed_name(t.deed) ||
            !fault_op_name(t.op) || !fault_layer_name(t.layer) ||
            strnlen(t.mark, sizeof(t.mark)) == sizeof(t.mark))
            __builtin_trap();
        size_t len = trace_encode(&t, again);
        /* A mark ends at its first NUL. */
        if (len > TRACE_RECORD_MAX || trace_decode(again, len, &names, &back) != len ||
            back.type != t.type || back.off != t.off || back.delay_ns != t.delay_ns)
            __builtin_trap();
    }
    return 0;
}
