/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `breakwater faults trace`: a trace as text or as lines of JSON. What is damaged is told with its
 * place; what comes before is printed. A trace without an end is one of a server that still runs,
 * or that was killed.
 */
#include "cli/faults_trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/bytes.h"
#include "block/event.h"
#include "cli/cli.h"
#include "faults/trace_file.h"
#include "filters/filters.h"

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
    else if (t->type == TRACE_FULL || t->type == TRACE_END)
        o = json_pack("{s:I,s:b}", "record", (json_int_t)number,
                      t->type == TRACE_FULL ? "full" : "end", 1);
    else if (t->type == TRACE_SETUP)
        o = json_pack("{s:I,s:b}", "record", (json_int_t)number, "cache", t->setup.cache.on);
    else
        o = json_pack("{s:I,s:s,s:s,s:s,s:b,s:I,s:I,s:I,s:s,s:I,s:I,s:I}", "record",
                      (json_int_t)number, "layer", fault_layer_name(t->layer), "op",
                      fault_op_name(t->op), "kind", kind_name(t->kind), "fua", t->fua, "offset",
                      (json_int_t)t->off, "length", (json_int_t)t->len, "connection",
                      (json_int_t)t->conn, "outcome", fault_deed_name(t->what.deed), "rule",
                      (json_int_t)t->what.id, "errno", (json_int_t)t->what.error, "delay-ns",
                      (json_int_t)t->what.delay_ns);
    if (o)
        json_dumpf(o, stdout, JSON_COMPACT);
    json_decref(o);
    putchar('\n');
}

static void print_request(const struct trace_record *t)
{
    const struct fault_decision *d = &t->what;

    printf("%s %s %" PRIu64 "+%" PRIu64 "%s", fault_layer_name(t->layer), fault_op_name(t->op),
           t->off, t->len, t->fua ? " fua" : "");
    if (t->kind)
        printf(" kind=%s", kind_name(t->kind));
    if (t->conn)
        printf(" conn=%" PRIu64, t->conn);
    if (d->deed != FAULT_PASS)
        printf(": %s", fault_deed_name(d->deed));
    if (d->error)
        printf(", %s", strerror(d->error));
    if (d->delay_ns)
        printf("%s after %" PRIu64 " us", d->deed == FAULT_PASS ? ": passes" : "",
               d->delay_ns / 1000);
    if (d->powercut)
        printf(", and the power is cut");
    if (d->id)
        printf(", by rule #%" PRIu64, d->id);
}

static void print_setup(const struct trace_setup *s)
{
    const struct cache_conf *c = &s->cache;

    printf("the disk");
    if (s->limits.align > 1)
        printf(" has blocks of %" PRIu64, s->limits.align);
    if (c->on)
        printf(" has a volatile cache of %" PRIu64 " at the %s layer", c->size,
               fault_layer_name(c->layer));
    else
        printf(" has no volatile cache");
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
    case TRACE_SETUP:
        print_setup(&t->setup);
        break;
    default:
        printf("%s", t->type == TRACE_FULL ? "the trace is full" : "end");
        break;
    }
    putchar('\n');
}

int faults_trace(const char *path, bool json)
{
    struct err *e = NULL;
    uint64_t seed, number = 0;
    struct trace_file *f = trace_file_open(path, &seed, &e);
    struct trace_record t;
    int more = -1;

    if (f && json)
        printf("{\"seed\":\"0x%" PRIx64 "\"}\n", seed);
    else if (f)
        printf("seed 0x%" PRIx64 "\n", seed);
    while (f && (more = trace_file_next(f, fault_names(), &t, &e)) > 0)
        (json ? print_json : print_text)(++number, &t);
    if (more == 0 && !trace_file_is_whole(f))
        fprintf(stderr, "%s has no end: its server still runs, or was killed\n", path);
    trace_file_close(f);
    if (fflush(stdout) != 0 && more == 0)
        more = err_set_errno(&e, errno, "standard output") ? 0 : -1;
    return more == 0 ? CLI_OK : cli_fail(CLI_FAILED, e);
}
