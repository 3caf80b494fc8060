/* SPDX-License-Identifier: BSD-3-Clause
 *
 * human-monitor-command, as far as tests of block layers use it: qemu-io NODE "COMMAND" with read,
 * write, discard and flush, and with the breakpoints of fault filters. What goes wrong with the I/O
 * is told in the text that is returned, as by QEMU; the command itself then has succeeded.
 *
 * I/O takes the lock for changes as other commands do. Breakpoints do not: who lets an operation go
 * must get through although a command that has the lock waits for that very operation.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/parse.h"
#include "control/blockdev.h"
#include "control/fault_watch.h"
#include "filters/filters.h"

#define MAX_IO (64 * MiB)
#define MAX_WORDS 16

static const struct qtype human_args = {
    .kind = Q_STRUCT,
    .name = "human-monitor-command-arg",
    .member = Q_MEMBERS({"command-line", &q_str, false}, {"cpu-index", &q_int, true})};

struct io {    /* one command of qemu-io */
    char verb; /* 'r', 'w', 'd', 'f' */
    bool pattern_given, zero, may_unmap, fua;
    uint64_t pattern, off, len;
};

/* Words of text, divided by blanks; a part in double quotes is one word. text is changed. */
static unsigned split(char *text, char **words)
{
    unsigned n = 0;

    while (n < MAX_WORDS) {
        text += strspn(text, " \t\n");
        if (*text == '\0')
            break;
        bool quoted = *text == '"';
        text += quoted;
        words[n++] = text;
        text += strcspn(text, quoted ? "\"" : " \t\n");
        if (*text)
            *text++ = '\0';
    }
    return n;
}

static bool take_flag(struct io *io, char **words, unsigned n, unsigned *i, struct err **errp)
{
    const char *flag = words[*i];

    if (strcmp(flag, "-P") == 0 && io->verb != 'd' && *i + 1 < n) {
        io->pattern_given = true;
        return parse_u64(words[++*i], "-P", 0, 255, &io->pattern, errp);
    }
    if (strcmp(flag, "-z") == 0 && io->verb == 'w')
        io->zero = true;
    else if (strcmp(flag, "-u") == 0 && io->verb == 'w')
        io->may_unmap = true;
    else if (strcmp(flag, "-f") == 0 && io->verb == 'w')
        io->fua = true;
    else if (strcmp(flag, "-q") != 0)
        return err_set(errp, EINVAL, "qemu-io: option '%s' is not there", flag);
    return true;
}

static bool parse_io(char **words, unsigned n, struct io *io, struct err **errp)
{
    static const char *const verbs[] = {"read", "write", "discard", "flush"};
    unsigned i = 1, v = 0;

    while (v < 4 && (n == 0 || strcmp(words[0], verbs[v]) != 0))
        v++;
    if (v == 4)
        return err_set(errp, EINVAL,
                       "qemu-io: command '%s' is not there; read, write, discard, flush, "
                       "break, resume, remove_break and wait_break are",
                       n ? words[0] : "");
    *io = (struct io){.verb = verbs[v][0], .pattern = 0xcd};
    for (; i < n && words[i][0] == '-'; i++) {
        if (!take_flag(io, words, n, &i, errp))
            return false;
    }
    if (io->verb == 'f')
        return i == n || err_set(errp, EINVAL, "qemu-io: flush takes no arguments");
    if (n - i != 2)
        return err_set(errp, EINVAL, "qemu-io: %s needs an offset and a length", words[0]);
    if (!parse_size(words[i], "offset", &io->off, errp) ||
        !parse_size(words[i + 1], "length", &io->len, errp))
        return false;
    return io->len <= MAX_IO ||
           err_set(errp, EFBIG, "qemu-io: at most %" PRIu64 " bytes at a time", (uint64_t)MAX_IO);
}

/* 0, -errno, or 1: what was read is not the pattern. */
static int read_io(struct node *n, const struct io *io)
{
    AUTO_FREE uint8_t *buf = mem_alloc(io->len);
    int ret = buf ? node_read(n, io->off, buf, io->len) : -ENOMEM;

    for (uint64_t i = 0; ret == 0 && io->pattern_given && i < io->len; i++) {
        if (buf[i] != io->pattern)
            ret = 1;
    }
    return ret;
}

static int do_io(struct node *n, const struct io *io)
{
    AUTO_FREE uint8_t *buf = NULL;
    uint32_t flags = io->fua ? REQ_FUA : 0;

    switch (io->verb) {
    case 'r':
        return read_io(n, io);
    case 'd':
        return node_discard(n, io->off, io->len);
    case 'f':
        return node_flush(n);
    }
    if (io->zero)
        return node_zero(n, io->off, io->len, flags | (io->may_unmap ? REQ_MAY_UNMAP : 0));
    buf = mem_alloc(io->len);
    if (!buf)
        return -ENOMEM;
    memset(buf, (int)io->pattern, io->len);
    return node_write(n, io->off, buf, io->len, flags);
}

static char *outcome(const struct io *io, const char *verb, int ret)
{
    const char *done = io->verb == 'w' ? "wrote" : verb;

    if (ret < 0)
        return mem_printf("%s failed: %s\n", verb, strerror(-ret));
    if (ret > 0)
        return mem_printf("Pattern verification failed at offset %" PRIu64 ", %" PRIu64 " bytes\n",
                          io->off, io->len);
    if (io->verb == 'f')
        return mem_strdup("");
    return mem_printf("%s %" PRIu64 "/%" PRIu64 " bytes at offset %" PRIu64 "\n", done, io->len,
                      io->len, io->off);
}

