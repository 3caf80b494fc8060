#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A convert that fails, or is killed, leaves the source and an old target as they were, and no target
# where there was none.
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io

image() {
    "$BREAKWATER" image "$@"
}

qemu-img create -q -f qcow2 source.qcow2 24M
image_io source.qcow2 'write -P 1 0 9M' 'write -P 2 13M 2M'
qemu-img convert -c -O qcow2 source.qcow2 packed.qcow2
qemu-img create -q -f qcow2 old.qcow2 1M
image_io old.qcow2 'write -P 5 0 1M'
sha256sum source.qcow2 packed.qcow2 old.qcow2 >sums

# nothing_changed: nor is there any file that was not there before.
nothing_changed() {
    sha256sum --quiet -c sums || fail "something was changed"
    local left
    left=$(ls | grep -Ev '^((expect|io|check)\.out|sums|damaged.qcow2|.*\.log)$' | tr '\n' ' ')
    [ "$left" = "old.qcow2 packed.qcow2 source.qcow2 " ] || fail "there are now: $left"
}

# A file size limit is the cheapest full disk: the write fails in the middle.
limited() {
    (
        trap '' XFSZ
        ulimit -f $((4 << 10))
        "$BREAKWATER" image "$@"
    )
}

say "the disk is full"
for target in old.qcow2 new.qcow2; do
    expect_fail 1 'cannot write .* (File too large|No space left)' limited convert source.qcow2 $target
    nothing_changed
    expect_fail 1 'File too large|No space left' limited convert -O raw source.qcow2 $target
    nothing_changed
done

# Salvaging is for what cannot be read.
expect_fail 1 'cannot write .* of new.qcow2' limited convert --salvage source.qcow2 new.qcow2
nothing_changed
"$BREAKWATER" image create -q written.qcow2 24M
printf '[inject-error]\nevent = "write_aio"\nonce = "on"\n' >write.conf
expect_fail 1 'cannot write .* of written.qcow2' image convert --salvage -n source.qcow2 \
    blkdebug:write.conf:written.qcow2
rm written.qcow2 write.conf

say "the target, or the source, is in use"
start_serve user old.qcow2
expect_fail 1 'old.qcow2.* in use' image convert source.qcow2 old.qcow2
expect_fail 1 'old.qcow2.* in use' image convert old.qcow2 new.qcow2
stop_serve user
expect_fail 1 'in use' image convert source.qcow2 source.qcow2
nothing_changed

say "what is damaged is not read, or given up on request"
cp packed.qcow2 damaged.qcow2
# The middle of the packed clusters: all of those are damaged that begin in it.
printf 'damage%.0s' {1..100} | dd of=damaged.qcow2 bs=1 seek=$((5 * 65536 + 2000)) conv=notrunc status=none
expect_fail 1 'cannot read .* of damaged.qcow2: Input/output error' image convert damaged.qcow2 old.qcow2
nothing_changed
image convert --salvage damaged.qcow2 new.qcow2 2>salvage.log
lost=$(sed -nE 's/.* ([0-9]+) sectors of damaged.qcow2 were lost/\1/p' salvage.log)
[ "$lost" -gt 0 ]
check_image new.qcow2
# Nothing else is lost, and what is lost is zeros.
qemu-img convert -f qcow2 -O raw source.qcow2 source.raw
qemu-img convert -f qcow2 -O raw new.qcow2 new.raw
{ cmp -l source.raw new.raw || true; } | awk '$3 != 0 { bad = 1 } END { print NR; exit bad }' >count
[ "$(cat count)" -eq $((lost * 512)) ]
rm -f new.qcow2 ./*.raw count

say "killed, terminated or interrupted in the middle"
for signal in KILL TERM HUP; do
    "$BREAKWATER" image convert -r 2M source.qcow2 old.qcow2 &
    converter=$!
    sleep 0.5
    kill -$signal $converter
    status=0
    wait $converter 2>/dev/null || status=$?
    [ $status -eq $((128 + $(kill -l $signal))) ] || fail "$signal: it was not in the middle: $status"
    # Where the file system has files without a name; else what is left says that it is unfinished.
    if python3 -c 'import os; os.close(os.open(".", os.O_TMPFILE | os.O_RDWR))' 2>/dev/null; then
        nothing_changed
    else
        rm -f old.qcow2.tmp*
    fi
done
