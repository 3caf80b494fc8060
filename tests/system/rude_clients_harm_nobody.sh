#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Clients that vanish, send malformed requests or noise: each gets an error or is cut off; the server
# and a well-behaved client beside them go on.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "python3-libnbd is not installed"

qemu-img create -q -f qcow2 disk.qcow2 64M
image_io disk.qcow2 'write -P 5 0 1M'
start_serve s -x disk -f qcow2 -B daily disk.qcow2

say "malformed requests, the client's own checks switched off"
/usr/bin/python3 - "$(uri s disk)" <<'END'
import errno, sys
import nbd

def connected():
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.add_meta_context("base:allocation")
    h.connect_uri(sys.argv[1])
    return h

def refused(what, numbers, call):
    try:
        call()
    except nbd.Error as problem:
        assert problem.errnum in numbers, (what, problem, problem.errnum)
        return
    raise AssertionError(what + ": was accepted")

h = connected()
size = h.get_size()
assert size == 64 << 20
refused("read past the end", [errno.EINVAL], lambda: h.pread(4096, size))
refused("read across the end", [errno.EINVAL], lambda: h.pread(4096, size - 512))
refused("write past the end", [errno.ENOSPC], lambda: h.pwrite(b"x" * 4096, size))
refused("write across the end", [errno.ENOSPC], lambda: h.pwrite(b"x" * 4096, size - 1))
refused("write near 2^64", [errno.ENOSPC], lambda: h.pwrite(b"x", 2**64 - 1))
refused("zero past the end", [errno.ENOSPC], lambda: h.zero(4096, size))
refused("trim past the end", [errno.EINVAL], lambda: h.trim(4096, size))
refused("status past the end", [errno.EINVAL],
        lambda: h.block_status(4096, size, lambda *a: 0))
refused("unknown flag on a read", [errno.EINVAL], lambda: h.pread(512, 0, 1 << 14))
refused("unknown flag on a write", [errno.EINVAL], lambda: h.pwrite(b"x" * 512, 0, 1 << 14))
refused("unknown flag on a flush", [errno.EINVAL], lambda: h.flush(1 << 14))
# After all that the connection is in step, and nothing was written.
assert h.pread(4096, 0) == bytes([5]) * 4096
assert h.pread(512, size - 512) == bytes(512)
h.shutdown()
END
alive s

say "noise, torn handshakes, wrong magics; each on a connection of its own"
python3 - "$tmp/s.sock" <<'END'
import random, socket, struct, sys

def connect():
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    sock.connect(sys.argv[1])
    return sock

def receive(sock, length):
    data = b""
    while len(data) < length:
        part = sock.recv(length - len(data))
        assert part, "closed early"
        data += part
    return data

def handshake(sock):
    receive(sock, 18)
    sock.sendall(struct.pack(">I", 3))

def go(sock):
    handshake(sock)
    name = b"disk"
    sock.sendall(b"IHAVEOPT" + struct.pack(">III", 7, 6 + len(name), len(name)) + name +
                 struct.pack(">H", 0))
    while True:
        _, _, reply, length = struct.unpack(">QIII", receive(sock, 20))
        receive(sock, length)
        if reply == 1:
            return
        assert not reply & 0x80000000, hex(reply)

def closes(what, sock):
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        pass
    except socket.timeout:
        raise AssertionError(what + ": the connection stays open")
    sock.close()

seed = random.randrange(2**32)
print("seed", seed)
noise = random.Random(seed)
full = struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">III", 7, 10, 4) + b"disk\0\0"
for cut in range(len(full) + 1):          # leave at every byte of the handshake
    sock = connect()
    sock.sendall(full[:cut])
    sock.close()
sock = connect()                          # unknown client flags
receive(sock, 18)
sock.sendall(struct.pack(">I", 0x80000003))
closes("unknown client flags", sock)
sock = connect()                          # a wrong option magic
handshake(sock)
sock.sendall(b"IHAVEOPS" + struct.pack(">II", 3, 0))
closes("wrong option magic", sock)
sock = connect()                          # an option of 4 GiB - 1
handshake(sock)
sock.sendall(b"IHAVEOPT" + struct.pack(">II", 7, 0xffffffff) + b"x" * 1000)
closes("option of 4 GiB", sock)
for _ in range(20):                       # noise in the handshake
    sock = connect()
    try:
        sock.sendall(noise.randbytes(noise.randrange(1, 3000)))
    except ConnectionError:
        pass
    sock.close()
for _ in range(20):                       # noise in transmission
    sock = connect()
    go(sock)
    try:
        sock.sendall(noise.randbytes(noise.randrange(28, 3000)))
    except ConnectionError:
        pass
    closes("noise", sock)
sock = connect()                          # a wrong request magic
go(sock)
sock.sendall(struct.pack(">IHHQQI", 0x25609514, 0, 0, 1, 0, 512))
closes("wrong request magic", sock)
sock = connect()                          # an absurd write length
go(sock)
sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, 0xffffffff) + b"x" * 4096)
closes("write of 4 GiB", sock)
for payload in (0, 1, 4095):              # leave in the middle of a write
    sock = connect()
    go(sock)
    sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 8 << 20, 4096) + b"x" * payload)
    sock.close()
sock = connect()                          # ask for 64 MiB and leave without reading
go(sock)
for cookie in range(64):
    sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, cookie, 0, 1 << 20))
sock.close()
END
alive s

say "a client killed in the middle of its work"
for _ in 1 2 3; do
    qemu-io -f raw -c 'aio_write -P 9 16M 16M' -c 'sleep 5000' "$(uri s disk)" >/dev/null 2>&1 &
    client=$!
    sleep 0.3
    kill -KILL $client
    wait $client 2>/dev/null || true
done
alive s

say "a well-behaved client is served as ever, and the image is whole"
nbd_io "$(uri s disk)" 'read -P 5 0 1M' 'write -P 6 4M 1M' 'read -P 6 4M 1M' 'read -P 0 8M 512'
stop_serve s
check_image disk.qcow2
