#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# verify finds every kind of damage, and restore refuses to hand out what is damaged: exit code 4
# for content that differs from its manifest, 5 for a chain that is not whole.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3

qemu-img create -q -f qcow2 disk.qcow2 16M
image_io disk.qcow2 'write -P 1 0 4M'
start_serve s -x disk -f qcow2 -B daily --checkpoints disk.qcow2
"$BREAKWATER" backup "$(uri s disk)" good >/dev/null
nbd_io "$(uri s disk)" 'write -P 2 1M 1M'
"$BREAKWATER" backup "$(uri s disk)" good >/dev/null
stop_serve s
"$BREAKWATER" verify good/disk >/dev/null

# The file of the backup with sequence number $1 and extension $2, in repo.
file_of() {
    python3 - "$1" "$2" <<'END'
import glob, json, sys
by_sequence = sorted((json.load(open(path))["sequence"], path) for path in glob.glob("good/disk/*.json"))
print("repo" + by_sequence[int(sys.argv[1]) - 1][1][4:-4] + sys.argv[2])
END
}

fresh() {
    rm -rf repo
    cp -a good repo
}

both_refuse() {
    expect_fail "$1" "$2" "$BREAKWATER" verify repo/disk
    expect_fail "$1" "$2" "$BREAKWATER" restore repo/disk@latest out.qcow2
    [ ! -e out.qcow2 ] || fail "a damaged backup was restored to a file"
}

for number in 1 2; do
    say "changed guest content in backup $number"
    fresh
    chmod u+w "$(file_of $number qcow2)"
    # Backup 1 still decides at 3M, backup 2 at 1M.
    image_io "$(file_of $number qcow2)" "write -P 9 $((5 - number * 2))M 1k"
    both_refuse 4 .

    say "a layer of backup $number cut short"
    fresh
    chmod u+w "$(file_of $number qcow2)"
    truncate -s -65536 "$(file_of $number qcow2)"
    both_refuse '5' .

    say "the layer of backup $number is gone"
    fresh
    rm "$(file_of $number qcow2)"
    both_refuse 5 .

    say "one bit of the hashes of backup $number"
    fresh
    chmod u+w "$(file_of $number hash)"
    python3 - "$(file_of $number hash)" <<'END'
import sys
with open(sys.argv[1], "rb+") as hashes:
    data = bytearray(hashes.read())
    data[-1] ^= 1
    hashes.seek(0)
    hashes.write(data)
END
    expect_fail 5 . "$BREAKWATER" verify repo/disk
done

say "a manifest that was edited"
fresh
chmod u+w "$(file_of 1 json)"
sed -i 's/"sequence": *1/"sequence": 7/' "$(file_of 1 json)"
expect_fail 5 . "$BREAKWATER" verify repo/disk

say "the parent's manifest is gone"
fresh
rm "$(file_of 1 json)"
both_refuse 5 .

say "the newest manifest is gone: its layer tells"
fresh
rm "$(file_of 2 json)"
expect_fail 5 "$(basename "$(file_of 2 qcow2)").*manifest is missing" "$BREAKWATER" verify repo/disk

say "all manifests are gone"
rm repo/disk/*.json
mkdir repo/second
cp good/disk/* repo/second
expect_fail 5 'manifest is missing' "$BREAKWATER" verify repo/disk
expect_fail 5 'manifest is missing' "$BREAKWATER" verify repo
rm -r repo/disk
"$BREAKWATER" verify repo >/dev/null

if [ "$(id -u)" -ne 0 ]; then
    say "a disk that may not be looked into"
    mkdir -m 0 repo/locked
    expect_fail 2 'locked.*Permission denied' "$BREAKWATER" verify repo
    rmdir repo/locked
fi

say "what is not there"
fresh
expect_fail 2 'nosuch' "$BREAKWATER" verify repo/nosuch
expect_fail 2 '99' "$BREAKWATER" restore repo/disk@99 out.qcow2
[ ! -e out.qcow2 ] || fail "a file was left"

say "restore does not overwrite"
: >there.qcow2
expect_fail 2 'there.qcow2' "$BREAKWATER" restore repo/disk@latest there.qcow2
[ ! -s there.qcow2 ] || fail "there.qcow2 was overwritten"
