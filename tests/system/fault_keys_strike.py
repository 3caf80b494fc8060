#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What keys of rules say is what clients meet, and what a replay does again without the rules."""

import errno
import os
import pathlib
import sys
import tempfile
import time

import nbd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from served import Served, fails, run  # noqa: E402

KIB = 1024


def and_again(rules, work):
    """What work(client) returns under the rules, and under the replay of their trace."""
    results = []
    for name, rules, option in (("one", rules, ("--fault-seed", "1")),
                                ("two", None, ("--fault-replay", "one"))):
        with Served(rules, "--fault-trace", name, *option) as s:
            h = s.client()
            results.append(work(h))
            h.shutdown()
    assert results[0] == results[1], results
    assert pathlib.Path("one").read_bytes() == pathlib.Path("two").read_bytes()
    return results[0]


def units(data):
    """The first byte of each unit, of which all bytes are alike."""
    found = [data[i:i + 512] for i in range(0, len(data), 512)]
    assert all(unit == unit[:1] * 512 for unit in found)
    return "".join(chr(unit[0]) for unit in found)


def a_torn_write_keeps_the_units_of_its_mask():
    def work(h):
        h.pwrite(b"a" * 4096, 4096)
        h.pwrite(b"b" * 4096, 4096)
        torn = units(h.pread(4096, 4096))
        h.pwrite(b"c" * 4096, 4096)
        return torn, units(h.pread(4096, 4096))

    for where in ("overlay", "disk"):
        rules = ("[fault]\nlayer = guest\nop = write\nnth = 2\naction = torn\nmask = 0x85\n"
                 "where = %s\n" % where)
        assert and_again(rules, work) == ("babaaaab", "cccccccc")


def a_write_goes_to_a_place_and_changes_places():
    def work(h):
        h.pwrite(b"a" * 1024, 4096)
        h.pwrite(b"b" * 1024, 1 << 20)
        h.pwrite(b"c" * 1024, 4096)
        return units(h.pread(1024, 4096)), units(h.pread(1024, 1 << 20))

    for where in ("overlay", "disk"):
        rules = ("[fault]\nlayer = guest\nop = write\nrange = 0+64k\nnth = 2\n"
                 "action = misdirect\nto = 1M\nwhere = %s\n" % where)
        assert and_again(rules, work) == ("aa", "cc")
        assert and_again(rules + "swap = on\n", work) == ("bb", "cc")


def a_hang_ends():
    def work(h):
        start = time.monotonic()
        try:
            h.pread(512, 0)
            return "no error"
        except nbd.Error as error:
            assert 0.3 <= time.monotonic() - start < 20
            return error.errnum, units(h.pread(512, 512))

    rules = ("[fault]\nlayer = guest\nop = read\nonce = on\naction = hang\ntimeout = 300ms\n"
             "errno = ENOSPC\n")
    assert and_again(rules, work) == (errno.ENOSPC, "\0")


def a_hang_does_not_hold_up_the_end():
    rules = "[fault]\nlayer = guest\nop = read\naction = hang\ntimeout = 1h\n"
    with Served(rules) as s:
        h = s.client()
        h.aio_pread(nbd.Buffer(512), 0)
        while s.qmp("faults-list")[0]["rules"][0]["fired"] == 0:
            h.poll(10)
        start = time.monotonic()
    assert time.monotonic() - start < 20


def delays_queue_in_their_lane():
    def work(h):
        start = time.monotonic()
        for offset in range(0, 2048, 512):
            h.aio_pread(nbd.Buffer(512), offset)
        while h.aio_in_flight() > 0:
            h.poll(-1)
        return time.monotonic() - start >= 0.39

    rules = "[fault]\nlayer = guest\nop = read\naction = delay\nms = 100\nlanes = 1\n"
    assert and_again(rules, work)


def stuck_bytes_stay_as_they_were():
    def work(h):
        h.pwrite(b"a" * 512, 0)
        seen = []
        for value in (b"b", b"c"):
            h.pwrite(value * 512, 4096)
            seen.append(units(h.pread(512, 4096)))
        return seen, units(h.pread(512, 0))

    rules = ("[fault]\nlayer = guest\nop = read\nrange = 4k+512\naction = corrupt\n"
             "stuck = on\n")
    assert and_again(rules, work) == (["\0", "\0"], "a")


def delays_are_spread_as_their_shape_says():
    def work(h):
        start = time.monotonic()
        for offset in range(0, 8 * 512, 512):
            h.pread(512, offset)
        read = time.monotonic() - start
        start = time.monotonic()
        h.pwrite(b"a" * 512, 0)
        return read >= 0.08, time.monotonic() - start < read

    rules = ("[fault]\nlayer = guest\nop = read\naction = delay\nms = 40..80\n"
             "shape = lognormal\n")
    assert and_again(rules, work) == (True, True)


def a_flush_takes_its_time():
    def work(h):
        h.pwrite(b"a" * 512, 0)
        start = time.monotonic()
        h.flush()
        first = time.monotonic() - start
        start = time.monotonic()
        h.flush()
        return first >= 0.3, time.monotonic() - start < 0.3

    assert and_again("[fault]\nlayer = guest\nop = flush\nnth = 1\naction = delay\nms = 300\n",
                     work) == (True, True)


def a_connection_ends_in_order():
    with Served("[fault]\nlayer = wire\nop = read\nnth = 2\naction = disconnect\nmode = fin\n") as s:
        h, other = s.client(), s.client()
        h.pread(512, 0)
        fails(errno.ENOTCONN, h.pread, 512, 512)
        assert h.aio_is_dead() or h.aio_is_closed()
        assert other.pread(512, 512) == bytes(512)
        other.shutdown()


def main():
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        run(a_torn_write_keeps_the_units_of_its_mask, a_write_goes_to_a_place_and_changes_places,
            a_hang_ends, a_hang_does_not_hold_up_the_end, delays_queue_in_their_lane,
            stuck_bytes_stay_as_they_were, delays_are_spread_as_their_shape_says,
            a_flush_takes_its_time, a_connection_ends_in_order)


main()
