#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Images made by qemu-img and changed by qemu-io are read right through breakwater: both versions,
# several cluster sizes and refcount widths, zero, discarded and compressed clusters, backing chains.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io nbdcopy

# What the server says an image holds is what QEMU says: by comparison, and by a copy.
served_right() {
    local image=$1
    start_serve reader -r -f qcow2 "$image"
    same_content "$(uri reader)" raw "$image" qcow2
    nbdcopy "$(uri reader)" copy.raw
    stop_serve reader
    same_content copy.raw raw "$image" qcow2
    rm -f copy.raw
}

scribble() {
    image_io "$1" 'write -P 0x11 0 512' 'write -P 0x22 1000 3000' 'write -P 0x33 1M 300k' \
        'write -P 0x44 5M 1M' 'write -P 0x55 8387584 1k' "${@:2}"
}

for size in 512 4k 64k 2M; do
    for compat in 0.10 1.1; do
        say "cluster size $size, version $compat"
        qemu-img create -q -f qcow2 -o "cluster_size=$size,compat=$compat" a.qcow2 16M
        scribble a.qcow2
        served_right a.qcow2
    done
done

for bits in 1 8 64; do
    say "refcount width $bits"
    qemu-img create -q -f qcow2 -o refcount_bits=$bits a.qcow2 16M
    scribble a.qcow2
    served_right a.qcow2
done

say "zero clusters and discarded clusters"
qemu-img create -q -f qcow2 a.qcow2 16M
scribble a.qcow2 'write -z 1M 128k' 'write -z -u 5M 256k' 'discard 5632k 256k'
served_right a.qcow2

for type in zlib zstd; do
    say "clusters compressed with $type, some of them changed through the server"
    seq 1000000 | dd of=text bs=1M seek=8 iflag=fullblock status=none
    qemu-img convert -c -f raw -O qcow2 -o compression_type=$type text c.qcow2
    served_right c.qcow2
    qemu-img convert -f qcow2 -O raw c.qcow2 changed.raw
    start_serve writer -f qcow2 c.qcow2
    for image in "$(uri writer)" changed.raw; do
        qemu-io -f raw -c 'write -P 7 8500k 3k' -c 'write -P 8 9M 200k' -c 'write -z 10M 65k' \
            "$image" >/dev/null
    done
    stop_serve writer
    same_content c.qcow2 qcow2 changed.raw raw
    qemu-img check -q c.qcow2 || fail "qemu-img check finds fault with the changed image"
done

say "preallocated metadata"
qemu-img create -q -f qcow2 -o preallocation=metadata a.qcow2 16M
scribble a.qcow2
served_right a.qcow2

say "a size that is no multiple of the cluster"
qemu-img create -q -f qcow2 a.qcow2 8390144
scribble a.qcow2
served_right a.qcow2

say "a chain: three layers, zero clusters that hide the layer below, a base that is shorter"
qemu-img create -q -f qcow2 -o cluster_size=4k base.qcow2 6M
image_io base.qcow2 'write -P 0x01 0 6M'
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 middle.qcow2 16M
image_io middle.qcow2 'write -P 0x02 1M 1M' 'write -z 2M 1M' 'write -P 0x03 6000k 400k'
qemu-img create -q -f qcow2 -o cluster_size=2M -b middle.qcow2 -F qcow2 top.qcow2
image_io top.qcow2 'write -P 0x04 512k 10k' 'discard 3M 2M' 'write -P 0x05 15M 1M'
served_right top.qcow2
served_right middle.qcow2

say "a chain on a raw base"
qemu-img create -q -f raw base.raw 5000k
qemu-io -f raw -c 'write -P 0x07 100k 4000k' base.raw >/dev/null
qemu-img create -q -f qcow2 -b base.raw -F raw top.qcow2 16M
image_io top.qcow2 'write -P 0x08 1M 64k' 'write -P 0x09 4990k 20k'
served_right top.qcow2

for options in data_file=d.raw data_file=d.raw,data_file_raw=on extended_l2=on \
    data_file=d.raw,extended_l2=on,cluster_size=16k; do
    say "$options, read and changed through the server"
    rm -f d.raw
    qemu-img create -q -f qcow2 -o "$options" e.qcow2 16M
    scribble e.qcow2 'write -z 1M 10k' 'discard 5632k 256k'
    served_right e.qcow2
    qemu-img convert -f qcow2 -O raw e.qcow2 changed.raw
    start_serve writer -f qcow2 e.qcow2
    for image in "$(uri writer)" changed.raw; do
        qemu-io -f raw -c 'write -P 7 4500k 3k' -c 'write -P 8 9M 200k' -c 'write -z -u 5M 65k' \
            "$image" >/dev/null
    done
    stop_serve writer
    same_content e.qcow2 qcow2 changed.raw raw
    qemu-img check -q e.qcow2 || fail "qemu-img check finds fault with the changed image"
done

say "a data file elsewhere is not opened"
mkdir elsewhere
qemu-img create -q -f qcow2 -o "data_file=$PWD/elsewhere/d.raw" images.qcow2 1M
mkdir in
mv images.qcow2 in
expect_fail 2 'not beneath' "$BREAKWATER" serve -k "$tmp/no.sock" in/images.qcow2
start_serve writer --backing-dir "$PWD" in/images.qcow2
stop_serve writer
