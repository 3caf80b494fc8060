#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Checks what the compiler does not: sizes, names and words.

usage: check_style.py [ROOT]       check a source tree (default: the one this file is in)
       check_style.py --self-test  prove that every rule can fail

- a .c or .h has at most 500 lines, a function at most 70 (it fits a screen), a line at most 100
  characters; no tabs, no blanks at a line's end, a newline at the file's end;
- no typedef of a struct, union or enum: `struct x` says what it is;
- no markers of unfinished work, and no paths of somebody's own machine;
- scripts begin with the SPDX line (after `#!`), too;
- a file of the tree that a Markdown page names in backquotes exists.

Exit code 0: clean; 1: violations, one per line as FILE:LINE: message. A file that is near the
limit is a warning on standard error and no failure.
"""

import os
import re
import sys
import tempfile

FILE_LINES, FILE_WARN, FUNCTION_LINES, COLUMNS = 500, 470, 70, 100
SPDX = "SPDX-License-Identifier: BSD-3-Clause"
SKIP_DIRS = re.compile(r"^(build.*|\.git|__pycache__|results|data|seeds|corpus)$")
C_FILES = (".c", ".h")
SCRIPTS = (".py", ".sh", "meson.build", "meson_options.txt")
MARKERS = re.compile(r"\b(" + "|".join(("TO" "DO", "FIX" "ME", "XX" "X", "HA" "CK")) + r")\b")
TYPEDEF = re.compile(r"^\s*typedef\s+(struct|union|enum)\b")
# An absolute path is one of the system's, or an example under one of these roots.
PATH = re.compile(r"(?<![\w/.:)}\"'$*<\]>-])/([a-z]{2,})/[a-z.]")
NAMED = re.compile(r"`((?:[a-z0-9-]+/)+(?:[A-Za-z0-9_.-]+\.[a-z0-9]+|))`")
ROOTS = set("bin dev etc lib opt proc run sbin srv sys tmp usr var".split())


def listing(root):
    for folder, dirs, names in os.walk(root):
        dirs[:] = sorted(d for d in dirs if not SKIP_DIRS.match(d))
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), root)
            if name.endswith(C_FILES):
                yield path, "c"
            elif name.endswith(SCRIPTS) or is_script(os.path.join(folder, name)):
                yield path, "script"
            elif name.endswith(".md"):
                yield path, "text"


def is_script(path):
    if not os.access(path, os.X_OK) or not os.path.isfile(path):
        return False
    with open(path, "rb") as start:
        return start.read(2) == b"#!"


def check_functions(path, lines):
    """Functions open and close with a brace in column 0 (.clang-format sees to that)."""
    opened = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            opened = number
        elif line.startswith("}") and opened:
            length = number - opened + 1
            if length > FUNCTION_LINES:
                yield "%s:%d: a function of %d lines; at most %d fit a screen" % (
                    path, opened, length, FUNCTION_LINES)
            opened = None


def check_c(path, lines):
    if len(lines) > FILE_LINES:
        yield "%s:1: %d lines; split it by noun (at most %d)" % (path, len(lines), FILE_LINES)
    elif len(lines) > FILE_WARN:
        print("%s: warning: %d lines, near the limit of %d" % (path, len(lines), FILE_LINES),
              file=sys.stderr)
    for number, line in enumerate(lines, 1):
        if TYPEDEF.match(line):
            yield "%s:%d: typedef of a struct, union or enum" % (path, number)
        if len(line) > COLUMNS:
            yield "%s:%d: %d characters; at most %d" % (path, number, len(line), COLUMNS)
        if "\t" in line:
            yield "%s:%d: a tab" % (path, number)
    yield from check_functions(path, lines)


def check_words(path, lines):
    for number, line in enumerate(lines, 1):
        marker = MARKERS.search(line)
        if marker:
            yield "%s:%d: %s: finish it or file it" % (path, number, marker.group(1))
        for match in PATH.finditer(line):
            if match.group(1) not in ROOTS:
                yield "%s:%d: /%s/ is a path of one machine only" % (path, number, match.group(1))
        if line != line.rstrip():
            yield "%s:%d: blanks at the end of the line" % (path, number)


def check_names(root, path, lines):
    for number, line in enumerate(lines, 1):
        for match in NAMED.finditer(line):
            name = match.group(1)
            if os.path.isdir(os.path.join(root, name.split("/")[0])) and \
                    not name.startswith(("build", "bench/results")) and \
                    not os.path.exists(os.path.join(root, name)):
                yield "%s:%d: there is no %s" % (path, number, name)


def check_file(root, path, kind):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as source:
        text = source.read()
    lines = text.splitlines()
    if text and not text.endswith("\n"):
        yield "%s:%d: no newline at the end of the file" % (path, len(lines))
    if kind == "script" and SPDX not in "".join(lines[:2]):
        yield "%s:1: no SPDX line at the top" % path
    if kind == "c":
        yield from check_c(path, lines)
    if kind == "text":
        yield from check_names(root, path, lines)
    yield from check_words(path, lines)


def check_tree(root):
    return [line for path, kind in listing(root) for line in check_file(root, path, kind)]


# --- self-test ------------------------------------------------------------------------------------

TOP = "/* " + SPDX + " */\n"
CASES = [
    ("a clean file", "a.c", TOP + "int f(void)\n{\n    return 0;\n}\n", None),
    ("a file of 500 lines", "a.c", TOP + "int x;\n" * 499, None),
    ("a file of 501 lines", "a.c", TOP + "int x;\n" * 500, "501 lines"),
    ("a function of 70 lines", "a.c", TOP + "f(void)\n{\n" + "    g();\n" * 68 + "}\n", None),
    ("a function of 71 lines", "a.c", TOP + "f(void)\n{\n" + "    g();\n" * 69 + "}\n",
     "a.c:3: a function of 71 lines"),
    ("a long initialiser is no function", "a.c", TOP + "int v[] = {\n" + "    1,\n" * 90 + "};\n",
     None),
    ("a struct typedef", "a.h", TOP + "typedef struct a a;\n", "a.h:2: typedef"),
    ("a function pointer typedef", "a.h", TOP + "typedef void (*fn)(struct a *);\n", None),
    ("a long line", "a.c", TOP + "/" * 101 + "\n", "a.c:2: 101 characters"),
    ("a tab", "a.c", TOP + "\tint x;\n", "a.c:2: a tab"),
    ("a marker", "a.c", TOP + "/* TO" "DO later */\n", "a.c:2: TO" "DO"),
    ("a marker in a page", "a.md", "FIX" "ME\n", "a.md:1: "),
    ("somebody's path", "a.sh", "#!/bin/sh\n# " + SPDX + "\ncp /ho" "me/me/x .\n", "/ho" "me/ is"),
    ("a system path", "a.sh", "#!/bin/sh\n# " + SPDX + "\ncp /var/tmp/x .\n", None),
    ("an export in a URI", "a.md", "nbd+unix:///disk/x?socket=/run/d.sock\n", None),
    ("a page names a file that is not there", "a.md", "see `io/none.c`\n", "no io/none.c"),
    ("a page names a folder, and another project's file", "a.md", "`io/`, `zip/x.c`\n", None),
    ("blanks at the end", "a.md", "x \n", "blanks at the end"),
    ("no newline at the end", "a.md", "x", "no newline"),
    ("a script without SPDX", "a.sh", "#!/bin/sh\n:\n", "no SPDX"),
    ("a build file without SPDX", "meson.build", "x = 1\n", "no SPDX"),
]


def self_test():
    good = True
    for name, path, text, pattern in CASES:
        with tempfile.TemporaryDirectory() as root:
            os.mkdir(os.path.join(root, "io"))
            with open(os.path.join(root, path), "w", encoding="utf-8") as out:
                out.write(text)
            found = check_tree(root)
        fine = not found if pattern is None else any(pattern in line for line in found)
        print("%s: %s" % ("ok" if fine else "NOT OK", name))
        if not fine:
            print("   expected %s, found %s" % (pattern or "nothing", found))
        good = good and fine
    return 0 if good else 1


def main(argv):
    if argv[1:] == ["--self-test"]:
        return self_test()
    root = argv[1] if len(argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = check_tree(root)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
