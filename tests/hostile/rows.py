# SPDX-License-Identifier: BSD-3-Clause
"""What a row of the tables says: how an image is damaged, and what must come of it.

A row begins with the number of the rule that it is about. CHANGES are texts for patch_image.py, pairs
of an offset and bytes, or functions that take an Image (seeds.py) before its refcounts are written.
"""

from collections import namedtuple

I, U, B, A, C = "EINVAL", "ENOTSUP", "EFBIG", "EACCES", "EIO"
CLUSTER = 65536
FREE = 10 * CLUSTER  # a guest cluster of most seeds that is not allocated

# What one opening gives. text: in the message of a refusal, else in what is logged, if not empty.
Outcome = namedtuple("Outcome", "open text read write", defaults=("0", "", "0", "0"))

# left: of the image after it was opened for writing: "same" bytes, "grown" (the same as far as it
# went), "corrupt" (that bit, no other), or "any" (what is checked by the program is sound then).
Row = namedtuple("Row", "name seed changes ro rw left arguments files keep sound",
                 defaults=("any", (), None, (), True))

# An image, and a command of the program on it: its exit code, and a text in what it says.
Command = namedtuple("Command", "name seed changes arguments code text left files",
                     defaults=("same", None))


def refused(name, seed, changes, kind, text, **more):
    """Cannot be opened at all."""
    no = Outcome(kind, text, "0", "0")
    return Row(name, seed, changes, no, no, "same", **more)


def guarded(name, seed, changes, kind, text, **more):
    """Can be read, but not be opened for writing."""
    return Row(name, seed, changes, Outcome(), Outcome(kind, text), "same", **more)


def fine(name, seed, changes, write=FREE, **more):
    """There is nothing wrong with it, or nothing that matters."""
    return Row(name, seed, changes, Outcome(), Outcome(), "any", ("-w", str(write)), **more)


def damaged(name, seed, changes, text, write=0, left="corrupt", **more):
    """Reading finds corruption. Opened for writing, the image is marked and not written to."""
    return Row(name, seed, changes, Outcome(read=C, text=text), Outcome(read=C, write=C, text=text),
               left, ("-w", str(write)), **more)


def unwritable(name, seed, changes, text, write=FREE, left="corrupt", **more):
    """It can be read; writing finds corruption."""
    return Row(name, seed, changes, Outcome(), Outcome(write=C, text=text), left,
               ("-w", str(write)), **more)


def unreadable(name, seed, changes, text="cannot be unpacked", write=FREE, **more):
    """Data are spoilt, not the tables: what is left of the disk can be used."""
    return Row(name, seed, changes, Outcome(read=C, text=text), Outcome(read=C, text=text), "any",
               ("-w", str(write)), **more)
