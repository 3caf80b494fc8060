# SPDX-License-Identifier: BSD-3-Clause
"""An NBD client that speaks raw bytes over a real socket, so that it can say what no client says.

    c = Raw(("unix", path))           # connected, nothing said
    c.hello()                         # takes the greeting, sends the client's flags
    c.option(LIST)                    # sends an option; c.answer(LIST) is one reply: (type, data)
    c.go("disk")                      # until the final reply, whose type it returns
    c.request(READ, offset, length)   # c.simple() and c.chunk() take replies
    c.closes()                        # nothing more comes but the end of the stream

Lengths and magics are written out here once more (doc/proto.md): nothing is shared with the server.
"""

import socket
import ssl
import struct
import time

EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO = 1, 2, 3, 5, 6, 7
STRUCTURED, LIST_META, SET_META, EXTENDED = 8, 9, 10, 11
ACK, SERVER, INFORMATION, META = 1, 2, 3, 4
UNSUP, POLICY, INVALID, TLS_REQD, UNKNOWN, SHUTDOWN, TOO_BIG, EXT_HEADER_REQD = (
    0x80000000 + n for n in (1, 2, 3, 5, 6, 7, 9, 10))
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS, RESIZE = range(9)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << n for n in range(6))
PATIENCE = 60  # seconds: machines under load, programs under sanitizers


class Closed(Exception):
    pass


def named(name, rest=b""):
    """A string as options carry it."""
    name = name.encode() if isinstance(name, str) else name
    return struct.pack(">I", len(name)) + name + rest


def option_bytes(option, data=b"", length=None, magic=b"IHAVEOPT"):
    return magic + struct.pack(">II", option, len(data) if length is None else length) + data


def request_bytes(command, offset=0, length=0, flags=0, cookie=0, magic=0x25609513):
    return struct.pack(">IHHQQI", magic, flags, command, cookie, offset, length)


def ext_request_bytes(command, offset=0, length=0, flags=0, cookie=0, magic=0x21e41c71):
    return struct.pack(">IHHQQQ", magic, flags, command, cookie, offset, length)


def meta_bytes(export, queries, count=None):
    return named(export, struct.pack(">I", len(queries) if count is None else count) +
                 b"".join(named(q) for q in queries))


class Raw:
    def __init__(self, address, receive_buffer=None):
        kind, where = address
        self.sock = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.ahead = b""  # received already
        self.sock.connect(where)  # waits while the backlog is full
        self.sock.settimeout(PATIENCE)

    # Bytes.

    def send(self, data):
        self.sock.sendall(data)

    def send_anyway(self, data):
        """To a server that may have closed already; False if it has."""
        try:
            self.sock.sendall(data)
        except OSError:
            return False
        return True

    def receive(self, length):
        data = self.ahead[:length]
        self.ahead = self.ahead[length:]
        while len(data) < length:
            part = self.sock.recv(length - len(data))
            if not part:
                raise Closed("after %d of %d bytes" % (len(data), length))
            data = data + part if data else part
        return data

    def closes(self):
        """The server closes; returns what it said before that."""
        said = bytearray()
        try:
            while True:
                part = self.sock.recv(65536)
                if not part:
                    return bytes(said)
                said += part
        except (ConnectionError, ssl.SSLError):
            return bytes(said)
        finally:
            self.close()

    def close(self):
        self.sock.close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """Leaves without a farewell: over TCP an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # Handshake.

    def hello(self, flags=3):
        greeting = self.receive(18)
        assert greeting == b"NBDMAGICIHAVEOPT\0\3", greeting
        self.send(struct.pack(">I", flags))
        return self

    def option(self, option, data=b"", **odd):
        self.send(option_bytes(option, data, **odd))

    def answer(self, option):
        magic, echoed, kind, length = struct.unpack(">QIII", self.receive(20))
        assert magic == 0x3e889045565a9, hex(magic)
        assert echoed == option, (echoed, option)
        return kind, self.receive(length)

    def final(self, option):
        """Past what is informational; an error says why."""
        while True:
            kind, data = self.answer(option)
            if kind not in (SERVER, INFORMATION, META):
                assert kind == ACK or data, "an error without a text"
                return kind

    def ask(self, option, data=b"", **odd):
        self.option(option, data, **odd)
        return self.final(option)

    def go(self, name="disk", option=GO):
        return self.ask(option, named(name, b"\0\0"))

    def meta(self, queries=("base:allocation",), option=SET_META, name="disk"):
        return self.ask(option, meta_bytes(name, queries))

    def ready(self, structured=False, extended=False, contexts=(), name="disk"):
        """In transmission."""
        self.hello()
        if structured:
            assert self.ask(STRUCTURED) == ACK
        if extended:
            assert self.ask(EXTENDED) == ACK
        if contexts:
            assert self.meta(contexts, name=name) == ACK
        assert self.go(name) == ACK
        return self

    def start_tls(self, context):
        self.option(STARTTLS)
        assert self.answer(STARTTLS)[0] == ACK
        self.wrap(context)
        return self

    def wrap(self, context):
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")

    # Transmission.

    def request(self, command, offset=0, length=0, **more):
        self.send(request_bytes(command, offset, length, **more))

    def simple(self, length=0):
        """(error, cookie, data) of a simple reply."""
        magic, error, cookie = struct.unpack(">IIQ", self.receive(16))
        assert magic == 0x67446698, hex(magic)
        return error, cookie, self.receive(0 if error else length)

    def chunk(self):
        """(flags, type, cookie, data) of one chunk of a structured reply."""
        magic, flags, kind, cookie, length = struct.unpack(">IHHQI", self.receive(20))
        assert magic == 0x668e33ef, hex(magic)
        return flags, kind, cookie, self.receive(length)

    def ext_chunk(self):
        """(flags, type, cookie, data) of one chunk with an extended header."""
        magic, flags, kind, cookie, _, length = struct.unpack(">IHHQQQ", self.receive(32))
        assert magic == 0x6e8a278c, hex(magic)
        return flags, kind, cookie, self.receive(length)

    def reply(self):
        """(error, cookie) of the next whole reply, simple (then without data) or structured."""
        self.ahead = self.receive(4)
        if self.ahead == b"\x67\x44\x66\x98":
            return self.simple()[:2]
        error = done = 0
        while not done:
            flags, kind, cookie, data = self.chunk()
            done = flags & 1
            if kind & 0x8000:
                error, = struct.unpack(">I", data[:4])
        return error, cookie

    def error(self, command, offset=0, length=0, payload=b"", **more):
        """The number of the error that a request gets in a simple reply; 0: none."""
        self.send(request_bytes(command, offset, length, cookie=77, **more) + payload)
        error, cookie, _ = self.simple(length if command == READ else 0)
        assert cookie == 77, cookie
        return error

    def ext_error(self, command, offset=0, length=0, payload=b"", **more):
        """The same with extended headers."""
        self.send(ext_request_bytes(command, offset, length, cookie=77, **more) + payload)
        while True:
            flags, kind, cookie, data = self.ext_chunk()
            assert cookie == 77, cookie
            if kind == 0x8001:
                assert flags & 1
                return struct.unpack(">I", data[:4])[0]
            if flags & 1:
                return 0

    def in_step(self):
        """The connection still works (without extended headers)."""
        self.request(CACHE, 0, 512, cookie=78)
        assert self.reply() == (0, 78)
        return self


def drip(client, data, pause):
    """Byte by byte."""
    for i in range(len(data)):
        client.send(data[i:i + 1])
        time.sleep(pause)
