#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The rule files of docs/examples/faults: each does what its comment promises, to a real client.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io nbdinfo

examples=$source_root/docs/examples/faults

fresh() {
    qemu-img create -q -f qcow2 disk.qcow2 16M
    image_io disk.qcow2 'write -P 1 0 4M'
}

fails() { # URI MESSAGE COMMAND...
    local target=$1 message=$2 arguments=() command
    shift 2
    for command; do
        arguments+=(-c "$command")
    done
    # Without -t writeback each write would be FUA, and nothing volatile.
    expect_fail 1 "$message" qemu-io -t writeback -f raw "${arguments[@]}" "$target"
}

works() { # URI COMMAND...
    local target=$1 arguments=() command
    shift
    for command; do
        arguments+=(-c "$command")
    done
    image_io_run -t writeback -f raw "${arguments[@]}" "$target"
}

# The seed is fixed: one in 33 draws tears a page after none of its units, which leaves one state only.
served() { # FILE ARG...
    local file=$1
    shift
    start_serve s --faults "$examples/$file" --fault-seed 1 "$@"
}

say "all of them are well-formed, can fire, and can be explained"
with_lua=1
"$BREAKWATER" faults check "$examples/9-sqlite-log.conf" >lua.out 2>&1 || {
    grep -q 'built without it' lua.out || { cat lua.out && fail "the script cannot be used"; }
    with_lua=0
}
for file in "$examples"/*.conf; do
    case $file in */9-*) [ $with_lua -eq 1 ] || continue ;; esac
    "$BREAKWATER" faults check "$file" 2>warnings
    if grep -q never warnings; then cat warnings && fail "$file can never fire"; fi
    "$BREAKWATER" faults explain "$file" >/dev/null
done
[ "$(find "$examples" -name '*.conf' | wc -l)" -eq 9 ]
for file in "$examples"/9-*; do
    python3 - "$source_root/docs/faults.md" "$file" <<'END'
import sys
page, text = (open(name).read() for name in sys.argv[1:])
assert text in page, sys.argv[2] + " is not in the page as it is"
END
done

say "1: from the second write on the disk is full"
fresh
served 1-disk-fills-up.conf disk.qcow2
works "$(uri s)" 'write -P 2 0 4k'
fails "$(uri s)" 'No space left' 'write -P 3 4k 4k'
kill_serve s

say "2: a bad sector, until it is written"
fresh
served 2-latent-sector-error.conf disk.qcow2
works "$(uri s)" 'read -P 1 0 1M' 'read -P 1 1028k 4k'
fails "$(uri s)" 'Input/output error' 'read 1M 512'
works "$(uri s)" 'write -P 2 1M 512' 'read -P 2 1M 512'
fails "$(uri s)" 'Input/output error' 'read 1M 4k'
works "$(uri s)" 'write -P 3 1M 4k' 'read -P 3 1M 4k'
stop_serve s

say "3: the third flush fails and loses what was not flushed; the fourth succeeds"
truncate -s 1M disk.raw
served 3-failed-fsync.conf -f raw disk.raw
/usr/bin/python3 - "$(uri s)" <<'END'
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(2):
    h.pwrite(b"a" * 512, 0)
    h.flush()
h.pwrite(b"b" * 512, 0)
assert h.pread(512, 0) == b"b" * 512
try:
    h.flush()
    sys.exit("the third flush succeeded")
except nbd.Error as e:
    assert e.errno == "EIO", e
h.flush()
assert h.pread(512, 0) == b"a" * 512, "what was not flushed is still there"
h.shutdown()
END
stop_serve s

say "4: a torn page, and a power cut; each state holds units of old or new"
truncate -s 4M page.raw
served 4-torn-page.conf -f raw -x disk page.raw
/usr/bin/python3 - "$tmp/s.sock" <<'END'
import nbd, sys

def connect(name):
    h = nbd.NBD()
    h.connect_uri("nbd+unix:///%s?socket=%s" % (name, sys.argv[1]))
    return h

h = connect("disk")
for i in range(99):
    h.pwrite(bytes([i % 7 + 1]) * 16384, i * 16384)
h.flush()
h.pwrite(b"\xaa" * 16384, 0)
try:
    h.pread(512, 0)
    sys.exit("the power is still on")
except nbd.Error as e:
    assert e.errno == "ESHUTDOWN", e
seen = set()
i = 0
while True:
    try:
        s = connect("disk@crash/%d" % i)
    except nbd.Error:
        break
    page = bytes(s.pread(16384, 0))
    units = [page[k * 512:(k + 1) * 512] for k in range(32)]
    assert all(u in (b"\xaa" * 512, b"\x01" * 512) for u in units), "state %d" % i
    assert page not in seen, "state %d comes twice" % i
    seen.add(page)
    s.pwrite(b"mine", 0)
    s.shutdown()
    i += 1
assert i >= 2, i
s = connect("disk@crash/%d" % (i - 1))
assert s.pread(4, 0) == b"mine", "what was written to a state is gone"
END
grep -q "may remain" s.log
stop_serve s

say "5: writes get slower"
truncate -s 1M slow.raw
served 5-fail-slow.conf -f raw slow.raw
/usr/bin/python3 - "$(uri s)" <<'END'
import nbd, sys, time
h = nbd.NBD()
h.connect_uri(sys.argv[1])
slow = []
start = time.monotonic()
for i in range(60):
    t = time.monotonic()
    h.pwrite(b"x" * 512, i * 512)
    took = time.monotonic() - t
    if took > 0.045:
        slow.append((t - start, took))
