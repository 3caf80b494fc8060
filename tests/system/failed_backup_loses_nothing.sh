#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# An incremental backup that fails publishes nothing and loses no change: the next one has what it
# missed. Failures: an injected EIO, a killed client, a server that goes away.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io

# When the disk was written to and flushed, the next read fails; no other does. Waiting for the flush
# leaves the fault to the backup: while a view is frozen, writes read what they are to overwrite.
cat >eio.conf <<'END'
[set-state]
event = "write_aio"
state = "1"
new_state = "2"

[set-state]
event = "flush_to_os"
state = "2"
new_state = "3"

[inject-error]
event = "read_aio"
state = "3"
iotype = "read"
errno = "5"
once = "on"

[set-state]
event = "read_aio"
state = "3"
new_state = "4"
END

listing() {
    find repo -type f ! -name '*lock*' -exec sha256sum {} + | sort
}

backup() {
    "$BREAKWATER" backup "$(uri s disk)" repo >backup.out 2>&1 || {
        local status=$?
        cat backup.out >&2
        fail "backup: exit code $status"
    }
}

expect_restored() {
    "$BREAKWATER" verify repo/disk >verify.out 2>&1 || { cat verify.out >&2 && fail "verify"; }
    rm -f restored.qcow2
    "$BREAKWATER" restore repo/disk@latest restored.qcow2 >/dev/null
    same_content restored.qcow2 qcow2 "$(uri s disk)" raw
}

fresh() {
    rm -rf repo disk.qcow2
    qemu-img create -q -f qcow2 disk.qcow2 64M
    image_io disk.qcow2 "${fixture_base[@]}"
    start_serve s -x disk -f qcow2 -B daily --checkpoints "$@" disk.qcow2
    backup
}

say "an injected EIO: the attempt fails and publishes nothing"
fresh --faults eio.conf
# Written back, not through: each write would flush, and the flush set the trap too early.
image_io_run -t writeback -f raw -c "${fixture_batch1[0]}" -c "${fixture_batch1[1]}" \
    -c "${fixture_batch1[2]}" -c flush "$(uri s disk)"
before=$(listing)
expect_fail 2 'Input/output error|EIO' "$BREAKWATER" backup "$(uri s disk)" repo
[ "$(listing)" = "$before" ] || fail "the failed backup changed the repository"
alive s

say "the next one has the changes of before and after the failure"
nbd_io "$(uri s disk)" "${fixture_batch2[@]}"
backup
expect_restored
stop_serve s
grep -q 'read_aio' s.log || fail "the rule's hits are not logged at exit"
check_image disk.qcow2

say "a client killed in the middle: nothing published, nothing lost"
fresh
nbd_io "$(uri s disk)" 'write -P 0x71 0 48M'
before=$(listing)
for delay in 0.01 0.03 0.1; do
    "$BREAKWATER" backup "$(uri s disk)" repo >killed.out 2>&1 &
    client=$!
    sleep $delay
    if kill -KILL $client 2>/dev/null && ! wait $client 2>/dev/null; then
        [ "$(find repo -name '*.json' | wc -l)" -eq 1 ] || break # it had just finished
    fi
    nbd_io "$(uri s disk)" "write -P 0x72 5${delay//[!0-9]/}k 4k"
done
nbd_io "$(uri s disk)" 'write -P 0x73 60M 1M'
backup
[ -z "$(find repo -name '*.tmp')" ] || fail "what the killed runs left was not cleaned up"
expect_restored
stop_serve s

say "a server that is killed: the attempt fails; afterwards a full backup, and it says so"
fresh
nbd_io "$(uri s disk)" 'write -P 0x74 0 16M' flush
kill_serve s
before=$(listing)
expect_fail 75 . "$BREAKWATER" backup "$(uri s disk)" repo
[ "$(listing)" = "$before" ] || fail "the repository changed"
start_serve s -x disk -f qcow2 -B daily --checkpoints disk.qcow2
status=0
"$BREAKWATER" backup "$(uri s disk)" repo >backup.out 2>&1 || status=$?
[ $status -eq 3 ] || { cat backup.out >&2 && fail "exit code $status instead of 3"; }
grep -qi full backup.out || fail "it did not say that this is a full backup"
expect_restored

say "two at once: one of them is told to come back later"
nbd_io "$(uri s disk)" 'write -P 0x75 0 64M'
"$BREAKWATER" backup "$(uri s disk)" repo >one.out 2>&1 &
one=$!
"$BREAKWATER" backup "$(uri s disk)" repo >two.out 2>&1 &
two=$!
first=0 second=0
wait $one || first=$?
wait $two || second=$?
case "$first $second" in
'0 0' | '0 75' | '75 0') ;;
*) cat one.out two.out >&2 && fail "exit codes $first and $second" ;;
esac
expect_restored
stop_serve s
check_image disk.qcow2
