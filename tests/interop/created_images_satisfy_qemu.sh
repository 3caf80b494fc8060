#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What `breakwater image create` makes is what qemu-img makes of the same options: the same features
# and names, sound, and QEMU can write to it. What cannot be is refused and leaves nothing behind.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3

# facts IMAGE: what qemu-img info says of it, but for how much space it takes.
facts() {
    qemu-img info -f qcow2 --output=json "$1" | python3 -c '
import json, sys
facts = json.load(sys.stdin)
for key in ("actual-size", "filename", "children"):
    facts.pop(key, None)
print(json.dumps(facts, sort_keys=True, indent=1))'
}

# alike SIZE OPTIONS [DATA_FILE]: made by both. The data file, if any, is d.raw.
alike() {
    local size=$1 options=$2
    rm -rf ours theirs
    mkdir ours theirs
    (cd ours && "$BREAKWATER" image create -q ${options:+-o "$options"} a.qcow2 "$size")
    (cd theirs && qemu-img create -q -f qcow2 ${options:+-o "$options"} a.qcow2 "$size")
    facts theirs/a.qcow2 >theirs.json
    facts ours/a.qcow2 >ours.json
    cmp -s theirs.json ours.json || { diff theirs.json ours.json >&2; fail "$options: not alike"; }
    (cd ours && qemu-img check -q -f qcow2 a.qcow2) || fail "$options: check"
    "$BREAKWATER" image check -q ours/a.qcow2 || fail "$options: our check"
    [ ! -e theirs/d.raw ] || [ "$(stat -c %s ours/d.raw)" = "$(stat -c %s theirs/d.raw)" ]
    [ "${size%M}" -gt 3 ] || return 0
    (cd ours && qemu-io -f qcow2 -c 'write -P 1 100k 300k' -c 'write -z 64k 64k' \
        -c 'read -P 1 128k 272k' -c 'read -P 0 3M 1M' a.qcow2) >io.out
    ! grep -q 'failed' io.out || { cat io.out >&2; fail "$options: qemu-io"; }
    (cd ours && qemu-img check -q -f qcow2 a.qcow2) || fail "$options: check after writing"
}

say "every option, alone and with others"
for options in '' compat=0.10 compat=1.1 compression_type=zlib compression_type=zstd lazy_refcounts=on \
    extended_l2=on extended_l2=on,cluster_size=16k extended_l2=on,cluster_size=2M,refcount_bits=1 \
    cluster_size=512 cluster_size=512,refcount_bits=64,compression_type=zstd,lazy_refcounts=on \
    data_file=d.raw data_file=d.raw,data_file_raw=on data_file=d.raw,extended_l2=on \
    data_file=d.raw,cluster_size=4k,data_file_raw=on,lazy_refcounts=on; do
    alike 20M "$options"
done
alike 0M compression_type=zstd,lazy_refcounts=on

say "preallocation"
for how in metadata falloc full; do
    for options in '' ,cluster_size=512,refcount_bits=64 ,compat=0.10 ,extended_l2=on,cluster_size=32k \
        ,data_file=d.raw ,data_file=d.raw,data_file_raw=on ,cluster_size=2M; do
        alike 9M "preallocation=$how$options"
    done
    alike 0M preallocation=$how
