#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# `breakwater image` on images made to break it: the right exit code, soon, no crash, nothing changed.
# And its command line: what is wrong or not there is refused by name.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3

image=("$BREAKWATER" image)

say "what is not there is refused by name"
for command in amend dd bench; do
    expect_fail 1 "no command '$command'" "${image[@]}" $command disk.qcow2
done
"${image[@]}" create -q disk.qcow2 1M
expect_fail 1 "'nothing'" "${image[@]}" check -r nothing disk.qcow2
expect_fail 1 "'-r' does not belong to info" "${image[@]}" info -r all disk.qcow2
expect_fail 1 'an image and a target are needed' "${image[@]}" convert disk.qcow2
expect_fail 1 'the image or the size is missing' "${image[@]}" resize disk.qcow2
expect_fail 1 '-b is missing' "${image[@]}" rebase disk.qcow2
expect_fail 1 'no backing file' "${image[@]}" commit disk.qcow2
expect_fail 1 'the name of a bitmap' "${image[@]}" bitmap disk.qcow2
expect_fail 1 "'-b' does not belong to info" "${image[@]}" info -b x disk.qcow2
expect_fail 1 'a command is missing' "${image[@]}"
expect_fail 1 'is missing' "${image[@]}" info
expect_fail 1 'one too many' "${image[@]}" check disk.qcow2 disk.qcow2
expect_fail 2 'two images' "${image[@]}" compare disk.qcow2
expect_fail 2 'one too many' "${image[@]}" compare disk.qcow2 disk.qcow2 disk.qcow2
expect_fail 1 "'yaml' is not known" "${image[@]}" info --output=yaml disk.qcow2

say "formats are not guessed"
cp disk.qcow2 disk.img
expect_fail 1 'looks like a qcow2 image: say -f qcow2' "${image[@]}" info disk.img
expect_fail 2 'looks like a qcow2 image: say -F qcow2' "${image[@]}" compare disk.qcow2 disk.img
truncate -s 1M disk.raw
expect_fail 1 'not guessed' "${image[@]}" check disk.raw
expect_fail 1 'not a qcow2 image' "${image[@]}" check -f qcow2 disk.raw
expect_fail 1 "'vmdk' is not known" "${image[@]}" info -f vmdk disk.raw

say "create refuses before it writes"
mkfifo pipe
before=$(sha256sum disk.qcow2)
expect_fail 1 'exists' "${image[@]}" create disk.qcow2 2M
expect_fail 1 'size is missing' "${image[@]}" create new.qcow2
expect_fail 1 'SIZE' "${image[@]}" create new.qcow2 2x
expect_fail 1 'given twice' "${image[@]}" create -o size=1M new.qcow2 1M
for key in encryption=on encrypt.format=luks encrypt.key-secret=s; do
    expect_fail 1 "'${key%=*}': encrypted images .* are not supported" "${image[@]}" create -o $key \
        new.qcow2 1M
done
expect_fail 1 "'nocow' is not known" "${image[@]}" create -o nocow=on new.qcow2 1M
expect_fail 1 'cluster size' "${image[@]}" create -o cluster_size=5000 new.qcow2 1M
expect_fail 1 "cluster size '4M'" "${image[@]}" create -o cluster_size=4M new.qcow2 1M
expect_fail 1 'refcount' "${image[@]}" create -o refcount_bits=3 new.qcow2 1M
expect_fail 1 '16-bit' "${image[@]}" create -o compat=0.10,refcount_bits=8 new.qcow2 1M
expect_fail 1 '3.0' "${image[@]}" create -o compat=3.0 new.qcow2 1M
expect_fail 1 'too large' "${image[@]}" create -o cluster_size=512 new.qcow2 1P
expect_fail 1 'not guessed' "${image[@]}" create -b disk.qcow2 new.qcow2
expect_fail 1 'missing.qcow2' "${image[@]}" create -b missing.qcow2 -F qcow2 new.qcow2 1M
expect_fail 1 'not a qcow2' "${image[@]}" create -b disk.raw -F qcow2 new.qcow2
expect_fail 1 'a raw image has no backing file' "${image[@]}" create -f raw -b disk.raw -F raw new.raw
expect_fail 1 'regular file' "${image[@]}" create --force -f raw pipe 1M
expect_fail 1 'No such file' "${image[@]}" create nowhere/new.qcow2 1M
[ "$(sha256sum disk.qcow2)" = "$before" ]
[ "$(find . -newer disk.img ! -name expect.out ! -name disk.raw ! -name pipe ! -name .)" = "" ]

say "create --force replaces, and --json says what was made"
"${image[@]}" create --force --json -o cluster_size=4k disk.qcow2 3M >made.json
grep -q '"cluster-size": 4096' made.json
"${image[@]}" info disk.qcow2 | grep -q '3 MiB (3145728 bytes)'
"${image[@]}" create -q -u -b missing.raw -F raw new.qcow2 1M
"${image[@]}" info new.qcow2 | grep -q 'backing file: missing.raw'

say "names from images do not reach the terminal as they are"
"${image[@]}" create -q -u -b $'\e]0;owned\a.raw' -F raw names.qcow2 1M
"${image[@]}" info names.qcow2 >names.out
grep -q 'backing file: ?]0;owned?.raw' names.out
"${image[@]}" create -q -u -b $'\xff\xfe.raw' -F raw bytes.qcow2 1M
"${image[@]}" info --json bytes.qcow2 | python3 -c 'import json, sys; json.load(sys.stdin)'

say "a loop of backing files"
"${image[@]}" create -q -u -b two.qcow2 -F qcow2 one.qcow2 1M
"${image[@]}" create -q -u -b one.qcow2 -F qcow2 two.qcow2 1M
"${image[@]}" info one.qcow2 >/dev/null
expect_fail 1 'loop' "${image[@]}" info --backing-chain one.qcow2
expect_fail 1 'loop' "${image[@]}" map --backing-chain one.qcow2

say "hostile images"
mkdir hostile
cd hostile
python3 "$here/image_hostile.py" "$BREAKWATER" "$source_root/tests/lib/patch_image.py"
