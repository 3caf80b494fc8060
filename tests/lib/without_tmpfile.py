#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs a command as if on an old file system: open() knows no O_TMPFILE.

usage: without_tmpfile.py [--no-noreplace] COMMAND ARGUMENT...

With --no-noreplace rename() cannot be told to spare what is there, either. A seccomp filter does it,
which needs no privileges and is inherited. Exit code: that of the command; 77 where there are no such
filters, or this machine is unknown.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# The AUDIT_ARCH_* of a machine, and its system calls.
MACHINES = {"x86_64": (0xC000003E, 257, 316), "aarch64": (0xC00000B7, 56, 276)}
NO_NEW_PRIVS, SET_SECCOMP, MODE_FILTER = 38, 22, 2  # of prctl
LOAD, JUMP_IF_EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NUMBER_AT, ARCH_AT, ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data
RENAME_NOREPLACE = 1


def fail(call, argument, flags, error):
    """This call, if all these flags are in that argument of it."""
    return [(LOAD, 0, 0, NUMBER_AT), (JUMP_IF_EQUAL, 0, 4, call),
            (LOAD, 0, 0, ARGUMENTS_AT + 8 * argument), (AND, 0, 0, flags),
            (JUMP_IF_EQUAL, 0, 1, flags), (RETURN, 0, 0, FAIL | error)]


def main(argv):
    noreplace = argv[:1] != ["--no-noreplace"]
    if not noreplace:
        argv = argv[1:]
    if not argv or platform.machine() not in MACHINES:
        return 77
    arch, openat, renameat2 = MACHINES[platform.machine()]
    program = [(LOAD, 0, 0, ARCH_AT), (JUMP_IF_EQUAL, 1, 0, arch), (RETURN, 0, 0, ALLOW)]
    program += fail(openat, 2, os.O_TMPFILE, errno.EOPNOTSUPP)
    if not noreplace:
        program += fail(renameat2, 4, RENAME_NOREPLACE, errno.EINVAL)
    program.append((RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *i) for i in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(SET_SECCOMP, MODE_FILTER, header):
        print("no filter: %s" % os.strerror(ctypes.get_errno()), file=sys.stderr)
        return 77
    os.execvp(argv[0], argv)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
