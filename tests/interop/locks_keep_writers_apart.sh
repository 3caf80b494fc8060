#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Image locks are QEMU's: who writes an image keeps every other program away from it, in both
# directions; readers share.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io qemu-nbd

qemu-img create -q -f qcow2 disk.qcow2 16M

say "QEMU is refused what breakwater writes"
start_serve writer -f qcow2 disk.qcow2
expect_fail 1 'lock' qemu-io -f qcow2 -c 'write 0 1k' disk.qcow2
expect_fail 1 'lock' qemu-img check -f qcow2 disk.qcow2

say "so is a second breakwater, to write or to read"
expect_fail 2 'lock|in use' "$BREAKWATER" serve -k "$tmp/second.sock" -f qcow2 disk.qcow2
expect_fail 2 'lock|in use' "$BREAKWATER" serve -r -k "$tmp/second.sock" -f qcow2 disk.qcow2
nbd_io "$(uri writer)" 'write -P 1 0 64k'
stop_serve writer

say "breakwater is refused what QEMU writes"
qemu-nbd -k "$tmp/qemu.sock" -t -f qcow2 disk.qcow2 >qemu.log 2>&1 </dev/null &
server_pid[qemu]=$!
wait_for 10 listening "$tmp/qemu.sock"
expect_fail 2 'lock|in use' "$BREAKWATER" serve -k "$tmp/second.sock" -f qcow2 disk.qcow2
expect_fail 2 'disk.qcow2' "$BREAKWATER" serve -k "$tmp/second.sock" -f qcow2 disk.qcow2
kill_serve qemu

say "readers share an image, and keep writers out"
start_serve first -r -f qcow2 disk.qcow2
start_serve second -r -f qcow2 disk.qcow2
image_io_run -r -f qcow2 -c 'read -P 1 0 64k' disk.qcow2
expect_fail 2 'lock|in use' "$BREAKWATER" serve -k "$tmp/third.sock" -f qcow2 disk.qcow2
expect_fail 1 'lock' qemu-io -f qcow2 -c 'write 0 1k' disk.qcow2
stop_serve first
stop_serve second

say "a backing file may be shared by two overlays"
qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 one.qcow2
qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 two.qcow2
start_serve first -f qcow2 one.qcow2
start_serve second -f qcow2 two.qcow2
nbd_io "$(uri first)" 'write -P 2 0 4k'
nbd_io "$(uri second)" 'write -P 3 0 4k' 'read -P 1 4k 60k'
nbd_io "$(uri first)" 'read -P 2 0 4k' 'read -P 1 4k 60k'
expect_fail 1 'lock' qemu-io -f qcow2 -c 'write 0 1k' disk.qcow2
stop_serve first
stop_serve second
check_image one.qcow2
check_image two.qcow2

say "a crash leaves no lock behind"
start_serve writer -f qcow2 disk.qcow2
kill_serve writer
start_serve writer -f qcow2 disk.qcow2
stop_serve writer
