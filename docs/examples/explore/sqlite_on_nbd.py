#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""SQLite on a disk that is served over NBD, without a file system and without root.

usage: sqlite_on_nbd.py make FILE     an empty database, as the image of such a disk
       sqlite_on_nbd.py work LEVEL    ten transactions with PRAGMA synchronous = LEVEL
       sqlite_on_nbd.py check         is every transaction there that was committed?

The first half of the disk is the database file, the second half its rollback journal: a VFS of
SQLite's (by APSW: python3-apsw) reads, writes and syncs them through libnbd (python3-libnbd). Files
of a fixed size are all that it needs, as journal_mode = PERSIST ends a transaction by clearing the
journal's header. The disk is the one that the environment variable `uri` names. After each commit
the workload sets a mark, the number of transactions that were committed by then; the check finds it
in `mark`.
"""

import os
import subprocess
import sys

import apsw
import nbd

HALF = 1 << 20


class File:
    """A half of the disk; what SQLite reads, writes and syncs."""

    def __init__(self, disk, start):
        self.disk, self.start = disk, start

    def xRead(self, amount, offset):
        return bytes(self.disk.pread(amount, self.start + offset)) if amount else b""

    def xWrite(self, data, offset):
        if offset + len(data) > HALF:
            raise apsw.FullError("the half is full")
        self.disk.pwrite(bytes(data), self.start + offset)

    def xSync(self, flags):
        self.disk.flush()

    def xTruncate(self, size):
        pass

    def xFileSize(self):
        return HALF

    def xSectorSize(self):
        return 512

    def xDeviceCharacteristics(self):
        return 0

    def xLock(self, level):
        pass

    def xUnlock(self, level):
        pass

    def xCheckReservedLock(self):
        return False

    def xFileControl(self, op, pointer):
        return False

    def xClose(self):
        pass


class Disk(apsw.VFS):
    """The file "disk" and its journal. What else SQLite asks for (time, random numbers) is as ever."""

    def __init__(self, handle):
        self.handle = handle
        super().__init__("disk", "")

    def xOpen(self, name, flags):
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return File(self.handle, HALF if path.endswith("-journal") else 0)

    def xFullPathname(self, name):
        return name

    def xAccess(self, path, flags):
        return not path.endswith("-wal")

    def xDelete(self, path, sync):
        pass


def connect():
    handle = nbd.NBD()
    handle.connect_uri(os.environ["uri"])
    Disk.instance = Disk(handle)  # it must live as long as the connection
    base = apsw.Connection("disk", vfs="disk")
    base.cursor().execute("PRAGMA journal_mode = PERSIST").fetchall()
    return base


def make(path):
    if os.path.exists(path):
        os.unlink(path)
    base = apsw.Connection(path)
    base.cursor().execute("CREATE TABLE done(number INTEGER PRIMARY KEY, text TEXT)")
    base.close()
    os.truncate(path, 2 * HALF)


def work(level):
    base = connect()
    cursor = base.cursor()
    cursor.execute("PRAGMA synchronous = " + level)
    for number in range(1, 11):
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO done VALUES(?, ?)", (number, str(number) * 3000))
        cursor.execute("COMMIT")
        subprocess.run([os.environ.get("BREAKWATER", "breakwater"), "explore", "mark", str(number)],
                       check=True)


def check():
    cursor = connect().cursor()
    verdict = cursor.execute("PRAGMA integrity_check").fetchall()
    if verdict != [("ok",)]:
        sys.exit("integrity_check: %s" % verdict[0])
    wanted = int(os.environ["mark"] or 0)
    found = [n for n, text in cursor.execute("SELECT number, text FROM done ORDER BY number")
             if text == str(n) * 3000]
    if found[:wanted] != list(range(1, wanted + 1)):
        sys.exit("%d transactions were committed; these are there: %s" % (wanted, found))


if len(sys.argv) == 3 and sys.argv[1] == "make":
    make(sys.argv[2])
elif len(sys.argv) == 3 and sys.argv[1] == "work":
    work(sys.argv[2])
elif len(sys.argv) == 2 and sys.argv[1] == "check":
    check()
else:
    sys.exit(__doc__)
