#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Measures NBD servers side by side; bench/run prepares what it needs and calls it.

Rounds are interleaved: in each round every workload meets every server, in an order that rotates,
so that a machine that slows down for a while slows all of them down. docs/benchmarks.md says more.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

import report
from servers import SERVERS, ServerError, first_line, idle_memory_kib, make_certificates

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# name: fio's rw, block size, depth
WORKLOADS = {
    "randread-4k-d1": ("randread", "4k", 1),
    "randread-4k-d32": ("randread", "4k", 32),
    "randwrite-4k-d1": ("randwrite", "4k", 1),
    "randwrite-4k-d32": ("randwrite", "4k", 32),
    "read-1m-d8": ("read", "1m", 8),
    "write-1m-d8": ("write", "1m", 8),
    "alloc-4k-d32": ("randwrite", "4k", 32),
    "tls-read-1m-d8": ("read", "1m", 8),
    "tls-write-1m-d8": ("write", "1m", 8),
}
# Over TLS and TCP loopback.
ENCRYPTED = {"tls-read-1m-d8", "tls-write-1m-d8"}
# Into an image that is empty at first, and so large that most writes allocate a cluster.
ALLOCATING = {"alloc-4k-d32"}
EMPTY_SIZE = 64 << 30


def parse_size(text):
    scale = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}.get(text[-1:].lower())
    try:
        value = int(text[:-1]) * scale if scale else int(text)
    except ValueError:
        value = 0
    if value < 1 << 20 or value % (1 << 20):
        raise argparse.ArgumentTypeError("%r is no size in whole MiB, like 1G or 256M" % text)
    return value


def parse_list(choices):
    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in choices:
                raise argparse.ArgumentTypeError("%r is none of %s" % (name, ", ".join(choices)))
        return names
    return parse


def options_from(argv):
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which medians (3)")
    parser.add_argument("--seconds", type=float, default=5, help="per measurement (5)")
    parser.add_argument("--size", type=parse_size, default=1 << 30, help="of the disk (1G)")
    parser.add_argument("--only", type=parse_list(WORKLOADS), default=list(WORKLOADS),
                        metavar="WORKLOAD,...", help="some of " + ", ".join(WORKLOADS))
    parser.add_argument("--servers", type=parse_list(SERVERS), default=list(SERVERS),
                        metavar="SERVER,...", help="some of " + ", ".join(SERVERS))
    parser.add_argument("--quick", action="store_true", help="256M, one second: for a first look")
    parser.add_argument("--connections", type=int, default=100, help="idle ones, for memory (100)")
    parser.add_argument("--dir", default="/var/tmp", help="where the images go (/var/tmp)")
    parser.add_argument("--out", default=os.path.join(TOP, "bench/results"),
                        help="where results go (bench/results)")
    parser.add_argument("--breakwater", default=os.path.join(TOP, "build/cli/breakwater"),
                        help="the binary to measure (built into build/)")
    for name in SERVERS:
        parser.add_argument("--%s-options" % name, default="", metavar="WORDS",
                            help="more options for " + name)
    options = parser.parse_args(argv)
    options.breakwater = os.path.abspath(options.breakwater)
    if options.quick:
        options.size, options.seconds = 256 << 20, 1
    if options.rounds < 1 or options.seconds <= 0 or options.connections < 0:
        parser.error("rounds, seconds and connections are positive")
    return options


def make_images(folder, options):
    """One content, every block written: a raw file, and a qcow2 of its own for each that wants one."""
    raw = os.path.join(folder, "disk.raw")
    print("preparing %d MiB of images in %s" % (options.size >> 20, folder), flush=True)
    with open(raw, "wb") as out:
        for _ in range(options.size >> 20):
            out.write(os.urandom(1 << 20))
    paths = {}
    for name in options.servers:
        if SERVERS[name].image == "raw":
            paths[name] = raw
        else:
            paths[name] = os.path.join(folder, name + ".qcow2")
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, paths[name]],
                           check=True)
    return paths


def warm(path):
    """Writes back what the last measurement dirtied and reads the file into the page cache."""
    with open(path, "rb+") as image:
        os.fsync(image.fileno())
        while image.read(4 << 20):
            pass


def run_fio(server, workload, seconds, size):
    pattern, block, depth = WORKLOADS[workload]
    size = EMPTY_SIZE if workload in ALLOCATING else size
    command = ["fio", "--name=bench", "--ioengine=nbd", "--uri=" + server.uri(),
               "--rw=" + pattern, "--bs=" + block, "--iodepth=%d" % depth, "--size=%d" % size,
               "--time_based", "--runtime=%gs" % seconds, "--randrepeat=1", "--norandommap",
               "--randseed=20", "--refill_buffers=0", "--output-format=json"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, check=False, text=True,
                            cwd=os.path.dirname(server.socket))
    start = result.stdout.find("{")
    if result.returncode or start < 0:
        raise ServerError("fio failed on %s, %s:\n%s%s" % (server.name, workload, result.stdout,
                                                          result.stderr))
    job = json.loads(result.stdout[start:])["jobs"][0]
    if job["error"]:
        raise ServerError("fio met error %d on %s, %s" % (job["error"], server.name, workload))
    return job["read" if "read" in pattern else "write"]


