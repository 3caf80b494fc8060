/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image snapshot [-l | -c NAME | -a SNAPSHOT | -d SNAPSHOT] FILE
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <time.h>

#include "base/cleanup.h"
#include "cli/image_change.h"
#include "cli/image_result.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"
#include "qcow2/snapshot.h"

#define NS_PER_SECOND UINT64_C(1000000000)

static json_t *number(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static json_t *one_json(const struct qc_snapshot *s, bool disk_size)
{
    json_t *j = json_object();
    json_object_set_new(j, "id", image_json_text(s->id));
    json_object_set_new(j, "name", image_json_text(s->name));
    json_object_set_new(j, "vm-state-size", number(s->vm_state_bytes));
    json_object_set_new(j, "date-sec", number(s->date_sec));
    json_object_set_new(j, "date-nsec", number(s->date_nsec));
    json_object_set_new(j, "vm-clock-sec", number(s->vm_clock_ns / NS_PER_SECOND));
    json_object_set_new(j, "vm-clock-nsec", number(s->vm_clock_ns % NS_PER_SECOND));
    if (s->icount != UINT64_MAX)
        json_object_set_new(j, "icount", number(s->icount));
    if (disk_size && s->extra_len >= 16)
        json_object_set_new(j, "disk-size", number(s->disk_size));
    return j;
}

json_t *image_snapshots_json(const struct qc_image_info *q, bool disk_size)
{
    json_t *list = json_array();
    for (size_t i = 0; i < q->n_snapshots; i++)
        json_array_append_new(list, one_json(&q->snapshots[i], disk_size));
    return list;
}

void image_snapshots_print(const struct qc_image_info *q)
{
    printf("Snapshot list:\n%-9s %-16s %8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE",
           "VM CLOCK", "ICOUNT");
    for (size_t i = 0; i < q->n_snapshots; i++) {
        const struct qc_snapshot *s = &q->snapshots[i];
        AUTO_FREE char *id = image_plain(s->id);
        AUTO_FREE char *name = image_plain(s->name);
        char size[32], date[32] = "?", icount[24] = "";
        time_t t = s->date_sec;
        struct tm tm;
        uint64_t sec = s->vm_clock_ns / NS_PER_SECOND, ms = s->vm_clock_ns / 1000000 % 1000;
        if (localtime_r(&t, &tm))
            strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
        if (s->icount != UINT64_MAX)
            snprintf(icount, sizeof(icount), "%" PRIu64, s->icount);
        printf("%-9s %-16s %8s %19s %02" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ".%03" PRIu64 " %10s\n",
               id ? id : "?", name ? name : "?", image_size_text(s->vm_state_bytes, size, 32), date,
               sec / 3600, sec / 60 % 60, sec % 60, ms, icount);
    }
}

static void list(struct image_job *job)
{
    struct qc_image_info info;
    struct node *file = image_open_file(&job->o, 0, &job->err);
    if (!file)
        return;
    if (qc_inspect(file, &info, &job->err)) {
        if (job->o.json) {
            if (!image_print_json(image_snapshots_json(&info, true)))
                job->exit_code = IMAGE_FAILED;
        } else if (info.n_snapshots) {
            image_snapshots_print(&info);
        }
    }
    qc_image_info_free(&info);
    node_unref(file);
}

static json_t *result(const struct image_job *job, const char *action)
{
    json_t *j = image_result_new(job->o.file[0]);
    image_result_text(j, "action", action);
    return j;
}

static bool create(struct image_job *job, struct node *n, int64_t started_ns)
{
    struct qc_new_snapshot s = {.name = job->change.name};
    struct timespec now;
    char id[24];
    clock_gettime(CLOCK_REALTIME, &now);
    s.date_sec = (uint32_t)now.tv_sec;
    s.date_nsec = (uint32_t)now.tv_nsec;
    if (!qc_snapshot_create(n, &s, id, &job->err))
        return false;
    if (job->o.json) {
        json_t *j = result(job, "create");
        image_result_text(j, "id", id);
        image_result_text(j, "name", s.name);
        image_result_print(job, j, started_ns);
    }
    return true;
}

static bool apply(struct image_job *job, struct node *n, int64_t started_ns)
{
    const struct qc_snapshot_ref any = {.any = job->change.name};
    if (!qc_snapshot_apply(n, &any, true, &job->err))
        return false;
    if (job->o.json) {
        json_t *j = result(job, "apply");
        image_result_text(j, "snapshot", job->change.name);
        image_result_number(j, "virtual-size", n->size);
        image_result_print(job, j, started_ns);
    }
    return true;
}

/* As qemu-img: what is deleted is looked for by name; by id only if there is no such name. */
static bool delete_named(struct image_job *job, struct node *n)
{
    struct err *e = NULL;
    if (qc_snapshot_delete(n, &(struct qc_snapshot_ref){.name = job->change.name}, &e))
        return true;
    if (err_code(e) != ENOENT)
        return err_move(&job->err, e);
    err_free(e);
    return qc_snapshot_delete(n, &(struct qc_snapshot_ref){.any = job->change.name}, &job->err);
}

static bool delete (struct image_job *job, struct node *n, int64_t started_ns)
{
    if (!delete_named(job, n))
        return false;
    if (job->o.json) {
        json_t *j = result(job, "delete");
        image_result_text(j, "snapshot", job->change.name);
        image_result_disk(j, job->o.file[0]);
        image_result_print(job, j, started_ns);
    }
    return true;
}

static void change(struct image_job *job)
{
    const struct image_opts *o = &job->o;
    int64_t started_ns = clock_ns();
    /* What lies below does not matter: no cluster is looked into. */
    const struct qc_open_opts qo = {.path = o->file[0], .no_backing = true};
    struct node *file = image_open_writable(o, 0, &job->err);
    struct node *n = file ? qc_open(file, &qo, &job->err) : NULL;
    if (!n) {
        node_unref(file);
        return;
    }
    bool ok = job->change.action == 'c'   ? create(job, n, started_ns)
              : job->change.action == 'a' ? apply(job, n, started_ns)
                                          : delete (job, n, started_ns);
    if (!ok)
        err_prefix(&job->err, "%s: ", o->file[0]);
    node_unref(n);
}

static void snapshot_run(struct image_job *job)
{
    if (job->o.format[0] == FORMAT_RAW)
        err_set(&job->err, ENOTSUP, "%s: a raw image has no snapshots", job->o.file[0]);
    else if (job->change.action == 'l' || !job->change.action)
        list(job);
    else
        change(job);
}

const struct image_command image_snapshot_command = {
    .name = "snapshot",
    .options = "flcadUqJO",
    .parse = image_change_parse,
    .min_files = 1,
    .max_files = 1,
    .fail_code = IMAGE_FAILED,
    .run = snapshot_run,
};
