# SPDX-License-Identifier: BSD-3-Clause
"""A proxy between an NBD client and a server that does harm at a chosen moment.

It follows the stream from the server far enough (doc/proto.md: fixed newstyle, structured replies)
to count the chunks that answer requests, over all connections. At the chosen one it makes the
request fail (`eio`), cuts the connection (`cut`), cuts all of them (`cut-all`), or forwards nothing
more (`hang`).
"""

import os
import socket
import struct
import threading

OPT_GO, REP_ACK = 7, 1
MAGIC_STRUCTURED = 0x668E33EF
CHUNK_OFFSET_DATA, CHUNK_HOLE, CHUNK_STATUS, CHUNK_ERROR = 1, 2, 5, 0x8001
EIO = 5


class Proxy:
    def __init__(self, path, upstream):
        self.path, self.upstream = path, upstream
        self.lock = threading.Lock()
        self.pairs = []
        self.plan(None, 0)
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def plan(self, harm, at):
        """Do `harm` at the `at`th answer from now on; None: never."""
        with self.lock:
            self.harm, self.at, self.seen, self.struck, self.hung = harm, at, 0, False, False

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self.upstream)
            except OSError:
                client.close()
                continue
            with self.lock:
                self.pairs.append((client, server))
            threading.Thread(target=self.forward, args=(client, server), daemon=True).start()
            threading.Thread(target=self.answers, args=(client, server), daemon=True).start()

    @staticmethod
    def cut(pair):
        for sock in pair:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def forward(self, client, server):
        try:
            while data := client.recv(1 << 16):
                server.sendall(data)
        except OSError:
            pass
        self.cut((client, server))

    @staticmethod
    def take(sock, n):
        data = b""
        while len(data) < n:
            part = sock.recv(n - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def strike(self, client, server):
        """What to do with this answer."""
        with self.lock:
            self.seen += 1
            if self.hung:
                return "hang"
            if self.harm is None or self.struck or self.seen <= self.at:
                return None
            self.struck = True
            self.hung = self.harm == "hang"
            if self.harm == "cut-all":
                for pair in self.pairs:
                    self.cut(pair)
            return self.harm

    def answers(self, client, server):
        try:
            client.sendall(self.take(server, 18))
            while True:
                head = self.take(server, 20)
                _, option, kind, length = struct.unpack(">QIII", head)
                client.sendall(head + self.take(server, length))
                if option == OPT_GO and kind == REP_ACK:
                    break
            while True:
                head = self.take(server, 20)
                magic, flags, kind, cookie, length = struct.unpack(">IHHQI", head)
                if magic != MAGIC_STRUCTURED:
                    client.sendall(head)  # not what our client asks for: no more harm here
                    break
                data = self.take(server, length)
                harm = None
                if kind in (CHUNK_OFFSET_DATA, CHUNK_HOLE, CHUNK_STATUS):
                    harm = self.strike(client, server)
                if harm in ("cut", "cut-all"):
                    raise ConnectionError
                if harm == "hang":
                    continue
                if harm == "eio":
                    data = struct.pack(">IH", EIO, 0)
                    head = struct.pack(">IHHQI", magic, flags, CHUNK_ERROR, cookie, len(data))
                client.sendall(head + data)
            while data := server.recv(1 << 16):
                client.sendall(data)
        except OSError:
            pass
        self.cut((client, server))
