#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# `image rebase` and `image commit`: what they do to a chain, what they refuse, and that a failure or
# a kill changes nothing of what is read.
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io

image() {
    "$BREAKWATER" image "$@"
}

# make_chain: base <- mid <- top, and what top reads as top.raw; the sizes differ.
make_chain() {
    rm -f ./*.qcow2 ./*.raw
    qemu-img create -q -f qcow2 base.qcow2 8M
    image_io base.qcow2 'write -P 1 0 3M' 'write -P 2 6M 1M'
    qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2 8M
    image_io mid.qcow2 'write -P 3 1M 1M' 'write -z 6M 100k'
    qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 12M
    image_io top.qcow2 'write -P 4 100k 70k' 'write -P 5 9M 1M' 'discard 2M 64k'
    qemu-img create -q -f qcow2 other.qcow2 2M
    image_io other.qcow2 'write -P 1 0 2M'
    qemu-img convert -f qcow2 -O raw top.qcow2 top.raw
}

# chain_is IMAGE...: these are its layers, all sound, and the first reads as before.
chain_is() {
    qemu-img info --backing-chain "$1" | sed -n 's/^image: //p' | tr '\n' ' ' >layers
    [ "$(cat layers)" = "$* " ] || fail "the layers are $(cat layers)"
    same_content "$1" qcow2 top.raw raw
    local layer
    for layer; do
        check_image "$layer"
    done
}

# data_bytes IMAGE: what it holds itself.
data_bytes() {
    qemu-img map --output=json "$1" | python3 -c 'import json, sys
print(sum(e["length"] for e in json.load(sys.stdin) if e["depth"] == 0 and e["data"]))'
}

say "rebase: safe, onto anything"
make_chain
image rebase -p -b base.qcow2 -F qcow2 top.qcow2 2>out
grep -q '(100.00/100%)' out
chain_is top.qcow2 base.qcow2
[ "$(data_bytes top.qcow2)" -lt $((4 << 20)) ] || fail "it copied what is the same"
image rebase -b other.qcow2 -F qcow2 top.qcow2
chain_is top.qcow2 other.qcow2
image rebase -c -b '' top.qcow2
chain_is top.qcow2
image rebase -b mid.qcow2 -F qcow2 top.qcow2
chain_is top.qcow2 mid.qcow2 base.qcow2

say "rebase: the name only"
make_chain
mv mid.qcow2 moved.qcow2
image rebase -u -b moved.qcow2 -F qcow2 top.qcow2
chain_is top.qcow2 moved.qcow2 base.qcow2
image rebase -u -b '' moved.qcow2
qemu-img info moved.qcow2 | grep -q 'backing' && fail "there still is a backing file"
# One without a format, as old programs made them, can be given one.
python3 - <<'END'
data = bytearray(open("top.qcow2", "rb").read())
at = data.index(b"\xe2\x79\x2a\xca")
data[at:at + 4] = b"\x12\x34\x56\x78"
open("top.qcow2", "wb").write(data)
END
expect_fail 1 'has no format in the header' image info --backing-chain top.qcow2
image rebase -u -b base.qcow2 -F qcow2 top.qcow2
qemu-img info top.qcow2 | grep -q 'backing file format: qcow2'

say "rebase: refused"
make_chain
sha256sum ./*.qcow2 >sums
expect_fail 1 '-b is missing' image rebase top.qcow2
expect_fail 1 'what is the format' image rebase -b base.qcow2 top.qcow2
expect_fail 1 'its own backing file' image rebase -b top.qcow2 -F qcow2 top.qcow2
expect_fail 1 'in use' image rebase -b top.qcow2 -F qcow2 mid.qcow2
expect_fail 1 'No such file' image rebase -b none.qcow2 -F qcow2 top.qcow2
expect_fail 1 'a raw image has no' image rebase -f raw -b base.qcow2 -F qcow2 top.raw
expect_fail 1 '1 to 1023 bytes' image rebase -u -b "$(printf 'x%.0s' {1..1024})" -F raw top.qcow2
sha256sum --quiet -c sums
qemu-img snapshot -c one top.qcow2
expect_fail 1 '1 internal snapshots' image rebase -b base.qcow2 -F qcow2 top.qcow2
expect_fail 1 '1 internal snapshots' image commit top.qcow2
image rebase -u -b mid.qcow2 -F qcow2 top.qcow2

say "rebase: refused before anything is copied"
make_chain
# What is new there is not in the old backing file: it would have to be copied.
qemu-img create -q -f qcow2 -o data_file=top.data,data_file_raw=on outside.qcow2 8M
qemu-img create -q -f qcow2 -o cluster_size=512 -b base.qcow2 -F qcow2 small.qcow2
sha256sum ./*.qcow2 top.data >sums
expect_fail 1 'can have no backing file' image rebase -b base.qcow2 -F qcow2 outside.qcow2
long=./$(printf './%.0s' {1..240})other.qcow2
expect_fail 1 'no room for the backing file' image rebase -b "$long" -F qcow2 small.qcow2
sha256sum --quiet -c sums

say "snapshots of the image that is committed to stay"
make_chain
image snapshot -c before mid.qcow2
qemu-img convert -l before -f qcow2 -O raw mid.qcow2 before.raw
image commit -q top.qcow2
chain_is top.qcow2 mid.qcow2 base.qcow2
same_content mid.qcow2 qcow2 top.raw raw
image convert -l before -O raw mid.qcow2 after.raw # QEMU takes the size of now
cmp before.raw after.raw

say "a snapshot reads from the backing file as it is, not from a snapshot of that"
make_chain
image snapshot -c before base.qcow2
image_io base.qcow2 'write -P 9 2M 64k' # which the snapshot of mid reads, too
image snapshot -c before mid.qcow2
qemu-img convert -l before -f qcow2 -O raw mid.qcow2 before.raw
image convert -l before -O raw mid.qcow2 after.raw
cmp before.raw after.raw
make_chain
image snapshot -c before mid.qcow2
# Not those of a layer in between, which read from the base.
expect_fail 1 'mid.qcow2.* 1 internal snapshots' image commit -b base.qcow2 top.qcow2

say "commit: into the backing file"
make_chain
image commit top.qcow2 | grep -q 'Image committed'
chain_is top.qcow2 mid.qcow2 base.qcow2
[ "$(data_bytes top.qcow2)" = 0 ] || fail "the top was not emptied"
same_content mid.qcow2 qcow2 top.raw raw
make_chain
image commit -d -p top.qcow2 >out 2>&1
grep -q '(100.00/100%)' out
chain_is top.qcow2 mid.qcow2 base.qcow2
[ "$(data_bytes top.qcow2)" -gt 0 ] || fail "-d: the top was emptied"
same_content mid.qcow2 qcow2 top.raw raw

say "commit: into a layer farther below, and into a raw image"
make_chain
image commit -q -b base.qcow2 top.qcow2
chain_is top.qcow2 mid.qcow2 base.qcow2
same_content base.qcow2 qcow2 top.raw raw
qemu-img convert -O raw mid.qcow2 flat.raw
qemu-img rebase -u -b flat.raw -F raw top.qcow2
image commit -q -r 100M top.qcow2
same_content flat.raw raw top.raw raw

say "commit: refused"
make_chain
sha256sum ./*.qcow2 >sums
expect_fail 1 'not in the backing chain' image commit -b other.qcow2 top.qcow2
expect_fail 1 'has no backing file' image commit base.qcow2
expect_fail 1 'a raw image has no' image commit -f raw top.raw
start_serve reader -r mid.qcow2
expect_fail 1 'mid.qcow2.* in use' image commit top.qcow2
stop_serve reader
sha256sum --quiet -c sums

say "a full disk changes nothing of what is read"
limited() {
    (
        trap '' XFSZ
        ulimit -f $((3 << 10))
        "$BREAKWATER" image "$@"
    )
}
make_chain
expect_fail 1 'File too large' limited rebase -b '' top.qcow2
chain_is top.qcow2 mid.qcow2 base.qcow2
expect_fail 1 'File too large' limited commit top.qcow2
chain_is top.qcow2 mid.qcow2 base.qcow2

say "nor does a kill"
kills=0
for delay in 0.01 0.02 0.03 0.05 0.08 0.12; do
    make_chain
    for command in "rebase -b other.qcow2 -F qcow2" commit "commit -b base.qcow2"; do
        # shellcheck disable=SC2086
        { timeout -s KILL $delay "$BREAKWATER" image $command -q top.qcow2 >out 2>&1 || kills=$((kills + 1)); } 2>/dev/null
        # The kernel may close the files of an io_uring some time after the process has gone.
        for layer in top mid base other; do
            wait_for 10 qemu-io -f qcow2 -c quit $layer.qcow2 2>/dev/null
        done
        same_content top.qcow2 qcow2 top.raw raw
        for layer in top mid base other; do
            # Leaks are what a kill may leave.
            status=0
            qemu-img check -q -f qcow2 $layer.qcow2 >/dev/null 2>&1 || status=$?
            [ $status -eq 0 ] || [ $status -eq 3 ] || fail "$command: $layer is damaged"
        done
    done
done
[ $kills -gt 0 ] || fail "nothing was killed"
