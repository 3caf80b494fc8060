# SPDX-License-Identifier: BSD-3-Clause
"""The table of misbehaving clients: each row is a function that misbehaves and says what must come of
it. `@row(name)` puts it in; it is given the World of hostile_clients.py."""

ROWS = []


def row(name, slow=False):
    """slow: it waits for limits of time; once is enough."""
    def add(function):
        assert name not in (n for n, _, _ in ROWS), name
        ROWS.append((name, slow, function))
        return function
    return add


def must(condition, *what):
    if not condition:
        raise AssertionError(" ".join(str(w) for w in what) or "it is not so")
