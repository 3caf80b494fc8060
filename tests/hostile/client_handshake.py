# SPDX-License-Identifier: BSD-3-Clause
"""Clients that misbehave in the handshake."""

import socket
import struct
import time

from client_rows import must, row
from raw_nbd import (ABORT, ACK, Closed, EXPORT_NAME, EXTENDED, EXT_HEADER_REQD, GO, INFO, INVALID, LIST,
                     LIST_META, POLICY, SET_META, STARTTLS, STRUCTURED, TOO_BIG, UNKNOWN, UNSUP,
                     drip, meta_bytes, named, option_bytes)

BOUNDARIES = (0, 1, 254, 255, 256, 257, 1023, 1024, 1025, 4094, 4095, 4096)
WHOLE = (struct.pack(">I", 3) + option_bytes(LIST) + option_bytes(STRUCTURED) +
         option_bytes(LIST_META, meta_bytes("disk", ["base:"])) +
         option_bytes(SET_META, meta_bytes("disk", ["base:allocation", "qemu:dirty-bitmap:b"])) +
         option_bytes(INFO, named("disk", b"\0\1\0\3")) + option_bytes(GO, named("disk", b"\0\0")))
EXT_WHOLE = struct.pack(">I", 3) + option_bytes(EXTENDED) + option_bytes(EXPORT_NAME, b"disk")
WITH_STATUS = (SET_META, LIST_META)


@row("cut at every byte of the handshake")
def _(w):
    for whole in (WHOLE, EXT_WHOLE):
        for at in range(len(whole) + 1):
            c = w.connect()
            c.send(whole[:at])
            c.close()


@row("cut at every byte, with a reset, over TCP")
def _(w):
    for at in range(len(WHOLE) + 1):
        c = w.connect("tcp")
        c.send(WHOLE[:at])
        c.reset()


@row("half-closed at every byte of the handshake: is answered, then left")
def _(w):
    for at in range(len(WHOLE) + 1):
        c = w.connect()
        c.send(WHOLE[:at])
        c.half_close()
        c.closes()


@row("half a greeting taken, then gone")
def _(w):
    for n in range(19):
        c = w.connect()
        c.receive(n)
        c.close()


@row("a port scan: 200 connections that say nothing flood no log")
def _(w):
    before = w.log_lines()
    for _ in range(200):
        w.connect("tcp").reset()
    w.settle()
    must(w.log_lines() - before < 20, w.log_lines() - before, "lines in the log")


@row("each unknown client flag")
def _(w):
    for bit in range(2, 32):
        c = w.connect()
        c.hello(3 | 1 << bit)
        must(c.closes() == b"")


@row("not fixed newstyle, and an option all the same")
def _(w):
    for option in (ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED, EXTENDED, 77):
        c = w.connect().hello(0)
        c.send_anyway(option_bytes(option))
        must(c.closes() == b"", option)


@row("a wrong option magic, at each byte")
def _(w):
    for i in range(8):
        magic = bytearray(b"IHAVEOPT")
        magic[i] ^= 1
        c = w.connect().hello()
        c.send_anyway(option_bytes(LIST, magic=bytes(magic)))
        must(c.closes() == b"", i)


@row("an oldstyle client, which sends a request at once")
def _(w):
    c = w.connect()
    c.receive(18)
    c.send_anyway(b"\x25\x60\x95\x13" + bytes(24))
    must(c.closes() == b"")


