# SPDX-License-Identifier: BSD-3-Clause
"""Clients that misbehave once they are served."""

import struct
import time

from client_rows import must, row
from raw_nbd import (CACHE, DF, DISC, FAST_ZERO, FLUSH, FUA, NO_HOLE, PAYLOAD_LEN, READ, REQ_ONE,
                     RESIZE, STATUS, TRIM, WRITE, ZEROES, drip, ext_request_bytes, option_bytes,
                     request_bytes)

SIZE = 128 << 20
MIB = 1 << 20
EPERM, EINVAL, ENOSPC, EOVERFLOW = 1, 22, 28, 75
ALLOWED = {READ: DF, WRITE: 0, FLUSH: 0, TRIM: 0, CACHE: 0, ZEROES: NO_HOLE | FAST_ZERO,
           STATUS: REQ_ONE}


def payload(command, length=512):
    return bytes(length) if command == WRITE else b""


@row("a wrong request magic, at each byte")
def _(w):
    for extended in (False, True):
        make = ext_request_bytes if extended else request_bytes
        for i in range(4):
            c = w.connect().ready(extended=extended)
            request = bytearray(make(READ, 0, 512))
            request[i] ^= 0x80
            c.send_anyway(bytes(request))
            must(c.closes() == b"", i)


@row("the magic of a reply, and that of the other kind of header")
def _(w):
    for magic in (0x67446698, 0x668e33ef, 0x6e8a278c, 0x21e41c71, 0, 0xffffffff, 0x13956025):
        c = w.connect().ready()
        c.send_anyway(request_bytes(READ, 0, 512, magic=magic) + bytes(4))
        must(c.closes() == b"", hex(magic))
    c = w.connect().ready(extended=True)
    c.send_anyway(request_bytes(READ, 0, 512) + bytes(4))
    must(c.closes() == b"")


@row("a wrong magic behind good requests: those are answered first")
def _(w):
    c = w.connect().ready()
    c.send(b"".join(request_bytes(READ, 0, 512, cookie=i) for i in range(8)) + bytes(28))
    must(sorted(c.simple(512)[1] for _ in range(8)) == list(range(8)))
    must(c.closes() == b"")


@row("an option in transmission")
def _(w):
    c = w.connect().ready()
    c.send_anyway(option_bytes(3) + bytes(12))
    must(c.closes() == b"")


@row("unknown commands")
def _(w):
    c = w.connect().ready()
    for command in (RESIZE, 9, 10, 255, 256, 0x7fff, 0x8000, 0xffff):
        must(c.error(command, 0, 512) == EINVAL, command)
    c.in_step().close()


@row("each unknown flag of each command")
def _(w):
    c = w.connect().ready(structured=True, contexts=("base:allocation",))
    for command, allowed in ALLOWED.items():
        for bit in range(1, 16):
            if allowed & 1 << bit:
                continue
            length = 0 if command == FLUSH else 512
            c.send(request_bytes(command, 0, length, flags=1 << bit, cookie=bit) + payload(command))
            must(c.reply() == (EINVAL, bit), command, bit)
    c.in_step().close()


@row("all flags at once")
def _(w):
    c = w.connect().ready()
    for command in ALLOWED:
        must(c.error(command, 0, 512, payload(command), flags=0xffff) == EINVAL, command)
    c.in_step().close()


@row("flags that were not negotiated")
def _(w):
    c = w.connect().ready()
    must(c.error(READ, 0, 512, flags=DF) == EINVAL)
    must(c.error(WRITE, 0, 512, bytes(512), flags=PAYLOAD_LEN) == EINVAL)
    c.in_step().close()


@row("out of range, each command")
def _(w):
    c = w.connect().ready()
    places = ((SIZE, 512), (SIZE - 511, 512), (SIZE - 1, 2), (2**63, 1), (2**64 - 1, 1),
              (2**64 - 512, 512), (2**64 - 1, 512), (2**63 - 1, 1))
    for offset, length in places:
        for command, error in ((READ, EINVAL), (TRIM, EINVAL), (CACHE, EINVAL), (ZEROES, ENOSPC),
                               (WRITE, ENOSPC)):
            must(c.error(command, offset, length, payload(command, length)) == error,
                 command, offset)
    for command in (TRIM, CACHE, ZEROES):
        must(c.error(command, 0, 0xffffffff) == (ENOSPC if command == ZEROES else EINVAL))
    c.in_step().close()


