#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Backups whose disk or chain is out of the ordinary: a size that ends inside a sector or a block,
# zeros at the very end, a resized disk, long chains, a damaged chain to build on, increments made
# while the disk is written.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3

# backup EXPECTED-CODE ARG...
backup() {
    local code=$1 status=0
    shift
    "$BREAKWATER" backup "$@" >backup.out 2>&1 </dev/null || status=$?
    no_sanitizer_report backup.out
    [ $status -eq "$code" ] || { cat backup.out >&2 && fail "exit code $status, not $code: $*"; }
}

level_is() {
    grep -q " $1," backup.out || { cat backup.out >&2 && fail "not $1"; }
}

# proven REFERENCE FORMAT: all backups are sound, and the latest equals the reference.
proven() {
    "$BREAKWATER" verify repo/disk >verify.out 2>&1 || { cat verify.out >&2 && fail "verify"; }
    "$BREAKWATER" restore --force repo/disk restored.qcow2 >/dev/null
    same_content restored.qcow2 qcow2 "$1" "$2"
}

file_of() {
    python3 - "$1" "$2" <<'END'
import glob, json, sys
for path in glob.glob("repo/disk/*.json"):
    if json.load(open(path))["sequence"] == int(sys.argv[1]):
        print(path[:-4] + sys.argv[2])
END
}

for size in $((5 * 65536 + 1001)) $((5 * 65536 + 512)) $((5 * 65536 + 4096)) 513; do
    say "a disk of $size bytes"
    python3 -c "open('odd.raw', 'wb').write(bytes(i % 251 + 1 for i in range($size)))"
    start_serve s -x disk -f raw -B daily --checkpoints odd.raw
    backup 0 "$(uri s disk)" repo
    nbd_io "$(uri s disk)" "write -P 9 $((size - 1)) 1"
    backup 0 "$(uri s disk)" repo
    level_is incremental
    cp odd.raw before.raw
    nbd_io "$(uri s disk)" "write -z $((size / 65536 * 65536)) $((size % 65536))"
    backup 0 "$(uri s disk)" repo
    level_is incremental
    grep -q '0 bytes of data and [1-9].* of zeros' backup.out || fail "not stored as zeros"
    "$BREAKWATER" verify repo/disk >verify.out || { cat verify.out >&2 && fail "verify"; }
    "$BREAKWATER" restore -f raw repo/disk out.raw >/dev/null
    stop_serve s
    cmp out.raw odd.raw
    "$BREAKWATER" restore --force -f raw repo/disk@2 out.raw >/dev/null
    cmp out.raw before.raw
    rm -rf repo out.raw
done

qemu-img create -q -f qcow2 disk.qcow2 64M
image_io disk.qcow2 "${fixture_base[@]}"
start_serve s -x disk -f qcow2 -B daily --checkpoints disk.qcow2

say "a chain is ended by a full backup when it is long enough"
backup 0 "$(uri s disk)" repo
for number in 2 3; do
    nbd_io "$(uri s disk)" "write -P $number ${number}M 64k"
    backup 0 --max-chain 3 "$(uri s disk)" repo
    level_is incremental
done
nbd_io "$(uri s disk)" 'write -P 4 4M 64k'
backup 0 --max-chain 3 "$(uri s disk)" repo
level_is full
proven "$(uri s disk)" raw

say "increments build on the newest backup that is whole"
nbd_io "$(uri s disk)" 'write -P 5 5M 64k'
backup 0 "$(uri s disk)" repo
nbd_io "$(uri s disk)" 'write -P 6 6M 64k'
rm "$(file_of 5 hash)"
backup 0 "$(uri s disk)" repo
level_is incremental
grep -q 'cannot build on backup 5' backup.out || fail "it was not said"
"$BREAKWATER" verify repo/disk@6 >/dev/null
"$BREAKWATER" restore repo/disk@6 out.qcow2 >/dev/null
same_content out.qcow2 qcow2 "$(uri s disk)" raw
expect_fail 5 'backup|hash' "$BREAKWATER" verify repo/disk

say "with none that is whole: in full, and said"
rm repo/disk/*.hash
nbd_io "$(uri s disk)" 'write -P 7 7M 64k'
backup 3 "$(uri s disk)" repo
level_is full
"$BREAKWATER" restore --force repo/disk@latest out.qcow2 >/dev/null
same_content out.qcow2 qcow2 "$(uri s disk)" raw
rm -rf repo

say "increments of a disk that is being written are of one instant"
backup 0 "$(uri s disk)" repo
writer() {
    local round
    for round in $(seq 1 40); do
        nbd_io "$(uri s disk)" "write -P $round 8M 1M" "write -P $round 40M 1M" || return 1
    done
}
writer &
writing=$!
for number in 2 3 4 5; do
    backup 0 "$(uri s disk)" repo
    level_is incremental
    "$BREAKWATER" restore --force -f raw repo/disk out.raw >/dev/null
    # Each write is one instant; the second of a round is never there without the first.
    python3 - <<'END'
disk = open("out.raw", "rb").read()
first, second = set(disk[8 << 20:9 << 20]), set(disk[40 << 20:41 << 20])
assert len(first) == 1 and len(second) == 1, (first, second)
first, second = first.pop(), second.pop()
assert first in (second, second + 1), (first, second)
END
done
wait $writing
backup 0 "$(uri s disk)" repo
proven "$(uri s disk)" raw
stop_serve s

say "another size: in full, and said"
qemu-img resize -q disk.qcow2 96M
start_serve s -x disk -f qcow2 -B daily --checkpoints disk.qcow2
backup 3 "$(uri s disk)" repo
grep -q resized backup.out || fail "the reason is not said"
proven "$(uri s disk)" raw
nbd_io "$(uri s disk)" 'write -P 1 95M 1M'
backup 0 "$(uri s disk)" repo
level_is incremental
proven "$(uri s disk)" raw
stop_serve s

say "clusters in a layer that its hash file does not list"
rm -rf repo disk.qcow2
qemu-img create -q -f qcow2 disk.qcow2 16M
image_io disk.qcow2 'write -P 1 0 4M'
start_serve s -x disk -f qcow2 -B daily --checkpoints disk.qcow2
backup 0 "$(uri s disk)" repo
nbd_io "$(uri s disk)" 'write -P 2 1M 64k' 'write -z 2M 64k'
backup 0 "$(uri s disk)" repo
stop_serve s
mv repo good

# tamper COMMAND: with the layer of backup 2, whose manifest then has the right length again.
tamper() {
    rm -rf repo
    cp -a good repo
    image_io "$(file_of 2 qcow2)" "$1"
    sed -i "s/\"layer_size\": .*,/\"layer_size\": $(stat -c %s "$(file_of 2 qcow2)"),/" \
        "$(file_of 2 json)"
}

tamper 'write -P 9 3M 1k'
expect_fail 4 'holds data at offset 3145728' "$BREAKWATER" verify repo/disk
expect_fail 4 'offset 3145728' "$BREAKWATER" restore repo/disk bad.qcow2
tamper 'write -z 3M 64k'
expect_fail 4 "hides its parent's data at offset 3145728" "$BREAKWATER" verify repo/disk
expect_fail 4 'offset 3145728' "$BREAKWATER" restore repo/disk bad.qcow2
tamper 'write -P 9 2M 64k'
expect_fail 4 'offset 2097152' "$BREAKWATER" verify repo/disk
tamper 'write -P 0 5M 64k'
expect_fail 4 'holds data at offset 5242880' "$BREAKWATER" verify repo/disk
[ ! -e bad.qcow2 ] || fail "a damaged backup was restored"
