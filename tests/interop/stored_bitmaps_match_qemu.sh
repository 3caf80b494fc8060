#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Bitmaps stored in qcow2 images, made and used by breakwater and QEMU in turns: what one stores the
# other reads, and goes on with.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io qemu-nbd nbdinfo python3

bitmap() {
    "$BREAKWATER" image bitmap "$@"
}

# flags IMAGE BITMAP: as qemu-img tells them.
flags() {
    qemu-img info -U --output=json "$1" | python3 -c '
import json, sys
for b in json.load(sys.stdin)["format-specific"]["data"].get("bitmaps", []):
    if b["name"] == sys.argv[1]:
        print(b["granularity"], *sorted(b["flags"]))' "$2"
}

expect_flags() {
    local now
    now=$(flags "$1" "$2")
    [ "$now" = "$3" ] || fail "bitmap $2 of $1: '$now', expected '$3'"
}

# stored IMAGE BITMAP: its extents, read by QEMU.
stored() {
    qemu-nbd --fork --pid-file="$tmp/q.pid" -r -t -f qcow2 -B "$2" -k "$tmp/q.sock" "$1"
    extents "nbd+unix:///?socket=$tmp/q.sock" "qemu:dirty-bitmap:$2"
    local pid
    pid=$(<q.pid)
    kill "$pid"
    wait_for 20 gone "$pid"
}

# gone PID: its locks, on the image and on its pid file, are too.
gone() {
    ! kill -0 "$1" 2>/dev/null
}

sound() {
    check_image "$1"
    "$BREAKWATER" image check -q -f qcow2 "$1"
}

say "the life of a bitmap, by our commands, seen by QEMU"
qemu-img create -q -f qcow2 disk.qcow2 64M
bitmap --add disk.qcow2 daily
expect_flags disk.qcow2 daily "65536 auto"
bitmap --add -g 32k --disable disk.qcow2 fine
expect_flags disk.qcow2 fine "32768"
bitmap --enable disk.qcow2 fine
expect_flags disk.qcow2 fine "32768 auto"
bitmap --disable -f qcow2 disk.qcow2 fine
sound disk.qcow2
expect_fail 1 'Bitmap already exists: daily' bitmap --add disk.qcow2 daily
expect_fail 1 "Dirty bitmap 'none' not found" bitmap --clear disk.qcow2 none
expect_fail 1 'power of 2' bitmap --add -g 64000 disk.qcow2 odd
expect_fail 1 'nothing to do' bitmap disk.qcow2 daily
expect_fail 1 'raw image' bitmap --add -f raw disk.qcow2 daily
qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 1M
expect_fail 1 'version 2' bitmap --add old.qcow2 daily

say "QEMU records in a bitmap of ours"
image_io disk.qcow2 'write 0 64k' 'write 10M 1M'
stored disk.qcow2 daily >got
cat >expected <<END
0 65536 1
65536 10420224 0
10485760 1048576 1
11534336 55574528 0
END
diff expected got

say "we record in it further, and in one of QEMU's"
qemu-img bitmap --add -g 128k -f qcow2 disk.qcow2 theirs
start_serve s -f qcow2 -B daily -B theirs -B new,granularity=4k disk.qcow2
nbd_io "$(uri s)" 'write 63M 64k'
expect_flags disk.qcow2 daily "65536 auto in-use"
expect_flags disk.qcow2 fine "32768 in-use"
expect_flags disk.qcow2 new "4096 auto in-use"
stop_serve s
sound disk.qcow2
expect_flags disk.qcow2 daily "65536 auto"
expect_flags disk.qcow2 fine "32768"
stored disk.qcow2 daily >got
cat >expected <<END
0 65536 1
65536 10420224 0
10485760 1048576 1
11534336 54525952 0
66060288 65536 1
66125824 983040 0
END
diff expected got
[ "$(stored disk.qcow2 theirs | awk '$3 == 1')" = "66060288 131072 1" ] || fail "theirs differs"
[ "$(stored disk.qcow2 new | awk '$3 == 1')" = "66060288 65536 1" ] || fail "new differs"
[ "$(stored disk.qcow2 fine | awk '$3 == 1')" = "" ] || fail "a disabled bitmap recorded"