@row("oversized reads")
def _(w):
    c = w.connect().ready()
    for length in ((64 << 20) + 1, 100 << 20, SIZE):
        must(c.error(READ, 0, length) == EOVERFLOW, length)
    for length in (SIZE + 1, 0x7fffffff, 0x80000000, 0xffffffff):
        must(c.error(READ, 0, length) == EINVAL, length)
    c.in_step().close()


@row("oversized writes: an error, then closed")
def _(w):
    for length in ((64 << 20) + 1, 0x7fffffff, 0xffffffff):
        c = w.connect().ready()
        c.send_anyway(request_bytes(WRITE, 0, length, cookie=5) + bytes(100))
        error, cookie, _ = c.simple()
        must(error and cookie == 5, error)
        c.closes()


@row("a refused write of 64 MiB is skipped")
def _(w):
    c = w.connect().ready()
    c.send(request_bytes(WRITE, SIZE - MIB, 64 << 20, cookie=9))
    for _ in range(64):
        c.send(bytes(MIB))
    must(c.simple()[:2] == (ENOSPC, 9))
    c.in_step().close()


@row("unaligned requests of odd lengths are served as they are")
def _(w):
    c = w.connect().ready()
    want = bytearray(c_read(c, 2 * MIB, 4096))
    for at, length in ((1, 1), (511, 2), (513, 1023), (4095, 1), (1000, 3)):
        data = w.rng.randbytes(length)
        must(c.error(WRITE, 2 * MIB + at, length, data) == 0)
        want[at:at + length] = data
    must(c_read(c, 2 * MIB, 4096) == bytes(want))
    must(c.error(ZEROES, 2 * MIB + 7, 13) == 0)
    want[7:20] = bytes(13)
    must(c_read(c, 2 * MIB, 4096) == bytes(want))
    c.close()


def c_read(c, offset, length):
    c.request(READ, offset, length)
    error, _, data = c.simple(length)
    must(error == 0)
    return data


@row("length 0, each command, anywhere within")
def _(w):
    c = w.connect().ready(structured=True, contexts=("base:allocation",))
    for command in (READ, WRITE, TRIM, CACHE, ZEROES, STATUS):
        for offset in (0, 1, SIZE):
            c.request(command, offset, 0, cookie=3)
            must(c.reply() == (EINVAL if command == STATUS else 0, 3), command, offset)
    c.close()


@row("a flush with an offset or a length")
def _(w):
    c = w.connect().ready()
    for offset, length in ((0, 1), (1, 0), (SIZE, 512), (2**64 - 1, 0xffffffff)):
        must(c.error(FLUSH, offset, length) == EINVAL)
    must(c.error(FLUSH) == 0)
    c.in_step().close()


@row("cut at every byte of a request")
def _(w):
    for extended in (False, True):
        request = (ext_request_bytes if extended else request_bytes)(READ, 0, 512)
        for at in range(len(request) + 1):
            c = w.connect().ready(extended=extended)
            c.send(request[:at])
            c.close()


@row("half-closed at every byte of a request: the whole ones are answered")
def _(w):
    request = request_bytes(READ, 0, 512, cookie=1)
    for at in range(len(request) + 1):
        c = w.connect().ready()
        c.send(request + request[:at])
        c.half_close()
        must(len(c.closes()) == (2 if at == 28 else 1) * (16 + 512), at)


@row("vanished in the payload: nothing of it is written")
def _(w):
    marker, before = w.rng.randbytes(65536), w.read(3 * MIB, 65536)
    for at in (0, 1, 511, 512, 4095, 4096, 32768, 65535):
        for leave in ("close", "reset", "half_close"):
            c = w.connect("tcp" if leave == "reset" else "main").ready()
            c.send(request_bytes(WRITE, 3 * MIB, len(marker)) + marker[:at])
            getattr(c, leave)()
            if leave == "half_close":
                must(c.closes() == b"")
    w.settle()
    must(w.read(3 * MIB, 65536) == before)


@row("vanished in the payload of 32 MiB")
def _(w):
    for at in (0, 4096, 300000, 20 << 20):
        c = w.connect().ready()
        c.send(request_bytes(WRITE, 16 * MIB, 32 << 20) + bytes([at % 251]) * at)
        c.close()


@row("cookies used again and again")
def _(w):
    c = w.connect().ready()
    for cookie in (0, 1, 2**64 - 1):
        c.send(b"".join(request_bytes(READ, i * 512, 512, cookie=cookie) for i in range(64)))
        for _ in range(64):
            must(c.simple(512)[:2] == (0, cookie))
    c.send(request_bytes(WRITE, 4 * MIB, 512, cookie=4) + bytes(512) +
           request_bytes(FLUSH, cookie=4) + request_bytes(READ, SIZE, 512, cookie=4))
    must(sorted(c.simple()[:2] for _ in range(3)) == [(0, 4), (0, 4), (EINVAL, 4)])
    c.close()


