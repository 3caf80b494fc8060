/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which system calls a server may make (seccomp): see sandbox.h.
 *
 * The list holds what the C library, OpenSSL, liburing and libnbd make of what we ask for, in this
 * version and in others: so it is longer than a trace shows. What is left out is what gives power
 * over anything but the descriptors that are open.
 */
#include "cli/sandbox.h"

#include <errno.h>

#ifdef HAVE_SECCOMP

#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "base/bytes.h"

static const char *const allowed[] = {
    /* descriptors */
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2",
    "pwritev2", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "fcntl64", "flock", "fstat",
    "fstat64", "newfstatat", "fstatat64", "stat", "stat64", "lstat", "lstat64", "statx", "fstatfs",
    "fstatfs64", "statfs", "statfs64", "lseek", "_llseek", "ftruncate", "ftruncate64", "fallocate",
    "fsync", "fdatasync", "sync_file_range", "fadvise64", "fadvise64_64", "copy_file_range",
    "pipe2", "poll", "ppoll", "ppoll_time64", "select", "pselect6", "epoll_create1", "epoll_ctl",
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "timerfd_create", "timerfd_settime",
    "timerfd_gettime", "signalfd4", "io_uring_enter",
    /* files by name, which Landlock restricts */
    "open", "openat", "openat2", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
    "unlink", "rmdir", "unlinkat", "getcwd", "getdents64", "umask",
    /* sockets that there are */
    "accept", "accept4", "recvfrom", "recv", "recvmsg", "recvmmsg", "sendto", "send", "sendmsg",
    "sendmmsg", "shutdown", "getsockopt", "setsockopt", "getsockname", "getpeername",
    /* memory, threads, time, signals of ours */
    "brk", "munmap", "mremap", "madvise", "mlock", "munlock", "membarrier", "futex", "futex_time64",
    "futex_waitv", "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "sched_yield",
    "sched_getaffinity", "sched_getparam", "sched_getscheduler", "getcpu", "clock_gettime",
    "clock_gettime64", "clock_getres", "clock_nanosleep", "clock_nanosleep_time64", "nanosleep",
    "gettimeofday", "time", "times", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigreturn",
    "rt_sigpending", "rt_sigtimedwait", "rt_sigsuspend", "sigaltstack", "restart_syscall", "exit",
    "exit_group", "prctl", "arch_prctl",
    /* what anybody may know */
    "getpid", "gettid", "getppid", "getpgrp", "getuid", "geteuid", "getgid", "getegid", "getresuid",
    "getresgid", "getgroups", "uname", "sysinfo", "getrusage", "prlimit64", "getrlimit",
    "ugetrlimit", "getrandom", "getpriority"};

static const char *const sockets[] = {"socket", "socketpair", "bind", "listen", "connect"};

static const char *const children[] = {"kill", "waitid", "wait4"};

/* Nobody who serves disks gets here by accident. */
static const char *const deadly[] = {"execve",
                                     "execveat",
                                     "fork",
                                     "vfork",
                                     "ptrace",
                                     "process_vm_readv",
                                     "process_vm_writev",
                                     "bpf",
                                     "perf_event_open",
                                     "userfaultfd",
                                     "kexec_load",
                                     "kexec_file_load",
                                     "init_module",
                                     "finit_module",
                                     "delete_module",
                                     "mount",
                                     "umount2",
                                     "move_mount",
                                     "open_tree",
                                     "pivot_root",
                                     "chroot",
                                     "setns",
                                     "unshare",
                                     "reboot",
                                     "swapon",
                                     "keyctl",
                                     "add_key",
                                     "request_key",
                                     "io_uring_setup",
                                     "io_uring_register",
                                     "memfd_create",
                                     "memfd_secret",
                                     "open_by_handle_at",
                                     "pidfd_getfd"};

static int add_named(scmp_filter_ctx ctx, uint32_t action, const char *const *names, size_t n)
{
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        int nr = seccomp_syscall_resolve_name(names[i]);
        if (nr != __NR_SCMP_ERROR) /* younger than the library */
            r = seccomp_rule_add(ctx, action, nr, 0);
        if (r == -EDOM || r == -EFAULT) /* not of this architecture */
            r = 0;
    }
    return r;
}

/* Argument n is this value; its bits in the mask are. */
static struct scmp_arg_cmp is(unsigned n, uint64_t value)
{
    return (struct scmp_arg_cmp){.arg = n, .op = SCMP_CMP_EQ, .datum_a = value, .datum_b = 0};
}

static struct scmp_arg_cmp has(unsigned n, uint64_t mask, uint64_t value)
{
    return (struct scmp_arg_cmp){
        .arg = n, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

/* Those whose arguments make the difference. */
static int add_with_arguments(scmp_filter_ctx ctx)
{
    static const unsigned long requests[] = {SIOCOUTQ, FIONREAD, FIONBIO, TCGETS};
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(requests) && r == 0; i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, is(1, requests[i]));
    /* No new code. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, has(2, PROT_EXEC, 0));
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, has(2, PROT_EXEC, 0));
    /* Threads, not processes. What clone3 is asked for cannot be seen: the C library then takes the
     * older one. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             has(0, CLONE_THREAD, CLONE_THREAD));
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    /* abort() */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, is(0, (uint64_t)getpid()));
    return r;
}

static int fill(scmp_filter_ctx ctx, const struct sandbox *s)
{
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);

    if (r == 0)
        seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree; since libseccomp 2.5 */
    if (r == 0)
        r = add_named(ctx, SCMP_ACT_ALLOW, allowed, ARRAY_LEN(allowed));
    if (r == 0 && s->any_socket)
        r = add_named(ctx, SCMP_ACT_ALLOW, sockets, ARRAY_LEN(sockets));
    if (r == 0 && s->children)
        r = add_named(ctx, SCMP_ACT_ALLOW, children, ARRAY_LEN(children));
    if (r == 0)
        r = add_named(ctx, SCMP_ACT_KILL_PROCESS, deadly, ARRAY_LEN(deadly));
    return r ? r : add_with_arguments(ctx);
}

bool sandbox_calls(const struct sandbox *s, struct err **errp)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));

    if (!ctx)
        return err_set(errp, ENOMEM, "out of memory for the sandbox");
    int r = fill(ctx, s);
    if (r == 0)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return r == 0 || err_set_errno(errp, -r, "seccomp");
}

#else

bool sandbox_calls(const struct sandbox *s, struct err **errp)
{
    return err_set(errp, ENOTSUP, "this program was built without libseccomp");
}

#endif