assert 4 <= len(slow) <= 30, slow
assert slow[0][1] < slow[-1][1], slow
h.shutdown()
END
stop_serve s

say "6: L2 tables go astray under the format; the truth is on the disk"
qemu-img create -q -f qcow2 -o cluster_size=4k astray.qcow2 16M
served 6-misdirected-tables.conf astray.qcow2
for i in 0 2 4 6 8 10; do
    works "$(uri s)" "write -P 2 ${i}M 4k" flush
done
stop_serve s
grep -Eq 'astray.*fired [12]$' s.log || fail "nothing went astray"
check_image astray.qcow2

say "7: the fifth read of the second connection is cut off"
fresh
served 7-reset-in-a-reply.conf disk.qcow2
/usr/bin/python3 - "$tmp/s.sock" <<'END'
import socket, struct, sys

def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.settimeout(10)
    s.recv(18, socket.MSG_WAITALL)
    s.sendall(struct.pack(">I", 3) + struct.pack(">QII", 0x49484156454F5054, 1, 0))
    s.recv(10, socket.MSG_WAITALL)
    return s

def read(s):
    s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, 0, 512))
    got = b""
    while len(got) < 16 + 512:
        try:
            part = s.recv(16 + 512 - len(got))
        except ConnectionError:
            break
        if not part:
            break
        got += part
    return got

first, second = connect(), connect()
for i in range(4):
    assert len(read(second)) == 528
for i in range(6):
    assert len(read(first)) == 528
assert len(read(second)) == 8
assert len(read(first)) == 528
END
stop_serve s

say "8: a trim cuts the power; every state of the workload is there, and none twice"
truncate -s 1M states.raw
served 8-crash-states.conf -f raw -x disk states.raw
works "$(uri s disk)" 'write -P 1 0 512' flush
fails "$(uri s disk)" '' 'write -P 2 0 512' 'write -P 3 4096 512' 'discard 8192 4096'
for i in 0 1 2 3; do
    qemu-io -r -f raw -c 'read -v 0 1' -c 'read -v 4096 1' "$(uri s "disk@crash/$i")" | grep '^0' | tr '\n' ' '
    echo
done | sed 's/  *\.//g' | sort >states.out
[ "$(sort -u states.out | wc -l)" -eq 4 ] || { cat states.out && fail "not four different states"; }
expect_fail 1 'No such file' nbdinfo "$(uri s 'disk@crash/4')"
expect_fail 1 'server replied with error' nbdinfo "$(uri s 'disk@crash/x')"
nbdinfo --size "$(uri s 'disk@crash/3')" | grep -qx 1048576
stop_serve s

say "a cut of the host's disk is shown through its format, which then recovers"
fresh
cat >host.conf <<'END'
[cache]
[fault]
layer=guest
op=trim
action=powercut
END
start_serve s --faults host.conf -x disk disk.qcow2
works "$(uri s disk)" 'write -P 5 8M 64k' flush
fails "$(uri s disk)" '' 'write -P 6 9M 64k' 'write -P 7 10M 64k' 'discard 12M 64k'
for i in 0 1 2; do
    works "$(uri s "disk@crash/$i")" 'read -P 5 8M 64k' 'read -P 1 0 4M' 'write -P 8 11M 64k' flush 'read -P 8 11M 64k'
done
stop_serve s
check_image disk.qcow2

say "what needs a cache says so"
expect_fail 2 'fault 1: it needs a disk with a volatile cache' "$BREAKWATER" serve -k "$tmp/s.sock" \
    --fault 'op=write action=powercut' disk.qcow2

if [ $with_lua -eq 1 ]; then
    say "9: a script finds the headers of write-ahead logs in what is written"
    fresh
    served 9-sqlite-log.conf disk.qcow2
    /usr/bin/python3 - "$(uri s)" <<'END'
import nbd, struct, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
def header(number):
    return (struct.pack(">4I", 0x377f0682, 3007000, 4096, number) + bytes(4080))
before = h.pread(4096, 8192)
h.pwrite(header(1), 8192)
assert h.pread(4096, 8192) == before, "the header is there"
h.pwrite(header(1), 8192)
assert h.pread(4096, 8192) == header(1), "the header of a known log is lost"
h.pwrite(header(2), 8192)
assert h.pread(4096, 8192) == header(1), "the header of a new log is there"
h.pwrite(b"x" * 4096, 16384)
assert h.pread(4096, 16384) == b"x" * 4096, "another write is lost"
h.shutdown()
END
    stop_serve s
    grep -q '9-sqlite-log.lua: the header of log 2 at 8192 is lost' s.log || fail "nothing in the log"
    grep -Eq 'fault "log" .*action=script .*: seen 4, matched 4, fired 2$' s.log || fail "wrong counts"
fi

say "replies that are wrong"
for wrong in magic cookie duplicate truncate errno; do
    start_serve s -f raw --fault "layer=wire op=read nth=2 action=reply wrong=$wrong errno=ENOSPC" states.raw
    /usr/bin/python3 - "$(uri s)" "$wrong" <<'END'
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pread(512, 0)
try:
    h.pread(512, 0)
    second = None
except nbd.Error as e:
    second = e.errno or "a broken protocol"
if sys.argv[2] == "duplicate":
    try: # the second answer to one request is one too many
        for i in range(3):
            h.pread(512, 0)
        sys.exit("the client did not notice")
    except nbd.Error:
        pass
elif sys.argv[2] == "errno":
    assert second == "ENOSPC", second
    h.pread(512, 0)
else:
    assert second is not None, sys.argv[2]
END
    stop_serve s
done
