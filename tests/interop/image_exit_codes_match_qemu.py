#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`breakwater image` and qemu-img end with the same exit codes, in good cases and bad ones.

usage: image_exit_codes_match_qemu.py [PART OF A ROW...]      (BREAKWATER names the binary)

One row of the table is one command line for both programs, in a fresh copy of the same files. Where
breakwater means to be different, the row says so and why. What breakwater does with success it does
again with --json, and must then print one JSON value on standard output, and nothing else.
"""

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile

BREAKWATER = os.path.realpath(os.environ.get("BREAKWATER", "build/cli/breakwater"))
PATCH = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../lib/patch_image.py")

# Where a row begins with two exit codes, ours comes first. The word at its end says why:
#   GUESS     formats are never guessed
#   KEEP      what is there is replaced with --force only
#   SAFE      what would change what internal snapshots read is refused
#   ALONE     check and map need no backing file, and open none
#   FILES     an image is a file; --image-opts and --object are refused by name
#   FOUND     qemu-img gives the check up where the refcounts must be rebuilt; we tell of corruption
#   NOT_SAID  1 would say that the images differ, which nobody has looked at
#   MORE      64 pieces at a time are allowed, not 16
ROWS = """
info -f qcow2 good.qcow2
info -f raw disk.raw
info -f qcow2 none.qcow2
info -f qcow2 disk.raw
info -f bogus good.qcow2
info
info -f qcow2 good.qcow2 more
info --bogus good.qcow2
info -f qcow2 --output=xml good.qcow2
info -f qcow2 --backing-chain top.qcow2
info -f qcow2 --backing-chain orphan.qcow2
info -f qcow2 corrupt.qcow2
1:0 info disk.raw # GUESS
check -f qcow2 good.qcow2
check -f qcow2 top.qcow2
0:1 check -f qcow2 orphan.qcow2 # ALONE
check -f qcow2 leak.qcow2
check -f qcow2 corrupt.qcow2
check -f qcow2 both.qcow2
check -f raw disk.raw
check -f qcow2 none.qcow2
check -f qcow2 disk.raw
check -f qcow2 -r leaks leak.qcow2
check -f qcow2 -r all leak.qcow2
2:1 check -f qcow2 -r leaks corrupt.qcow2 # FOUND
check -f qcow2 -r all corrupt.qcow2
check -f qcow2 -r all both.qcow2
check -f qcow2 -r all good.qcow2
check -f qcow2 -r all none.qcow2
check -f qcow2 -r some leak.qcow2
check -f qcow2 --output=json leak.qcow2
check -f qcow2 -T none good.qcow2
check -f qcow2 -T bogus good.qcow2
check
check --bogus good.qcow2
check good.qcow2 more
map -f qcow2 good.qcow2
map -f qcow2 top.qcow2
map -f qcow2 -s 1M -l 64k good.qcow2
map -f qcow2 --start-offset=1M --max-length=1G good.qcow2
map -f qcow2 -l 0 good.qcow2
map -f qcow2 -s 1G good.qcow2
map -f qcow2 -s bogus good.qcow2
map -f qcow2 -l bogus good.qcow2
0:1 map -f qcow2 orphan.qcow2 # ALONE
1:0 map --image-opts driver=qcow2,file.driver=file,file.filename=good.qcow2 # FILES
map -f raw disk.raw
map -f qcow2 none.qcow2
map -f qcow2 disk.raw
map
map --bogus good.qcow2
map -f qcow2 good.qcow2 more
compare -f qcow2 -F qcow2 good.qcow2 same.qcow2
compare -f qcow2 -F raw good.qcow2 good.raw
compare -f qcow2 -F qcow2 good.qcow2 other.qcow2
compare -f qcow2 -F qcow2 good.qcow2 longer.qcow2
compare -s -f qcow2 -F qcow2 good.qcow2 longer.qcow2
compare -q -f qcow2 -F qcow2 good.qcow2 other.qcow2
compare -T none -f qcow2 -F qcow2 good.qcow2 other.qcow2
compare -T bogus -f qcow2 -F qcow2 good.qcow2 same.qcow2
compare -f qcow2 -F qcow2 good.qcow2 none.qcow2
compare -f qcow2 -F qcow2 good.qcow2 disk.raw
compare -f bogus good.qcow2 same.qcow2
2:1 compare -f qcow2 good.qcow2 # NOT_SAID
2:1 compare # NOT_SAID
2:1 compare --bogus good.qcow2 same.qcow2 # NOT_SAID
2:1 compare a b c # NOT_SAID
create -f qcow2 new.qcow2 1M
create -f raw new.raw 1M
create -f raw -o preallocation=off new.raw 1M
create -f raw -o preallocation=falloc new.raw 1M
create -f raw -o preallocation=full new.raw 1M
create -f raw -o preallocation=metadata new.raw 1M
create -f raw -o preallocation=bogus new.raw 1M
create -f raw -o cluster_size=64k new.raw 1M
create -f raw -b good.qcow2 -F qcow2 new.raw
create -f qcow2 new.qcow2
create -f qcow2 new.qcow2 bogus
create -f qcow2 new.qcow2 -1
create -f qcow2 new.qcow2 9E
create -f qcow2 -o cluster_size=3k new.qcow2 1M
create -f qcow2 -o bogus=1 new.qcow2 1M
create -f qcow2 -o compat=0.10,extended_l2=on new.qcow2 1M
create -f qcow2 -o data_file=new.data,data_file_raw=on new.qcow2 1M
create -f qcow2 -o data_file_raw=on new.qcow2 1M
create -f qcow2 -b good.qcow2 -F qcow2 new.qcow2
create -f qcow2 -b none.qcow2 -F qcow2 new.qcow2
create -f qcow2 -u -b none.qcow2 -F qcow2 new.qcow2 1M
create -f qcow2 -b good.qcow2 new.qcow2
create -f qcow2 none/new.qcow2 1M
create -f qcow2
create
create --bogus new.qcow2 1M
create -f bogus new.qcow2 1M
create -f qcow2 new.qcow2 1M more
1:0 create -f qcow2 good.qcow2 1M # KEEP
convert -f qcow2 -O raw good.qcow2 new.raw
convert -f qcow2 -O qcow2 top.qcow2 new.qcow2
convert -f qcow2 -O qcow2 good.qcow2 other.qcow2
convert -f qcow2 -O qcow2 -c -o compression_type=zstd good.qcow2 new.qcow2
convert -f qcow2 -O raw -c good.qcow2 new.raw
convert -f qcow2 -O qcow2 -o data_file=new.data,data_file_raw=on good.qcow2 new.qcow2
convert -f qcow2 -O qcow2 -o data_file=new.data good.qcow2 new.qcow2
convert -f qcow2 -O qcow2 -c -o data_file=new.data good.qcow2 new.qcow2
convert -f qcow2 -O raw -o preallocation=full good.qcow2 new.raw
convert -f qcow2 -O raw -o preallocation=falloc good.qcow2 new.raw
convert -f qcow2 -O raw -o preallocation=metadata good.qcow2 new.raw
convert -f qcow2 -O raw -o cluster_size=64k good.qcow2 new.raw
convert -f qcow2 -O qcow2 none.qcow2 new.qcow2
convert -f qcow2 -O qcow2 disk.raw new.qcow2
convert -f qcow2 -O qcow2 orphan.qcow2 new.qcow2
convert -f qcow2 -O qcow2 good.qcow2 none/new.qcow2
convert -f qcow2 -O qcow2 good.qcow2
convert -f qcow2 -O bogus good.qcow2 new.qcow2
convert -f qcow2 -O qcow2 -o bogus=1 good.qcow2 new.qcow2
convert -f qcow2 -O qcow2 -n good.qcow2 new.qcow2
convert -f qcow2 -O qcow2 -n good.qcow2 longer.qcow2
convert -f qcow2 -O qcow2 -n longer.qcow2 good.qcow2
convert -f qcow2 -O qcow2 -l one snapped.qcow2 new.qcow2
convert -f qcow2 -O qcow2 -l snapshot.name=one snapped.qcow2 new.qcow2
convert -f qcow2 -O qcow2 -l snapshot.id=1,snapshot.name=one snapped.qcow2 new.qcow2
convert -f qcow2 -O qcow2 -l none snapped.qcow2 new.qcow2
convert -f qcow2 -O qcow2 -l snapshot.bogus=1 snapped.qcow2 new.qcow2
convert -f qcow2 -O qcow2 -l one snapped.qcow2 good.qcow2 new.qcow2
convert -f qcow2 -O qcow2 --bitmaps mapped.qcow2 new.qcow2
convert -f qcow2 -O raw --bitmaps mapped.qcow2 new.raw
convert -f qcow2 -O qcow2 -m 0 good.qcow2 new.qcow2
0:1 convert -f qcow2 -O qcow2 -m 17 good.qcow2 new.qcow2 # MORE
convert -f qcow2 -O qcow2 -S 1000 good.qcow2 new.qcow2
convert -f qcow2 -O qcow2 -t bogus good.qcow2 new.qcow2
convert -f qcow2 -O qcow2 -B good.qcow2 -F qcow2 top.qcow2 new.qcow2
convert -f qcow2 -O qcow2 --target-is-zero good.qcow2 new.qcow2
convert -f qcow2 -O qcow2 --skip-broken-bitmaps good.qcow2 new.qcow2
convert -f qcow2 -O raw -C -S 4k good.qcow2 new.raw
convert
convert --bogus good.qcow2 new.qcow2
measure -f qcow2 -O raw good.qcow2
measure -f qcow2 -O qcow2 good.qcow2
measure -O qcow2 --size 1G
measure -O raw -o preallocation=full --size 1G
measure -O qcow2
measure -O qcow2 --size bogus
measure -O qcow2 --size 1G good.qcow2
measure -f qcow2 -O qcow2 none.qcow2
measure -f qcow2 -O bogus good.qcow2
measure -f qcow2 -O qcow2 -o bogus=1 good.qcow2
bitmap -f qcow2 --add good.qcow2 b
bitmap -f qcow2 --add -g 4k --disable good.qcow2 b
bitmap -f qcow2 --add mapped.qcow2 b
bitmap -f qcow2 --remove mapped.qcow2 b
bitmap -f qcow2 --remove good.qcow2 b
bitmap -f qcow2 --clear mapped.qcow2 b
bitmap -f qcow2 --enable --disable mapped.qcow2 b
bitmap -f qcow2 --add --merge b mapped.qcow2 c
bitmap -f qcow2 --merge none mapped.qcow2 b
bitmap -f qcow2 --add --merge b -b mapped.qcow2 -F qcow2 good.qcow2 b
bitmap -f qcow2 --add -g 3000 good.qcow2 b
bitmap -f qcow2 -g 64k --remove mapped.qcow2 b
bitmap -f raw --add disk.raw b
bitmap -f qcow2 mapped.qcow2 b
bitmap -f qcow2 --add mapped.qcow2
bitmap -f qcow2 --add none.qcow2 b
bitmap
commit -f qcow2 top.qcow2
commit -f qcow2 -d top.qcow2
commit -f qcow2 -b good.qcow2 top.qcow2
commit -f qcow2 -b other.qcow2 top.qcow2
commit -f qcow2 good.qcow2
commit -f qcow2 none.qcow2
commit -f qcow2 orphan.qcow2
commit -f raw disk.raw
commit -f qcow2 -t bogus top.qcow2
commit
commit --bogus top.qcow2
commit -f qcow2 top.qcow2 more
1:0 commit -f qcow2 snapped-top.qcow2 # SAFE
rebase -f qcow2 -b other.qcow2 -F qcow2 top.qcow2
rebase -f qcow2 -F qcow2 -b '' top.qcow2
rebase -f qcow2 -b '' top.qcow2
rebase -f qcow2 -u -b none.qcow2 -F qcow2 top.qcow2
rebase -f qcow2 -b none.qcow2 -F qcow2 top.qcow2
rebase -f qcow2 -b disk.raw -F qcow2 top.qcow2
rebase -f qcow2 -b other.qcow2 -F bogus top.qcow2
rebase -f qcow2 -b top.qcow2 -F qcow2 top.qcow2
rebase -f qcow2 -b other.qcow2 -F qcow2 none.qcow2
rebase -f raw -b other.qcow2 -F qcow2 disk.raw
rebase -f qcow2 top.qcow2
rebase
rebase --bogus -b other.qcow2 top.qcow2
1:0 rebase -f qcow2 -b other.qcow2 -F qcow2 snapped-top.qcow2 # SAFE
snapshot -l good.qcow2
snapshot -l snapped.qcow2
snapshot -c new good.qcow2
snapshot -c one snapped.qcow2
snapshot -a one snapped.qcow2
snapshot -a 1 snapped.qcow2
snapshot -a none snapped.qcow2
snapshot -d one snapped.qcow2
snapshot -d none snapped.qcow2
snapshot -l none.qcow2
snapshot -c new none.qcow2
snapshot -c
snapshot -l -c new good.qcow2
snapshot
snapshot good.qcow2
snapshot --bogus good.qcow2
snapshot -l good.qcow2 more
resize -f qcow2 good.qcow2 16M
resize -f qcow2 good.qcow2 +1M
resize -f qcow2 good.qcow2 +1.5M
resize -f qcow2 good.qcow2 +1.5
resize -f qcow2 good.qcow2 4M
resize -f qcow2 --shrink good.qcow2 4M
resize -f qcow2 --shrink good.qcow2 -4M
resize -f qcow2 --shrink good.qcow2 -400M
resize -f qcow2 --preallocation=full good.qcow2 +1M
resize -f qcow2 --preallocation=bogus good.qcow2 +1M
resize -f qcow2 --shrink --preallocation=full good.qcow2 -1M
resize -f raw disk.raw +1M
resize -f raw --preallocation=falloc disk.raw +1M
resize -f raw --preallocation=full disk.raw +1M
resize -f raw --preallocation=metadata disk.raw +1M
resize -f raw --shrink disk.raw 1M
resize -f raw disk.raw 1M
resize -f qcow2 good.qcow2 bogus
resize -f qcow2 good.qcow2
resize -f qcow2 none.qcow2 +1M
resize
resize --bogus good.qcow2 +1M
bogus
"""


def run(*command, cwd=None):
    return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False, text=True, errors="replace")


def must(*command):
    result = run(*command)
    if result.returncode:
        raise SystemExit("%s\n%s" % (" ".join(command), result.stderr))


def patched(name, *patches):
    shutil.copy("good.qcow2", name)
    must(sys.executable, PATCH, name, *patches)


def make_files():
    """What the rows speak of."""
    def create(name, size, *more):
        must("qemu-img", "create", "-q", "-f", "qcow2", *more, name, *size)

    def write(name, *commands):
        must("qemu-io", "-f", "qcow2", *(word for c in commands for word in ("-c", c)), name)

    create("good.qcow2", ["8M"])
    write("good.qcow2", "write -P 1 0 256k", "write -P 2 4M 128k")
    shutil.copy("good.qcow2", "same.qcow2")
    shutil.copy("good.qcow2", "other.qcow2")
    write("other.qcow2", "write -P 3 64k 64k")
    shutil.copy("good.qcow2", "longer.qcow2")
    must("qemu-img", "resize", "-q", "longer.qcow2", "9M")
    must("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "good.qcow2", "good.raw")
    with open("disk.raw", "wb") as raw:
        raw.write(b"x" * (2 << 20))
    create("top.qcow2", [], "-b", "good.qcow2", "-F", "qcow2")
    write("top.qcow2", "write -P 4 1M 64k")
    shutil.copy("top.qcow2", "snapped-top.qcow2")
    must("qemu-img", "snapshot", "-c", "one", "snapped-top.qcow2")
    create("orphan.qcow2", ["8M"], "-u", "-b", "gone.qcow2", "-F", "qcow2")
    shutil.copy("good.qcow2", "snapped.qcow2")
    must("qemu-img", "snapshot", "-c", "one", "snapped.qcow2")
    shutil.copy("good.qcow2", "mapped.qcow2")
    must("qemu-img", "bitmap", "--add", "mapped.qcow2", "b")
    patched("leak.qcow2", "refcount[7]=1", "l2[2]=0")
    patched("corrupt.qcow2", "refcount[5]=0")
    patched("both.qcow2", "refcount[5]=0", "l2[2]=0")


def in_copy(*command):
    """Runs a command in a fresh copy of the files."""
    folder = tempfile.mkdtemp(dir=".")
    try:
        shutil.copytree("files", folder, dirs_exist_ok=True)
        return run(*command, cwd=folder)
    finally:
        shutil.rmtree(folder)


def say(row, text, *results):
    print("%s: %s" % (row, text))
    for result in results:
        print("  %s: exit code %d\n    %s" % (result.args[0], result.returncode, "\n    ".join(
            (result.stdout + result.stderr).splitlines()[:20])))


def try_row(row):
    line, _, _ = row.partition(" #")
    words = [word.strip("'") for word in line.split()]
    wanted = None
    if ":" in words[0]:
        wanted = [int(code) for code in words.pop(0).split(":")]
    ours = in_copy(BREAKWATER, "image", *words)
    theirs = in_copy("qemu-img", *words)
    if "Sanitizer" in ours.stderr or "runtime error" in ours.stderr:
        say(row, "a sanitizer report", ours)
        return False
    codes = [ours.returncode, theirs.returncode]
    if codes != wanted and (wanted or codes[0] != codes[1]):
        say(row, "exit codes %d and %d" % tuple(codes), ours, theirs)
        return False
    if ours.returncode:
        return True
    again = in_copy(BREAKWATER, "image", words[0], "--json", *words[1:])
    try:
        json.loads(again.stdout)
    except ValueError as problem:
        say(row, "with --json: %s" % problem, again)
        return False
    return again.returncode == 0


def main():
    if not shutil.which("qemu-img") or not shutil.which("qemu-io"):
        print("SKIP: qemu-img is not installed")
        return 77
    rows = [row for row in ROWS.strip().splitlines()
            if all(part in row for part in sys.argv[1:])]
    folder = tempfile.mkdtemp()
    os.makedirs(os.path.join(folder, "files"))
    os.chdir(os.path.join(folder, "files"))
    try:
        make_files()
        os.chdir(folder)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            bad = [row for row, good in zip(rows, pool.map(try_row, rows)) if not good]
    finally:
        os.chdir("/")
        shutil.rmtree(folder)
    print("%d rows, %d of them bad" % (len(rows), len(bad)))
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
