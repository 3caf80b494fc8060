# SPDX-License-Identifier: BSD-3-Clause
"""Clients that misbehave around TLS. The server "disk" offers it, "secret" requires it."""

import ssl
import struct
import time
import warnings

from client_rows import must, row
from raw_nbd import (ABORT, ACK, Closed, EXPORT_NAME, EXTENDED, GO, INFO, INVALID, LIST, LIST_META, POLICY,
                     READ, SET_META, STARTTLS, STATUS, STRUCTURED, TLS_REQD, WRITE, drip,
                     meta_bytes, named, option_bytes, request_bytes)

GO_DISK = option_bytes(GO, named("disk", b"\0\0"))


class Apart:
    """A TLS client whose bytes can be seen, changed and held back."""

    def __init__(self, context, raw):
        self.raw = raw
        self.inward, self.outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.inward, self.outward, server_hostname="localhost")

    def turn(self, function, *args):
        """What it wants to send next (of a handshake), or None when it is done."""
        try:
            function(*args)
        except ssl.SSLWantReadError:
            return self.outward.read()
        return None

    def first_flight(self):
        return self.turn(self.tls.do_handshake)

    def second_flight(self):
        """After the first was sent."""
        while True:
            self.inward.write(self.raw.receive(1))
            if self.turn(self.tls.do_handshake) is None:
                return self.outward.read()

    def records(self, data):
        self.tls.write(data)
        return self.outward.read()


def begun(w, server="main"):
    """A connection on which STARTTLS was accepted, and its TLS."""
    raw = w.connect(server).hello()
    raw.option(STARTTLS)
    must(raw.answer(STARTTLS)[0] == ACK)
    return raw, Apart(w.tls(), raw)


@row("bytes pipelined behind STARTTLS")
def _(w):
    _, probe = begun(w)
    hello = probe.first_flight()
    for behind in (b"x", option_bytes(LIST), option_bytes(STRUCTURED), GO_DISK, hello,
                   GO_DISK + hello, bytes(70000)):
        raw = w.connect().hello()
        raw.send_anyway(option_bytes(STARTTLS) + behind)
        must(len(raw.closes()) <= 20, "something was answered")
    probe.raw.close()


@row("an option pipelined behind STARTTLS, at every length")
def _(w):
    for n in range(1, 17):
        raw = w.connect().hello()
        raw.send_anyway(option_bytes(STARTTLS) + option_bytes(LIST)[:n])
        must(len(raw.closes()) <= 20)


@row("STARTTLS with data, within TLS, and where there is none")
def _(w):
    c = w.connect().hello()
    must(c.ask(STARTTLS, b"data") == INVALID)
    c.start_tls(w.tls())
    must(c.ask(STARTTLS) == INVALID)
    must(c.ask(STARTTLS, bytes(1000)) == INVALID)
    must(c.go() == ACK)
    c.in_step().close()
    c = w.connect("strict").hello()
    must(c.ask(STARTTLS) == POLICY)
    must(c.go("strict") == ACK)
    c.close()


@row("what was negotiated before TLS is forgotten")
def _(w):
    for before in (STRUCTURED, EXTENDED):
        c = w.connect().hello()
        must(c.ask(before) == ACK)
        must(c.meta(("base:allocation", "qemu:dirty-bitmap:b")) == ACK)
        c.start_tls(w.tls())
        must(c.meta() == INVALID, "structured replies were remembered")
        must(c.go() == ACK)
        must(c.error(STATUS, 0, 4096) == 22, "contexts were remembered")
        c.in_step().close()


@row("every option before the TLS that is required")
def _(w):
    c = w.connect("secret").hello()
    for option in (LIST, INFO, GO, STRUCTURED, LIST_META, SET_META, EXTENDED, 99):
        data = {INFO: named("disk", b"\0\0"), GO: named("disk", b"\0\0")}.get(option, b"")
        if option in (LIST_META, SET_META):
            data = meta_bytes("disk", ["base:"])
        must(c.ask(option, data) == TLS_REQD, option)
    must(c.ask(STARTTLS, b"x") == INVALID)
    must(c.ask(ABORT) == ACK)
    must(c.closes() == b"")
    c = w.connect("secret").hello()
    c.send_anyway(option_bytes(EXPORT_NAME, b"disk"))
    must(c.closes() == b"")
    c = w.connect("secret").hello()
    for _ in range(3):
        must(c.go() == TLS_REQD)
    c.start_tls(w.tls())
    must(c.go() == ACK)
    c.in_step().close()


@row("transmission without the TLS that is required")
def _(w):
    c = w.connect("secret").hello()
    c.send_anyway(request_bytes(READ, 0, 512))
    must(c.closes() == b"")


