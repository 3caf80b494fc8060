#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# `image measure` says what qemu-img says, for all options that have a say in it.
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io

n=0
# same_numbers ARGUMENT...
same_numbers() {
    qemu-img measure --output=json "$@" >theirs
    "$BREAKWATER" image measure --output=json "$@" >ours
    python3 -c 'import json, sys
a, b = (json.load(open(name)) for name in ("ours", "theirs"))
sys.exit(a != b)' || {
        cat ours theirs >&2
        fail "measure $*"
    }
    n=$((n + 1))
}

say "new disks"
for size in 0 1 512 1000 1M 100000000 10G 3T; do
    same_numbers -O raw --size $size
    for options in compat=1.1 compat=0.10 cluster_size=512 cluster_size=4k cluster_size=2M \
        refcount_bits=1 refcount_bits=64,cluster_size=1k extended_l2=on \
        extended_l2=on,cluster_size=2M preallocation=metadata preallocation=falloc \
        preallocation=full,cluster_size=16k compression_type=zstd,lazy_refcounts=on \
        backing_file=x,backing_fmt=raw size=5G; do
        [[ $size == 3T && $options == *cluster_size=512* ]] && continue
        [[ $size == 3T && $options == *cluster_size=1k* ]] && continue
        [[ $size == 10G && $options == *cluster_size=512* ]] && continue
        same_numbers -O qcow2 --size $size -o "$options"
    done
done

say "images"
qemu-img create -q -f qcow2 base.qcow2 9M
image_io base.qcow2 'write -P 7 100k 300k' 'write -P 8 4M 1234k'
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 17408512
image_io top.qcow2 'write -P 1 70k 513' 'write -z 5M 100k' 'write -P 2 12M 700k' 'discard 4M 64k' \
    'write -P 3 17408000 512'
qemu-img convert -O raw top.qcow2 disk.raw
truncate -s $((17408512 + 100)) disk.raw
qemu-img convert -c -O qcow2 -o cluster_size=4k top.qcow2 packed.qcow2
qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 3M
image_io old.qcow2 'write -P 7 100k 300k'
qemu-img create -q -f qcow2 maps.qcow2 64M
qemu-img bitmap --add maps.qcow2 first
qemu-img bitmap --add -g 512 maps.qcow2 'second, with a longer name'
for image in top.qcow2 base.qcow2 packed.qcow2 old.qcow2 disk.raw maps.qcow2; do
    format=${image##*.}
    same_numbers -f "$format" -O raw "$image"
    for options in compat=1.1 compat=0.10 cluster_size=512 cluster_size=4k cluster_size=2M \
        refcount_bits=1,cluster_size=1k extended_l2=on preallocation=falloc \
        backing_file=x,backing_fmt=raw preallocation=metadata,cluster_size=256k; do
        same_numbers -f "$format" -O qcow2 -o "$options" "$image"
    done
done
[ $n -gt 170 ] || fail "only $n comparisons"

say "a converted image needs no more"
for options in cluster_size=64k cluster_size=512 cluster_size=2M; do
    "$BREAKWATER" image measure -O qcow2 -o $options top.qcow2 >out
    need=$(sed -n 's/^required size: //p' out)
    "$BREAKWATER" image convert -o $options top.qcow2 new.qcow2
    [ "$(stat -c %s new.qcow2)" -le "$need" ] || fail "$options: $need bytes were not enough"
done
grep -q '^fully allocated size: ' out
grep -q '^bitmaps size: 0$' out

say "what makes no sense is refused"
measure() {
    "$BREAKWATER" image measure "$@"
}
expect_fail 1 'either an image or --size' measure -O qcow2
expect_fail 1 'either an image or --size' measure --size 1G top.qcow2
expect_fail 1 'a raw image has a size and a preallocation only' measure -O raw -o cluster_size=4k --size 1G
expect_fail 1 'not a power of two' measure -O qcow2 -o refcount_bits=3 --size 1G
expect_fail 1 'too large' measure -O qcow2 --size 1000P
