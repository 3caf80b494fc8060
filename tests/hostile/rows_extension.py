# SPDX-License-Identifier: BSD-3-Clause
"""Header extensions (E), and the files that they and the header name (K)."""

import os
import struct

from rows import A, B, C, CLUSTER, I, U, damaged, fine, refused, unreadable, Row, Outcome
from rows_header import EXT, base_file, name_at
from seeds import BITMAPS, CRYPTO, DATA, FORMAT, NAMES, Image, extension, plain


def bitmaps(count=1, reserved=0, size=32, offset=0x50000, length=None):
    data = struct.pack(">IIQQ", count, reserved, size, offset)
    if length is not None:
        data = data.ljust(length, b"\0")[:length]
    return [(EXT, extension(BITMAPS, data)), "autoclear=1"]


def backed(name, fmt=b"qcow2"):
    return [(EXT, extension(FORMAT, fmt) if fmt is not None else b""), (512, name),
            "backing_off=512", "backing_len=%d" % len(name)]


def data_name(name):
    return [(EXT, extension(DATA, name))]


def link(target):
    return lambda path: os.symlink(target, path)


def chain(length):
    """base.qcow2 on 1.qcow2 on 2.qcow2..., each an image on its own; length: with the top."""
    files = {}
    for i in range(1, length):
        name = "base.qcow2" if i == 1 else "%d.qcow2" % i
        below = b"%d.qcow2" % (i + 1)
        files[name] = (plain(bits=12).backing(below) if i + 1 < length else plain(bits=12)).finish()
    return files


def loop(im_name):
    return {"base.qcow2": plain().backing(im_name).finish()}


RAW = {"data.raw": b"\x05" * (16 * CLUSTER)}

