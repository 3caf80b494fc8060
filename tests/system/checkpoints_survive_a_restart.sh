#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Increments go on after a server was ended and started again, whoever wrote to the image meanwhile.
# After a crash, or when part of what was stored is missing, the next backup is full, and says so.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io nbdinfo python3

serve() {
    start_serve s -x disk -f qcow2 --checkpoints "$@" disk.qcow2
}

backup() { # backup LEVEL CODE
    local status=0
    "$BREAKWATER" backup --json "$(uri s disk)" repo >backup.json 2>backup.err || status=$?
    [ "$status" -eq "$2" ] || fail "exit code $status, not $2: $(cat backup.err)"
    grep -q "\"level\": *\"$1\"" backup.json || fail "not $1: $(cat backup.json)"
    "$BREAKWATER" verify repo/disk >verify.out 2>&1 || fail "verify: $(cat verify.out)"
    rm -f restored.qcow2
    "$BREAKWATER" restore repo/disk@latest restored.qcow2 >restore.out 2>&1 || fail "$(cat restore.out)"
    same_content restored.qcow2 qcow2 "$(uri s disk)" raw
}

stored() {
    qemu-img info --output=json disk.qcow2 | python3 -c '
import json, sys
for b in json.load(sys.stdin)["format-specific"]["data"].get("bitmaps", []):
    print(b["name"], *sorted(b["flags"]))' | sed -E 's/bw-[0-9a-f-]+/UUID/'
}

qemu-img create -q -f qcow2 disk.qcow2 64M
image_io disk.qcow2 "${fixture_base[@]}"

say "a restart in order"
serve
backup full 0
nbd_io "$(uri s disk)" "${fixture_batch1[@]}"
stop_serve s
[ "$(stored)" = "checkpoint/1-1/UUID auto" ] || fail "stored: $(stored)"
check_image disk.qcow2
serve
backup incremental 0
nbd_io "$(uri s disk)" "${fixture_batch2[@]}"

say "twice, with a writer between that keeps bitmaps, and one checkpoint that is no backup's"
nbdinfo "$(uri s disk@monday)" >info.out
stop_serve s
[ "$(stored)" = $'checkpoint/1-1/UUID\ncheckpoint/2-2/UUID\ncheckpoint/3-3/monday auto' ] ||
    fail "stored: $(stored)"
image_io disk.qcow2 'write -P 0x31 50M 64k'
serve
stop_serve s
serve
extents "$(uri s disk@tuesday)" qemu:dirty-bitmap:monday >changes.out
grep -q '^52428800 65536 1$' changes.out || fail "the write of QEMU is not known: $(cat changes.out)"
backup incremental 0

say "what is forgotten leaves no gap"
stop_serve s
serve --max-checkpoints 2
backup incremental 0
nbd_io "$(uri s disk)" 'write -P 0x32 51M 64k'
stop_serve s
[ "$(stored | sed -E 's/[0-9]+-[0-9]+/N/')" = $'checkpoint/N/UUID\ncheckpoint/N/UUID auto' ] ||
    fail "stored: $(stored)"
serve
backup incremental 0

say "nor what is forgotten in the middle"
stop_serve s
mv disk.qcow2 kept.qcow2
qemu-img create -q -f qcow2 disk.qcow2 64M
serve --max-checkpoints 3 --view-grace 500ms
at=0
for day in monday tuesday wednesday thursday; do
    if [ $day = monday ]; then
        nbdinfo "$(uri s disk@monday)" >info.out
    else
        extents "$(uri s "disk@$day")" qemu:dirty-bitmap:monday >changes.out
    fi
    nbd_io "$(uri s disk)" "write -P 0x41 ${at}M 64k"
    at=$((at + 1))
    sleep 1
done
stop_serve s
[ "$(stored | sort)" = $'checkpoint/1-2/monday\ncheckpoint/3-3/wednesday\ncheckpoint/4-4/thursday auto' ] ||
    fail "stored: $(stored)"
serve --max-checkpoints 3 --view-grace 500ms
[ "$(dirty_bytes "$(uri s disk@friday)" monday)" = 262144 ] || fail "changes are missing"
stop_serve s
mv kept.qcow2 disk.qcow2
serve

say "a crash"
nbd_io "$(uri s disk)" 'write -P 0x33 52M 64k'
kill_serve s
stored | grep -q 'in-use' || fail "stored: $(stored)"
serve
grep -q "checkpoint 'bw-.*' is lost: the image was not closed in order" s.log || fail "$(cat s.log)"
backup full 3
nbd_io "$(uri s disk)" 'write -P 0x34 53M 64k'
backup incremental 0

say "one that is missing"
backup incremental 0
stop_serve s
middle=$(qemu-img info --output=json disk.qcow2 | python3 -c '
import json, sys
print(json.load(sys.stdin)["format-specific"]["data"]["bitmaps"][1]["name"])')
qemu-img bitmap --remove disk.qcow2 "$middle"
serve
grep -q "is lost: what changed since is not all known" s.log || fail "$(cat s.log)"
backup full 3
stop_serve s

say "a writer that does not know of bitmaps"
python3 - <<'END'
with open("disk.qcow2", "r+b") as f:  # clears the feature bits, as one that does not know them must
    f.seek(88)
    f.write(bytes(8))
END
serve
backup full 3
stop_serve s