done
rm -rf ours theirs
"$BREAKWATER" image create -q -o preallocation=falloc a.qcow2 20M
[ "$(($(stat -c %b a.qcow2) * 512))" -ge 20971520 ] || fail "no space was set aside"
"$BREAKWATER" image create -q -o preallocation=full,data_file=d.raw b.qcow2 20M
[ "$(($(stat -c %b d.raw) * 512))" -ge 20971520 ] || fail "no zeros were written"
"$BREAKWATER" image create -q -o preallocation=metadata c.qcow2 1T
[ "$(($(stat -c %b c.qcow2) * 512))" -lt 400000000 ] || fail "that should be sparse"
qemu-img map -f qcow2 --output=json c.qcow2 | grep -q '"length": 1099511627776'
rm ./*.qcow2 ./*.raw

say "a backing file shows through preallocated subclusters"
qemu-img create -q -f raw base.raw 4M
qemu-io -f raw -c 'write -P 7 0 4M' base.raw >/dev/null
"$BREAKWATER" image create -q -b base.raw -F raw -o extended_l2=on,preallocation=metadata top.qcow2
qemu-io -f qcow2 -c 'write -P 8 1M 64k' top.qcow2 >/dev/null
qemu-io -f qcow2 -c 'read -P 7 0 1M' -c 'read -P 8 1M 64k' -c 'read -P 7 1088k 2M' top.qcow2 >io.out
! grep -q failed io.out || { cat io.out >&2; fail "the backing file is hidden"; }
qemu-img check -q top.qcow2

say "the names of the features are QEMU's"
qemu-img create -q -f qcow2 theirs.qcow2 1M
"$BREAKWATER" image create -q ours.qcow2 1M
python3 - <<'END'
import struct
def names(path):
    image, at, table = open(path, "rb").read(65536), 112, {}
    while True:
        kind, length = struct.unpack(">II", image[at:at + 8])
        if kind == 0x6803f857:
            for i in range(at + 8, at + 8 + length, 48):
                table[image[i], image[i + 1]] = image[i + 2:i + 48].rstrip(b"\0")
        if kind == 0:
            return table
        at += 8 + (length + 7) // 8 * 8
assert names("theirs.qcow2") and names("theirs.qcow2") == names("ours.qcow2"), names("ours.qcow2")
END
rm ours.qcow2 theirs.qcow2

say "JSON says what was made"
"$BREAKWATER" image create --json -o compression_type=zstd,extended_l2=on,data_file=x.raw,lazy_refcounts=yes \
    j.qcow2 1M >made.json
python3 - <<'END'
import json
made = json.load(open("made.json"))
assert made["compression-type"] == "zstd" and made["extended-l2"] is True, made
assert made["data-file"] == "x.raw" and made["data-file-raw"] is False, made
assert made["lazy-refcounts"] is True and made["preallocation"] == "off", made
END

say "what cannot be is refused"
ls >before.txt
refused() {
    expect_fail 1 "$1" "$BREAKWATER" image create -o "$2" no.qcow2 "${@:3}" 1M
}
touch before.txt expect.out
ls >before.txt
refused 'version 2 cannot have zstd' compat=0.10,compression_type=zstd
refused 'version 2 cannot have extended L2' compat=0.10,extended_l2=on
refused 'version 2 cannot have an external data file' compat=0.10,data_file=y.raw
refused 'version 2 cannot have lazy refcounts' compat=0.10,lazy_refcounts=on
refused 'version 2 has 16-bit' compat=0.10,refcount_bits=8
refused 'cluster size 8192 .* at least 16384' extended_l2=on,cluster_size=8k
refused 'no data file is named' data_file_raw=on
refused 'cannot be a backing file' data_file_raw=on,data_file=y.raw -b base.raw -F raw
refused 'would hide the backing file' preallocation=metadata -b base.raw -F raw
refused "'lzma' is not known" compression_type=lzma
refused "'some' is not known" preallocation=some
refused 'extended_l2' extended_l2=perhaps
refused 'x.raw exists already' data_file=x.raw
refused 'must have 1 to 1023 bytes' data_file=
refused "'encryption': encrypted images .* are not supported" encryption=on
ls >after.txt
cmp before.txt <(grep -v after.txt after.txt) || fail "something was left behind"

say "--force replaces the data file, too"
echo content >x.raw
"$BREAKWATER" image create -q --force -o data_file=x.raw j.qcow2 1M
[ "$(stat -c %s x.raw)" -eq 1048576 ]
mkdir sub
"$BREAKWATER" image create -q -o data_file=near.raw sub/k.qcow2 1M
[ -e sub/near.raw ] || fail "the data file is not in the folder of its image"
