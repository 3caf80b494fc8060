#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""An NBD server that lies: its read replies do not hold what was asked for.

usage: cheating_server.py SOCKET short|empty|overlong|twice

It speaks just enough of the protocol (doc/proto.md) for libnbd: fixed newstyle, structured
replies, a read-only export of any name. Each read is answered by chunks that are `short` (the last
4096 bytes are never sent), by none at all (`empty`), by more than was asked (`overlong`), or by the
first half `twice`.
"""

import socket
import struct
import sys
import threading

SIZE = 1 << 20
MAGIC_OPTION, MAGIC_REPLY = 0x49484156454F5054, 0x0003E889045565A9
OPT_ABORT, OPT_GO, OPT_STRUCTURED = 2, 7, 8
REP_ACK, REP_INFO, REP_ERR_UNSUP, REP_ERR_UNKNOWN = 1, 3, 0x80000001, 0x80000006
FLAGS = 1 | 2 | 256  # has flags, read-only, multi-conn


def take(sock, n):
    data = b""
    while len(data) < n:
        part = sock.recv(n - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data


def reply_option(sock, option, kind, data=b""):
    sock.sendall(struct.pack(">QIII", MAGIC_REPLY, option, kind, len(data)) + data)


def handshake(sock):
    sock.sendall(b"NBDMAGIC" + struct.pack(">QH", MAGIC_OPTION, 3))
    take(sock, 4)
    while True:
        _, option, length = struct.unpack(">QII", take(sock, 16))
        data = take(sock, length)
        if option == OPT_STRUCTURED:
            reply_option(sock, option, REP_ACK)
        elif option == OPT_GO:
            name_length = struct.unpack(">I", data[:4])[0]
            if b"@" in data[4:4 + name_length]:
                reply_option(sock, option, REP_ERR_UNKNOWN)
                continue
            reply_option(sock, option, REP_INFO, struct.pack(">HQH", 0, SIZE, FLAGS))
            reply_option(sock, option, REP_ACK)
            return
        elif option == OPT_ABORT:
            reply_option(sock, option, REP_ACK)
            raise ConnectionError
        else:
            reply_option(sock, option, REP_ERR_UNSUP)


def chunk(sock, flags, kind, cookie, data=b""):
    sock.sendall(struct.pack(">IHHQI", 0x668E33EF, flags, kind, cookie, len(data)) + data)


def serve(sock, how):
    try:
        handshake(sock)
        while True:
            _, _, command, cookie, offset, length = struct.unpack(">IHHQQI", take(sock, 28))
            if command == 2:
                return
            if how == "short":
                chunk(sock, 0, 1, cookie, struct.pack(">Q", offset) + b"s" * (length - 4096))
            elif how == "twice":
                for _ in range(2):
                    chunk(sock, 0, 1, cookie, struct.pack(">Q", offset) + b"t" * (length // 2))
            elif how == "overlong":
                chunk(sock, 0, 1, cookie, struct.pack(">Q", offset) + b"o" * length)
                chunk(sock, 0, 1, cookie, struct.pack(">Q", offset) + b"p" * length)
            chunk(sock, 1, 0, cookie)
    except (ConnectionError, OSError):
        pass
    finally:
        sock.close()


def main(path, how):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock, how), daemon=True).start()


main(*sys.argv[1:])
