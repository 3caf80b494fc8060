/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The io_uring back end: one ring, one submitter; completions are taken in only when the loop asks
 * (DEFER_TASKRUN), so that nothing interrupts a pass.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/reactor_priv.h"

#define RING_ENTRIES 512

/* File transfers longer than this go to a kernel worker at once: what the page cache holds would
 * otherwise be copied inside our system call, while the sockets wait and other CPUs idle. */
#define ASYNC_MIN ((size_t)128 << 10)

/* A wait that ends sooner than this carries its own timeout; for what is farther off there is one
 * alarm in the kernel that stays set from wait to wait. Setting a timer at every wait costs
 * microseconds (on a virtual machine it leaves the guest), and a server that has any far deadline
 * would pay them for every request. */
#define NEAR_NS (2 * NS_PER_MS)

/* A client with one request at a time sends the next some microseconds after our reply. Going to
 * sleep and being woken takes longer than that, on both sides. So if waits have been short of late,
 * look for completions for a moment before sleeping. A look in vain is not repeated for a growing
 * number of waits: an idle server, or one that shares its CPU with the client, does not spin. */
#define SPIN_NS 50000
#define SPIN_SKIP_MAX 256

/* user_data of entries that belong to no io_op. */
#define TAG_WAKEUP ((void *)1)
#define TAG_IGNORE ((void *)2)
#define TAG_ALARM ((void *)3)

struct uring {
    struct io_uring ring;
    bool wakeup_armed;
    bool alarm_set;
    int64_t alarm_ns; /* when it goes off, on the monotonic clock */
    struct __kernel_timespec alarm_ts;
    bool can_spin;      /* the kernel tells through shared memory when there is work */
    bool waits_short;   /* the last wait was */
    unsigned spin_skip; /* waits without a look that follow the next look in vain */
    unsigned spin_wait; /* waits to go until the next look */
};

static struct io_uring *ring_of(struct reactor *r)
{
    return &((struct uring *)r->backend_state)->ring;
}

/* A ring goes around filters of system calls: it must do no more than we ask of it, and what it may
 * do cannot be changed later. */
static int restrict_ring(struct io_uring *ring)
{
    static const uint8_t ops[] = {
        IORING_OP_READ,    IORING_OP_WRITE,          IORING_OP_FSYNC,        IORING_OP_FALLOCATE,
        IORING_OP_RECV,    IORING_OP_SENDMSG,        IORING_OP_ACCEPT,       IORING_OP_POLL_ADD,
        IORING_OP_TIMEOUT, IORING_OP_TIMEOUT_REMOVE, IORING_OP_ASYNC_CANCEL,
    };
    struct io_uring_restriction res[ARRAY_LEN(ops) + 1] = {0};

    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        res[i].opcode = IORING_RESTRICTION_SQE_OP;
        res[i].sqe_op = ops[i];
    }
    res[ARRAY_LEN(ops)].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    res[ARRAY_LEN(ops)].sqe_flags = IOSQE_ASYNC;
    /* Not through liburing, of which some versions declare these and do not have them. */
    if (syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, res,
                ARRAY_LEN(res)) < 0 ||
        syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
        return -errno;
    return 0;
}

static bool uring_init(struct reactor *r, struct err **errp)
{
    struct uring *u = mem_new(struct uring);
    if (!u)
        return err_set(errp, ENOMEM, "io_uring: out of memory");
    struct io_uring_params p = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_R_DISABLED,
        .cq_entries = RING_ENTRIES * 8,
    };
    int res = io_uring_queue_init_params(RING_ENTRIES, &u->ring, &p);
    u->can_spin = res == 0;
    if (res == -EINVAL) { /* before Linux 6.1 */
        p = (struct io_uring_params){.flags = IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
                                     .cq_entries = RING_ENTRIES * 8};
        res = io_uring_queue_init_params(RING_ENTRIES, &u->ring, &p);
    }
    if (res < 0) {
        mem_free(u);
        return err_set_errno(errp, -res, "io_uring is not available");
    }
    if (!(p.features & IORING_FEAT_EXT_ARG) || !(p.features & IORING_FEAT_NODROP)) {
        io_uring_queue_exit(&u->ring);
        mem_free(u);
        return err_set(errp, ENOTSUP, "io_uring of this kernel is too old (Linux 5.11 is needed)");
    }
    res = restrict_ring(&u->ring);
    if (res < 0) {
        io_uring_queue_exit(&u->ring);
        mem_free(u);
        return err_set_errno(errp, -res, "io_uring cannot be restricted");
    }
    r->backend_state = u;
    return true;
}

static void uring_destroy(struct reactor *r)
{
    io_uring_queue_exit(ring_of(r));
    mem_free(r->backend_state);
}

static struct io_uring_sqe *get_sqe(struct reactor *r)
{
    struct io_uring *ring = ring_of(r);
    struct io_uring_sqe *sqe;
    while (!(sqe = io_uring_get_sqe(ring)))
        io_uring_submit(ring);
    return sqe;
}

static void uring_submit(struct reactor *r, struct io_op *op)
{
    struct io_uring_sqe *sqe = get_sqe(r);
    /* The kernel's length is 32 bits; callers loop over short transfers anyway. */
    unsigned len = op->len > (1u << 30) ? (1u << 30) : (unsigned)op->len;
    switch (op->kind) {
    case IO_READ:
        io_uring_prep_read(sqe, op->fd, op->buf, len, op->off);
        break;
    case IO_WRITE:
        io_uring_prep_write(sqe, op->fd, op->buf, len, op->off);
        break;
    case IO_FDATASYNC:
        io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
        break;
    case IO_FALLOCATE:
        io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, op->fd, NULL, (unsigned)op->mode, op->off);
        sqe->addr = op->len;
        break;
    case IO_RECV:
        io_uring_prep_recv(sqe, op->fd, op->buf, len, op->mode);
        break;
    case IO_SENDMSG:
        io_uring_prep_sendmsg(sqe, op->fd, op->msg, MSG_NOSIGNAL);
        break;
    case IO_ACCEPT:
        io_uring_prep_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        break;
    case IO_POLL:
        io_uring_prep_poll_add(sqe, op->fd, (unsigned)op->mode);
        break;
    }
    if ((op->kind == IO_READ || op->kind == IO_WRITE) && op->len > ASYNC_MIN)
        io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
    io_uring_sqe_set_data(sqe, op);
}

