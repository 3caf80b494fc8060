/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The judge's own reading of the snapshot table ("Snapshots" in qcow2.txt).
 */
#include <inttypes.h>

#include "base/bytes.h"
#include "tests/lib/qcow2_check_priv.h"

#define MAX_TEXT 256

static void get_text(const struct qck_image *im, uint64_t off, uint32_t len, char *text)
{
    uint32_t n = len < MAX_TEXT - 1 ? len : MAX_TEXT - 1;
    im->src->read(im->src->arg, off, text, n);
    text[n] = '\0';
}

bool qck_snapshot_next(struct qck_image *im, struct qck_snapshot *s)
{
    uint8_t e[64] = {0};
    if (s->i == im->nb_snapshots)
        return false;
    uint64_t off = im->snapshots_off + s->end;
    im->src->read(im->src->arg, off, e, sizeof(e));
    uint32_t extra = get_be32(e + 36), id = get_be16(e + 12), name = get_be16(e + 14);
    s->l1_off = get_be64(e);
    s->l1_size = get_be32(e + 8);
    s->size = extra >= 16 ? get_be64(e + 48) : im->guest_size;
    if (off + 40 > im->src->size || extra > 1024 || s->l1_size > (32u << 20) / 8 ||
        (im->version >= 3 && extra < 16)) {
        qck_bad(im->r,
                "snapshot %" PRIu32 " at 0x%" PRIx64 ": %" PRIu32 " L1 entries, %" PRIu32
                " bytes of extra data",
                s->i, off, s->l1_size, extra);
        return false;
    }
    get_text(im, off + 40 + extra, id, s->id);
    get_text(im, off + 40 + extra + id, name, s->name);
    s->end = round_up(s->end + 40 + extra + id + name, 8);
    s->i++;
    return true;
}

bool qck_snapshot_enter(struct qck_image *im, const char *name)
{
    struct qck_snapshot s = {0};
    while (qck_snapshot_next(im, &s)) {
        if (strcmp(s.name, name) != 0)
            continue;
        im->l1_off = s.l1_off;
        im->l1_size = s.l1_size;
        im->guest_size = im->r->guest_size = s.size;
        return true;
    }
    qck_bad(im->r, "there is no snapshot %s", name);
    return false;
}

bool qck_has_snapshot(const struct qck_source *src, const char *name, struct qck_report *r)
{
    struct qck_image im = {.src = src, .r = r};
    *r = (struct qck_report){0};
    return qck_load_header(&im) && qck_snapshot_enter(&im, name);
}
