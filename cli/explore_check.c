/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Judging one crash state: with the user's command, which finds it as an export, or with our own
 * checker of qcow2 images.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "cli/explore.h"
#include "io/io.h"
#include "qcow2/check.h"

#define OUTPUT_MAX 4000 /* bytes of what a check said that are kept, the last ones */
#define COPY_PIECE MiB

/* --- Our own --- */

static void note_finding(void *arg, bool leak, const char *text)
{
    char **first = arg;

    if (!leak && !*first)
        *first = mem_strdup(text);
}

static bool check_qcow2(const struct explore_state *s, bool *ok, char **result, char **output,
                        struct err **errp)
{
    struct qc_check_opts qo = {.found = note_finding, .arg = output};
    struct qc_check_report report = {0};
    AUTO_ERR struct err *e = NULL;

    if (!qc_check(s->node, &qo, &report, &e)) {
        if (err_code(e) == ENOMEM)
            return err_move(errp, steal(e));
        *result = mem_strdup(err_msg(e));
    } else if (report.corruptions) {
        *result = mem_printf("%" PRIu64 " corruptions", report.corruptions);
    } else {
        mem_free(steal(*output));
        *ok = true;
        return true;
    }
    return *result || err_set(errp, ENOMEM, "out of memory");
}

/* --- The user's --- */

static char *last_output(int fd)
{
    struct stat st;
    off_t from;
    char *text;
    ssize_t n;

    if (fstat(fd, &st) < 0)
        return mem_strdup("");
    from = st.st_size > OUTPUT_MAX ? st.st_size - OUTPUT_MAX : 0;
    text = mem_alloc(OUTPUT_MAX + 1);
    if (!text)
        return NULL;
    n = pread(fd, text, OUTPUT_MAX, from);
    text[n < 0 ? 0 : n] = 0;
    for (ssize_t i = 0; i < n; i++)
        if (text[i] == 0)
            text[i] = '?';
    return text;
}

static bool run_check(struct explore *x, const struct explore_state *s, const char *name, int out,
                      struct command *c, struct err **errp)
{
    AUTO_FREE char *text = explore_fill_in(x, x->o->check, name);
    char **env = explore_environment(x, name, s->mark);
    bool ok = (text && env) || err_set(errp, ENOMEM, "out of memory");

    *c = (struct command){.text = text,
                          .extra = (const char *const *)env,
                          .out_fd = out,
                          .timeout_ms = x->o->check_timeout_ms};
    ok = ok && commands_run(&x->commands, c, errp);
    explore_environment_free(env);
    if (ok && c->end == COMMAND_STOPPED)
        return err_set(errp, EINTR, "interrupted");
    return ok;
}

static bool check_export(struct explore *x, const struct explore_state *s, int out,
                         struct command *c, struct err **errp)
{
    AUTO_FREE char *name = mem_printf("%" PRIu64, s->number);
    struct export_opts eo = {.name = name, .top = s->node};
    struct err *removal = NULL;
    bool ok;

    if (!name)
        return err_set(errp, ENOMEM, "out of memory");
    node_ref(s->node); /* the export takes one over */
    if (!server_add_export(x->server, &eo, errp)) {
        node_unref(s->node);
        return false;
    }
    ok = run_check(x, s, name, out, c, errp);
    server_remove_export(x->server, name, &removal);
    err_free(removal);
    return ok;
}

bool explore_check(struct explore *x, const struct explore_state *s, bool *ok, char **result,
                   char **output, struct err **errp)
{
    bool shown = x->o->state != UINT64_MAX; /* the user wants to see what this one says */
    struct command c = {0};
    char how[80];

    if (strcmp(x->o->check, "builtin:qcow2") == 0)
        return check_qcow2(s, ok, result, output, errp);
    AUTO_CLOSE int fd = shown ? -1 : memfd_create("check", MFD_CLOEXEC);
    if (!shown && fd < 0)
        return err_set_errno(errp, errno, "memfd_create");
    if (!check_export(x, s, shown ? STDERR_FILENO : fd, &c, errp))
        return false;
    *ok = c.end == COMMAND_EXITED && c.code == 0;
    if (*ok)
        return true;
    *result = mem_strdup(command_text(&c, how, sizeof(how)));
    *output = shown ? mem_strdup("") : last_output(fd);
    return (*result && *output) || err_set(errp, ENOMEM, "out of memory");
}

/* --- A copy --- */

static bool is_zero(const uint8_t *p, uint64_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static int copy_piece(struct node *n, int fd, uint64_t off, uint64_t len, uint8_t *buf)
{
    int ret = node_read(n, off, buf, len);

    for (uint64_t done = 0; ret == 0 && !is_zero(buf, len) && done < len;) {
        ssize_t put = io_pwrite(fd, buf + done, len - done, off + done);

        if (put <= 0)
            ret = put < 0 ? (int)put : -EIO;
        else
            done += (uint64_t)put;
    }
    return ret;
}

static int copy_all(struct node *n, int fd, uint8_t *buf)
{
    struct extents ext;
    int ret = 0;

    extents_init(&ext, 64);
    for (uint64_t off = 0; ret == 0 && off < n->size;) {
        uint64_t len = min_u64(COPY_PIECE, n->size - off);

        ret = node_status(n, off, n->size - off, &ext);
        if (ret == 0 && ext.n > 0 && ext.v[0].flags & EXTENT_ZERO) {
            off += ext.v[0].len;
            continue;
        }
        if (ret == 0)
            ret = copy_piece(n, fd, off, len, buf);
        off += len;
    }
    extents_free(&ext);
    return ret;
}

bool explore_keep(struct node *n, const char *path, struct err **errp)
{
    AUTO_FREE uint8_t *buf = mem_alloc(COPY_PIECE);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int ret;

    if (!buf)
        return err_set(errp, ENOMEM, "out of memory");
    if (fd < 0 || ftruncate(fd, (off_t)n->size) < 0)
        return err_set_errno(errp, errno, "'%s'", path);
    ret = copy_all(n, fd, buf);
    return ret == 0 || err_set_errno(errp, -ret, "'%s'", path);
}
