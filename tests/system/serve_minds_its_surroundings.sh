#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What is around a server does not harm it or its image: closed standard streams, a terminal that is
# hung up, folders that are not there, limits of zero.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io nbdinfo

qemu-img create -q -f qcow2 disk.qcow2 16M
image_io disk.qcow2 'write -P 1 0 1M'
qemu-img convert -f qcow2 -O raw disk.qcow2 disk.raw
cp disk.raw before.raw

say "without standard streams, nothing is written to the image, and SIGTERM works"
for fork in "" --fork; do
    "$BREAKWATER" serve $fork -v --pid-file "$tmp/pid" -k "$tmp/closed.sock" -f raw disk.raw \
        <&- >&- 2>&- &
    wait_for 20 listening "$tmp/closed.sock" || fail "no server without standard streams"
    wait_for 5 test -s pid
    server_pid[closed]=$(cat pid)
    nbd_io "$(uri closed)" 'read -P 1 0 1M'
    kill -TERM "${server_pid[closed]}"
    wait_for 20 gone closed || fail "SIGTERM does not end it ($fork)"
    unset 'server_pid[closed]'
    wait
    cmp disk.raw before.raw || fail "the image was changed ($fork)"
done

say "once the pid file is gone the image is free"
"$BREAKWATER" serve --fork --pid-file "$tmp/pid" -k "$tmp/pid.sock" disk.qcow2 >fork.log 2>&1 </dev/null
server_pid[pid]=$(cat pid)
nbd_io "$(uri pid)" 'write -P 2 1M 1M'
kill -TERM "${server_pid[pid]}"
while [ -e pid ]; do :; done
image_io disk.qcow2 'read -P 2 1M 1M' || fail "the image is still locked"
wait_for 20 gone pid
unset 'server_pid[pid]'

say "a hang-up drains as SIGTERM does, unless it is ignored"
start_serve s disk.qcow2
nbd_io "$(uri s)" 'write -P 3 2M 1M'
kill -HUP "${server_pid[s]}"
wait_for 20 gone s || fail "SIGHUP did not end the server"
status=0
wait "${server_pid[s]}" || status=$?
unset 'server_pid[s]'
[ $status -eq 0 ] || fail "exit code $status after SIGHUP"
check_image disk.qcow2
image_io disk.qcow2 'read -P 3 2M 1M'
trap '' HUP
start_serve s disk.qcow2
trap - HUP
kill -HUP "${server_pid[s]}"
sleep 0.3
nbd_io "$(uri s)" 'read -P 3 2M 1M'
stop_serve s

say "--view-grace 0: a view goes with its last client"
start_serve s -x disk --checkpoints --view-grace 0 disk.qcow2
nbdinfo --size "$(uri s disk@monday)" >/dev/null
sleep 0.3
expect_fail 1 'no longer readable|No such file' nbdinfo --size "$(uri s disk@monday)"
stop_serve s

say "limits and folders that cannot be are refused at the start"
expect_fail 1 'scratch-limit.*0' "$BREAKWATER" serve -k "$tmp/s.sock" --scratch-limit 0 disk.qcow2
expect_fail 2 'nowhere.*No such file' \
    "$BREAKWATER" serve -k "$tmp/s.sock" --checkpoints --scratch-dir "$tmp/nowhere" disk.qcow2
expect_fail 2 'disk.raw.*Not a directory' \
    "$BREAKWATER" serve -k "$tmp/s.sock" --checkpoints --scratch-dir "$tmp/disk.raw" disk.qcow2
start_serve s --checkpoints --view-grace 99999999999h disk.qcow2
nbdinfo --size "$(uri s @tuesday)" >/dev/null
stop_serve s

say "an image served raw although it looks like qcow2: a warning"
start_serve s -r -f raw disk.qcow2
stop_serve s
grep -q 'disk.qcow2.*-f qcow2' s.log || fail "no warning"
