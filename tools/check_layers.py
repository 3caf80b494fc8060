#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holds the sources to the layer table of docs/architecture.md.

usage: check_layers.py [ROOT]      check a source tree (default: the one this file is in)
       check_layers.py --self-test prove that every rule can fail

The tables in docs/architecture.md are the only place where the rules are written: this program
reads them, so the page cannot drift from what is enforced. Rules:

- a room includes only itself and the rooms its row names; tests, fuzz and bench may use all;
- x_priv.h stays in its directory, except for the unit tests of that room;
- `#include "..."` is rooted: it names a file from the top of the tree;
- a library's header is included only by the rooms the dependency table names;
- every .c and .h begins with the SPDX line.

Exit code 0: clean; 1: violations, one per line as FILE:LINE: message; 2: the tables are unreadable.
"""

import os
import re
import sys
import tempfile

SPDX = "/* SPDX-License-Identifier: BSD-3-Clause"
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
FREE_ROOMS = ("tests", "fuzz", "bench")


class TableError(Exception):
    pass


def table_rows(text, heading):
    """The cells of the first Markdown table under "## heading"."""
    match = re.search(r"^## %s\s*$(.*?)(?=^## |\Z)" % re.escape(heading), text, re.M | re.S)
    if not match:
        raise TableError('docs/architecture.md has no section "%s"' % heading)
    rows = []
    for line in match.group(1).splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows:
            break
    if len(rows) < 3:
        raise TableError('docs/architecture.md: no table under "%s"' % heading)
    return rows[2:]  # without the head and the dashes


def read_tables(root):
    """Returns ({room: allowed rooms}, {header prefix: rooms})."""
    with open(os.path.join(root, "docs/architecture.md"), encoding="utf-8") as page:
        text = page.read()
    allowed = {}
    for room, uses in (row[:2] for row in table_rows(text, "Layers")):
        allowed[room] = {room} | (set(uses.split()) - {"-"})
    for room, uses in allowed.items():
        unknown = uses - set(allowed)
        if unknown:
            raise TableError("docs/architecture.md: %s may include the unknown room %s"
                             % (room, ", ".join(sorted(unknown))))
    libraries = {}
    for row in table_rows(text, "Dependencies"):
        if len(row) < 3:
            raise TableError("docs/architecture.md: a dependency row has three cells: "
                             "library, header, used by")
        header = row[1].strip("`")
        if header != "-":
            libraries[header] = set(row[2].split())
    return allowed, libraries


def sources(root, allowed):
    for room in list(allowed) + list(FREE_ROOMS):
        for folder, _, names in os.walk(os.path.join(root, room)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield room, os.path.relpath(os.path.join(folder, name), root)


def check_quoted(root, room, path, target, allowed):
    if "/" not in target or not os.path.exists(os.path.join(root, target)):
        return 'include "%s" is not rooted: name an existing file from the top of the tree' % target
    other = target.split("/")[0]
    if room in allowed and other not in allowed[room]:
        return "%s may not include %s: docs/architecture.md allows it %s" % (
            room, target, " ".join(sorted(allowed[room] - {room})) or "nothing")
    folder = os.path.dirname(target)
    if target.endswith("_priv.h") and os.path.dirname(path) != folder \
            and os.path.dirname(path) != "tests/unit/" + folder:
        return "%s is private to %s/" % (target, folder)
    return None


def check_system(room, target, libraries):
    for header, rooms in libraries.items():
        if target == header or (header.endswith("/") and target.startswith(header)):
            if room not in rooms and room not in FREE_ROOMS:
                return "%s may not include <%s>: docs/architecture.md gives it to %s" % (
                    room, target, " ".join(sorted(rooms)))
    return None


def check_tree(root):
    """Returns the list of violations."""
    allowed, libraries = read_tables(root)
    found = []
    for room, path in sources(root, allowed):
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as source:
            lines = source.read().splitlines()
        if not lines or not lines[0].startswith(SPDX):
            found.append("%s:1: the first line is not the SPDX line" % path)
        for number, line in enumerate(lines, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            if match.group(1) == '"':
                message = check_quoted(root, room, path, match.group(2), allowed)
            else:
                message = check_system(room, match.group(2), libraries)
            if message:
                found.append("%s:%d: %s" % (path, number, message))
    return found


# --- self-test: a tiny tree, clean, then broken in one way at a time ------------------------------

CLEAN = {
    "docs/architecture.md": """# x

