#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Images written through breakwater pass `qemu-img check` without a leak and hold what was written:
# compared with a raw twin to which QEMU applied the same commands.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io nbdcopy fio

commands=('write -P 0x11 0 512' 'write -P 0x22 1000 3000' 'write -P 0x33 1M 300k'
    'write -P 0x44 5M 1M' 'write -z 1100k 100k' 'write -z -u 5M 256k' 'write -P 0x99 10M 2M' 'discard 10M 2M'
    'write -P 0x55 8387584 1k' 'write -P 0x66 65535 2' 'flush' 'write -f -P 0x77 2M 64k'
    'write -P 0x88 1M 4k')

# twice IMAGE: the same commands through breakwater and on twin.raw; then the files agree.
twice() {
    local image=$1
    start_serve writer -f qcow2 "$image"
    nbd_io "$(uri writer)" "${commands[@]}"
    stop_serve writer
    image_io_run -f raw "${twin_commands[@]}" twin.raw
    check_image "$image"
    same_content "$image" qcow2 twin.raw raw
}

# Discarded data may read as anything, but here it reads as zeros on both sides: of a raw file, a
# discard punches a hole.
twin_commands=()
for command in "${commands[@]}"; do
    twin_commands+=(-c "$command")
done

for size in 512 4k 64k 2M; do
    for compat in 0.10 1.1; do
        say "cluster size $size, version $compat"
        qemu-img create -q -f qcow2 -o "cluster_size=$size,compat=$compat" a.qcow2 16M
        qemu-img create -q -f raw twin.raw 16M
        twice a.qcow2
        rm twin.raw
    done
done

for bits in 1 8 64; do
    say "refcount width $bits"
    qemu-img create -q -f qcow2 -o refcount_bits=$bits a.qcow2 16M
    qemu-img create -q -f raw twin.raw 16M
    twice a.qcow2
    rm twin.raw
done

say "on a backing file, copying what a write leaves of a cluster"
qemu-img create -q -f qcow2 -o cluster_size=4k base.qcow2 8M
image_io base.qcow2 'write -P 0xbb 0 8M'
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 16M
qemu-img convert -f qcow2 -O raw top.qcow2 twin.raw
cp base.qcow2 base.before
# A discard on top of a backing file reads as zeros or as the backing: leave it to its own test.
saved=("${commands[@]}") saved_twin=("${twin_commands[@]}")
commands=('write -P 0x11 0 512' 'write -P 0x22 100000 3000' 'write -P 0x44 5M 1M'
    'write -z 1100k 100k' 'write -P 0x55 8387584 2k' 'write -P 0x66 12M 1')
twin_commands=()
for command in "${commands[@]}"; do
    twin_commands+=(-c "$command")
done
twice top.qcow2
cmp base.qcow2 base.before || fail "the backing file was changed"
commands=("${saved[@]}") twin_commands=("${saved_twin[@]}")
rm twin.raw

say "a whole disk by nbdcopy, with holes"
qemu-img create -q -f raw source.raw 32M
qemu-io -f raw -c 'write -P 0x31 0 5M' -c 'write -P 0x32 9M 7000k' -c 'write -P 0x33 31M 1M' \
    source.raw >/dev/null
qemu-img create -q -f qcow2 a.qcow2 32M
start_serve writer -f qcow2 a.qcow2
nbdcopy --connections=1 source.raw "$(uri writer)"
same_content "$(uri writer)" raw source.raw raw
stop_serve writer
check_image a.qcow2
same_content a.qcow2 qcow2 source.raw raw

say "random writes at depth 32, verified by fio"
qemu-img create -q -f qcow2 a.qcow2 64M
start_serve writer -f qcow2 a.qcow2
fio --name=verify --ioengine=nbd --uri="$(uri writer)" --rw=randwrite --bsrange=512-70k \
    --bs_unaligned=0 --blockalign=512 --size=64M --io_size=48M --iodepth=32 --verify=crc32c \
    --do_verify=1 --verify_fatal=1 --randseed=7 >fio.log 2>&1
stop_serve writer
check_image a.qcow2
