#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# All the ways to reach a server, alone and several at once: Unix and abstract sockets, TCP on both
# families, vsock, inherited descriptors, socket activation, standard input.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img nbdinfo python3

qemu-img create -q -f qcow2 disk.qcow2 16M
image_io disk.qcow2 'write -P 0x77 0 64k'

# start NAME ARG...: a server whose first URI line is awaited.
start() {
    local name=$1
    shift
    rm -f "$name.log"
    "$BREAKWATER" serve -r "$@" disk.qcow2 >"$name.log" 2>&1 </dev/null &
    server_pid[$name]=$!
    wait_for 20 grep -qs '^nbd' "$name.log" || fail "the server $name did not start: $*"
}

# stop NAME: as stop_serve, whatever its sockets are called.
stop() {
    kill -TERM "${server_pid[$1]}"
    ended "$1"
}

ended() {
    local status=0
    wait_for 20 gone "$1" || fail "the server $1 is still there"
    wait "${server_pid[$1]}" || status=$?
    unset "server_pid[$1]"
    no_sanitizer_report "$1.log"
    [ $status -eq 0 ] || fail "the server $1 ended with exit code $status"
}

# each_uri_serves NAME: every URI that the server printed is one.
each_uri_serves() {
    local line
    for line in $(grep '^nbd' "$1.log"); do
        [ "$(nbdinfo --size "$line")" -eq $((16 << 20)) ] || fail "nothing at $line"
    done
}

v6=no
python3 -c 'import socket; socket.socket(socket.AF_INET6).bind(("::1", 0))' 2>/dev/null && v6=yes

