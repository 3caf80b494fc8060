/* SPDX-License-Identifier: BSD-3-Clause
 *
 * An independent judge of qcow2 images, for tests only.
 *
 * It is written from docs/interop/qcow2.txt of QEMU and shares nothing with the driver in qcow2/:
 * a mistake in the driver's understanding of the format must not hide itself. It recounts every
 * reference, compares with the refcounts on disk, and reads guest content by its own translation.
 * An image with an external data file that it cannot read is reported as corrupt ("not
 * understood"), never passed over.
 */
#ifndef TESTS_LIB_QCOW2_CHECK_H
#define TESTS_LIB_QCOW2_CHECK_H

#include <stdbool.h>
#include <stdint.h>

/* The bytes of an image. read: any range; bytes past size come back as zeros. */
struct qck_source {
    void (*read)(void *arg, uint64_t off, void *buf, uint64_t len);
    void *arg;
    uint64_t size;
    uint64_t second; /* for read: where the data file begins, if the image has one; 0: unknown */
    const char *snapshot; /* qck_read: the name of the snapshot to look at; NULL: present state */
};

struct sim_disk;
/* qck_sim: the present content of a simulated disk, which must stay as it is meanwhile. */
struct qck_source qck_sim(struct sim_disk *d);
/* qck_file: an open file. Its size is taken now. */
struct qck_source qck_file(const int *fd);

#define QCK_TEXT_LEN 1024

struct qck_report {
    uint64_t corruptions;    /* what may lose data: a refcount too low, double use, bad entries */
    uint64_t leaks;          /* clusters whose refcount is too high: space lost, nothing else */
    uint64_t guest_size;     /* bytes; 0 if the header is not understood */
    uint32_t snapshots;      /* how many there are */
    bool raw;                /* the data file must read the same as the image */
    char text[QCK_TEXT_LEN]; /* the first findings, one a line */
};

/* qck_check: examine the whole image ("Host cluster management", "Cluster mapping"). *r is filled
 * anew. True: no corruption (leaks are legal). Does not yield; aborts without memory. */
bool qck_check(const struct qck_source *src, struct qck_report *r);

/* qck_read: guest content, unallocated clusters as zeros. False, and *r says why, if an entry on
 * the way cannot be followed. off + len must be within guest_size. */
bool qck_read(const struct qck_source *src, uint64_t guest_off, void *buf, uint64_t len,
              struct qck_report *r);

/* A stored bitmap. Without the image's autoclear bit there are none. */
struct qck_bitmap {
    char name[1024];
    bool in_use, enabled;
    uint64_t granularity, n_bits;
    uint8_t *bits; /* a byte each; NULL if in_use */
};
/* qck_bitmaps: how many there are; *r says what is wrong with them. Free with qck_bitmaps_free. */
unsigned qck_bitmaps(const struct qck_source *src, struct qck_bitmap **out, struct qck_report *r);
void qck_bitmaps_free(struct qck_bitmap *v, unsigned n);

/* qck_has_snapshot: is there one of this name? */
bool qck_has_snapshot(const struct qck_source *src, const char *name, struct qck_report *r);

/* qck_share: make all tables and data clusters of a sound image (16-bit refcounts, no node open on
 * it) look shared: refcount 2, COPIED clear. The log of d begins anew. */
bool qck_share(struct sim_disk *d);

#endif
