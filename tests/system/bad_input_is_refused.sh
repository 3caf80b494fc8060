#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What cannot be served is refused before anything listens: a message that names the thing, exit code
# 1 for a wrong command line, 2 for work that failed. No image is changed by it.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io

qemu-img create -q -f qcow2 disk.qcow2 16M
image_io disk.qcow2 'write -P 1 0 1M'
cp disk.qcow2 before.qcow2
serve=("$BREAKWATER" serve -k "$tmp/s.sock" -t)

say "the command line"
expect_fail 1 'no-such-option' "${serve[@]}" --no-such-option disk.qcow2
expect_fail 1 'nosuchcommand' "$BREAKWATER" nosuchcommand
expect_fail 1 . "$BREAKWATER"
expect_fail 1 . "${serve[@]}"
expect_fail 1 'vdi' "${serve[@]}" -f vdi disk.qcow2
expect_fail 1 'port' "$BREAKWATER" serve -p 99999 disk.qcow2

say "files that are not there, or not images"
expect_fail 2 'none.qcow2.*No such file' "${serve[@]}" -f qcow2 none.qcow2
expect_fail 2 "$tmp" "${serve[@]}" -f qcow2 "$tmp"
head -c 1M /dev/urandom >noise.qcow2
expect_fail 2 'noise.qcow2' "${serve[@]}" -f qcow2 noise.qcow2
: >empty.qcow2
expect_fail 2 'empty.qcow2' "${serve[@]}" -f qcow2 empty.qcow2

say "a truncated image"
for length in 4 50 100 104 1000 65536 131072; do
    head -c $length disk.qcow2 >cut.qcow2
    expect_fail 2 'cut.qcow2' "${serve[@]}" -f qcow2 cut.qcow2
done

say "one cut behind its first table: what is lost is an error to read, not zeros"
for length in 200000 270000 400000; do
    head -c $length disk.qcow2 >cut.qcow2
    start_serve cut -r -f qcow2 cut.qcow2
    expect_fail 1 'Input/output error' qemu-io -f raw -r -c 'read 512k 64k' "$(uri cut)"
    alive cut
    stop_serve cut
    grep -q 'cut.qcow2: image is corrupt' cut.log || fail "the log does not name the corruption"
done

say "a data file elsewhere is not opened, and what is not there is refused by name"
mkdir elsewhere
qemu-img create -q -f qcow2 -o data_file="$tmp/elsewhere/../data.raw" external.qcow2 1M
expect_fail 2 'external.qcow2.*data.raw' "${serve[@]}" -f qcow2 --backing-dir elsewhere external.qcow2
cp disk.qcow2 crypt.qcow2 # making one takes QEMU a benchmark; the header's word is enough
printf '\0\0\0\1' | dd of=crypt.qcow2 bs=1 seek=32 conv=notrunc status=none
expect_fail 2 'crypt.qcow2.*(crypt)' "${serve[@]}" -f qcow2 crypt.qcow2

say "a hostile header: each field out of bounds, one at a time"
# offset width value: see qcow2.txt, "Header"
while read -r offset width value _; do
    cp disk.qcow2 hostile.qcow2
    python3 - "$offset" "$width" "$value" <<'END'
import sys
offset, width, value = (int(word, 0) for word in sys.argv[1:])
with open("hostile.qcow2", "rb+") as image:
    image.seek(offset)
    image.write(value.to_bytes(width, "big"))
END
    expect_fail 2 'hostile.qcow2' timeout 20 "${serve[@]}" -f qcow2 hostile.qcow2
done <<'END'
4 4 4 version
20 4 8 cluster_bits
20 4 40 cluster_bits
24 8 0xffffffffffffffff size
24 8 0x4000000000000000 size
36 4 0 l1_size
36 4 0xffffffff l1_size
40 8 0x1234 l1_table_offset
40 8 0xfffffffffff00000 l1_table_offset
48 8 0x1234 refcount_table_offset
48 8 0xfffffffffff00000 refcount_table_offset
56 4 0 refcount_table_clusters
56 4 0xffffffff refcount_table_clusters
72 8 0x8000000000000000 incompatible_features
96 4 7 refcount_order
100 4 0xffffffff header_length
8 8 0xffffffffffffff00 backing_file_offset
END

say "a backing file outside the image's folder is not opened unless allowed"
mkdir inside outside
qemu-img create -q -f raw outside/secret.raw 1M
qemu-img create -q -f qcow2 -b ../outside/secret.raw -F raw inside/climb.qcow2
expect_fail 2 'secret.raw' "${serve[@]}" -f qcow2 inside/climb.qcow2
qemu-img create -q -f qcow2 -b "$tmp/outside/secret.raw" -F raw inside/absolute.qcow2
expect_fail 2 'secret.raw' "${serve[@]}" -f qcow2 inside/absolute.qcow2
start_serve allowed -r -f qcow2 --backing-dir "$tmp/outside" inside/climb.qcow2
stop_serve allowed

say "a rule file with an error: the message names file and line"
cat >rules.conf <<END
# the first rule is fine
[inject-error]
event = "read_aio"

[inject-error]
event = "raed_aio"
END
expect_fail 2 'rules.conf:(5|6).*raed_aio' "${serve[@]}" -f qcow2 --faults rules.conf disk.qcow2
printf '[inject-error]\nevent = "read_aio"\nerrno = "many"\n' >rules.conf
expect_fail 2 'rules.conf:[123].*' "${serve[@]}" -f qcow2 --faults rules.conf disk.qcow2
printf '[inject-error]\nevent = "read_aio"\ncolour = "red"\n' >rules.conf
expect_fail 2 'rules.conf:3.*colour' "${serve[@]}" -f qcow2 --faults rules.conf disk.qcow2
printf '[inject-errors]\nevent = "read_aio"\n' >rules.conf
expect_fail 2 'rules.conf:1.*inject-errors' "${serve[@]}" -f qcow2 --faults rules.conf disk.qcow2
expect_fail 2 'none.conf' "${serve[@]}" -f qcow2 --faults none.conf disk.qcow2

say "bitmaps that cannot be"
expect_fail 1 '64000' "${serve[@]}" -f qcow2 -B daily,granularity=64000 disk.qcow2
expect_fail 1 '256' "${serve[@]}" -f qcow2 -B daily,granularity=256 disk.qcow2
expect_fail 1 'daily' "${serve[@]}" -f qcow2 -B daily -B daily disk.qcow2

say "a socket in use, a socket's place that is taken, a port in use"
start_serve first -f qcow2 disk.qcow2
cp disk.qcow2 other.qcow2
expect_fail 2 'first.sock.*in use' "$BREAKWATER" serve -k "$tmp/first.sock" -f qcow2 other.qcow2
nbd_io "$(uri first)" 'read -P 1 0 1M'
stop_serve first
: >file.sock
expect_fail 2 'file.sock' "$BREAKWATER" serve -k "$tmp/file.sock" -f qcow2 other.qcow2
[ -f file.sock ] || fail "a file that was in the way is gone"
expect_fail 2 'nowhere' "$BREAKWATER" serve -k "$tmp/nowhere/s.sock" -f qcow2 other.qcow2

say "nothing of all that changed the image"
cmp disk.qcow2 before.qcow2