ROWS = [
    refused("E1 a format of 16 bytes", "plain", backed(b"base.qcow2", b"qcow2-and-more!!"), I,
            "backing format extension has length 16"),
    refused("E1 a format of 15 bytes that nobody knows", "plain",
            backed(b"base.qcow2", b"qcow2-and-more!"), U, "'qcow2-and-more!'"),
    refused("E1 vmdk", "plain", backed(b"base.qcow2", b"vmdk"), U, "'vmdk'"),
    refused("E1 luks", "plain", backed(b"base.qcow2", b"luks"), U, "'luks'"),
    refused("E1 no format", "plain", backed(b"base.qcow2", None), I, "no format"),
    refused("E1 an empty format", "plain", backed(b"base.qcow2", b""), I, "no format"),
    refused("E1 a format with a NUL", "plain", backed(b"base.qcow2", b"raw\0qcow2"), I,
            "NUL", files=base_file()),
    fine("E1 raw", "plain", backed(b"data.raw", b"raw"), files=RAW),
    refused("E2 longer than the area", "plain", [(EXT, extension(NAMES, b"", 65417))], I,
            "0x6803f857 at 0x70 has length 65417"),
    fine("E2 as long as the area", "plain", [(EXT, extension(NAMES, b"", 65416))]),
    fine("E2 part of a name", "plain", [(EXT, extension(NAMES, b"\0\6half"))]),
    refused("E3 23 bytes", "plain", bitmaps(length=23), I, "length 23"),
    refused("E3 25 bytes", "plain", bitmaps(length=25), I, "length 25"),
    refused("E3 nothing", "plain", bitmaps(length=0), I, "length 0"),
    refused("E3 reserved field", "plain", bitmaps(reserved=1), I, "reserved field is 0x1"),
    refused("E3 no bitmap", "plain", bitmaps(count=0), I, "nb_bitmaps is 0"),
    refused("E3 65536 bitmaps", "plain", bitmaps(count=65536, size=1 << 21), I,
            "nb_bitmaps is 65536"),
    refused("E3 65535 bitmaps in 32 bytes", "plain", bitmaps(count=65535), I,
            "bitmap_directory_size is 32, too small"),
    refused("E3 directory askew", "plain", bitmaps(offset=0x50008), I,
            "bitmap_directory_offset is 0x50008"),
    refused("E3 directory on the header", "plain", bitmaps(offset=0), I,
            "bitmap_directory_offset is 0x0"),
    refused("E3 directory at the end of the file", "plain", bitmaps(offset=0x90000), I,
            "bitmap_directory_offset is 0x90000"),
    refused("E3 directory past 2^63", "plain", bitmaps(offset=0xffffffffffff0000), I,
            "bitmap_directory_offset is 0xffffffffffff0000"),
    refused("E3 directory over 65535 KiB", "plain", bitmaps(size=65535 * 1024 + 1), I,
            "bitmap_directory_size is 67107841"),
    refused("E3 directory of 2^64-1", "plain", bitmaps(size=(1 << 64) - 1), I,
            "bitmap_directory_size is 18446744073709551615"),
    fine("E3 bitmaps", "bitmaps", []),
    refused("E4 encryption in an image without", "plain", [(EXT, extension(CRYPTO, bytes(16)))], I,
            "full disk encryption extension (length 16)"),
    refused("E4 encryption of 15 bytes", "plain", [(EXT, extension(CRYPTO, bytes(15)))], I,
            "full disk encryption extension (length 15)"),
    refused("E4 LUKS, askew", "plain",
            ["crypt=2", (EXT, extension(CRYPTO, struct.pack(">QQ", 1, 1)))], U, "LUKS"),
    refused("E5 of 1024 bytes", "nameless_data_file", data_name(b"x" * 1024), I,
            "data file extension has length 1024"),
    refused("E5 with a NUL", "nameless_data_file", data_name(b"data.raw\0x"), I,
            "data file extension"),
    refused("E5 absolute path", "nameless_data_file", data_name(b"/etc/passwd"), A,
            "'/etc/passwd' is not beneath"),
    refused("E5 path to the parent", "nameless_data_file", data_name(b"../secret"), A,
            "'../secret' is not beneath"),
    refused("E5 the folder itself", "nameless_data_file", data_name(b"."), A, "is not beneath"),
    refused("E5 json", "nameless_data_file",
            data_name(b'json:{"driver":"file","filename":"/etc/passwd"}'), U, "protocol"),
    refused("E5 nbd", "nameless_data_file", data_name(b"nbd://127.0.0.1/x"), U, "protocol"),
    refused("E5 a link out of the folder", "data_file", [], A, "leads out of the directory",
            files={"data.raw": link("/etc/passwd")}),
    refused("E5 a pipe that nobody writes to", "data_file", [], I, "data.raw",
            files={"data.raw": os.mkfifo}),
    refused("E5 a folder", "data_file", [], "EISDIR", "data.raw", files={"data.raw": os.mkdir}),
    refused("E5 a device", "data_file", [], A, "leads out of the directory",
            files={"data.raw": link("/dev/zero")}),
    refused("E5 the image itself", "nameless_data_file", data_name(b"image"), I, "loop"),
    fine("E5 a file beside it", "data_file", [], files=RAW),
    fine("E5 a raw file beside it", "raw_data_file", [], files=RAW),
    fine("E6 unknown", "plain", [(EXT, extension(0x12345678, b"unknown"))], keep=((EXT, 16),)),
    fine("E6 unknown, twice", "plain",
         [(EXT, extension(0x12345678, b"unknown") + extension(0x12345678, b"again!!!"))],
         keep=((EXT, 32),)),
    fine("E6 8185 unknown ones", "plain", [(EXT, extension(0x12345678, b"") * 8170)]),
    refused("E7 length past the area", "plain", [(EXT, extension(0x12345678, b"", 65417))], I,
            "0x12345678 at 0x70 has length 65417"),
    refused("E7 length of 2^32-1", "plain", [(EXT, extension(0x12345678, b"", 0xffffffff))], I,
            "has length 4294967295"),
    refused("E7 length past a backing file's name", "plain",
            [(EXT, extension(0x12345678, b"", 393)), (512, b"base.qcow2"), "backing_off=512",
             "backing_len=10"], I, "past the end of the area at 0x200"),
    refused("E7 version 2", "v2", [(72, extension(0x12345678, b"", 65457))], I,
            "at 0x48 has length 65457"),
    refused("E7 two formats", "plain", [(EXT, extension(FORMAT, b"raw") * 2)], I,
            "0xe2792aca appears twice"),
    refused("E7 two feature tables", "plain", [(EXT, extension(NAMES, bytes(48)) * 2)], I,
            "0x6803f857 appears twice"),
    refused("E7 two data files", "data_file", [(EXT, extension(DATA, b"data.raw") * 2)], I,
            "0x44415441 appears twice"),
    refused("E7 two bitmap extensions", "bitmaps",
            [(EXT + 32, extension(BITMAPS, struct.pack(">IIQQ", 1, 0, 32, 0x90000)))], I,
            "0x23852875 appears twice"),
    fine("E7 version 2, unknown", "v2", [(72, extension(0x12345678, b"unknown"))],
         keep=((72, 16),)),

    refused("K1 an image on itself", "plain", backed(b"image"), I, "loop"),
    refused("K1 two images on each other", "plain", backed(b"base.qcow2"), I, "loop",
            files=loop(b"image")),
    refused("K1 a loop by another name", "plain", backed(b"base.qcow2"), I, "loop",
            files={"base.qcow2": link("image")}),
    refused("K1 a chain of 65 images", "plain", backed(b"base.qcow2"), B, "longer than 64",
            files=chain(65)),
    fine("K1 a chain of 64 images", "plain", backed(b"base.qcow2"), files=chain(64)),
    refused("K2 json", "plain", backed(b'json:{"driver":"null-co"}'), U, "protocol"),
    refused("K2 nbd", "plain", backed(b"nbd://127.0.0.1/x"), U, "protocol"),
    refused("K2 a protocol that nobody knows", "plain", backed(b"x:y"), U, "protocol"),
    refused("K2 file:", "plain", backed(b"file:/etc/passwd", b"raw"), U, "protocol"),
    refused("K2 absolute path", "plain", backed(b"/etc/passwd", b"raw"), A, "is not beneath"),
    refused("K2 path to the parent", "plain", backed(b"../../etc/passwd", b"raw"), A,
            "is not beneath"),
    refused("K2 a link out of the folder", "plain", backed(b"base.qcow2", b"raw"), A,
            "leads out of the directory", files={"base.qcow2": link("/etc/passwd")}),
    refused("K2 a pipe that nobody writes to", "plain", backed(b"base.qcow2", b"raw"), I,
            "base.qcow2", files={"base.qcow2": os.mkfifo}),
    refused("K2 a folder", "plain", backed(b"base.qcow2", b"raw"), "EISDIR", "base.qcow2",
            files={"base.qcow2": os.mkdir}),
    refused("K2 not there", "plain", backed(b"base.qcow2"), "ENOENT", "base.qcow2"),
    refused("K2 of another version", "plain", backed(b"base.qcow2"), U, "version is 1",
            files={"base.qcow2": b"QFI\xfb\0\0\0\1" + bytes(100)}),
    fine("T10 a backing file shorter than the disk", "plain", backed(b"base.qcow2"),
         files=base_file(2 * CLUSTER + 512)),
]
