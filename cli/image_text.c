/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Text of `breakwater image`: JSON, sizes, names. Names come out of image files: they may hold
 * anything, and are made harmless before a terminal sees them.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/image.h"
#include "io/reactor.h"

json_t *image_json_text(const char *text)
{
    json_t *v = json_string(text);
    if (v)
        return v;
    AUTO_FREE char *ascii = mem_strdup(text);
    for (char *p = ascii; p && *p; p++)
        if (*p & 0x80)
            *p = '?';
    return ascii ? json_string(ascii) : NULL;
}

bool image_print_json(json_t *v)
{
    bool ok = v && json_dumpf(v, stdout,
                              JSON_INDENT(4) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12)) == 0;
    json_decref(v);
    return ok && putchar('\n') != EOF && fflush(stdout) == 0;
}

char *image_plain(const char *text)
{
    char *plain = mem_strdup(text);
    for (char *p = plain; p && *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    return plain;
}

char *image_size_text(uint64_t bytes, char *buf, size_t len)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    unsigned i = 0;
    while (v >= 1000 && i + 1 < sizeof(units) / sizeof(units[0])) {
        v /= 1024;
        i++;
    }
    snprintf(buf, len, "%0.3g %s", v, units[i]);
    return buf;
}

char *image_backing_path(const char *path, const char *backing)
{
    const char *slash = strrchr(path, '/');
    if (backing[0] == '/' || !slash)
        return mem_strdup(backing);
    return mem_printf("%.*s%s", (int)(slash + 1 - path), path, backing);
}

/* Who did not ask for progress is spared that of work that is soon done. */
static struct {
    unsigned delay_ms;
    int64_t from_ns; /* 0: nobody has come to show any yet */
    bool begun;
} shown;

void image_progress_later(unsigned delay_ms)
{
    shown.delay_ms = delay_ms;
}

void image_progress(uint64_t done, uint64_t all)
{
    if (!shown.from_ns)
        shown.from_ns = clock_ns() + (int64_t)shown.delay_ms * 1000000;
    if (!shown.begun && shown.delay_ms && (done >= all || clock_ns() < shown.from_ns))
        return;
    shown.begun = true;
    /* The last one ends the line. */
    fprintf(stderr, "    (%.2f/100%%)%c", all ? 100.0 * (double)done / (double)all : 100.0,
            done >= all ? '\n' : '\r');
}
