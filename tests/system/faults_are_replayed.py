#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a trace has of a run happens again, without the rules, whatever the timing."""

import hashlib
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading

import nbd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from served import BREAKWATER, Served, log, run  # noqa: E402

GUEST = """
[fault "error"]
layer = guest
op = read
prob = 20%
action = error
errno = ENOSPC
[fault "torn"]
layer = guest
op = write
prob = 20%
action = torn
keep = random
[fault "lost"]
layer = guest
op = write,zero
conn = 2
every = 5
action = lost
[fault "wrong"]
layer = guest
op = read
prob = 20%
action = corrupt
bits = 5
[fault "stale"]
layer = guest
op = read
conn = 3
nth = 9
every = 2
action = corrupt
stale = on
[fault "slow"]
layer = guest
op = zero
action = delay
ms = 1..30
[fault "reply"]
layer = wire
op = flush
conn = 1
nth = 3
action = reply
wrong = errno
errno = ENOMEM
"""

HOST = """
[fault "mis"]
kind = l2
prob = 60%
action = misdirect
delta = 64k
[fault "old"]
op = read
event = l2_load,read_aio
nth = 2
action = short
[inject-error]
event = "write_aio"
iotype = "write"
state = "1"
once = "on"
errno = "28"
[set-state]
event = "flush_to_disk"
new_state = "2"
"""


def one_client(handle, number, jitter, results):
    """Random requests in a range of its own; what became of each."""
    what, pause = random.Random(number), random.Random(jitter)
    base = number * 4 << 20
    for _ in range(120):
        offset, length = base + what.randrange(64) * 4096, 4096 * what.randrange(1, 5)
        op = what.choice(["read", "read", "read", "write", "write", "zero", "flush"])
        byte = what.randrange(1, 256)
        if pause.random() < 0.05:
            threading.Event().wait(pause.random() / 200)
        try:
            answer = ""
            if op == "read":
                answer = hashlib.sha256(handle.pread(length, offset)).hexdigest()
            elif op == "write":
                handle.pwrite(bytes([byte]) * length, offset)
            elif op == "zero":
                handle.zero(length, offset)
            else:
                handle.flush()
        except nbd.Error as error:
            answer = error.errnum
        results.append((op, offset, length, answer))


