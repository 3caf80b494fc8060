/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A part of a backing chain in the hands of a job, which moves content along it.
 */
#ifndef CONTROL_CHAIN_H
#define CONTROL_CHAIN_H

#include "control/copy_job.h"

struct chain {
    struct control *ctl;
    struct graph_node *top, *base; /* base: NULL: the chain is held down to its end */
    struct graph_edge **use;       /* the job's, of the nodes from top to base */
    unsigned n_use;
    bool relaxed;
    char *name; /* of base, for a header; NULL: none */
    const char *format;
};

/* chain_has: is n below top, or top? chain_images: how many images (filters do not count) there are
 * from top on, above base (NULL: all). chain_find_file: the node below n whose file has this name,
 * or is called so by the image above it; NULL: none. */
bool chain_has(const struct graph_node *top, const struct graph_node *n);
unsigned chain_images(const struct graph_node *top, const struct graph_node *base);
struct graph_node *chain_find_file(const struct graph_node *n, const char *name);
/* chain_name: what headers are to say of base: file (NULL: its own name) and its format. */
bool chain_name(struct chain *ch, const char *file, struct err **errp);
/* chain_use: one more node that the job works on. type: "commit"... (static). */
bool chain_use(struct chain *ch, struct graph_node *n, const char *type, const struct job *j,
               unsigned perm, unsigned shared, struct err **errp);
/* chain_relax: let those of the chain who use each other bear that content moves. */
void chain_relax(struct chain *ch, bool on);
/* chain_release: all that is held. Yields. chain_lock: for the job's own coroutine: no command
 * changes the graph until chain_unlock. */
void chain_release(struct chain *ch);
void chain_lock(struct chain *ch);
void chain_unlock(struct chain *ch);
/* chain_set_header: of an image that is above base: what it says of its backing file. It may be
 * open read-only. Yields. */
bool chain_set_header(struct chain *ch, struct graph_node *n, const char *name, const char *format,
                      struct err **errp);

/* chain_set_backing: let image n lie upon `to` (NULL: nothing), of which it has not been told in
 * its header. Drains it for a moment. What it lay upon goes if nobody else has it. Yields. */
bool chain_set_backing(struct graph *g, struct graph_node *n, struct graph_node *to,
                       struct err **errp);
/* chain_set_headers: of all images that lie upon top: they name base now. *old, NULL at first: what
 * they said before, for chain_headers_end, which frees it, and may put it back. Both yield. */
struct old_header;
bool chain_set_headers(struct chain *ch, struct old_header **old, struct err **errp);
void chain_headers_end(struct chain *ch, struct old_header *all, bool put_back);

/* What block-commit and block-stream ask for, resolved. */
struct chain_wish {
    struct control *ctl;
    const char *job_id;
    struct graph_node *top, *base, *overlay; /* commit: overlay: NULL if top is active */
    const char *backing_file;                /* NULL: base's name */
    enum on_error on_error;
    uint64_t speed;
    bool auto_finalize, auto_dismiss;
};
/* commit_start, stream_start: begin the job. Yield. */
bool commit_start(const struct chain_wish *w, struct err **errp);
bool stream_start(const struct chain_wish *w, struct err **errp);

#endif