@row("cookies that look like magics")
def _(w):
    c = w.connect().ready()
    for cookie in (0x2560951325609513, 0x6744669867446698, 0x49484156454f5054):
        c.request(READ, 0, 512, cookie=cookie)
        must(c.simple(512)[:2] == (0, cookie))
    c.close()


def never_read(w, n):
    clients = []
    for _ in range(n):
        c = w.connect().ready()
        c.sock.settimeout(0.2)
        clients.append(c)
        try:
            for i in range(200):
                c.request(READ, 0, MIB, cookie=i)
        except OSError:
            pass
    w.good_goes_on()
    for c in clients:
        c.close()


@row("replies never read")
def _(w):
    never_read(w, 3)


@row("replies never read by so many that nobody gets a buffer: they are dropped sooner", slow=True)
def _(w):
    never_read(w, 8)


@row("hundreds of unread replies, then gone")
def _(w):
    for kind in ("main", "tcp"):
        for leave in ("close", "reset"):
            c = w.connect(kind).ready()
            c.send_anyway(b"".join(request_bytes(READ, 0, 4096, cookie=i) for i in range(300)))
            time.sleep(0.02)
            getattr(c, leave)()


@row("a window of one segment, read by the byte")
def _(w):
    c = w.connect("tcp", receive_buffer=1).ready()
    c.send(request_bytes(READ, 0, 65536, cookie=8))
    data = b"".join(c.receive(1) for _ in range(3000))
    must(data[:16] == struct.pack(">IIQ", 0x67446698, 0, 8))
    c.receive(65536 + 16 - 3000)
    c.in_step().close()


@row("a flood of flushes")
def _(w):
    c = w.connect().ready()
    c.sock.settimeout(0.3)
    try:
        c.send(request_bytes(FLUSH) * 20000)
    except OSError:
        pass
    w.good_goes_on()
    c.close()


@row("a flood of refused requests whose errors are never read")
def _(w):
    c = w.connect().ready(structured=True)
    c.sock.settimeout(0.3)
    try:
        c.send(request_bytes(77, 1, 1) * 50000)
    except OSError:
        pass
    w.good_goes_on()
    c.close()


@row("DISC with requests in flight: they are answered, then the server closes")
def _(w):
    c = w.connect().ready()
    c.send(b"".join(request_bytes(READ, i * 4096, 4096, cookie=i) for i in range(30)) +
           request_bytes(DISC))
    must(sorted(c.simple(4096)[1] for _ in range(30)) == list(range(30)))
    must(c.closes() == b"")


@row("DISC with flags, offset and length; and what is behind it is not read")
def _(w):
    marker = w.rng.randbytes(512)
    c = w.connect().ready()
    c.send(request_bytes(DISC, 2**64 - 1, 0xffffffff, flags=0xffff) +
           request_bytes(WRITE, 5 * MIB, 512) + marker)
    must(c.closes() == b"")
    must(w.read(5 * MIB, 512) != marker)


@row("status without a context, and of odd ranges")
def _(w):
    c = w.connect().ready()
    must(c.error(STATUS, 0, 4096) == EINVAL)
    c.in_step().close()
    c = w.connect().ready(structured=True, contexts=("base:allocation", "qemu:dirty-bitmap:b"))
    for offset, length in ((0, 0xffffffff), (SIZE, 1), (SIZE - 1, 2), (2**64 - 1, 1),
                           (2**64 - 1, 0xffffffff)):
        c.request(STATUS, offset, length, cookie=6)
        must(c.reply() == (EINVAL, 6), offset)
    c.request(STATUS, 1, 1, flags=REQ_ONE)
    kinds = [c.chunk()[1] for _ in range(2)]
    must(kinds == [5, 5], kinds)
    c.close()


@row("everything that writes, to an export for reading")
def _(w):
    c = w.connect("strict").ready(name="strict")
    for command in (WRITE, ZEROES, TRIM):
        for flags in (0, FUA):
            must(c.error(command, 0, 512, payload(command), flags=flags) == EPERM, command)
        must(c.error(command, 2**64 - 1, 512, payload(command)) == EPERM, command)
    must(c.error(RESIZE, 4096, 0) == EINVAL)
    c.in_step().close()


@row("zeroes of more than 64 MiB are zeroes")
def _(w):
    c = w.connect("spare").ready(name="spare")
    for at in range(0, 100, 9):
        must(c.error(WRITE, at * MIB, 4096, b"\x55" * 4096) == 0)
    must(c.error(ZEROES, 1, 100 * MIB) == 0)
    for at in range(9, 100, 9):
        must(c_read(c, at * MIB, 4096) == bytes(4096), at)
    must(c_read(c, 0, 1) == b"\x55")
    c.close()