/* --- Breakpoints --- */

static const struct {
    const char *verb, *problem;
    unsigned n_args;
} break_verbs[] = {
    {"break", "Could not set breakpoint", 2},
    {"resume", "Could not resume request", 1},
    {"remove_break", "Could not remove breakpoint", 1},
    {"wait_break", "Could not wait for a request", 1},
};
enum { VERB_BREAK, VERB_RESUME, VERB_REMOVE, VERB_WAIT, BREAK_VERBS };

static unsigned break_verb(char *const *words, unsigned n)
{
    unsigned v = 0;

    while (v < BREAK_VERBS && (n == 0 || strcmp(words[0], break_verbs[v].verb) != 0))
        v++;
    return v;
}

/* Until an operation is held; the filter cannot be deleted meanwhile. */
static int wait_break(struct control *c, struct graph_node *filter, const char *tag,
                      struct err **errp)
{
    struct graph_edge *use = graph_use(&c->graph, filter, "qemu-io", 0, PERM_ALL, errp);
    int ret;

    if (!use)
        return -EBUSY;
    c->n_waits++;
    ret = fault_wait_break(filter->node, tag);
    graph_unuse(&c->graph, use);
    c->n_waits--;
    co_queue_wake_all(&c->changed);
    return ret;
}

static int do_break(struct control *c, struct graph_node *n, unsigned verb, char *const *words,
                    struct err **errp)
{
    struct node *below = fault_lower(n->node);
    struct graph_node *filter = below ? graph_find_node(&c->graph, below) : NULL;

    if (!filter)
        return -ENOTSUP;
    switch (verb) {
    case VERB_BREAK:
        faults_may_hang(c, true);
        return fault_break(below, words[1], words[2]);
    case VERB_RESUME:
        return fault_resume(below, words[1]);
    case VERB_REMOVE:
        return fault_remove_break(below, words[1]);
    default:
        return wait_break(c, filter, words[1], errp);
    }
}

static char *run_break(struct control *c, struct graph_node *n, unsigned verb, char **words,
                       unsigned n_words, struct err **errp)
{
    struct err *e = NULL;
    int ret;

    if (n_words - 1 != break_verbs[verb].n_args)
        return mem_printf("bad argument count %u to %s, expected %u arguments\n", n_words - 1,
                          words[0], break_verbs[verb].n_args);
    ret = do_break(c, n, verb, words, &e);
    if (e) {
        err_move(errp, e);
        return NULL;
    }
    if (ret == 0)
        return mem_strdup("");
    return mem_printf("%s%s%s: %s\n", break_verbs[verb].problem, verb == VERB_REMOVE ? " " : "",
                      verb == VERB_REMOVE ? words[1] : "", strerror(-ret));
}

/* --- Both --- */

static char *run_io(struct control *c, const char *node, char **words, unsigned n_words,
                    struct err **errp)
{
    struct graph_node *n = blockdev_find(c, node, true, errp);
    struct graph_edge *use;
    struct io io;
    char *text;

    if (!n || !parse_io(words, n_words, &io, errp))
        return NULL;
    use = graph_use(&c->graph, n, "qemu-io",
                    io.verb == 'w' || io.verb == 'd' ? PERM_WRITE : PERM_CONSISTENT_READ, PERM_ALL,
                    errp);
    if (!use)
        return NULL;
    text = outcome(&io, words[0], do_io(n->node, &io));
    graph_unuse(&c->graph, use);
    return text;
}

static char *run_qemu_io(struct control *c, const char *node, char *line, struct err **errp)
{
    char *words[MAX_WORDS], *text = NULL;
    unsigned n = split(line, words), verb = break_verb(words, n);
    struct graph_node *on;
    struct err *e = NULL;

    if (verb < BREAK_VERBS) {
        on = blockdev_find(c, node, true, &e);
        if (on && !c->stopping)
            text = run_break(c, on, verb, words, n, &e);
    } else {
        co_lock(&c->busy);
        if (!c->stopping)
            text = run_io(c, node, words, n, &e);
        co_unlock(&c->busy);
    }
    if (!text && !e)
        err_set(&e, c->stopping ? ESHUTDOWN : ENOMEM,
                c->stopping ? "shutting down" : "out of memory");
    err_move(errp, e);
    return text;
}

static bool run_human(struct call *call, struct err **errp)
{
    AUTO_FREE char *line = mem_strdup(arg_str(call->args, "command-line"));
    AUTO_FREE char *text = NULL;
    char *words[MAX_WORDS];
    unsigned n = line ? split(line, words) : 0;

    if (!line)
        return err_set(errp, ENOMEM, "out of memory");
    if (n != 3 || strcmp(words[0], "qemu-io") != 0)
        return err_set(errp, ENOTSUP,
                       "Only 'qemu-io NODE \"COMMAND\"' is there of the human "
                       "monitor's commands");
    text = run_qemu_io(call->ctl, words[1], words[2], errp);
    return text && call_return(call, json_string(text), errp);
}

const struct command human_commands[] = {
    {"human-monitor-command", &human_args, &q_str, run_human, true},
    {0},
};
