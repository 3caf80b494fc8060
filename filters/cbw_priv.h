/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of copy-before-write share. The rules of the whole are in cbw.c.
 */
#ifndef FILTERS_CBW_PRIV_H
#define FILTERS_CBW_PRIV_H

#include "bitmap/hbits.h"
#include "block/guard.h"
#include "block/overlap.h"
#include "filters/filters_priv.h"

/* --- cbw_scratch.c: where old data is kept, at the offset it had on the disk --- */

struct scratch {
    int fd;              /* an unlinked file, or -1: */
    struct node *memory; /* a memory disk, or: */
    struct node *given;  /* the caller's node */
    uint32_t flags;      /* of writes to it */
};

/* scratch_open: for a disk of size bytes. Takes fd (>= 0) over on success. Does not yield.
 * scratch_use: the caller's node; who reads it sees no copy half done, nor anything newer instead.
 */
bool scratch_open(struct scratch *s, int fd, uint64_t size, struct err **errp);
void scratch_use(struct scratch *s, struct node *given, uint32_t flags);
void scratch_close(struct scratch *s);
/* Exactly len bytes: 0 or -errno. Both yield. */
int scratch_read(struct scratch *s, uint64_t off, void *buf, uint64_t len);
int scratch_write(struct scratch *s, uint64_t off, const void *buf, uint64_t len);
/* scratch_keeps_zeros: zeros are written, too, with scratch_zero. */
static inline bool scratch_keeps_zeros(const struct scratch *s)
{
    return s->given;
}
int scratch_zero(struct scratch *s, uint64_t off, uint64_t len);
/* scratch_drop: what is there is not needed any more. Yields. */
void scratch_drop(struct scratch *s, uint64_t off, uint64_t len);

/* --- cbw_view.c --- */

struct cbw {
    struct node_guard guard; /* of child[0], for a cbw that is in nobody's way; see cbw_guard */
    struct cbw_view *newest;
    struct overlap_list busy; /* views that read the live disk; copies; changes of the chain */
    uint64_t lock_align;      /* the largest unit that any view has had */
    uint64_t timeout_ns;      /* that a change waits for its copy; 0: for ever */
    struct co_group late;     /* copies that nobody waits for any more */
};

struct cbw_view {
    struct node *node;
    struct node *cbw; /* node->child[0] once it is attached */
    struct cbw_view *newer, *older;
    unsigned unit_shift;
    struct hbits *copied; /* units whose old content is known here */
    struct hbits *zero;   /* of those: they were zeros, and scratch has nothing */
    struct hbits *denied; /* of those: nobody may read them; NULL: none */
    struct scratch scratch;
    uint64_t scratch_used, scratch_limit; /* bytes */
    bool broken;                          /* something is missing: its reads fail */
    bool closing;                         /* its last reference is gone */
    bool must_keep;                       /* rather than break it a change fails */
    int error;                            /* why it broke; error_reading: at the live disk */
    bool error_reading;
    void (*on_broken)(void *arg);
    void (*on_filling)(void *arg); /* NULL: nobody wants to know, or has been told */
    void *arg;
};

/* cbw_recorder: the view for which old data is copied now: the newest that somebody may still read.
 * NULL: none. */
struct cbw_view *cbw_recorder(const struct cbw *c);
/* view_lacks: does v want a copy of any unit that [off, off + len) touches? */
bool view_lacks(const struct cbw_view *v, uint64_t off, uint64_t len);
/* view_copy: put the content that v shows in [off, off + len) into its scratch, where it is not
 * yet. The caller holds that range, widened to lock_align, exclusively. On an error v is broken, or
 * if it must_keep -errno is returned. Yields. */
int view_copy(struct cbw_view *v, uint64_t off, uint64_t len);
/* view_break: v is lost, for that reason. Does not yield. */
void view_break(struct cbw_view *v, const char *what, int error);

/* --- cbw_resolve.c: where the content of a view is --- */

enum source { SOURCE_ZERO, SOURCE_SCRATCH, SOURCE_LIVE };

struct place {
    enum source source;
    struct cbw_view *holder; /* SCRATCH: whose */
    uint64_t len;            /* bytes for which this holds */
};
/* view_find: where v's content at off is, for how much of [off, off + len). Does not yield. */
struct place view_find(struct cbw_view *v, uint64_t off, uint64_t len);
/* view_read: v's content. The caller holds the range, shared at least. Yields. */
int view_read(struct cbw_view *v, uint64_t off, void *buf, uint64_t len);
/* view_extent: what v's first bytes at off are: the flags, and for how many of the len bytes they
 * hold. Never fails: what cannot be found out is data. The caller holds the range. Yields. */
uint64_t view_extent(struct cbw_view *v, uint64_t off, uint64_t len, uint32_t *flags);

#endif
