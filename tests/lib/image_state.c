/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading all of an image, and comparing.
 */
#include "tests/lib/image_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/sim.h"
#include "tests/lib/qcow2_check_priv.h"

static bool take_disk(struct image_disk *k, struct qck_source src, struct qck_report *r)
{
    k->data = qck_alloc(k->size + 1, 1);
    src.snapshot = k->name[0] ? k->name : NULL;
    return qck_read(&src, 0, k->data, k->size, r);
}

bool image_state_take(struct image_state *s, struct sim_disk *d)
{
    struct qck_source src = qck_sim(d);
    struct qck_report r;
    struct qck_image im = {.src = &src, .r = &r};
    struct qck_snapshot it = {0};
    *s = (struct image_state){0};
    bool ok = qck_check(&src, &r) && qck_load_header(&im);
    s->leaks = r.leaks;
    s->now.size = im.guest_size;
    ok = ok && take_disk(&s->now, src, &r);
    while (ok && s->n < IMAGE_STATE_SNAPS && qck_snapshot_next(&im, &it)) {
        struct image_disk *k = &s->snap[s->n++];
        snprintf(k->name, sizeof(k->name), "%s", it.name);
        k->size = it.size;
        ok = take_disk(k, src, &r);
    }
    snprintf(s->text, sizeof(s->text), "%s", r.text);
    return ok && r.corruptions == 0;
}

static bool disk_equal(const struct image_disk *a, const struct image_disk *b)
{
    return a->size == b->size && !strcmp(a->name, b->name) && !memcmp(a->data, b->data, a->size);
}

bool image_state_equal(const struct image_state *a, const struct image_state *b)
{
    if (a->n != b->n || !disk_equal(&a->now, &b->now))
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!disk_equal(&a->snap[i], &b->snap[i]))
            return false;
    return true;
}

void image_state_free(struct image_state *s)
{
    free(s->now.data);
    for (uint32_t i = 0; i < s->n; i++)
        free(s->snap[i].data);
    *s = (struct image_state){0};
}