static void uring_cancel(struct reactor *r, struct io_op *op)
{
    struct io_uring_sqe *sqe = get_sqe(r);
    io_uring_prep_cancel(sqe, op, 0);
    io_uring_sqe_set_data(sqe, TAG_IGNORE);
}

static void arm_wakeup(struct reactor *r)
{
    struct uring *u = r->backend_state;
    if (u->wakeup_armed)
        return;
    struct io_uring_sqe *sqe = get_sqe(r);
    io_uring_prep_poll_add(sqe, r->event_fd, POLLIN);
    io_uring_sqe_set_data(sqe, TAG_WAKEUP);
    u->wakeup_armed = true;
}

/* set_alarm: wake the ring at at_ns at the latest. One that is set for earlier is left alone: it
 * goes off for nothing once, and the next one is then set right. */
static void set_alarm(struct reactor *r, int64_t at_ns)
{
    struct uring *u = r->backend_state;
    if (u->alarm_set && u->alarm_ns <= at_ns)
        return;
    struct io_uring_sqe *sqe = get_sqe(r);
    u->alarm_ts =
        (struct __kernel_timespec){.tv_sec = at_ns / NS_PER_S, .tv_nsec = at_ns % NS_PER_S};
    if (u->alarm_set) {
        io_uring_prep_timeout_update(sqe, &u->alarm_ts, (uintptr_t)TAG_ALARM, IORING_TIMEOUT_ABS);
        io_uring_sqe_set_data(sqe, TAG_IGNORE);
    } else {
        io_uring_prep_timeout(sqe, &u->alarm_ts, 0, IORING_TIMEOUT_ABS);
        io_uring_sqe_set_data(sqe, TAG_ALARM);
    }
    u->alarm_set = true;
    u->alarm_ns = at_ns;
}

static void take_completions(struct reactor *r)
{
    struct uring *u = r->backend_state;
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    bool mail = false;
    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        void *data = io_uring_cqe_get_data(cqe);
        if (data == TAG_WAKEUP) {
            u->wakeup_armed = false;
            mail = true;
        } else if (data == TAG_ALARM) {
            u->alarm_set = false;
        } else if (data != TAG_IGNORE) {
            io_complete(r, data, cqe->res);
        }
        n++;
    }
    io_uring_cq_advance(&u->ring, n);
    if (mail)
        reactor_take_mail(r);
}

static bool has_work(const struct io_uring *ring)
{
    return io_uring_cq_ready(ring) > 0 ||
           (__atomic_load_n(ring->sq.kflags, __ATOMIC_ACQUIRE) & IORING_SQ_TASKRUN);
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* spin: submit, then look for work until end_ns. True if there is some. */
static bool spin(struct io_uring *ring, int64_t end_ns)
{
    if (io_uring_submit(ring) < 0)
        return false; /* the wait that follows says why */
    do {
        for (int i = 0; i < 16; i++) {
            if (has_work(ring))
                return true;
            cpu_relax();
        }
    } while (reactor_monotonic_ns() < end_ns);
    return false;
}

/* wait_long: wait for a completion for as long as it takes. */
static int wait_long(struct uring *u)
{
    int64_t start_ns = reactor_monotonic_ns();
    int res;
    if (u->spin_wait > 0)
        u->spin_wait--;
    if (u->can_spin && u->waits_short && u->spin_wait == 0) {
        if (spin(&u->ring, start_ns + SPIN_NS)) {
            u->spin_skip = 0;
            return io_uring_get_events(&u->ring);
        }
        u->spin_skip = u->spin_skip < SPIN_SKIP_MAX ? 2 * u->spin_skip + 1 : SPIN_SKIP_MAX;
        u->spin_wait = u->spin_skip;
    }
    res = io_uring_submit_and_wait(&u->ring, 1);
    u->waits_short = reactor_monotonic_ns() - start_ns < 2 * SPIN_NS;
    return res;
}

static void uring_wait(struct reactor *r, int64_t timeout_ns)
{
    struct io_uring *ring = ring_of(r);
    arm_wakeup(r);
    if (timeout_ns >= NEAR_NS) {
        set_alarm(r, r->now_ns + timeout_ns);
        timeout_ns = -1;
    }
    int res;
    if (timeout_ns == 0) {
        res = io_uring_submit_and_get_events(ring);
    } else if (timeout_ns < 0) {
        res = wait_long(r->backend_state);
    } else {
        struct io_uring_cqe *cqe;
        struct __kernel_timespec ts = {
            .tv_sec = timeout_ns / NS_PER_S,
            .tv_nsec = timeout_ns % NS_PER_S,
        };
        res = io_uring_submit_and_wait_timeout(ring, &cqe, 1, &ts, NULL);
    }
    if (res < 0 && res != -ETIME && res != -EINTR && res != -EAGAIN && res != -EBUSY)
        log_error("io_uring_enter failed: %s", strerror(-res));
    take_completions(r);
}

const struct io_backend uring_backend = {
    .name = "io_uring",
    .init = uring_init,
    .destroy = uring_destroy,
    .submit = uring_submit,
    .cancel = uring_cancel,
    .wait = uring_wait,
};
