#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Scripts decide about the requests of real clients; what they do wrong harms nobody else."""

import errno
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import nbd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from qmp import expect_error  # noqa: E402
from served import BREAKWATER, Served, fails, log, run  # noqa: E402

SKIP = 77


def a_script_that_loops_or_throws_fails_its_request_only():
    pathlib.Path("bad.lua").write_text(
        "function decide(q)\n"
        "  if q.offset < 4096 then\n"
        "    while true do end\n"
        "  end\n"
        "  if q.offset < 8192 then error('thrown') end\n"
        "  if q.offset < 12288 then local s = 'x' while true do s = s .. s end end\n"
        "end\n")
    rules = '[script "bad"]\nlayer = guest\nop = read\nfile = bad.lua\nerrno = ENOSPC\n'
    with Served(rules) as s:
        one, two = s.client(), s.client()
        start = time.monotonic()
        for _ in range(5):
            for offset in (0, 4096, 8192):
                fails(errno.ENOSPC, one.pread, 512, offset)
            assert two.pread(512, 12288) == bytes(512)
            two.pwrite(b"x" * 512, 0)
        assert time.monotonic() - start < 10
        one.shutdown()
        two.shutdown()
    lines = [line for line in log().splitlines() if "its script failed" in line]
    assert 1 <= len(lines) <= 5, lines
    assert "rules.conf:1 bad: its script failed, and so does guest read 0+512: bad.lua:3: it has used" \
        in lines[0], lines[0]
    assert re.search(r'fault "bad" .*action=script errno=ENOSPC file=bad.lua hook=decide: '
                     r'seen 20, matched 20, fired 15', log()), log()


def what_scripts_decide_is_replayed_without_them():
    pathlib.Path("dice.lua").write_text(
        "local writes = 0\n"
        "function decide(q)\n"
        "  if q.op == 'write' then\n"
        "    writes = writes + 1\n"
        "    if data(0, 1) == 'q' then return 'action=torn unit=512 keep=random' end\n"
        "    if writes % 7 == 0 then return 'action=delay ms=3', 'action=lost' end\n"
        "  elseif random(3) == 1 then\n"
        "    return 'action=corrupt bits=' .. random(20)\n"
        "  end\n"
        "end\n")
    rules = '[script]\nlayer = guest\nop = read,write\nfile = dice.lua\n'
    seen = []
    for name, rules, option in (("one", rules, ("--fault-seed", "3")),
                                ("two", rules, ("--fault-seed", "3")),
                                ("three", None, ("--fault-replay", "one"))):
        if rules is None:
            os.unlink("dice.lua")
        with Served(rules, "--fault-trace", name, *option) as s:
            h, found = s.client(), []
            for i in range(60):
                h.pwrite(bytes([b"pqrs"[i % 4]]) * 8192, i % 9 * 4096)
                found.append(h.pread(8192, i % 5 * 4096))
            h.shutdown()
        seen.append(found)
    assert seen[0] == seen[1] == seen[2]
    one = pathlib.Path("one").read_bytes()
    assert one == pathlib.Path("two").read_bytes() == pathlib.Path("three").read_bytes()
    text = subprocess.run([BREAKWATER, "faults", "trace", "one"], check=True, capture_output=True,
                          text=True).stdout
    for part in ("is torn", "is lost after", "is corrupted"):
        assert part in text, part


def scripts_come_and_go_while_serving():
    path = os.path.abspath("all.lua")
    pathlib.Path(path).write_text("n = 0\nfunction decide(q)\n  n = n + 1\n"
                                  "  if n > 2 then return 'action=error' end\nend\n")
    with Served() as s:
        q, h = s.qmp, s.client()
        for _ in range(3): # each has variables of its own
            q("faults-add", rule="id=all layer=guest op=read action=script file=" + path)
            h.pread(512, 0)
            h.pread(512, 0)
            fails(errno.EIO, h.pread, 512, 0)
            rule = q("faults-list")[0]["rules"][-1]
            assert rule["id"] == "all" and rule["fired"] == 1 and "action=script" in str(rule), rule
            q("faults-remove", id="all")
            h.pread(512, 0)
        q("faults-replace", rules='[script "x"]\nlayer = guest\nop = flush\nfile = %s\n' % path)
        h.pwrite(b"x" * 512, 0)
        h.flush()
        for rule, problem in (("action=script file=nowhere.lua", "Could not open script"),
                              ("action=script", "lacks its file"),
                              ("action=script hook=none file=" + path, "no function none()")):
            expect_error(re.escape(problem), q, "faults-add", rule="op=read " + rule)
        assert len(q("faults-list")[0]["rules"]) == 1
        h.shutdown()


def check_and_explain_know_scripts():
    pathlib.Path("ok.lua").write_text("function decide() end\n")
    pathlib.Path("r.conf").write_text('[script "x"]\nop = write\nfile = ok.lua\n')
    p = subprocess.run([BREAKWATER, "faults", "explain", "r.conf"], check=True, capture_output=True,
                       text=True)
    assert "every write of the host file is what decide() in the script ok.lua says" in p.stdout, p
    pathlib.Path("ok.lua").write_text("function decide()\n  x = = 1\nend\n")
    p = subprocess.run([BREAKWATER, "faults", "check", "r.conf"], capture_output=True, text=True)
    assert p.returncode == 2 and "r.conf:3:8: ok.lua:2: unexpected symbol near '='" in p.stderr, p
    p = subprocess.run([BREAKWATER, "serve", "--socket", "x.sock", "--faults", "r.conf",
                        "disk.qcow2"], capture_output=True, text=True)
    assert p.returncode == 2 and "ok.lua:2: " in p.stderr and not os.path.exists("x.sock"), p


def main():
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        pathlib.Path("r.conf").write_text("[script]\nfile = nowhere\n")
        p = subprocess.run([BREAKWATER, "faults", "check", "r.conf"], capture_output=True, text=True)
        if "built without it" in p.stderr:
            print("breakwater was built without Lua")
            sys.exit(SKIP)
        run(a_script_that_loops_or_throws_fails_its_request_only,
            what_scripts_decide_is_replayed_without_them, scripts_come_and_go_while_serving,
            check_and_explain_know_scripts)


main()