@row("cut at every byte of the first flight")
def _(w):
    raw, probe = begun(w)
    length = len(probe.first_flight())
    raw.close()
    for at in range(0, length + 1):
        raw, tls = begun(w)
        raw.send(tls.first_flight()[:at])
        raw.close()


@row("cut at every byte of the second flight")
def _(w):
    length, at = 1000, 0
    while at <= length:
        raw, tls = begun(w)
        raw.send(tls.first_flight())
        flight = tls.second_flight()
        length = len(flight)
        raw.send(flight[:at])
        raw.reset()
        at += 1


@row("half-closed within the handshake of TLS")
def _(w):
    for at in (0, 1, 5, 6, 100, 300):
        raw, tls = begun(w)
        raw.send(tls.first_flight()[:at])
        raw.half_close()
        raw.closes()


@row("noise instead of a first flight")
def _(w):
    for _ in range(20):
        raw, _ = begun(w)
        raw.send_anyway(w.rng.randbytes(w.rng.randrange(5, 3000)))
        raw.half_close()
        raw.closes()


@row("a first flight with one byte changed")
def _(w):
    for _ in range(40):
        raw, tls = begun(w)
        flight = bytearray(tls.first_flight())
        flight[w.rng.randrange(len(flight))] ^= 1 << w.rng.randrange(8)
        raw.send_anyway(bytes(flight))
        raw.half_close()
        raw.closes()


@row("a first flight by the byte")
def _(w):
    raw, tls = begun(w)
    drip(raw, tls.first_flight(), 0.002)
    drip(raw, tls.second_flight() + tls.records(GO_DISK), 0.002)
    must(raw.receive(1) in (b"\x16", b"\x17"))
    raw.close()


@row("the handshake of TLS begun and never gone on with", slow=True)
def _(w):
    raw, tls = begun(w, "secret")
    raw.send(tls.first_flight()[:50])
    started = time.monotonic()
    raw.closes()
    must(time.monotonic() - started > 0.5)


@row("the options of NBD in the clear, where TLS is to begin")
def _(w):
    raw, _ = begun(w)
    raw.send_anyway(GO_DISK * 10)
    must(b"IHAVEOPT" not in raw.closes())


@row("bytes in the clear within TLS")
def _(w):
    for clear in (GO_DISK, b"\x17\x03\x03\x00\x10" + bytes(16), b"\x17\x03\x03\xff\xff" + bytes(999)):
        raw, tls = begun(w)
        raw.send(tls.first_flight())
        raw.send(tls.second_flight())
        raw.send_anyway(clear)
        raw.half_close()
        raw.closes()


@row("a record changed on its way")
def _(w):
    marker = w.rng.randbytes(4096)
    for at in (5, 20, -1):
        raw, tls = begun(w)
        raw.send(tls.first_flight())
        raw.send(tls.second_flight() + tls.records(GO_DISK))
        record = bytearray(tls.records(request_bytes(WRITE, 1 << 20, 4096) + marker))
        record[at] ^= 1
        raw.send_anyway(bytes(record))
        raw.closes()
    must(w.read(1 << 20, 4096) != marker, "it was written")


@row("gone within a record, and without a farewell")
def _(w):
    marker = w.rng.randbytes(4096)
    for at in (0, 1, 4, 5, 100, -1):
        raw, tls = begun(w)
        raw.send(tls.first_flight())
        raw.send(tls.second_flight() + tls.records(GO_DISK))
        record = tls.records(request_bytes(WRITE, 1 << 20, 4096) + marker)
        raw.send(record[:at])
        raw.close()
    w.settle()
    must(w.read(1 << 20, 4096) != marker, "it was written")


@row("TLS 1.1")
def _(w):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    c = w.connect().hello()
    try:
        c.start_tls(context)
        must(False, "it was accepted")
    except OSError:
        c.close()


@row("a certificate of nobody, where one is asked for")
def _(w):
    c = w.connect("secret").hello().start_tls(w.tls())
    must(c.go() == ACK)  # "secret" asks for none; "members" does
    c.close()
    c = w.connect("members").hello()
    try:
        c.start_tls(w.tls())
        c.ask(LIST)
        must(False, "it was accepted")
    except (OSError, Closed):  # SSLError is one of the former
        c.close()


@row("replies through TLS never read")
def _(w):
    c = w.connect().hello().start_tls(w.tls())
    must(c.go() == ACK)
    c.sock.settimeout(0.3)
    try:
        for i in range(300):
            c.request(READ, 0, 256 * 1024, cookie=i)
    except OSError:
        pass
    w.good_goes_on()
    c.close()


@row("a TLS client of the export that sends options behind GO")
def _(w):
    c = w.connect().hello().start_tls(w.tls())
    must(c.go() == ACK)
    c.send_anyway(option_bytes(LIST) + struct.pack(">Q", 0) * 4)
    must(c.closes() == b"")
