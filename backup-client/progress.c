/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The progress line. The rate is of bytes moved; the estimate follows the way through the disk,
 * because how much of it must be copied is known only at its end.
 */
#include "backup-client/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/parse.h"
#include "io/reactor.h"

#define BAR_WIDTH 24
#define REDRAW_NS (NS_PER_S / 5)

int64_t elapsed_ns(int64_t since)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec - since;
}

void progress_init(struct progress *p, int fd, const char *what, uint64_t total)
{
    *p = (struct progress){.on = isatty(fd), .what = what, .total = total};
    p->start_ns = elapsed_ns(0);
}

char *progress_text(const struct progress *p, int64_t now_ns, char *buf, size_t buf_len)
{
    char bar[BAR_WIDTH + 1], moved[32], rate[32], eta[32] = "--:--";
    double share = p->total ? (double)p->pos / (double)p->total : 0;
    double seconds = (double)(now_ns - p->start_ns) / (double)NS_PER_S;
    double left = share > 0.001 ? seconds / share - seconds : -1;
    int full = (int)(share * BAR_WIDTH);

    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    if (left >= 0 && left < 360000) {
        uint64_t s = (uint64_t)(left + 0.5);
        snprintf(eta, sizeof(eta), "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, s / 3600, s / 60 % 60,
                 s % 60);
    }
    size_to_text(p->moved, moved, sizeof(moved));
    size_to_text(seconds > 0.01 ? (uint64_t)((double)p->moved / seconds) : 0, rate, sizeof(rate));
    snprintf(buf, buf_len, "%s [%s] %3d%%  %s  %s/s  ETA %s", p->what, bar, (int)(share * 100),
             moved, rate, eta);
    return buf;
}

void progress_update(struct progress *p, uint64_t pos, uint64_t moved)
{
    char line[160];
    p->pos = pos;
    p->moved = moved;
    int64_t now = elapsed_ns(0);
    if (!p->on || now - p->shown_ns < REDRAW_NS)
        return;
    p->shown_ns = now;
    fprintf(stderr, "\r%s\033[K", progress_text(p, now, line, sizeof(line)));
    fflush(stderr);
}

void progress_end(struct progress *p)
{
    if (p->on && p->shown_ns)
        fputs("\r\033[K", stderr);
}
