#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# `breakwater image COMMAND --json`, where the command makes or changes an image: what it says is what
# was done, byte by byte. And what raw images can be preallocated with.
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io

image() {
    "$BREAKWATER" image "$@"
}

# says TEXT... -- COMMAND...: with --json the command prints an object of which each TEXT ("key": value,
# without blanks) is a part, and how long it took.
says() {
    local texts=() text
    while [ "$1" != -- ]; do
        texts+=("$1")
        shift
    done
    shift
    image "$1" --json "${@:2}" >said.json
    tr -d ' \n' <said.json >said
    for text in "${texts[@]}" '"seconds":'; do
        grep -qF -- "$text" said || { cat said.json && fail "no $text from $*"; }
    done
}

blocks() {
    stat -c %b "$1"
}

make_chain() {
    rm -f ./*.qcow2
    qemu-img create -q -f qcow2 base.qcow2 4M
    image_io base.qcow2 'write -P 1 0 1M'
    qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 8M
    image_io top.qcow2 'write -P 2 2M 192k' 'write -z 64k 128k'
}

say "convert"
make_chain
says '"filename":"new.qcow2"' '"format":"qcow2"' '"virtual-size":8388608' '"source-bytes":8388608' \
    '"copied-bytes":1114112,' '"zero-bytes":0,' -- convert top.qcow2 new.qcow2
! grep -q lost-sectors said
grep -q "\"actual-size\":$(($(blocks new.qcow2) * 512))," said
says '"format":"raw"' '"copied-bytes":1114112,' '"lost-sectors":0' -- convert --salvage -O raw top.qcow2 new.raw
# Zeros must be written where something else may have been.
says '"copied-bytes":1114112,' '"zero-bytes":7274496,' -- convert -n top.qcow2 new.qcow2
says '"data-file":"new.data"' -- convert -o data_file=new.data top.qcow2 new.qcow2
says '"virtual-size":9437184' '"source-bytes":8388608' -- convert -o size=9M top.qcow2 new.qcow2

say "rebase"
says '"filename":"top.qcow2"' '"backing-filename":null' '"backing-filename-format":null' \
    '"virtual-size":8388608' '"copied-bytes":917504' '"zero-bytes":0' -- rebase -b '' top.qcow2
make_chain
says '"backing-filename":"base.qcow2"' '"backing-filename-format":"qcow2"' '"copied-bytes":0' -- \
    rebase -u -b base.qcow2 -F qcow2 top.qcow2

say "commit"
says '"filename":"top.qcow2"' "\"base\":\"$PWD/base.qcow2\"" '"base-virtual-size":8388608' \
    '"emptied":true' '"copied-bytes":196608' '"zero-bytes":131072' -- commit top.qcow2
make_chain
says '"emptied":false' -- commit -d top.qcow2

say "resize"
says '"filename":"base.qcow2"' '"format":"qcow2"' '"previous-virtual-size":8388608' \
    '"virtual-size":9437184' -- resize base.qcow2 +1M

say "snapshot"
says '"action":"create"' '"id":"1"' '"name":"one"' -- snapshot -c one base.qcow2
image resize -q base.qcow2 10M
says '"action":"apply"' '"snapshot":"1"' '"virtual-size":9437184' -- snapshot -a 1 base.qcow2
says '"action":"delete"' '"snapshot":"one"' '"filename":"base.qcow2"' -- snapshot -d one base.qcow2

say "bitmap"
says '"filename":"base.qcow2"' '"name":"daily"' '"exists":true' '"granularity":4096' \
    '"enabled":true' '"dirty-bytes":0' -- bitmap --add -g 4k base.qcow2 daily
image_io base.qcow2 'write -P 1 0 5k'
says '"enabled":false' '"dirty-bytes":8192' -- bitmap --disable base.qcow2 daily
says '"exists":false' -- bitmap --remove base.qcow2 daily
! grep -q granularity said

say "what fails says nothing on standard output"
image commit --json base.qcow2 >said 2>/dev/null && fail "it has no backing file"
[ ! -s said ]

say "raw images are preallocated"
image create -q -f raw sparse.raw 4M
[ "$(blocks sparse.raw)" -eq 0 ]
for mode in falloc full; do
    image create -f raw -o preallocation=$mode $mode.raw 4M | grep -q "size=4194304 preallocation=$mode"
    [ "$(blocks $mode.raw)" -ge 8192 ] || fail "create, $mode: nothing is set aside"
    cmp sparse.raw $mode.raw
    image convert -f raw -O raw -o preallocation=$mode sparse.raw copy.raw
    [ "$(blocks copy.raw)" -ge 8192 ] || fail "convert, $mode: nothing is set aside"
    image create -q -f raw --force grown.raw 1M
    image_io_run -f raw -c 'write -P 7 0 1M' grown.raw
    cp grown.raw small.raw
    image resize -q -f raw --preallocation $mode grown.raw 4M
    [ "$(blocks grown.raw)" -ge 8192 ] || fail "resize, $mode: nothing is set aside"
    truncate -s 4M small.raw
    cmp small.raw grown.raw
done

say "a raw image that cannot grow stays as long as it was; what is not durable is not resized"
printf '[inject-error]\nevent = "none"\niotype = "write"\nerrno = "28"\n' >full.conf
expect_fail 1 'cannot be resized to 5242880 bytes: No space left' image resize -f raw --preallocation full \
    blkdebug:full.conf:grown.raw 5M
cmp small.raw grown.raw
printf '[inject-error]\nevent = "none"\niotype = "flush"\n' >flush.conf
expect_fail 1 'Input/output error' image resize -f raw --shrink blkdebug:flush.conf:grown.raw 3M

say "long work shows how far it is, on a terminal or if it is told to"
requires script
qemu-img create -q -f qcow2 long.qcow2 16M
image_io long.qcow2 'write -P 1 0 12M'
# on_terminal ARG...: what a terminal gets to see.
on_terminal() {
    script -qec "'$BREAKWATER' image $*" /dev/null </dev/null >seen
}
on_terminal convert -r 4M long.qcow2 copy.qcow2
grep -q '[1-9][0-9.]*/100%).*(100.00/100%)' seen || { cat seen && fail "no progress on a terminal"; }
on_terminal convert -q -r 6M long.qcow2 copy.qcow2
! grep -q "/100%" seen || fail "-q shows progress"
on_terminal convert -q -p long.qcow2 copy.qcow2
! grep -q "/100%" seen || fail "-q -p shows progress"
on_terminal check copy.qcow2
! grep -q "/100%" seen || fail "progress of what is soon done"
image convert -r 6M long.qcow2 copy.qcow2 >seen 2>&1
[ ! -s seen ] || fail "progress in a pipe"
for words in 'convert -p long.qcow2 copy.qcow2' 'compare -p long.qcow2 copy.qcow2' 'check -p long.qcow2' \
    'rebase -p -b copy.qcow2 -F qcow2 long.qcow2' 'commit -p long.qcow2'; do
    read -ra command <<<"$words"
    image "${command[@]}" 2>seen >/dev/null
    grep -q '(100.00/100%)' seen || fail "no progress of $words"
done

say "sizes that wrap around are refused"
expect_fail 1 'too large' image resize --shrink base.qcow2 +18446744073709551615
expect_fail 1 'too large' image resize -f raw --shrink small.raw +18446744073709551615
[ "$(stat -c %s small.raw)" -eq 4194304 ]
image convert -f raw -O raw -o preallocation=off sparse.raw copy.raw
[ "$(blocks copy.raw)" -eq 0 ]
expect_fail 1 'a raw image has no metadata' image create -f raw -o preallocation=metadata x.raw 1M
expect_fail 1 'a size and a preallocation only' image convert -f raw -O raw -o cluster_size=4k full.raw x.raw
expect_fail 1 'a raw image has no metadata' image measure -O raw -o preallocation=metadata --size 1M
[ ! -e x.raw ]