## Layers

| room | may include |
|---|---|
| base | - |
| io | base |
| qcow2 | base io |
| server | base io qcow2 |

## Dependencies

| library | header | used by | why |
|---|---|---|---|
| liburing | `liburing.h` | io | rings |
| OpenSSL | `openssl/` | server | hash |
| meson | - | - | build |
""",
    "base/err.h": SPDX + " */\n",
    "io/reactor.h": SPDX + ' */\n#include "base/err.h"\n',
    "io/reactor_priv.h": SPDX + " */\n",
    "io/reactor.c": SPDX + ' */\n#include <liburing.h>\n#include "io/reactor.h"\n'
                           '#include "io/reactor_priv.h"\n',
    "server/conn.c": SPDX + ' */\n#include <openssl/sha.h>\n#include "io/reactor.h"\n',
    "tests/unit/io/test_reactor.c": SPDX + ' */\n#include "io/reactor_priv.h"\n',
}

BREAKS = [
    ("a lower room includes a higher one", "base/bad.c", '#include "io/reactor.h"\n',
     "base/bad.c:2: base may not include io/reactor.h"),
    ("a room includes its sibling", "io/bad.h", '#include "qcow2/x.h"\n', "io/bad.h:2: "),
    ("a private header leaves its directory", "server/bad.c", '#include "io/reactor_priv.h"\n',
     "server/bad.c:2: io/reactor_priv.h is private to io/"),
    ("another room's test uses a private header", "tests/unit/server/test_bad.c",
     '#include "io/reactor_priv.h"\n', "is private to io/"),
    ("an include is not rooted", "io/bad.c", '#include "reactor.h"\n', "is not rooted"),
    ("an include climbs", "io/bad.c", '#include "../base/err.h"\n', "is not rooted|may not include"),
    ("an included file does not exist", "io/bad.c", '#include "base/none.h"\n', "is not rooted"),
    ("a library is used by the wrong room", "server/bad.c", "#include <liburing.h>\n",
     "server may not include <liburing.h>"),
    ("a library folder is used by the wrong room", "io/bad.c", "#  include <openssl/ssl.h>\n",
     "io may not include <openssl/ssl.h>"),
]


def write_tree(root, files):
    for path, text in files.items():
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as out:
            out.write(text)


def expect(name, files, pattern):
    with tempfile.TemporaryDirectory() as root:
        write_tree(root, files)
        try:
            found = check_tree(root)
        except TableError as problem:
            found = ["table: %s" % problem]
    good = not found if pattern is None else any(re.search(pattern, line) for line in found)
    print("%s: %s" % ("ok" if good else "NOT OK", name))
    if not good:
        print("   expected %s, found %s" % (pattern or "nothing", found))
    return good


def self_test():
    results = [expect("a clean tree passes", CLEAN, None)]
    for name, path, body, pattern in BREAKS:
        files = dict(CLEAN)
        files["qcow2/x.h"] = SPDX + " */\n"
        files[path] = SPDX + " */\n" + body
        results.append(expect(name, files, pattern))
    results.append(expect("a file without the SPDX line", {**CLEAN, "io/bad.c": "int x;\n"},
                          "io/bad.c:1: the first line is not the SPDX line"))
    results.append(expect("an empty file", {**CLEAN, "io/bad.c": ""}, "io/bad.c:1: "))
    results.append(expect("the page has no table", {**CLEAN, "docs/architecture.md": "# x\n"},
                          "table: .*no section"))
    results.append(expect("a row names an unknown room", {
        **CLEAN, "docs/architecture.md": CLEAN["docs/architecture.md"].replace(
            "| io | base |", "| io | bsae |")}, "table: .*unknown room bsae"))
    return 0 if all(results) else 1


def main(argv):
    if argv[1:] == ["--self-test"]:
        return self_test()
    root = argv[1] if len(argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        found = check_tree(root)
    except (TableError, OSError) as problem:
        print("check_layers: %s" % problem, file=sys.stderr)
        return 2
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
