#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A full backup and three incrementals (one of them empty), at several granularities: each, restored
# and as a chain of layers that QEMU opens, equals a reference image taken right after it.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3

# layer_of NUMBER: the layer file of the NUMBERth backup (by manifest), from 1.
layer_of() {
    python3 - "$1" <<'END'
import glob, json, sys
manifests = sorted((json.load(open(path))["sequence"], path) for path in glob.glob("repo/disk/*.json"))
print(manifests[int(sys.argv[1]) - 1][1][:-5] + ".qcow2")
END
}

take() {
    local number=$1
    "$BREAKWATER" backup "$(uri s disk)" repo >backup.out 2>&1 || {
        cat backup.out >&2
        fail "backup $number: exit code $?"
    }
    [ "$(find repo/disk -name '*.json' | wc -l)" -eq "$number" ] || fail "not $number backups"
    [ -z "$(find repo -name '*.tmp')" ] || fail "temporary files are left"
    qemu-img convert -f raw -O raw "$(uri s disk)" "reference$number.raw"
}

judge() {
    local number
    "$BREAKWATER" verify repo/disk >verify.out 2>&1 || { cat verify.out >&2 && fail "verify"; }
    for number in 1 2 3 4; do
        "$BREAKWATER" restore "repo/disk@$number" restored.qcow2 >restore.out 2>&1 ||
            { cat restore.out >&2 && fail "restore $number"; }
        check_image restored.qcow2
        same_content restored.qcow2 qcow2 "reference$number.raw" raw
        rm restored.qcow2
        check_image "$(layer_of $number)"
        same_content "$(layer_of $number)" qcow2 "reference$number.raw" raw
    done
    "$BREAKWATER" restore repo/disk@latest restored.qcow2 >/dev/null
    same_content restored.qcow2 qcow2 "$1" qcow2
    rm -rf restored.qcow2 repo reference*.raw
}

for granularity in 32768 65536 131072; do
    for cluster in 65536 131072; do
        [ $granularity = 65536 ] || [ $cluster = 65536 ] || continue
        say "granularity $granularity, clusters of $cluster"
        qemu-img create -q -f qcow2 -o cluster_size=$cluster disk.qcow2 64M
        image_io disk.qcow2 "${fixture_base[@]}"
        start_serve s -x disk -f qcow2 -B daily,granularity=$granularity --checkpoints disk.qcow2
        take 1
        take 2 # nothing has changed
        nbd_io "$(uri s disk)" "${fixture_batch1[@]}"
        take 3
        # Zeros and discards over data that the base has: an increment that only left them out would
        # bring the old bytes back.
        nbd_io "$(uri s disk)" "${fixture_batch2[@]}" 'write -z 1M 32k' 'discard 32M 128k' \
            'write -P 0x44 63M 1M'
        take 4
        stop_serve s
        check_image disk.qcow2
        judge disk.qcow2
        rm disk.qcow2
    done
done

say "increments are small: what changed, not the disk"
qemu-img create -q -f qcow2 disk.qcow2 64M
image_io disk.qcow2 'write -P 1 0 32M'
start_serve s -x disk -f qcow2 -B daily --checkpoints disk.qcow2
take 1
nbd_io "$(uri s disk)" 'write -P 2 1M 64k'
take 2
[ "$(stat -c %s "$(layer_of 1)")" -ge $((32 << 20)) ] || fail "the full backup is too small"
[ "$(stat -c %s "$(layer_of 2)")" -le $((2 << 20)) ] || fail "the increment is too big"

say "a backup can be served again"
start_serve again -r -f qcow2 "$(layer_of 2)"
same_content "$(uri again)" raw reference2.raw raw
stop_serve again
stop_serve s