@row("a web browser")
def _(w):
    c = w.connect("tcp")
    c.send_anyway(b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: none\r\n\r\n")
    must(c.closes() == b"NBDMAGICIHAVEOPT\0\3")


@row("noise, by seeds")
def _(w):
    for _ in range(40):
        c = w.connect()
        c.send_anyway(w.rng.randbytes(w.rng.randrange(1, 4000)))
        c.close()


@row("noise behind correct flags")
def _(w):
    for _ in range(40):
        c = w.connect().hello()
        c.send_anyway(b"IHAVEOPT" + w.rng.randbytes(w.rng.randrange(1, 4000)))
        c.half_close()
        c.closes()


@row("unknown options keep the stream in step")
def _(w):
    c = w.connect().hello()
    for option in (0, 4, 12, 13, 255, 256, 0x7fffffff, 0x80000000, 0xffffffff):
        for data in (b"", b"x", bytes(100000)):
            must(c.ask(option, data) == UNSUP, option)
    must(c.go() == ACK)
    c.in_step().close()


@row("an unknown option of 32 MiB is skipped")
def _(w):
    c = w.connect().hello()
    c.send(option_bytes(99, length=32 << 20))
    for _ in range(32):
        c.send(bytes(1 << 20))
    must(c.final(99) == UNSUP)
    must(c.go() == ACK)
    c.in_step().close()


@row("an option that claims 32 MiB and a byte, or 4 GiB")
def _(w):
    for option in (GO, LIST, SET_META, 99):
        for length in ((32 << 20) + 1, 0x7fffffff, 0x80000000, 0xffffffff):
            c = w.connect().hello()
            c.send_anyway(option_bytes(option, length=length) + bytes(1000))
            must(c.closes() == b"", option, length)


@row("option data too long to be read is skipped and refused")
def _(w):
    c = w.connect().hello()
    for option in (INFO, GO, LIST_META, LIST, STRUCTURED):
        must(c.ask(option, bytes(300 * 1024)) == TOO_BIG, option)
    must(c.go() == ACK)
    c.in_step().close()


@row("a flood of options: the 257th closes")
def _(w):
    for option, kind in ((LIST, ACK), (99, UNSUP)):
        c = w.connect().hello()
        for _ in range(256):
            must(c.ask(option) == kind)
        c.send_anyway(option_bytes(option))
        must(c.closes() == b"")


@row("a flood of options with data whose replies are never read")
def _(w):
    c = w.connect()
    c.send_anyway(struct.pack(">I", 3) + option_bytes(99, bytes(4096)) * 300)
    time.sleep(0.1)
    c.close()


@row("a flood of INFO without reading, then a reset")
def _(w):
    c = w.connect("tcp", receive_buffer=4096)
    c.send_anyway(struct.pack(">I", 3) + option_bytes(INFO, named("disk", b"\0\0")) * 250)
    time.sleep(0.1)
    c.reset()


@row("names at every boundary length")
def _(w):
    c = w.connect().hello()
    for n in BOUNDARIES[1:]:
        for option in (INFO, GO):
            must(c.go("n" * n, option) == UNKNOWN, n)
        must(c.meta(name="n" * n, option=LIST_META) == UNKNOWN, n)
    for n in (4097, 5000, 65536):
        for option in (INFO, GO):
            must(c.go("n" * n, option) == INVALID, n)
        must(c.meta(name="n" * n, option=LIST_META) == INVALID, n)
    must(c.go() == ACK)
    c.in_step().close()


@row("EXPORT_NAME at every boundary length")
def _(w):
    for n in BOUNDARIES + (4097, 65536, 1 << 20):
        c = w.connect().hello()
        c.send_anyway(option_bytes(EXPORT_NAME, b"n" * n))
        must(c.closes() == b"", n)


@row("a checkpoint's name at every boundary length")
def _(w):
    c = w.connect().hello()
    must(c.go("disk@" + "n" * 1023, INFO) in (ACK, UNKNOWN))
    for name in ("disk@", "disk@" + "n" * 1024, "disk@" + "n" * 4091, "disk@a\nb", "disk@b"):
        for option in (INFO, GO):
            must(c.go(name, option) == INVALID, name[:20], option)
    must(c.go() == ACK)
    c.in_step().close()


@row("names with a NUL, and names that are no text")
def _(w):
    c = w.connect().hello()
    for name in (b"\0", b"disk\0", b"\0disk", b"di\0sk"):
        must(c.go(name) == INVALID, name)
        must(c.meta(name=name, option=LIST_META) == INVALID, name)
    for name in (b"\xff\xfe", b"%n%s%p", b"\x1b[31m", b"../disk", b"Disk", b"disk "):
        must(c.go(name) == UNKNOWN, name)
    must(c.go() == ACK)
    c.close()
    c = w.connect().hello()
    c.send_anyway(option_bytes(EXPORT_NAME, b"disk\0"))
    must(c.closes() == b"")


@row("GO whose lengths do not add up")
def _(w):
    c = w.connect().hello()
    good = named("disk", b"\0\0")
    wrong = [good[:n] for n in range(len(good))] + [good + b"x", good + b"\0\3"]
    wrong += [named("disk", struct.pack(">H", n) + bytes(2)) for n in (2, 3, 255, 65535)]
    wrong += [struct.pack(">I", n) + b"disk\0\0" for n in (3, 5, 6, 7, 4096, 0x7fffffff,
                                                           0x80000000, 0xfffffffe, 0xffffffff)]
    for data in wrong:
        for option in (INFO, GO):
            must(c.ask(option, data) == INVALID, data)
    must(c.go() == ACK)
    c.in_step().close()


@row("information of every number asked for, 65535 times")
def _(w):
    c = w.connect().hello()
    asked = b"".join(struct.pack(">H", n) for n in range(65535))
    must(c.ask(INFO, named("disk", struct.pack(">H", 65535) + asked)) == ACK)
    must(c.ask(GO, named("disk", struct.pack(">H", 65535) + b"\0\1" * 65535)) == ACK)
    c.in_step().close()


@row("options with data that have none")
def _(w):
    c = w.connect().hello()
    for option in (LIST, STARTTLS, STRUCTURED, EXTENDED):
        must(c.ask(option, b"x") == INVALID, option)
        must(c.ask(option, bytes(4096)) == INVALID, option)
    must(c.go() == ACK)
    c.in_step().close()


@row("structured replies and extended headers in every wrong order")
def _(w):
    c = w.connect().hello()
    must(c.ask(STRUCTURED) == ACK)
    must(c.ask(STRUCTURED) == INVALID)
    must(c.ask(EXTENDED) == ACK)
    must(c.ask(EXTENDED) == INVALID)
    must(c.ask(STRUCTURED) == EXT_HEADER_REQD)
    c.send_anyway(option_bytes(EXPORT_NAME, b"disk"))
    must(c.closes() == b"")


@row("INFO, then every option, and once more")
def _(w):
    c = w.connect().hello()
    for _ in range(3):
        for name in ("disk", "nobody", "disk@nobody"):
            c.go(name, INFO)
            for option in (LIST, STRUCTURED, 99, LIST_META, SET_META, EXTENDED, INFO):
                c.ask(option, meta_bytes(name, ["base:"]) if option in WITH_STATUS
                      else named(name, b"\0\0") if option == INFO else b"")
    must(c.go() == ACK)
    c.close()


@row("options behind ABORT are not read")
def _(w):
    c = w.connect().hello()
    c.send(option_bytes(ABORT, b"data") + option_bytes(LIST) * 10)
    must(c.answer(ABORT) == (ACK, b""))
    must(c.closes() == b"")


@row("contexts without structured replies")
def _(w):
    c = w.connect().hello()
    must(c.meta() == INVALID)
    must(c.meta(("base:",), LIST_META) == ACK)
    must(c.go() == ACK)
    c.in_step().close()


@row("context queries whose lengths do not add up")
def _(w):
    c = w.connect().hello()
    must(c.ask(STRUCTURED) == ACK)
    good = meta_bytes("disk", ["base:allocation"])
    wrong = [good[:n] for n in range(len(good))] + [good + b"x"]
    wrong += [meta_bytes("disk", ["base:allocation"], count=n)
              for n in (0, 2, 65536, 0x7fffffff, 0x80000000, 0xffffffff)]
    wrong += [meta_bytes("disk", ["q" * 4097]), meta_bytes("disk", [b"base:\0allocation"])]
    wrong += [named("disk", struct.pack(">II", 1, n) + b"base:") for n in (4, 6, 0xffffffff)]
    for data in wrong:
        for option in WITH_STATUS:
            must(c.ask(option, data) == INVALID, data[:40])
    must(c.go() == ACK)
    c.in_step().close()


@row("contexts that nobody knows are passed over")
def _(w):
    c = w.connect().hello()
    must(c.ask(STRUCTURED) == ACK)
    c.option(SET_META, meta_bytes("disk", [
        "", ":", "nocolon", "x" * 4096, "base:", "base:allocation2", "BASE:allocation", "qemu:",
        "qemu:dirty-bitmap:", "qemu:dirty-bitmap:nobody", "qemu:dirty-bitmap:b ", b"\xff:\xfe"]))
    must(c.answer(SET_META) == (ACK, b""))
    must(c.meta(name="nobody") == UNKNOWN)
    must(c.go() == ACK)
    c.in_step().close()


@row("a flood of context queries")
def _(w):
    c = w.connect().hello()
    must(c.ask(STRUCTURED) == ACK)
    for option in WITH_STATUS:
        must(c.ask(option, meta_bytes("disk", ["base:allocation"] * 1024)) == ACK)
        must(c.ask(option, meta_bytes("disk", ["base:allocation"] * 1025)) == TOO_BIG)
        must(c.ask(option, meta_bytes("disk", [""] * 60000)) == TOO_BIG)
    must(c.go() == ACK)
    c.close()


@row("the same context a thousand times is one context")
def _(w):
    c = w.connect().hello()
    must(c.ask(STRUCTURED) == ACK)
    c.option(SET_META, meta_bytes("disk", ["base:allocation"] * 1000))
    first, last = c.answer(SET_META), c.answer(SET_META)
    must(first[1][4:] == b"base:allocation" and last == (ACK, b""))
    c.close()


@row("contexts of one export, then GO to another")
def _(w):
    c = w.connect().hello()
    must(c.ask(STRUCTURED) == ACK)
    must(c.meta(name="disk") == ACK)
    must(c.go("disk@%x" % w.rng.getrandbits(64)) == ACK)
    c.request(7, 0, 4096)
    must(c.chunk()[1] == 0x8001, "status of an export without contexts")
    c.close()


@row("slow by the byte, but in time")
def _(w):
    c = w.connect()
    drip(c, struct.pack(">I", 3) + option_bytes(GO, named("disk", b"\0\0")), 0.01)
    c.receive(18)
    must(c.final(GO) == ACK)
    c.in_step().close()


@row("slow by the byte beyond the limit of the handshake", slow=True)
def _(w):
    c = w.connect("strict")
    started = time.monotonic()
    try:
        drip(c, struct.pack(">I", 3) + option_bytes(99, length=1000) + bytes(1000), 0.05)
    except OSError:
        pass
    c.closes()
    must(time.monotonic() - started > 0.9, "cut off too early")


@row("silent from the start, and in the middle of an option", slow=True)
def _(w):
    for said in (b"", b"\0\0", struct.pack(">I", 3), WHOLE[:10], WHOLE[:-1]):
        c = w.connect("strict")
        c.send(said)
        c.closes()


@row("a hundred half-done handshakes: more are turned away, nobody else is harmed")
def _(w):
    held, turned_away = [], 0
    for i in range(130):
        c = w.connect()
        c.send_anyway(WHOLE[:i % 20])
        held.append(c)
    for c in held[-25:]:
        try:
            c.receive(18)
        except (OSError, Closed):
            turned_away += 1
    must(turned_away >= 20, turned_away, "were turned away")
    for c in held:
        c.close()
    w.settle()
    w.connect().ready().in_step().close()


@row("descriptors sent along are not kept")
def _(w):
    c = w.connect()
    with open("/dev/null", "rb") as null:
        for part in (struct.pack(">I", 3), option_bytes(99), option_bytes(GO, named("disk", b"\0\0"))):
            socket.send_fds(c.sock, [part], [null.fileno()] * 50)
    c.receive(18)
    must(c.final(99) == UNSUP)
    must(c.final(GO) == ACK)
    c.in_step().close()


@row("urgent data over TCP")
def _(w):
    c = w.connect("tcp").hello()
    c.sock.send(b"!", socket.MSG_OOB)
    must(c.go() == ACK)
    c.sock.send(b"!", socket.MSG_OOB)
    c.in_step().close()


@row("a connection too many of an export for one")
def _(w):
    first = w.connect("strict").ready(name="strict")
    second = w.connect("strict").hello()
    must(second.go("strict") == POLICY)
    second.send_anyway(option_bytes(EXPORT_NAME, b"strict"))
    must(second.closes() == b"")
    first.in_step().close()
