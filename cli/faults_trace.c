/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `breakwater faults trace`: a trace as text or as lines of JSON. What is damaged is told with its
 * place; what comes before is printed. A trace without an end is one of a server that still runs,
 * or that was killed.
 */
#include "cli/faults_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "block/event.h"
#include "cli/cli.h"
#include "faults/trace.h"
#include "filters/filters.h"

#define BUF 65536

struct trace_reader {
    int fd;
    uint64_t number, at; /* of the next record; of buf[0], in the file */
    size_t used;
    bool end;
    uint8_t buf[BUF];
};

static const char *kind_name(unsigned kind)
{
    const struct rules_names *names = fault_names();

    return kind < names->n_kinds ? names->kind[kind] : "other";
}

static void print_json(uint64_t number, const struct trace_record *t)
{
    const struct rules_names *names = fault_names();
    json_t *o = NULL;

    if (t->type == TRACE_EVENT)
        o = json_pack("{s:I,s:s}", "record", (json_int_t)number, "event", names->event[t->event]);
    else if (t->type == TRACE_MARK)
        o = json_pack("{s:I,s:o}", "record", (json_int_t)number, "mark",
                      json_stringn_nocheck(t->mark, strlen(t->mark)));
    else if (t->type == TRACE_FULL)
        o = json_pack("{s:I,s:b}", "record", (json_int_t)number, "full", 1);
    else
        o = json_pack("{s:I,s:s,s:s,s:s,s:b,s:I,s:I,s:I,s:s,s:I,s:I,s:I}", "record",
                      (json_int_t)number, "layer", fault_layer_name(t->layer), "op",
                      fault_op_name(t->op), "kind", kind_name(t->kind), "fua", t->fua, "offset",
                      (json_int_t)t->off, "length", (json_int_t)t->len, "connection",
                      (json_int_t)t->conn, "outcome", fault_deed_name(t->deed), "rule",
                      (json_int_t)t->rule, "errno", (json_int_t)t->error, "delay-ns",
                      (json_int_t)t->delay_ns);
    if (o)
        json_dumpf(o, stdout, JSON_COMPACT);
    json_decref(o);
    putchar('\n');
}

static void print_request(const struct trace_record *t)
{
    printf("%s %s %" PRIu64 "+%" PRIu64 "%s", fault_layer_name(t->layer), fault_op_name(t->op),
           t->off, t->len, t->fua ? " fua" : "");
    if (t->kind)
        printf(" kind=%s", kind_name(t->kind));
    if (t->conn)
        printf(" conn=%" PRIu64, t->conn);
    if (t->deed != FAULT_PASS)
        printf(": %s", fault_deed_name(t->deed));
    if (t->error)
        printf(", %s", strerror((int)t->error));
    if (t->delay_ns)
        printf("%s after %" PRIu64 " us", t->deed == FAULT_PASS ? ": passes" : "",
               t->delay_ns / 1000);
    if (t->rule)
        printf(", by rule #%" PRIu64, t->rule);
}

static void print_text(uint64_t number, const struct trace_record *t)
{
    printf("%8" PRIu64 " ", number);
    switch (t->type) {
    case TRACE_EVENT:
        printf("event %s", fault_names()->event[t->event]);
        break;
    case TRACE_REQUEST:
        print_request(t);
        break;
    case TRACE_MARK:
        printf("mark ");
        for (const char *c = t->mark; *c; c++) /* somebody else wrote it */
            putchar((unsigned char)*c < ' ' || *c == 127 ? '?' : *c);
        break;
    default:
        printf("the trace is full");
        break;
    }
    putchar('\n');
}

static bool fill(struct trace_reader *r, const char *path, struct err **errp)
{
    while (!r->end && r->used < BUF) {
        ssize_t n = read(r->fd, r->buf + r->used, BUF - r->used);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set_errno(errp, errno, "Could not read '%s'", path);
        r->end = n == 0;
        r->used += (size_t)n;
    }
    return true;
}

static void skip(struct trace_reader *r, size_t n)
{
    memmove(r->buf, r->buf + n, r->used - n);
    r->used -= n;
    r->at += n;
}

static bool print_all(struct trace_reader *r, const char *path, bool json, struct err **errp)
{
    uint64_t seed;

    if (!fill(r, path, errp))
        return false;
    if (!trace_header_seed(r->buf, r->used, &seed))
        return err_set(errp, EINVAL, "'%s' is no fault trace", path);
    if (json)
        printf("{\"seed\":\"0x%" PRIx64 "\"}\n", seed);
    else
        printf("seed 0x%" PRIx64 "\n", seed);
    skip(r, TRACE_HEADER_LEN);
    for (;;) {
        size_t pos = 0, n;
        struct trace_record t;

        if (!fill(r, path, errp))
            return false;
        while (pos < r->used && (r->end || r->used - pos >= TRACE_RECORD_MAX)) {
            n = trace_decode(r->buf + pos, r->used - pos, fault_names(), &t);
            if (n == 0)
                return err_set(errp, EINVAL, "'%s' is damaged, or not whole, at byte %" PRIu64,
                               path, r->at + pos);
            (json ? print_json : print_text)(++r->number, &t);
            pos += n;
        }
        skip(r, pos);
        if (r->end && r->used == 0)
            return true;
    }
}

int faults_trace(const char *path, bool json)
{
    struct trace_reader r = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    struct err *e = NULL;
    bool ok;

    if (r.fd < 0) {
        err_set_errno(&e, errno, "Could not open '%s'", path);
        return cli_fail(CLI_FAILED, e);
    }
    ok = print_all(&r, path, json, &e);
    close(r.fd);
    if (fflush(stdout) != 0 && ok)
        ok = err_set_errno(&e, errno, "standard output");
    return ok ? CLI_OK : cli_fail(CLI_FAILED, e);
}
