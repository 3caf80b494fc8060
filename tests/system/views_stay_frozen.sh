#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# disk@NAME shows the disk of the moment when the name was first opened, whatever is written to it
# meanwhile; the differences between names are right; a backup taken under load equals its view; a
# view that outgrows its scratch breaks, and nothing else does.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io nbdcopy nbdinfo nbdkit fio python3

# hold EXPORT: keep a connection to it, so that its view stays.
hold() {
    nbdkit -f -U "$tmp/hold-$1.sock" nbd uri="$(uri s "$1")" shared=true >"$1.hold" 2>&1 </dev/null &
    server_pid[hold-$1]=$!
    wait_for 10 listening "$tmp/hold-$1.sock"
    nbdinfo --size "$(uri "hold-$1")" >/dev/null
}

qemu-img create -q -f qcow2 disk.qcow2 64M
image_io disk.qcow2 "${fixture_base[@]}"
start_serve s -x disk -f qcow2 -B daily --view-grace 0s disk.qcow2

say "a view of monday, while the disk is written to"
nbdcopy "$(uri s disk)" monday.raw
hold disk@monday
nbd_io "$(uri s disk)" "${fixture_batch1[@]}" 'write -z 1M 32k' 'discard 32832k 64k'
nbdcopy "$(uri s disk@monday)" seen.raw
cmp seen.raw monday.raw

say "and one of tuesday; both stay"
nbdcopy "$(uri s disk)" tuesday.raw
hold disk@tuesday
nbd_io "$(uri s disk)" "${fixture_batch2[@]}" 'write -P 0xee 0 8M'
nbdcopy "$(uri s disk@tuesday)" seen.raw
cmp seen.raw tuesday.raw
nbdcopy "$(uri s disk@monday)" seen.raw
cmp seen.raw monday.raw
nbd_io "$(uri s disk)" 'read -P 0xee 0 8M'

say "what changed between them, and since"
hold disk@wednesday
expect_changed() {
    [ "$(dirty_bytes "$(uri s "disk@$2")" "$1")" -eq "$3" ] ||
        fail "from $1 to $2: $(dirty_bytes "$(uri s "disk@$2")" "$1") bytes, not $3"
}
expect_changed monday tuesday $((458752 + 65536 + 65536)) # batch 1, the zeros, the discard
expect_changed tuesday wednesday $((393216 + 1048576 + (8 << 20)))
expect_changed monday wednesday $((393216 + 1048576 + (8 << 20) + 131072 + 65536))

say "nobody can write to a view"
expect_fail 1 '[Pp]ermission denied|read-only' qemu-io -f raw -c 'write 0 4k' "$(uri s disk@monday)"
nbdinfo --is read-only "$(uri s disk@monday)" || fail "not marked read-only"
kill_serve hold-disk@monday
kill_serve hold-disk@tuesday
kill_serve hold-disk@wednesday
stop_serve s

say "a backup taken under load is of one moment: it equals its view"
start_serve s -x disk -f qcow2 -B daily disk.qcow2
fio --name=load --ioengine=nbd --uri="$(uri s disk)" --rw=randwrite --bsrange=4k-64k --size=64M \
    --iodepth=16 --time_based --runtime=60s --rate=20m >fio.log 2>&1 &
load=$!
for number in 1 2 3; do
    sleep 0.5
    "$BREAKWATER" backup "$(uri s disk)" repo >backup.out 2>&1 || { cat backup.out >&2 && fail "backup"; }
    uuid=$(python3 -c '
import glob, json
print(max((json.load(open(p)) for p in glob.glob("repo/disk/*.json")), key=lambda m: m["sequence"])["uuid"])')
    nbdcopy "$(uri s "disk@bw-$uuid")" view.raw
    "$BREAKWATER" restore -f raw repo/disk@latest restored.raw >/dev/null
    cmp view.raw restored.raw || fail "backup $number is not the frozen moment"
    rm view.raw restored.raw
done
kill -0 $load || fail "the load ended too early"
kill $load
wait $load || true
stop_serve s
check_image disk.qcow2

say "a view that outgrows its scratch is lost; the disk is not"
rm -rf repo
start_serve s -x disk -f qcow2 -B daily --scratch-limit 1M disk.qcow2
hold disk@big
nbd_io "$(uri s disk)" 'write -P 0x31 0 64M' 'read -P 0x31 0 64M'
expect_fail 1 'Input/output error' qemu-io -f raw -r -c 'read 0 64M' "$(uri hold-disk@big)"
grep -q 'frozen view is lost' s.log || fail "the log does not say so"
nbd_io "$(uri s disk)" 'write -P 0x32 0 64k' 'read -P 0x32 0 64k'
kill_serve hold-disk@big
"$BREAKWATER" backup "$(uri s disk)" repo >/dev/null
"$BREAKWATER" restore -f raw repo/disk restored.raw >/dev/null
same_content restored.raw raw "$(uri s disk)" raw
stop_serve s
check_image disk.qcow2
