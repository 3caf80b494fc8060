# SPDX-License-Identifier: BSD-3-Clause
"""A small QMP client for tests: one JSON object a line, nothing of any library.

    q = Qmp("/tmp/socket")            # connects and negotiates
    q("query-block")                  # returns what the command returned, or raises QmpError
    q.raw('{"execute": ...')          # the next answer, events put aside in q.events
"""

import json
import os
import socket
import subprocess
import time


class QmpError(Exception):
    def __init__(self, error):
        super().__init__("%s: %s" % (error["class"], error["desc"]))
        self.cls = error["class"]
        self.desc = error["desc"]


class Qmp:
    def __init__(self, path, negotiate=True, timeout=20):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.file = self.socket.makefile("rb")
        self.events = []
        self.greeting = json.loads(self.file.readline())
        if negotiate:
            self("qmp_capabilities")

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def receive(self):
        """The next object; None at the end of the stream."""
        line = self.file.readline()
        return json.loads(line) if line else None

    def answer(self):
        while True:
            message = self.receive()
            if message is None or "event" not in message:
                return message
            self.events.append(message)

    def raw(self, text):
        self.send(text + "\n")
        return self.answer()

    def __call__(self, command, **arguments):
        message = {"execute": command}
        if arguments:
            message["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        answer = self.raw(json.dumps(message))
        if answer is None:
            raise EOFError("the monitor hung up")
        if "error" in answer:
            raise QmpError(answer["error"])
        return answer["return"]

    def wait_event(self, name):
        """The first event of that name that was not taken yet."""
        while True:
            for i, event in enumerate(self.events):
                if event["event"] == name:
                    return self.events.pop(i)
            message = self.receive()
            if message is None:
                raise EOFError("the monitor hung up")
            self.events.append(message)

    def close(self):
        self.file.close()
        self.socket.close()


class Daemon:
    """A storage daemon (ours or QEMU's) with one monitor, as a context manager."""

    def __init__(self, program, *options, path="control.sock", log=None):
        self.path = path
        self.process = subprocess.Popen(
            [*program, "--chardev", "socket,id=c,path=%s,server=on,wait=off" % path,
             "--monitor", "chardev=c", *options], stderr=log, stdin=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def connect(self, **options):
        return Qmp(self.path, **options)

    def end(self, timeout=30):
        """Its exit code."""
        return self.process.wait(timeout)

    def kill(self, timeout=20):
        """As a crash would end it. The kernel may close what it had open some time later."""
        self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + timeout
        while True:
            with socket.socket(socket.AF_UNIX) as s:
                try:
                    s.connect(self.path)
                except ConnectionRefusedError:
                    os.unlink(self.path)
                    return
            assert time.monotonic() < deadline, "the socket outlives its daemon"
            time.sleep(0.02)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def expect_error(pattern, function, *args, cls="GenericError", **kwargs):
    import re
    try:
        result = function(*args, **kwargs)
    except QmpError as error:
        assert error.cls == cls, "class %s, expected %s: %s" % (error.cls, cls, error.desc)
        assert re.search(pattern, error.desc), "%r has no %r" % (error.desc, pattern)
        return
    raise AssertionError("no error like %r, but %r" % (pattern, result))