def run_clients(served, jitter):
    handles = [served.client() for _ in range(4)]
    results = [[] for _ in handles]
    threads = [threading.Thread(target=one_client, args=(h, i, jitter + i, results[i]))
               for i, h in enumerate(handles)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for h in handles:
        h.shutdown()
    return results


def concurrent_clients_meet_the_same_again():
    with Served(GUEST, "--fault-trace", "run.trace", "--fault-seed", "1") as s:
        first = run_clients(s, 100)
    errors = sum(1 for r in first for x in r if isinstance(x[3], int))
    assert 30 < errors < 200, errors
    for jitter in (200, 300):
        with Served(None, "--fault-replay", "run.trace") as s:
            again = run_clients(s, jitter)
        for i, (a, b) in enumerate(zip(first, again)):
            for n, (x, y) in enumerate(zip(a, b)):
                assert x == y, (i, n, x, y)
        assert "run.trace decides: " in log()
        # Where clusters are allocated depends on the order of the writes, and which flush has
        # something to flush, so these may differ, and only they.
        assert re.search(r"run.trace: of \d+ requests \d+ came, of (\d+) faults \1\b", log()), log()
        assert not re.search("have guest (read|write|zero)", log()) and "have wire" not in log(), log()
    # With other clients it is another run.
    with Served(None, "--fault-replay", "run.trace") as s:
        h = s.client()
        assert h.pread(4096, 63 << 20) == bytes(4096)
        h.shutdown()
    assert "the trace does not have guest read 66060288+4096" in log(), log()


def one_client_leaves_the_same_trace_again():
    results = []
    for name, rules, option in (("one", GUEST + HOST, ("--fault-seed", "4")),
                                ("two", None, ("--fault-replay", "one")),
                                ("three", None, ("--fault-replay", "two"))):
        with Served(rules, "--fault-trace", name, *option) as s:
            h, found = s.client(), []
            one_client(h, 3, 7, found)
            h.shutdown()
        results.append(found)
    for again in results[1:]:
        for n, (x, y) in enumerate(zip(results[0], again, strict=True)):
            assert x == y, (n, x, y)
    one, two = pathlib.Path("one").read_bytes(), pathlib.Path("two").read_bytes()
    assert one == two == pathlib.Path("three").read_bytes() and len(one) > 5000
    text = subprocess.run([BREAKWATER, "faults", "trace", "one"], check=True, capture_output=True,
                          text=True).stdout
    for part in ("host write", "goes astray", "is cut short", "No space left", "is torn"):
        assert part in text, part
    assert "others came" not in log() and "breakwater: warning" not in log(), log()


def clients_in_turn_leave_equal_traces_with_equal_seeds():
    traces = []
    for seed in ("5", "5", "6"):
        with Served(GUEST + HOST, "--fault-trace", "turn", "--fault-seed", seed) as s:
            handles, rng = [s.client() for _ in range(3)], random.Random(1)
            for i in range(150):
                h, offset = handles[i % 3], rng.randrange(256) * 4096
                try:
                    if rng.random() < 0.5:
                        h.pwrite(bytes([i + 1]) * 8192, offset)
                    elif rng.random() < 0.9:
                        h.pread(8192, offset)
                    else:
                        h.flush()
                except nbd.Error:
                    pass
            for h in handles:
                h.shutdown()
        traces.append(pathlib.Path("turn").read_bytes())
    assert traces[0] == traces[1] and len(traces[0]) > 5000
    assert traces[1][16:] != traces[2][16:] # behind the header, which has the seed


def the_cache_and_the_cut_come_again():
    rules = ("[engine]\nseed = 5\n[cache]\nlayer = guest\n[fault]\nlayer = guest\nop = write\n"
             "nth = 12\naction = torn\nthen = powercut\n")
    seen = []
    for option, rules in ((("--fault-trace", "run.trace"), rules),
                          (("--fault-replay", "run.trace"), None)):
        with Served(rules, *option) as s:
            h, failed = s.client(), []
            for i in range(20):
                try:
                    h.pwrite(bytes([i + 1]) * 8192, i % 5 * 8192)
                except nbd.Error as error:
                    failed.append((i, error.errnum))
                if i == 4:
                    h.flush()
            states = s.qmp("faults-crash-list")
            crashed = s.client("disk@crash/3")
            seen.append((failed, states, crashed.pread(65536, 0)))
            crashed.shutdown()
            h.shutdown()
    assert seen[0] == seen[1] and seen[0][0], seen


def what_is_no_whole_trace_is_refused_before_serving():
    with Served(GUEST, "--fault-trace", "run.trace") as s:
        h = s.client()
        h.pwrite(b"x" * 4096, 0)
        h.shutdown()
    whole = pathlib.Path("run.trace").read_bytes()
    for content, problem in ((whole[:-9], "'bad' has no end: "), (whole[:-4], "damaged, or not whole"),
                             (whole[:10], "is no fault trace"), (b"", "is no fault trace"),
                             (whole + b"x", "at byte %d" % len(whole)),
                             (whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], "damaged"),
                             (None, "Could not open 'bad'")):
        shutil.rmtree("bad", ignore_errors=True)
        pathlib.Path("bad").unlink(missing_ok=True)
        if content is not None:
            pathlib.Path("bad").write_bytes(content)
        p = subprocess.run([BREAKWATER, "serve", "--socket", "bad.sock", "--fault-replay", "bad",
                            "disk.qcow2"], capture_output=True, text=True, timeout=30)
        assert p.returncode == 2 and problem in p.stderr, (problem, p)
        assert not os.path.exists("bad.sock")
    for option in (("--fault", "op=read action=error"), ("--faults", "rules.conf"),
                   ("--fault-seed", "1"), ("--blkdebug", "align=4k"),
                   ("--fault-trace", "run.trace")):
        p = subprocess.run([BREAKWATER, "serve", "--fault-replay", "run.trace", *option,
                            "disk.qcow2"], capture_output=True, text=True, timeout=30)
        assert p.returncode == 1 and "--fault-replay" in p.stderr, (option, p)
    assert pathlib.Path("run.trace").read_bytes() == whole


def main():
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        run(concurrent_clients_meet_the_same_again, one_client_leaves_the_same_trace_again,
            clients_in_turn_leave_equal_traces_with_equal_seeds, the_cache_and_the_cut_come_again,
            what_is_no_whole_trace_is_refused_before_serving)


main()
