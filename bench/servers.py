# SPDX-License-Identifier: BSD-3-Clause
"""The servers under comparison: how each is started, and what the kernel says about it.

Every measurement gets a fresh process, so that peak memory belongs to one workload and no server
profits from the caches of the one before. CPU time is utime + stime of the whole process as
/proc/PID/stat counts it: threads that have ended are in it, kernel work done on the server's behalf
by its own threads (io_uring workers too) is in it, the client's is not.
"""

import os
import socket
import struct
import subprocess
import time

TICK = 1.0 / os.sysconf("SC_CLK_TCK")

# Rules are loaded and every event and request is checked against them; none ever matches: no
# virtual machine state is loaded through an NBD server.
QUIET_RULES = """[inject-error]
event = "vmstate_load"
errno = "5"
"""


class ServerError(Exception):
    pass


class Server:
    """One running server process on a Unix socket; with TLS on a TCP port of loopback."""

    name = None
    image = None  # "raw" or "qcow2"

    def __init__(self, folder, image_path, options, tls=None):
        """tls: the folder of its certificates."""
        self.tls = tls
        self.port = str(free_port())
        self.socket = os.path.join(folder, self.name + ".sock")
        self.log = os.path.join(folder, self.name + ".log")
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        self.command = self.command_line(folder, image_path, options)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)
        self.wait_ready()

    def command_line(self, folder, image_path, options):
        raise NotImplementedError

    def uri(self):
        if self.tls:
            return "nbds://127.0.0.1:%s/?tls-verify-peer=0" % self.port
        return "nbd+unix:///?socket=" + self.socket

    def wait_ready(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with socket.socket(socket.AF_INET if self.tls else socket.AF_UNIX) as probe:
                    probe.settimeout(1)
                    probe.connect(("127.0.0.1", int(self.port)) if self.tls else self.socket)
                    if probe.recv(8) == b"NBDMAGIC":
                        return
            except OSError:
                pass
            time.sleep(0.02)
        self.stop()
        with open(self.log, encoding="utf-8", errors="replace") as log:
            raise ServerError("%s did not start: %s\n%s" % (self.name, " ".join(self.command),
                                                           log.read()[-2000:]))

    def cpu_seconds(self):
        with open("/proc/%d/stat" % self.process.pid, encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK

    def memory_kib(self, field):
        """field: VmHWM (peak resident) or VmRSS (resident now)."""
        with open("/proc/%d/status" % self.process.pid, encoding="ascii") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        raise ServerError("no %s for %s" % (field, self.name))

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Breakwater(Server):
    """As a user runs it who tests and backs up: fault filter attached, one bitmap recording."""

    name = "breakwater"
    image = "qcow2"

    def command_line(self, folder, image_path, options):
        rules = os.path.join(folder, "quiet-rules.conf")
        with open(rules, "w", encoding="ascii") as out:
            out.write(QUIET_RULES)
        where = ["-b", "127.0.0.1", "-p", self.port, "--tls-certificates", self.tls] if self.tls \
            else ["-k", self.socket]
        return [options.breakwater, "serve", *where, "-t", "-f", "qcow2",
                "--faults", rules, "-B", "bench", *options.breakwater_options.split(), image_path]

    @staticmethod
    def version(options):
        return first_line([options.breakwater, "--version"])


class QemuNbd(Server):
    name = "qemu-nbd"
    image = "qcow2"

    def command_line(self, folder, image_path, options):
        where = ["-b", "127.0.0.1", "-p", self.port, "--tls-creds", "tls", "--object",
                 "tls-creds-x509,id=tls,endpoint=server,verify-peer=no,sanity-check=no,dir=%s" %
                 self.tls] if self.tls else ["-k", self.socket]
        return ["qemu-nbd", *where, "-t", "-e", "128", "-f", "qcow2",
                *options.qemu_nbd_options.split(), image_path]

    @staticmethod
    def version(options):
        return first_line(["qemu-nbd", "--version"])


class Nbdkit(Server):
    name = "nbdkit"
    image = "raw"

    def command_line(self, folder, image_path, options):
        where = ["-i", "127.0.0.1", "-p", self.port, "--tls=require", "--tls-certificates", self.tls] \
            if self.tls else ["-U", self.socket]
        return ["nbdkit", "-f", *where, *options.nbdkit_options.split(), "file",
                image_path]

    @staticmethod
    def version(options):
        return first_line(["nbdkit", "--version"])


SERVERS = {server.name: server for server in (Breakwater, QemuNbd, Nbdkit)}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificates(folder):
    """One for the server, which the client does not check: what is measured is the traffic."""
    path = os.path.join(folder, "tls")
    os.mkdir(path)
    certificate, key = (os.path.join(path, "server-%s.pem" % what) for what in ("cert", "key"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "7", "-subj", "/CN=localhost",
                    "-keyout", key, "-out", certificate], check=True, stderr=subprocess.DEVNULL)
    with open(certificate, "rb") as source, open(os.path.join(path, "ca-cert.pem"), "wb") as out:
        out.write(source.read())
    return path


def first_line(command):
    try:
        output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                check=False, text=True).stdout.splitlines()
        return output[0] if output else "?"
    except OSError as problem:
        return str(problem)


# --- idle connections: a handshake by hand, because the client must cost the server nothing more ---

OPT_GO, REP_ACK, FLAG_ERROR = 7, 1, 0x80000000


def receive(sock, length):
    data = b""
    while len(data) < length:
        part = sock.recv(length - len(data))
        if not part:
            raise ServerError("the server closed a connection in the handshake")
        data += part
    return data


def connect_idle(path):
    """Returns a socket in transmission phase on the default export."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(path)
    receive(sock, 18)
    sock.sendall(struct.pack(">I", 3))
    sock.sendall(b"IHAVEOPT" + struct.pack(">IIIH", OPT_GO, 6, 0, 0))
    while True:
        _, _, reply, length = struct.unpack(">QIII", receive(sock, 20))
        receive(sock, length)
        if reply == REP_ACK:
            return sock
        if reply & FLAG_ERROR:
            raise ServerError("the server refused GO: reply %#x" % reply)


def idle_memory_kib(server, connections):
    """Resident memory with that many clients that have finished their handshake and wait."""
    sockets = []
    try:
        for _ in range(connections):
            sockets.append(connect_idle(server.socket))
        time.sleep(1)
        return server.memory_kib("VmRSS")
    finally:
        for sock in sockets:
            sock.close()