def measure(name, workload, path, folder, options):
    """One cell of one round: a fresh server, a short warm-up, then the measurement."""
    if workload in ALLOCATING:
        path = os.path.join(folder, "empty.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(EMPTY_SIZE)],
                       check=True)
    else:
        warm(path)
    server = SERVERS[name](folder, path, options,
                           os.path.join(folder, "tls") if workload in ENCRYPTED else None)
    try:
        if workload not in ALLOCATING:  # a warm-up would leave less to allocate
            run_fio(server, workload, min(1, options.seconds), options.size)
        before = server.cpu_seconds()
        side = run_fio(server, workload, options.seconds, options.size)
        cpu = server.cpu_seconds() - before
        if server.process.poll() is not None:
            raise ServerError("%s died in %s" % (name, workload))
        operations = side["total_ios"]
        return {"ops": side["iops"], "cpu_us": 1e6 * cpu / operations,
                "p99_us": side["clat_ns"]["percentile"]["99.000000"] / 1000,
                "peak_kib": server.memory_kib("VmHWM")}
    finally:
        server.stop()


def measure_idle(paths, folder, options):
    idle = {}
    for name in options.servers:
        server = SERVERS[name](folder, paths[name], options)
        try:
            idle[name] = idle_memory_kib(server, options.connections)
        except (ServerError, OSError) as problem:
            print("%s with %d connections: %s" % (name, options.connections, problem))
        finally:
            server.stop()
    return idle


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def facts_of(options):
    facts = {"date": datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
             "machine": "%s, %d cores" % (cpu_model(), os.cpu_count()),
             "load": "%.1f %.1f %.1f before the first round" % os.getloadavg(),
             "kernel": platform.release(), "fio": first_line(["fio", "--version"]),
             "disk": "%d MiB, %d rounds of %g s" % (options.size >> 20, options.rounds,
                                                    options.seconds)}
    for name in options.servers:
        facts[name] = SERVERS[name].version(options)
    return facts


def write_results(options, facts, text, samples, idle, verdicts):
    os.makedirs(options.out, exist_ok=True)
    base = os.path.join(options.out, facts["date"].replace(" ", "T").replace(":", ""))
    with open(base + ".txt", "w", encoding="utf-8") as out:
        out.write(text)
    with open(base + ".json", "w", encoding="utf-8") as out:
        json.dump({"facts": facts, "idle_kib": idle, "marks": verdicts,
                   "samples": [{"workload": workload, "server": server, "rounds": rounds}
                               for (workload, server), rounds in samples.items()]}, out, indent=1)
    print("written: %s.txt and .json" % base)


def run_rounds(paths, folder, options):
    samples = {(workload, server): [] for workload in options.only for server in options.servers}
    turn = 0
    for number in range(1, options.rounds + 1):
        for workload in options.only:
            order = options.servers[turn % len(options.servers):] + \
                options.servers[:turn % len(options.servers)]
            turn += 1
            for name in order:
                if workload in ALLOCATING and SERVERS[name].image == "raw":
                    continue  # there is nothing to allocate
                sample = measure(name, workload, paths[name], folder, options)
                samples[(workload, name)].append(sample)
                print("round %d  %-17s %-11s %10.0f ops/s %8.2f us CPU/op" % (
                    number, workload, name, sample["ops"], sample["cpu_us"]), flush=True)
    return samples


def main(argv):
    options = options_from(argv)
    folder = tempfile.mkdtemp(prefix="breakwater-bench-", dir=options.dir)
    started = time.monotonic()
    if os.getloadavg()[0] > 0.3 * os.cpu_count():
        print("bench: the machine is busy (load %.1f): figures will say little" %
              os.getloadavg()[0], file=sys.stderr)
    try:
        facts = facts_of(options)
        paths = make_images(folder, options)
        make_certificates(folder)
        samples = run_rounds(paths, folder, options)
        idle = measure_idle(paths, folder, options) if options.connections else {}
    except (ServerError, OSError, subprocess.CalledProcessError) as problem:
        print("bench: %s" % problem, file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text, verdicts = report.render(facts, options.only, options.servers, samples, idle,
                                   options.connections)
    print("\n" + text)
    write_results(options, facts, text, samples, idle, verdicts)
    print("%.0f seconds" % (time.monotonic() - started))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