say "a read-only server shows what is stored, and changes nothing"
cp disk.qcow2 before.qcow2
start_serve s -r -f qcow2 -B daily disk.qcow2
extents "$(uri s)" qemu:dirty-bitmap:daily | diff expected -
stop_serve s
cmp disk.qcow2 before.qcow2

say "merging, across granularities and images, and clearing"
bitmap --add --merge daily --merge theirs -g 1M disk.qcow2 all
[ "$(stored disk.qcow2 all | awk '$3 == 1' | tr '\n' ';')" = \
    "0 1048576 1;10485760 1048576 1;66060288 1048576 1;" ] || fail "all: $(stored disk.qcow2 all)"
qemu-img create -q -f qcow2 copy.qcow2 64M
bitmap --add --merge all -b disk.qcow2 -F qcow2 copy.qcow2 far
[ "$(stored copy.qcow2 far)" = "$(stored disk.qcow2 all)" ] || fail "far: $(stored copy.qcow2 far)"
bitmap --clear disk.qcow2 all
[ "$(stored disk.qcow2 all)" = "0 67108864 0" ] || fail "all is not clear"
qemu-img bitmap --merge daily -f qcow2 disk.qcow2 all
sound disk.qcow2

say "a bitmap that is wholly dirty takes no clusters, and QEMU reads it so"
start_serve s -f qcow2 -B daily disk.qcow2
nbd_io "$(uri s)" 'write -z 0 64M'
stop_serve s
[ "$(stored disk.qcow2 daily)" = "0 67108864 1" ] || fail "not wholly dirty"

say "with its last bitmap the extension goes"
for name in daily fine theirs new all; do
    bitmap --remove disk.qcow2 $name
    sound disk.qcow2
done
[ "$(qemu-img info --output=json disk.qcow2 | grep -c bitmaps)" = 0 ] || fail "a bitmap is left"
bitmap --add disk.qcow2 again
expect_flags disk.qcow2 again "65536 auto"

say "a killed server leaves its bitmaps inconsistent, in sight"
start_serve s -f qcow2 -B again disk.qcow2
nbd_io "$(uri s)" 'write 1M 64k'
kill_serve s
expect_flags disk.qcow2 again "65536 auto in-use"
expect_fail 2 "inconsistent.*image bitmap --remove" "$BREAKWATER" serve -k "$tmp/x.sock" -f qcow2 \
    -r -B again disk.qcow2
expect_fail 1 'inconsistent' bitmap --clear disk.qcow2 again
expect_fail 1 'Bitmap already exists' bitmap --add disk.qcow2 again
cp disk.qcow2 crashed.qcow2
bitmap --remove --add disk.qcow2 again
expect_flags disk.qcow2 again "65536 auto"
sound disk.qcow2

say "a server goes on with it, dirty all over, and so it is stored"
start_serve s -f qcow2 -B again crashed.qcow2
grep -q 'inconsistent.*everything dirty' s.log || fail "no warning"
[ "$(dirty_bytes "$(uri s)" again)" -eq 67108864 ] || fail "not wholly dirty"
expect_flags crashed.qcow2 again "65536 auto in-use"
stop_serve s
expect_flags crashed.qcow2 again "65536 auto"
[ "$(stored crashed.qcow2 again)" = "0 67108864 1" ] || fail "not stored as wholly dirty"
sound crashed.qcow2

say "a backing file's bitmap is found through its overlay"
qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 overlay.qcow2
start_serve s -f qcow2 -B again overlay.qcow2
[ "$(extents "$(uri s)" qemu:dirty-bitmap:again)" = "0 67108864 0" ] || fail "not found"
stop_serve s

say "where nothing can be stored a bitmap lives in memory"
truncate -s 1M disk.raw
start_serve s -f raw -B daily disk.raw
grep -q 'in memory only' s.log
stop_serve s
