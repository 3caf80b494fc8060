#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The options of serve that no other test is about do what the manual says.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io nbdinfo python3

qemu-img create -q -f qcow2 disk.qcow2 16M
image_io disk.qcow2 'write -P 1 0 1M' 'write -P 2 1M 1M'
qemu-img convert -f qcow2 -O raw disk.qcow2 disk.raw

say "--help and --version"
"$BREAKWATER" serve --help | grep -q -- '--faults'
for topic in '' listen tls export image changes faults limits running; do
    # shellcheck disable=SC2086 # no topic is no argument
    "$BREAKWATER" serve --help $topic >help.log
    [ "$(wc -l <help.log)" -le 24 ] || fail "--help $topic is more than a screen"
    [ "$(wc -l <help.log)" -gt 2 ] || fail "--help $topic says nothing"
done
"$BREAKWATER" serve --help=limits | cmp - <("$BREAKWATER" serve --help limits)
expect_fail 1 "no topic 'tsl'" "$BREAKWATER" serve --help tsl
"$BREAKWATER" --version | grep -Eq '^breakwater [0-9]+\.[0-9]+'
"$BREAKWATER" --help | grep -q restore

say "limits that cannot be are refused, and an idle client is let go"
expect_fail 1 'there must be one' "$BREAKWATER" serve --stall-timeout 0 disk.qcow2
expect_fail 1 'max-connection-bytes: .1k. is below 64.0 KiB' "$BREAKWATER" serve \
    --max-connection-bytes 1k disk.qcow2
expect_fail 1 'max-total-requests: 0 is not' "$BREAKWATER" serve --max-total-requests 0 disk.qcow2
expect_fail 1 'max-options: 1 is not' "$BREAKWATER" serve --max-options 1 disk.qcow2
start_serve idle -v --idle-timeout 300ms --timeout 5s --max-options 10 --max-total-requests 2 disk.qcow2
nbd_io "$(uri idle)" 'read 0 1M' 'sleep 1000' || true # qemu-io connects anew, or fails
wait_for 10 grep -q 'the client was idle for 300 ms' idle.log
stop_serve idle

say "a mistyped option is told which one was meant; options of qemu-nbd and nbdkit are taken"
expect_fail 1 "option '--sokcet=x' is not known; did you mean '--socket'" "$BREAKWATER" serve --sokcet=x
expect_fail 1 "option '-Z' is not known$" "$BREAKWATER" serve -r -Z disk.qcow2
expect_fail 1 "option '-k' needs a value" "$BREAKWATER" serve disk.qcow2 -k
expect_fail 1 "aio: 'posix' is not known" "$BREAKWATER" serve --aio posix disk.qcow2
expect_fail 1 "image-opts: 'size' is not supported" "$BREAKWATER" serve --image-opts driver=raw,size=1
start_serve like --fork --foreground --pidfile "$tmp/pid" --aio native -T 'nbd_*' --image-opts \
    "driver=qcow2,file.driver=file,file.filename=$tmp/disk.qcow2"
[ "$(cat pid)" = "${server_pid[like]}" ] || fail "not in the foreground"
nbd_io "$(uri like)" 'read -P 1 0 1M'
stop_serve like

say "--run serves as long as a command runs, and ends with its exit code"
mkdir run
run() {
    TMPDIR=$tmp/run "$BREAKWATER" serve "$@" >run.log 2>&1 </dev/null
}
run -s disk.qcow2 -x disk --run 'nbdinfo --size "$uri" && [ -S "$unixsocket" ] && echo "$exportname"'
[ "$(cat run.log)" = "16777216"$'\n'"disk" ] || fail "the command said: $(cat run.log)"
for code in 0 1 7 143; do
    status=0
    run -r disk.qcow2 --run "exit $code" || status=$?
    [ $status -eq $code ] || fail "exit code $status, and of the command $code"
done
status=0
run -r disk.qcow2 --run 'kill -9 $$' || status=$?
[ $status -eq 137 ] || fail "exit code $status of a killed command"
expect_fail 1 'exclude' "$BREAKWATER" serve --fork --run true disk.qcow2
TMPDIR=$tmp/run "$BREAKWATER" serve -k "$tmp/long.sock" -r disk.qcow2 --run 'echo here; sleep 1000' >long.log 2>&1 &
server_pid[long]=$!
wait_for 20 grep -q here long.log
status=0
kill -TERM "${server_pid[long]}"
wait "${server_pid[long]}" || status=$?
unset 'server_pid[long]'
[ $status -eq 2 ] || fail "exit code $status of a server that had to end first"
[ -z "$(ls run)" ] || fail "left behind: $(ls run)"
no_sanitizer_report run.log

