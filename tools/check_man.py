#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holds the man pages and the program to each other.

usage: check_man.py BREAKWATER MAN-DIR   compare `BREAKWATER SUB --help` with the pages
       check_man.py --self-test          prove that it can fail

Every option that a help text names is described in that subcommand's page, and every option that a
page describes is in the help text. Every subcommand of `BREAKWATER --help` has a page and the other
way round. Where mandoc is installed, the pages must have no errors by its measure.

A page describes an option with an `.It Fl` line (mdoc); the help text names it at the start of an
indented line, with alternatives after commas, and others as "(alias --name)".
"""

import os
import re
import shutil
import subprocess
import sys

OPTION = re.compile(r"-{1,2}[A-Za-z][A-Za-z0-9-]*")


def help_options(text):
    """{option} of the lines that begin with one: "  -k, --socket PATH   what it does"."""
    found = set()
    for line in text.splitlines():
        if not re.match(r"\s+-", line):
            continue
        # The explanation begins after two blanks; what stands before is options and arguments.
        for part in re.split(r"\s{2,}", line.strip()):
            if not part.startswith("-"):
                break
            found.update(OPTION.findall(re.sub(r"[=\[<].*?(?=,|$)", "", part)))
        for alias in re.findall(r"\(alias(?:es)? ([^)]*)\)", line):
            found.update(OPTION.findall(alias))
    return found


def page_options(text):
    """{option} of the `.It Fl` lines of an mdoc page."""
    found = set()
    for line in text.splitlines():
        if line.startswith(".It Fl"):
            for word in re.findall(r"\bFl\s+([A-Za-z0-9\\-]+)", line):
                name = "-" + word.replace("\\-", "-").replace("\\", "")
                found.add(name)
    return found


def help_subcommands(text):
    """The names in the section of `breakwater --help` that lists them: "  serve    what it does"."""
    return set(re.findall(r"^ {2,4}([a-z][a-z-]*)\s{2,}\S", text, re.M))


def differences(what, program, page):
    lines = ["%s: %s is in the help text and not in the page" % (what, name)
             for name in sorted(program - page)]
    lines += ["%s: %s is in the page and not in the help text" % (what, name)
              for name in sorted(page - program)]
    return lines


def run_help(binary, *arguments):
    """What --help says, of all topics where there are such."""
    text = run(binary, *arguments, "--help")
    return run(binary, *arguments, "--help", "all") if "--help [TOPIC]" in text else text


def run(binary, *arguments):
    result = subprocess.run([binary, *arguments], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True)
    if result.returncode:
        raise SystemExit("%s: exit code %d" % (" ".join(arguments), result.returncode))
    return result.stdout


def lint(path):
    """mandoc's complaints from level "error" up; unknown to it are neither."""
    result = subprocess.run(["mandoc", "-T", "lint", "-W", "error", path], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True)
    return result.stdout.splitlines() if result.returncode else []


def check(binary, folder):
    names = {name[len("breakwater-"):-2] for name in os.listdir(folder)
             if name.startswith("breakwater-") and name.endswith(".1")}
    subcommands = help_subcommands(run_help(binary))
    if not subcommands:
        return ["breakwater --help lists no subcommands"]
    found = differences("subcommands", subcommands, names)
    for name in sorted(subcommands & names):
        with open(os.path.join(folder, "breakwater-%s.1" % name), encoding="utf-8") as page:
            described = page_options(page.read())
        offered = help_options(run_help(binary, name))
        if not offered:
            found.append("breakwater %s --help names no option" % name)
        found += differences("breakwater-%s(1)" % name, offered, described)
    if shutil.which("mandoc"):
        for name in sorted(os.listdir(folder)):
            if name.endswith(".1"):
                found += lint(os.path.join(folder, name))
    return found


HELP = """usage: breakwater serve [OPTION...] IMAGE

  -k, --socket PATH        listen there; not -z
  -B NAME[,granularity=N]  record changes
      --faults=FILE        rules --not-this
  -e, --shared N           at most so many (alias --max-clients)
  -h, --help  -V, --version
"""
PAGE = """.Sh OPTIONS
.Bl -tag
.It Fl k Ar path , Fl \\-socket Ar path
.It Fl B Ar name Ns Op , Ns Cm granularity Ns = Ns Ar n
.It Fl \\-faults Ns = Ns Ar file
Text about
.Fl z .
.It Fl e , Fl \\-shared , Fl \\-max-clients Ar n
.It Fl h , Fl \\-help
.It Fl V , Fl -version
"""


def self_test():
    wanted = {"-k", "--socket", "-B", "--faults", "-e", "--shared", "--max-clients", "-h",
              "--help", "-V", "--version"}
    cases = [
        ("options of a help text", help_options(HELP) == wanted),
        ("options of a page", page_options(PAGE) == wanted),
        ("agreement", differences("x", help_options(HELP), page_options(PAGE)) == []),
        ("an option without a description",
         differences("x", help_options(HELP + "  --new\n"), wanted) ==
         ["x: --new is in the help text and not in the page"]),
        ("a description without an option",
         differences("x", wanted, page_options(PAGE + ".It Fl y\n")) ==
         ["x: -y is in the page and not in the help text"]),
        ("subcommands", help_subcommands("usage: x\n\n  serve    an image\n  backup   a disk\n")
         == {"serve", "backup"}),
    ]
    for name, good in cases:
        print("%s: %s" % ("ok" if good else "NOT OK", name))
    return 0 if all(good for _, good in cases) else 1


def main(argv):
    if argv[1:] == ["--self-test"]:
        return self_test()
    if len(argv) != 3:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    found = check(argv[1], argv[2])
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
