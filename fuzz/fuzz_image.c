/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sound images stay sound. What the independent judge of the tests calls free of corruption reads
 * the same through our driver, can be written to, and is free of corruption and holds the right
 * content afterwards. (What is not sound is the business of fuzz_qcow2.)
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/rng.h"
#include "block/sim.h"
#include "fuzz/fuzz.h"
#include "io/reactor.h"
#include "tests/lib/judge.h"

#define MAX_LEN (UINT64_C(1) << 20)
#define MAX_GUEST (UINT64_C(4) << 20)

static void no_log(enum log_level level, const char *line, void *arg)
{
}

/* The guest size, which decides how long everything takes; whether rounded or not is no matter. */
static bool worthwhile(const uint8_t *data, size_t size)
{
    uint64_t guest = size >= 32 ? get_be64(data + 24) : 0;
    return size <= MAX_LEN && guest <= MAX_GUEST && guest % 512 == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reactor *r;
    if (!worthwhile(data, size))
        return 0;
    log_set_sink(no_log, NULL);
    struct sim_disk *d = sim_disk_new(0);
    if (!d || !sim_disk_load(d, data, size) || !reactor_new(REACTOR_SIM, &r, NULL))
        abort();
    struct judge j = {
        .open = true, .write_after = true, .may_refuse = true, .seed = rng_hash(size)};
    if (!judge_image(&j, d) && j.sound) {
        fprintf(stderr, "%s\n", j.text);
        abort();
    }
    reactor_free(r);
    sim_disk_free(d);
    return 0;
}