say "--exit-with-parent"
sh -c '"$0" serve --exit-with-parent -k "$1" disk.qcow2 >parent.log 2>&1 & echo $! >child.pid; exec sleep 1000' \
    "$BREAKWATER" "$tmp/child.sock" &
parent=$!
wait_for 20 listening "$tmp/child.sock"
kill -KILL $parent
wait_for 20 not_listening "$tmp/child.sock"
server_pid[child]=$(cat child.pid)
wait_for 20 gone child
unset 'server_pid[child]'
[ ! -e child.sock ] || fail "it left its socket"

say "--fork returns when the server is ready; --pid-file names it"
"$BREAKWATER" serve --fork --pid-file "$tmp/pid" -k "$tmp/forked.sock" disk.qcow2 >fork.log 2>&1 </dev/null
listening "$tmp/forked.sock" || fail "not ready when the command returned"
forked=$(cat pid)
server_pid[forked]=$forked
nbd_io "$(uri forked)" 'read -P 1 0 1M'
kill -TERM "$forked"
wait_for 20 not_listening "$tmp/forked.sock"
wait_for 20 gone forked || fail "the daemon is still there"
unset 'server_pid[forked]'
[ ! -e forked.sock ] || fail "the daemon left its socket"
[ ! -e pid ] || fail "the daemon left its pid file"

say "--fork with an image that is not there: the command fails"
expect_fail 2 'none.qcow2' "$BREAKWATER" serve --fork -k "$tmp/forked.sock" none.qcow2

say "-p 0: any free port, which the printed URI names; -b the address"
"$BREAKWATER" serve -b 127.0.0.1 -p 0 -x disk disk.qcow2 >port.log 2>&1 </dev/null &
server_pid[port]=$!
wait_for 20 grep -qs '^nbd://' port.log
nbd_io "$(grep -m 1 '^nbd://' port.log)" 'read -P 2 1M 1M'
stop_serve port

say "-r refuses writes and leaves the file alone"
sum=$(sha256sum disk.qcow2)
start_serve s -r disk.qcow2
expect_fail 1 '[Pp]ermission denied|read-only' qemu-io -f raw -c 'write 0 4k' "$(uri s)"
nbdinfo --is read-only "$(uri s)"
stop_serve s
[ "$(sha256sum disk.qcow2)" = "$sum" ] || fail "the file was changed"

say "-l serves an internal snapshot, by its id or name"
holds() {
    local out
    out=$(qemu-io -r -f raw -c "$1" -c "$2" "$(uri s)")
    ! grep -q 'verification failed' <<<"$out" || fail "$1, $2: $out"
    [ "$(grep -c '^read .* bytes at offset' <<<"$out")" = 2 ] || fail "$out"
}
qemu-img create -q -f qcow2 snap.qcow2 4M
image_io snap.qcow2 'write -P 5 0 1M'
qemu-img snapshot -c first snap.qcow2
image_io snap.qcow2 'write -P 6 0 2M'
qemu-img snapshot -c 1 snap.qcow2
image_io snap.qcow2 'write -P 7 0 4M'
sum=$(sha256sum snap.qcow2)
for name in first 1 snapshot.id=1 snapshot.name=first snapshot.id=1,snapshot.name=first; do
    start_serve s -l "$name" snap.qcow2
    holds 'read -P 5 0 1M' 'read -P 0 1M 3M'
    nbdinfo --is read-only "$(uri s)"
    stop_serve s
done
start_serve s --snapshot snapshot.name=1 snap.qcow2
holds 'read -P 6 0 2M' 'read -P 0 2M 2M'
stop_serve s
[ "$(sha256sum snap.qcow2)" = "$sum" ] || fail "the file was changed"
expect_fail 2 "no snapshot with the id or name 'none'" "$BREAKWATER" serve -k "$tmp/s.sock" -l none snap.qcow2
expect_fail 1 'snapshot.id=ID' "$BREAKWATER" serve -k "$tmp/s.sock" -l snapshot.what=1 snap.qcow2
expect_fail 1 'exclude each other' "$BREAKWATER" serve -k "$tmp/s.sock" -l 1 -B b snap.qcow2
expect_fail 1 'raw image has no snapshots' "$BREAKWATER" serve -k "$tmp/s.sock" -l 1 -f raw snap.qcow2

