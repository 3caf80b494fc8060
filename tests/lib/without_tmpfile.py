#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs a command for which no file system has files without a name: open() with O_TMPFILE fails.

usage: without_tmpfile.py COMMAND ARGUMENT...

A seccomp filter does it, which needs no privileges and is inherited. Exit code: that of the command;
77 where there are no such filters, or this machine is unknown.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

OPENAT = {"x86_64": (257, 0xC000003E), "aarch64": (56, 0xC00000B7)}  # and the AUDIT_ARCH_*
NO_NEW_PRIVS, SET_SECCOMP, MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000 | errno.EOPNOTSUPP
NUMBER_AT, ARCH_AT, FLAGS_AT = 0, 4, 16 + 2 * 8  # in struct seccomp_data


def main():
    if len(sys.argv) < 2 or platform.machine() not in OPENAT:
        return 77
    number, arch = OPENAT[platform.machine()]
    program = [(LOAD, 0, 0, ARCH_AT), (JUMP_IF_EQUAL, 0, 6, arch),
               (LOAD, 0, 0, NUMBER_AT), (JUMP_IF_EQUAL, 0, 4, number),
               (LOAD, 0, 0, FLAGS_AT), (AND, 0, 0, os.O_TMPFILE),
               (JUMP_IF_EQUAL, 0, 1, os.O_TMPFILE), (RETURN, 0, 0, FAIL), (RETURN, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *i) for i in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(SET_SECCOMP, MODE_FILTER, header):
        print("no filter: %s" % os.strerror(ctypes.get_errno()), file=sys.stderr)
        return 77
    os.execvp(sys.argv[1], sys.argv[1:])
    return 1


if __name__ == "__main__":
    sys.exit(main())
