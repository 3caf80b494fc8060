/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Opening the backing file and the data file.
 *
 * What an image names is input from whoever made the image. So: the format of a backing file is
 * never probed (a raw disk's guest could write a qcow2 header into its first sector); names with a
 * protocol are refused; and a file must lie beneath the image's own folder, or beneath the
 * directory that the user allowed. The kernel enforces the last (openat2 with RESOLVE_BENEATH), so
 * that a symbolic link swapped in between cannot lead out. Loops are found by device and inode.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "block/file.h"
#include "qcow2/qcow2_priv.h"

#define MAX_CHAIN 64

/* "proto:rest", as opposed to a path that happens to contain a colon. */
static bool has_protocol(const char *name)
{
    size_t n = strcspn(name, ":/");
    return name[n] == ':';
}

/* The real path of a file's folder, in a new string (from realpath: free() it). */
static char *folder_of(const char *path)
{
    AUTO_FREE char *dir = mem_strdup(path);
    if (!dir)
        return NULL;
    char *slash = strrchr(dir, '/');
    if (!slash)
        return realpath(".", NULL);
    slash[slash == dir] = '\0';
    return realpath(dir, NULL);
}

struct place {        /* where a named file is */
    const char *what; /* "backing file" or "data file" */
    const char *name; /* as the image says it */
    char *base;       /* the allowed directory, real path; from realpath */
    char *full;       /* absolute path, folder resolved */
    const char *rel;  /* the part of full beneath base */
};

static void place_free(struct place *p)
{
    free(p->base);
    mem_free(p->full);
}

static bool place_find(struct place *p, const struct qc_open_opts *opts, struct err **errp)
{
    const char *name = p->name;
    char *image_dir = folder_of(opts->path);
    AUTO_FREE char *joined = NULL;
    if (image_dir)
        joined = name[0] == '/' ? mem_strdup(name) : mem_printf("%s/%s", image_dir, name);
    p->base = opts->backing_dir ? realpath(opts->backing_dir, NULL) : image_dir;
    if (opts->backing_dir)
        free(image_dir);
    if (!p->base)
        return err_set_errno(errp, errno, "cannot find the folder %s",
                             opts->backing_dir ? opts->backing_dir : "of the image");
    char *dir = joined ? folder_of(joined) : NULL;
    if (!dir)
        return err_set_errno(errp, joined ? errno : ENOMEM, "cannot find the %s '%s'", p->what,
                             name);
    const char *leaf = strrchr(joined, '/') + 1;
    p->full = mem_printf("%s/%s", strcmp(dir, "/") ? dir : "", leaf);
    free(dir);
    if (!p->full)
        return err_set(errp, ENOMEM, "out of memory");
    size_t n = strlen(p->base);
    if (n == 1) /* "/" */
        n = 0;
    if (!*leaf || !strcmp(leaf, ".") || !strcmp(leaf, "..") || strncmp(p->full, p->base, n) != 0 ||
        p->full[n] != '/')
        return err_set(errp, EACCES,
                       "%s '%s' is not beneath %s: allow its folder explicitly to use it", p->what,
                       name, p->base);
    p->rel = p->full + n + 1;
    return true;
}

static bool check_chain(const struct stat *st, const struct place *p, const struct qc_chain *self,
                        struct err **errp)
{
    if (self->depth >= MAX_CHAIN)
        return err_set(errp, EFBIG, "%s '%s': the chain is longer than %d images", p->what, p->name,
                       MAX_CHAIN);
    for (const struct qc_chain *c = self; c; c = c->above)
        if (c->dev == st->st_dev && c->ino == st->st_ino)
            return err_set(errp, EINVAL, "%s '%s' is already in the chain: it forms a loop",
                           p->what, p->name);
    return true;
}

/* The file itself, and in *chain its place in the chain below self. */
static struct node *open_at(int dir_fd, const struct qc_open_opts *opts, const struct place *p,
                            const struct qc_chain *self, bool read_only, struct qc_chain *chain,
                            struct err **errp)
{
    struct stat st;
    /* Only to find loops; what is opened is decided by file_open's own resolution. */
    if (fstatat(dir_fd, p->rel, &st, 0) < 0) {
        err_set_errno(errp, errno, "cannot open the %s '%s'", p->what, p->name);
        return NULL;
    }
    if (!check_chain(&st, p, self, errp))
        return NULL;
    const struct file_opts fo = {.path = p->rel,
                                 .read_only = read_only,
                                 .direct = opts->direct,
                                 .no_lock = opts->no_lock,
                                 .dir_fd = dir_fd};
    *chain = (struct qc_chain){
        .dev = st.st_dev, .ino = st.st_ino, .depth = self->depth + 1, .above = self};
    return file_open(&fo, errp);
}

/* A file that an image names, if it may be opened at all. p: what and name are filled in. */
static struct node *open_named(struct place *p, const struct qc_open_opts *opts,
                               const struct qc_chain *self, bool read_only, struct qc_chain *chain,
                               struct err **errp)
{
    struct node *n = NULL;
    if (has_protocol(p->name)) {
        err_set(errp, ENOTSUP, "%s '%s' names a protocol; only local files are supported", p->what,
                p->name);
    } else if (!opts->path) {
        err_set(errp, EACCES, "%s '%s' cannot be opened: the image has no path", p->what, p->name);
    } else if (place_find(p, opts, errp)) {
        AUTO_CLOSE int fd = open(p->base, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            err_set_errno(errp, errno, "cannot open the folder %s", p->base);
        else
            n = open_at(fd, opts, p, self, read_only, chain, errp);
    }
    return n;
}

static struct node *open_format(struct node *file, const struct qc_header *h,
                                const struct qc_open_opts *opts, const struct place *p,
                                const struct qc_chain *chain, struct err **errp)
{
    if (!strcmp(h->backing_format, "raw"))
        return file;
    struct qc_open_opts below = *opts;
    below.path = p->full;
    below.read_only = opts->writable_backing != 1;
    below.writable_backing = opts->writable_backing ? opts->writable_backing - 1 : 0;
    below.backing = NULL;
    below.data_file = NULL;
    below.snapshot = NULL;
    struct node *n = qc_open_chain(file, &below, chain, errp);
    if (!n)
        node_unref(file);
    return n;
}

struct node *qc_backing_open(const struct qc_header *h, const struct qc_open_opts *opts,
                             const struct qc_chain *self, struct err **errp)
{
    struct place p = {.what = "backing file", .name = h->backing_name};
    struct qc_chain chain;
    struct node *n = NULL;
    if (!h->backing_format[0])
        err_set(errp, EINVAL,
                "backing file '%s' has no format in the header, and formats are never guessed: set "
                "it with breakwater image rebase -u -F",
                h->backing_name);
    else if (strcmp(h->backing_format, "raw") != 0 && strcmp(h->backing_format, "qcow2") != 0)
        err_set(errp, ENOTSUP, "backing file format '%s' is not supported, only qcow2 and raw",
                h->backing_format);
    else
        n = open_named(&p, opts, self, opts->writable_backing != 1, &chain, errp);
    if (n)
        n = open_format(n, h, opts, &p, &chain, errp);
    place_free(&p);
    return n;
}

struct node *qc_data_open(const struct qc_header *h, const struct qc_open_opts *opts,
                          const struct qc_chain *self, struct err **errp)
{
    struct place p = {.what = "external data file", .name = h->data_name};
    struct qc_chain chain;
    struct node *n = NULL;
    if (!h->data_name[0])
        err_set(
            errp, EACCES,
            "the guest data is in an external data file (incompatible_features bit 2), of which "
            "the image does not tell the name");
    else
        n = open_named(&p, opts, self, opts->read_only, &chain, errp);
    place_free(&p);
    return n;
}