@row("a header by the byte, and a payload by the byte")
def _(w):
    c = w.connect().ready()
    data = w.rng.randbytes(100)
    drip(c, request_bytes(WRITE, 6 * MIB, 100, cookie=2) + data, 0.002)
    must(c.simple()[:2] == (0, 2))
    must(c_read(c, 6 * MIB, 100) == data)
    c.close()


@row("two writes to one place, one of them without end")
def _(w):
    slow, quick = w.connect().ready(), w.connect().ready()
    slow.send(request_bytes(WRITE, 7 * MIB, MIB) + b"\x01" * (MIB - 1))
    must(quick.error(WRITE, 7 * MIB, MIB, b"\x02" * MIB) == 0)
    must(c_read(quick, 7 * MIB, MIB) == b"\x02" * MIB)
    slow.close()
    w.settle()
    must(c_read(quick, 7 * MIB, MIB) == b"\x02" * MIB)
    quick.close()


@row("extended headers: ranges that overflow")
def _(w):
    c = w.connect().ready(extended=True)
    for offset, length in ((2**64 - 1, 2**64 - 1), (1, 2**64 - 1), (2**63, 2**63), (SIZE, 1),
                           (0, SIZE + 1), (2**64 - 512, 512), (0, 2**63)):
        must(c.ext_error(ZEROES, offset, length) == ENOSPC, offset, length)
        for command in (TRIM, CACHE, READ):
            must(c.ext_error(command, offset, length) == EINVAL, command, offset, length)
    must(c.ext_error(READ, 0, 512) == 0)
    c.close()


@row("extended headers: payloads where there are none")
def _(w):
    c = w.connect().ready(extended=True)
    for command in (READ, FLUSH, TRIM, CACHE, ZEROES, 77):
        must(c.ext_error(command, 0, 4096, bytes(4096), flags=PAYLOAD_LEN) == EINVAL, command)
    must(c.ext_error(READ, 0, 512) == 0)
    c.close()


@row("extended headers: a payload of more than 64 MiB")
def _(w):
    for length in ((64 << 20) + 1, 2**32, 2**63, 2**64 - 1):
        for command in (WRITE, STATUS, READ):
            c = w.connect().ready(extended=True, contexts=("base:allocation",))
            c.send_anyway(ext_request_bytes(command, 0, length, flags=PAYLOAD_LEN) + bytes(100))
            c.closes()


@row("extended headers: a choice of contexts that is none")
def _(w):
    c = w.connect().ready(extended=True, contexts=("base:allocation", "qemu:dirty-bitmap:b"))
    whole = struct.pack(">QI", 4096, 0)
    wrong = [whole[:n] for n in range(1, 12) if n != 8]
    wrong += [whole + b"x", struct.pack(">QI", 4096, 99), struct.pack(">QII", 4096, 0, 0),
              struct.pack(">QI", 0, 0), struct.pack(">QI", SIZE + 1, 0),
              struct.pack(">QI", 2**64 - 1, 0), whole + struct.pack(">I", 1) * 1000]
    for data in wrong:
        must(c.ext_error(STATUS, 0, len(data), data, flags=PAYLOAD_LEN) == EINVAL, data[:16])
    must(c.ext_error(STATUS, 0, len(whole), whole, flags=PAYLOAD_LEN) == 0)
    c.close()


@row("noise for requests, by seeds")
def _(w):
    for extended in (False, True):
        for _ in range(20):
            c = w.connect("spare").ready(extended=extended, name="spare")
            c.send_anyway(w.rng.randbytes(w.rng.randrange(32, 3000)))
            c.closes()


@row("requests with every field drawn, by seeds")
def _(w):
    c = w.connect("spare").ready(structured=True, name="spare")
    interesting = (0, 1, 511, 512, 65536, MIB, SIZE - 1, SIZE, 2**31, 2**32 - 1)
    for i in range(400):
        command = w.rng.choice((READ, FLUSH, TRIM, CACHE, ZEROES, STATUS, 9, 65535))
        length = w.rng.choice(interesting)
        if command == READ:
            length = min(length, MIB)
        c.request(command, w.rng.choice(interesting + (2**63, 2**64 - 1)), length,
                  flags=w.rng.choice((0, 0, 1, 2, 4, 8, 16, 32, 0xffff)), cookie=i)
        must(c.reply()[1] == i)
    c.close()
