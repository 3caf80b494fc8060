#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# SIGTERM lets requests in flight finish, flushes, removes the socket and exits 0, also under load
# and with idle clients; what a client was told is written is written.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io fio python3

qemu-img create -q -f qcow2 disk.qcow2 256M

say "idle"
start_serve s -f qcow2 disk.qcow2
stop_serve s

say "what was written without a flush is there"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "python3-libnbd is not installed"
start_serve s -f qcow2 disk.qcow2
/usr/bin/python3 - "$(uri s)" <<'END'
import os, sys
import nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(bytes([7]) * (3 << 20), 1 << 20)
os._exit(0)
END
stop_serve s
check_image disk.qcow2
image_io disk.qcow2 'read -P 7 1M 3M'

say "under load, a client's handshake half done, another idle"
start_serve s -f qcow2 -B daily disk.qcow2
python3 - "$tmp/s.sock" <<'END' &
import socket, sys, time
half = socket.socket(socket.AF_UNIX)
half.connect(sys.argv[1])
half.recv(18)
silent = socket.socket(socket.AF_UNIX)
silent.connect(sys.argv[1])
time.sleep(30)
END
client=$!
fio --name=load --ioengine=nbd --uri="$(uri s)" --rw=randwrite --bs=16k --size=256M --iodepth=32 \
    --time_based --runtime=20s >fio.log 2>&1 &
load=$!
sleep 1.5
kill -0 $load || fail "the load is over before the signal"
stop_serve s
wait $load && fail "fio did not notice that the server left"
kill $client
wait $client || true
check_image disk.qcow2

say "SIGINT does the same"
start_serve s -f qcow2 disk.qcow2
nbd_io "$(uri s)" 'write -P 8 1M 64k'
kill -INT "${server_pid[s]}"
wait_for 20 gone s || fail "SIGINT did not end the server"
stop_status=0
wait "${server_pid[s]}" || stop_status=$?
unset 'server_pid[s]'
[ $stop_status -eq 0 ] || fail "exit code $stop_status after SIGINT"
check_image disk.qcow2