say "-o serves what lies behind an offset"
start_serve s -o 1M disk.qcow2
[ "$(nbdinfo --size "$(uri s)")" -eq $((15 << 20)) ] || fail "wrong size"
nbd_io "$(uri s)" 'read -P 2 0 1M' 'read -P 0 1M 1M' 'write -P 3 14M 1M'
stop_serve s
image_io disk.qcow2 'read -P 3 15M 1M' 'read -P 1 0 1M'

say "-f raw; a raw disk that looks like qcow2 stays raw"
start_serve s -f raw -B daily disk.raw
nbd_io "$(uri s)" 'read -P 1 0 1M' 'write -P 4 8M 1M' 'discard 0 64k'
printf 'QFI\373' >magic
python3 - "$tmp/magic" <<'END'
with open("disk.raw", "rb+") as raw, open("magic", "rb") as magic:
    raw.write(magic.read())
END
stop_serve s
expect_fail 1 'format' "$BREAKWATER" serve -k "$tmp/s.sock" disk.raw
start_serve s -f raw disk.raw
[ "$(nbdinfo --size "$(uri s)")" -eq $((16 << 20)) ] || fail "the format was guessed"
nbd_io "$(uri s)" 'read -P 4 8M 1M'
stop_serve s

say "--discard: unmap gives space back, ignore keeps the data"
start_serve s --discard ignore disk.qcow2
nbd_io "$(uri s)" 'discard 1M 1M' 'read -P 2 1M 1M'
stop_serve s
start_serve s disk.qcow2
nbd_io "$(uri s)" 'discard 1M 1M' 'read -P 0 1M 1M'
stop_serve s
check_image disk.qcow2

say "-e 1: a second client is not served while the first is there"
start_serve s -e 1 disk.qcow2
python3 - "$tmp/s.sock" <<'END'
import socket, struct, sys, time

def receive(sock, length):
    data = b""
    while len(data) < length:
        part = sock.recv(length - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data

def enters():
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(2)
    sock.connect(sys.argv[1])
    receive(sock, 18)
    sock.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">IIIH", 7, 6, 0, 0))
    while True:
        _, _, reply, length = struct.unpack(">QIII", receive(sock, 20))
        receive(sock, length)
        if reply == 1:
            return sock
        if reply & 0x80000000:
            sock.close()
            return None

first = enters()
assert first, "the first client was refused"
try:
    assert not enters(), "the second client was served"
except (ConnectionError, socket.timeout):
    pass
first.close()
for _ in range(50):
    third = enters()
    if third:
        break
    time.sleep(0.1)
assert third, "nobody is served after the first left"
END
stop_serve s

say "--no-checkpoints: there are no frozen views"
start_serve s -x disk -B daily --no-checkpoints disk.qcow2
expect_fail 1 'No such file' nbdinfo "$(uri s disk@monday)"
stop_serve s
start_serve s -x disk --checkpoints disk.qcow2
nbdinfo --size "$(uri s disk@monday)" >/dev/null
stop_serve s

say "--l2-cache-size bounds the L2 tables in memory"
qemu-img create -q -f qcow2 -o cluster_size=4k many.qcow2 128M
writes=()
for ((at = 0; at < 128; at += 2)); do # 64 tables of a page
    writes+=("write -P 7 ${at}M 4k")
done
image_io many.qcow2 "${writes[@]}"
loads() { # OPTION...: how many tables are loaded to read them twice
    start_serve s --fault-trace "$tmp/loads.trace" "$@" many.qcow2
    for _ in 1 2; do
        nbd_io "$(uri s)" "${writes[@]/#write/read}"
    done
    stop_serve s
    loads=$("$BREAKWATER" faults trace loads.trace | grep -c l2_load)
    rm loads.trace
}
loads
[ "$loads" -eq 64 ] || fail "the tables do not fit into a cache of the size of the disk's"
loads --l2-cache-size 256K
[ "$loads" -eq 64 ] || fail "64 tables do not fit into their 256K"
loads --l2-cache-size 64K
[ "$loads" -eq 128 ] || fail "64K hold more than 16 tables"
expect_fail 1 'no room' "$BREAKWATER" serve --l2-cache-size 0 many.qcow2

say "--cache none: direct I/O, at any offset"
if ! dd if=disk.raw of=/dev/null bs=4k count=1 iflag=direct status=none 2>/dev/null; then
    skip "no direct I/O in $tmp (the rest passed)"
fi
start_serve s --cache none disk.qcow2
nbd_io "$(uri s)" 'write -P 5 4000001 70001' 'read -P 5 4000001 70001' 'read -P 1 0 1M'
stop_serve s
check_image disk.qcow2
image_io disk.qcow2 'read -P 5 4000001 70001'