say "two Unix sockets, two addresses and two ports at once; a URI for each"
one=$(free_port) two=$(free_port)
addresses=(-b 127.0.0.1 -b 127.0.0.2)
[ $v6 = no ] || addresses+=(-b ::1)
start many -x 'my disk' -k "$tmp/a.sock" -k "$tmp/b.sock" "${addresses[@]}" -p "$one" -p "$two"
wait_for 10 grep -q "127.0.0.2:$two" many.log
[ "$(grep -c '^nbd' many.log)" -eq $((2 + ${#addresses[@]})) ] || fail "not a URI for each"
grep -qx "nbd+unix:///my%20disk?socket=$tmp/a.sock" many.log
grep -qx "nbd://127.0.0.1:$one/my%20disk" many.log
[ $v6 = no ] || grep -qx "nbd://\[::1\]:$two/my%20disk" many.log
each_uri_serves many
stop many
[ ! -e a.sock ] && [ ! -e b.sock ] || fail "a socket file stayed"

say "* is every address, on both families; -p 0 takes one port for all"
start all -b '*' -p 0
port=$(sed -n 's,^nbd://\*:\([0-9]*\)/$,\1,p;s,^nbd://localhost:\([0-9]*\)/$,\1,p' all.log | head -n 1)
[ -n "$port" ] || fail "no port in: $(cat all.log)"
nbdinfo --size "nbd://127.0.0.1:$port" >size.out
[ $v6 = no ] || nbdinfo --size "nbd://[::1]:$port" >size.out
stop all

say "an address that is taken is named, with its port; nothing is left behind"
start first -b 127.0.0.1 -p "$one"
expect_fail 2 "port $one on '127.0.0.1' is in use" \
    "$BREAKWATER" serve -r -k "$tmp/c.sock" -b 127.0.0.1 -p "$two" -p "$one" disk.qcow2
[ ! -e c.sock ] || fail "the socket of a server that did not start stayed"
expect_fail 2 "192.0.2.1.* port $one|port $one.*192.0.2.1" "$BREAKWATER" serve -r -b 192.0.2.1 -p "$one" disk.qcow2
expect_fail 2 "no-such-host.invalid" "$BREAKWATER" serve -r -b no-such-host.invalid disk.qcow2
stop first

say "a socket file that is not ours any more is not removed"
start moved -k "$tmp/moved.sock"
mv moved.sock elsewhere.sock
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("moved.sock")'
stop moved
[ -S moved.sock ] || fail "the socket of another was removed"
rm moved.sock elsewhere.sock

say "abstract sockets"
name=breakwater-test-$$
start abstract -k "@$name"
grep -qx "nbd+unix:///?socket=%00$name" abstract.log
qemu-img info --image-opts "driver=nbd,server.type=unix,server.path=$name,server.abstract=on" >info.out
expect_fail 2 "@$name.*in use" "$BREAKWATER" serve -r -k "@$name" disk.qcow2
expect_fail 2 "empty" "$BREAKWATER" serve -r -k @ disk.qcow2
stop abstract
[ ! -e "@$name" ] || fail "an abstract socket has a file"
start plain -k "./@$name"
[ -S "@$name" ] || fail "no file"
stop plain

# Runs its arguments after the socket with descriptor 9; prints what the socket is reached by.
cat >inherit.py <<'END'
import os, socket, sys
kind, what, names = sys.argv[1], sys.argv[2], sys.argv[3]
fds = []
for path in what.split(","):
    if path.startswith("tcp"):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", int(path[3:])))
    else:
        s = socket.socket(socket.AF_UNIX)
        s.bind(path)
    s.listen()
    fds.append(s)
for n, s in enumerate(fds):
    os.dup2(s.fileno(), 50 + n)
first = 3 if kind == "activation" else 9
for n in range(len(fds)):
    os.dup2(50 + n, first + n)
    os.close(50 + n)
if kind == "activation":
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(fds))
    if names:
        os.environ["LISTEN_FDNAMES"] = names
os.execv(sys.argv[4], sys.argv[4:])
END

start_inherited() { # start_inherited NAME KIND SOCKETS NAMES ARG...
    local name=$1 kind=$2 what=$3 names=$4
    shift 4
    rm -f "$name.log"
    python3 inherit.py "$kind" "$what" "$names" "$BREAKWATER" serve -v -r "$@" disk.qcow2 \
        >"$name.log" 2>&1 </dev/null &
    server_pid[$name]=$!
    wait_for 20 grep -qs '^nbd' "$name.log" || fail "the server $name did not start: $*"
}

say "an inherited descriptor that listens"
start_inherited fd socket-fd "$tmp/fd.sock" "" --socket-fd 9
each_uri_serves fd
stop fd
[ -S fd.sock ] || fail "a socket that somebody else made was removed"
rm fd.sock

say "socket activation with several named sockets, and a listener of our own"
start_inherited act activation "$tmp/act.sock,tcp$one" disks:net -k "$tmp/own.sock"
wait_for 10 eval '[ "$(grep -c ^nbd act.log)" -eq 3 ]'
grep -q "socket 'disks'" act.log
grep -q "socket 'net'" act.log
each_uri_serves act
stop act
[ -S act.sock ] && [ ! -e own.sock ] || fail "the wrong socket was removed"

nbdinfo --size -- [ "$BREAKWATER" serve -r disk.qcow2 ] >size.out # libnbd does the same

say "... meant for another process: as if it were not there"
LISTEN_PID=1 LISTEN_FDS=1 start other -k "$tmp/other.sock"
[ "$(grep -c ^nbd other.log)" -eq 1 ]
stop other

say "descriptors that are of no use"
serve=("$BREAKWATER" serve -r)
expect_fail 1 'descriptor 9.*Bad file' "${serve[@]}" --socket-fd 9 disk.qcow2
expect_fail 1 'descriptor 9.*[Ss]ocket operation' bash -c 'exec "$@" 9<disk.qcow2' - "${serve[@]}" --socket-fd 9 disk.qcow2
expect_fail 1 'socket-fd.*2' "${serve[@]}" --socket-fd 2 disk.qcow2
expect_fail 1 'given twice' "${serve[@]}" --socket-fd 9 --socket-fd 9 disk.qcow2
python3 - "${serve[@]}" --socket-fd 9 disk.qcow2 >unbound.out 2>&1 <<'END' && fail "an unconnected socket was taken"
import os, socket, sys
s = socket.socket()
os.dup2(s.fileno(), 9)
os.execv(sys.argv[1], sys.argv[1:])
END
grep -q "neither listens nor is connected" unbound.out || fail "$(cat unbound.out)"
expect_fail 1 'standard input.*socket' "${serve[@]}" --stdin disk.qcow2
expect_fail 1 'stdin.*one client' "${serve[@]}" --stdin -k x.sock disk.qcow2
expect_fail 1 'vsock.*bind' "${serve[@]}" --vsock -b 127.0.0.1 disk.qcow2

say "--stdin, as inetd and as libnbd start a server: one client, and then the end"
for option in --stdin --single; do
    /usr/bin/python3 - "$BREAKWATER" $option <<'END' >size.out
import sys, nbd
h = nbd.NBD()
h.connect_command([sys.argv[1], "serve", sys.argv[2], "-r", "disk.qcow2"])
print(h.get_size())
h.shutdown()
END
    [ "$(cat size.out)" -eq $((16 << 20)) ]
done
cat >inetd.py <<'END'
# All three standard streams are the connection; then the client leaves, at once or in good order.
import os, socket, struct, subprocess, sys
for polite in (True, False):
    here, there = socket.socketpair()
    child = subprocess.Popen(sys.argv[1:], stdin=there, stdout=there, stderr=there)
    there.close()
    def receive(n):
        data = b""
        while len(data) < n:
            part = here.recv(n - len(data))
            if not part:
                sys.exit("the server hung up")
            data += part
        return data
    if receive(8) != b"NBDMAGIC":
        sys.exit("something else than NBD was written first")
    receive(10)
    if polite:
        here.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 0))
        if struct.unpack(">QH", receive(10))[0] != 16 << 20:
            sys.exit("wrong size")
        here.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 2, 0, 0, 0))
        if here.recv(1):
            sys.exit("something was written at the end")
    here.close()
    if child.wait(20) != 0:
        sys.exit("exit code %d" % child.returncode)
END
python3 inetd.py "$BREAKWATER" serve --stdin -v -r disk.qcow2

say "vsock"
if python3 -c 'import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)' 2>/dev/null; then
    start vsock --vsock="$one" --vsock=0 -k "$tmp/v.sock"
    [ "$(grep -Ec '^nbd\+vsock://[0-9]+:[0-9]+/$' vsock.log)" -eq 2 ] || fail "no URI of vsock: $(cat vsock.log)"
    grep -q "^nbd+vsock://[0-9]*:$one/" vsock.log
    stop vsock
    start vsock --vsock -p "$one"
    [ "$(grep -c ^nbd vsock.log)" -eq 1 ]
    grep -q "^nbd+vsock://[0-9]*:$one/" vsock.log
    # Where the kernel has a loopback for it, a client.
    python3 - "$one" <<'END' || fail "nothing came over vsock"
import socket, sys
s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
s.settimeout(5)
try:
    s.connect((1, int(sys.argv[1])))
except OSError as problem:
    print("no loopback of vsock here:", problem)
    sys.exit(0)
sys.exit(s.recv(8) != b"NBDMAGIC")
END
    stop vsock
else
    expect_fail 2 'no vsock' "${serve[@]}" --vsock="$one" disk.qcow2
fi
