#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# `breakwater image` and qemu-img say the same of the same images: geometries, chains, compressed
# clusters, snapshots, bitmaps, data files, and what is damaged in a known place.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3

# same COMMAND ARGUMENT...: both programs, the same fields and exit codes.
same() {
    python3 "$here/image_fields.py" "$BREAKWATER" "$@" || fail "image $* is not as qemu-img's"
}

same_all() {
    same info "$1" -f qcow2
    same check "$1" -f qcow2
    same map "$1" -f qcow2
}

say "geometries"
n=0
for options in compat=0.10 compat=0.10,cluster_size=512 compat=1.1 cluster_size=512,refcount_bits=1 \
    cluster_size=512,refcount_bits=64 cluster_size=4k,refcount_bits=8 cluster_size=2M \
    cluster_size=2M,refcount_bits=32 refcount_bits=2 refcount_bits=4 lazy_refcounts=on \
    extended_l2=on,cluster_size=64k compression_type=zstd preallocation=falloc; do
    n=$((n + 1))
    qemu-img create -q -f qcow2 -o $options g$n.qcow2 20M
    image_io g$n.qcow2 'write -P 1 0 5000' 'write -P 2 3M 1M' 'write -P 3 9M 512' \
        'write -z 3500k 100k' 'write -P 4 19M 1M' 'discard 3M 64k'
    same info g$n.qcow2
    same check g$n.qcow2
    same map g$n.qcow2
done
[ "$n" -eq 14 ]

say "an empty image, an odd size, a raw image"
qemu-img create -q -f qcow2 empty.qcow2 0
qemu-img create -q -f qcow2 odd.qcow2 1234567
same info empty.qcow2
same check empty.qcow2
[ "$("$BREAKWATER" image map --json empty.qcow2)" = '[]' ]
same_all odd.qcow2
truncate -s 3M disk.raw
image_io_run -f raw -c 'write -P 1 1M 64k' disk.raw
same info -f raw disk.raw
same map -f raw disk.raw
same check -f raw disk.raw

say "chains"
mkdir below
qemu-img create -q -f raw below/base.raw 5M
image_io_run -f raw -c 'write -P 1 0 1M' -c 'write -P 2 4M 128k' below/base.raw
qemu-img create -q -f qcow2 -b below/base.raw -F raw mid.qcow2 8M
image_io mid.qcow2 'write -P 3 1M 1M' 'write -P 4 6M 64k' 'write -z 4M 64k'
qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 -o cluster_size=4k top.qcow2 12M
image_io top.qcow2 'write -P 5 512k 4k' 'write -P 6 11M 4k' 'write -z 0 8k'
for image in mid top; do
    same_all $image.qcow2
    same info --backing-chain $image.qcow2
    same map -s 64k -l 5M $image.qcow2
    [ "$("$BREAKWATER" image map --json -l 0 $image.qcow2)" = '[]' ]
    same map --start-offset=3M --max-length=100G $image.qcow2
done

say "compressed clusters"
qemu-img convert -f qcow2 -O qcow2 -c top.qcow2 zlib.qcow2
qemu-img convert -f qcow2 -O qcow2 -c -o compression_type=zstd,cluster_size=2M top.qcow2 zstd.qcow2
qemu-img convert -f qcow2 -O qcow2 -c -o cluster_size=512 top.qcow2 small.qcow2
for image in zlib zstd small; do
    same_all $image.qcow2
done

say "snapshots and bitmaps"
qemu-img create -q -f qcow2 -o cluster_size=4k snaps.qcow2 16M
for i in 1 2 3 4 5; do
    image_io snaps.qcow2 "write -P $i $((i * 2))M 64k" "write -P $i 1M 4k"
    qemu-img snapshot -c "snap number $i" snaps.qcow2
done
same_all snaps.qcow2
qemu-img snapshot -d 'snap number 2' snaps.qcow2
same_all snaps.qcow2
qemu-img bitmap --add -g 64k snaps.qcow2 daily
qemu-img bitmap --add --disable snaps.qcow2 weekly
image_io snaps.qcow2 'write -P 9 3M 2M'
same_all snaps.qcow2

say "a data file is named, and not opened"
qemu-img create -q -f qcow2 -o data_file=data.raw,data_file_raw=on outside.qcow2 4M
image_io outside.qcow2 'write -P 1 1M 64k'
same info outside.qcow2
same check outside.qcow2
same map -f qcow2 outside.qcow2
qemu-img create -q -f qcow2 -o data_file=data2.raw,extended_l2=on beside.qcow2 4M
image_io beside.qcow2 'write -P 1 1000k 64k' 'write -z 2M 10k'
same_all beside.qcow2
"$BREAKWATER" image compare -f qcow2 -F qcow2 beside.qcow2 beside.qcow2
rm data.raw data2.raw
"$BREAKWATER" image map beside.qcow2 | grep -q 'data2.raw$'
expect_fail 2 data2.raw "$BREAKWATER" image compare beside.qcow2 beside.qcow2
"$BREAKWATER" image info outside.qcow2 | grep -q 'data file: data.raw'
"$BREAKWATER" image check outside.qcow2 >/dev/null

say "backing files are not opened by info, check and map"
rm -f gone.qcow2
qemu-img create -q -f qcow2 -u -b gone.qcow2 -F qcow2 orphan.qcow2 4M
"$BREAKWATER" image info orphan.qcow2 | grep -q 'backing file: gone.qcow2'
"$BREAKWATER" image check orphan.qcow2 >/dev/null
expect_fail 1 gone.qcow2 "$BREAKWATER" image info --backing-chain orphan.qcow2
expect_fail 1 gone.qcow2 "$BREAKWATER" image map --backing-chain orphan.qcow2
qemu-img create -q -f qcow2 gone.qcow2 4M
image_io orphan.qcow2 'write -P 1 1M 64k' 'write -z 2M 64k'
rm gone.qcow2
# What the image leaves to the one below, and nothing about that.
"$BREAKWATER" image map --json orphan.qcow2 | tr -d ' \n' >found
left='"depth":1,"present":false,"zero":false,"data":false,"compressed":false}'
grep -qF "[{\"start\":0,\"length\":1048576,$left,{\"start\":1048576,\"length\":65536,\"depth\":0,\"present\":true," found
grep -qF "{\"start\":2097152,\"length\":65536,\"depth\":0,\"present\":true,\"zero\":true,\"data\":false,\"compressed\":false},{\"start\":2162688,\"length\":2031616,$left]" found
[ "$("$BREAKWATER" image map orphan.qcow2 | wc -l)" -eq 2 ]

# damaged NAME PATCH...: a copy of an image of two writes, one snapshot if the name begins with snap.
damaged() {
    local name=$1 source=plain.qcow2
    shift
    [[ $name != snap* ]] || source=snapped.qcow2
    [[ $name != bitmap* ]] || source=mapped.qcow2
    cp $source "$name.qcow2"
    python3 "$source_root/tests/lib/patch_image.py" "$name.qcow2" "$@"
    [ "${alike-}" ] || same check "$name.qcow2"
    local status=0
    qemu-img check -q -f qcow2 "$name.qcow2" >/dev/null 2>&1 || status=$?
    [ $status -eq "$wanted" ] || fail "$name: exit code $status from qemu-img, expected $wanted"
    status=0
    "$BREAKWATER" image check "$name.qcow2" >found.out 2>&1 || status=$?
    [ $status -eq "$wanted" ] || fail "$name: exit code $status, expected $wanted"
    grep -Eq '(corrupt|leak): .*0x' found.out || fail "$name: no finding names an offset"
}

say "known damage"
qemu-img create -q -f qcow2 plain.qcow2 16M
image_io plain.qcow2 'write -P 1 0 256k' 'write -P 2 8M 128k' 'write -z 4M 64k'
qemu-img create -q -f qcow2 snapped.qcow2 16M
image_io snapped.qcow2 'write -P 1 0 256k'
qemu-img snapshot -c one snapped.qcow2
image_io snapped.qcow2 'write -P 2 64k 64k'
cp plain.qcow2 mapped.qcow2
qemu-img bitmap --add mapped.qcow2 daily
wanted=2
damaged refcount-too-low 'refcount[5]=0'
damaged refcount-missing 'reftable[0]=0'
damaged overlap-data 'l2[1]=0x8000000000050000'
damaged overlap-l1 'l2[0]=0x8000000000030000'
damaged overlap-refblock 'l2[0]=0x8000000000020000'
damaged overlap-reftable 'l2[0]=0x8000000000010000'
damaged not-copied 'l2[0]=^0x8000000000000000'
damaged l1-not-copied 'l1[0]=^0x8000000000000000'
damaged reserved-l2 'l2[0]=^0x2'
damaged reserved-l1 'l1[0]=^0x1'
damaged past-the-end 'l2[0]=0x0000000010000000'
damaged shared-by-refcount 'refcount[5]=2'
damaged snap-low 'refcount[5]=1'
damaged bitmap-low 'refcount[12]=0' 'refcount[13]=0'

say "damage of which qemu-img counts the consequences, too"
alike=1
damaged misaligned 'l2[0]=+512'
damaged compressed-copied 'l2[0]=0xc000000000050000'
damaged cut-short truncate=0x60000
damaged past-the-end-copied 'l2[0]=0x8000000010000000'
damaged table-in-data 'l1[0]=0x8000000000050000'
damaged table-in-header 'l1[0]=0x0000000000010000'
unset alike

say "leaks"
wanted=3
damaged leak 'refcount[7]=1' 'l2[2]=0'
damaged leaks 'l1[0]=0'
damaged snap-leak nb_snapshots=0
damaged bitmap-leak autoclear=0

say "compare"
cp plain.qcow2 same.qcow2
qemu-img convert -f qcow2 -O raw plain.qcow2 plain.raw
cp plain.raw other.raw
printf x | dd of=other.raw bs=1 seek=8400123 conv=notrunc status=none
cp plain.raw longer.raw
truncate -s 20M longer.raw
cp longer.raw tail.raw
printf x | dd of=tail.raw bs=1 seek=20000000 conv=notrunc status=none
same compare -f qcow2 -F qcow2 plain.qcow2 same.qcow2
same compare -f qcow2 -F raw plain.qcow2 plain.raw
same compare -f raw -F qcow2 other.raw plain.qcow2
same compare -f raw -F raw plain.raw longer.raw
same compare -f raw -F raw longer.raw plain.raw
same compare -f raw -F raw plain.raw tail.raw
same compare -s -f raw -F raw plain.raw longer.raw
same compare -s -f qcow2 -F qcow2 plain.qcow2 same.qcow2
same compare -s -f qcow2 -F qcow2 plain.qcow2 empty.qcow2
same compare -f qcow2 -F qcow2 top.qcow2 mid.qcow2
same compare -f qcow2 -F qcow2 plain.qcow2 missing.qcow2
"$BREAKWATER" image compare --json -f raw -F raw plain.raw other.raw >found.json || true
grep -q '"offset": 8400123' found.json

say "created images"
for options in compat=0.10 cluster_size=512,refcount_bits=64 cluster_size=2M compat=1.1; do
    "$BREAKWATER" image create -q -f qcow2 -o $options ours.qcow2 100M
    qemu-img create -q -f qcow2 -o $options theirs.qcow2 100M
    qemu-img info --output=json ours.qcow2 | grep -Ev 'filename|actual-size' >ours.json
    qemu-img info --output=json theirs.qcow2 | grep -Ev 'filename|actual-size' >theirs.json
    diff ours.json theirs.json
    check_image ours.qcow2
    same_all ours.qcow2
    rm ours.qcow2
done
"$BREAKWATER" image create -q -b top.qcow2 -F qcow2 over.qcow2
same_all over.qcow2
same_content over.qcow2 qcow2 top.qcow2 qcow2
"$BREAKWATER" image create -q -f raw -o size=1000 made.raw
[ "$(stat -c %s made.raw)" -eq 1024 ]

say "names that are no files are refused by name"
for command in info check map resize snapshot measure 'bitmap --add'; do
    last=()
    [ "$command" != resize ] || last=(1M)
    [ "$command" != 'bitmap --add' ] || last=(b)
    # shellcheck disable=SC2086
    expect_fail 1 "'json:.*' names the protocol 'json'" "$BREAKWATER" image $command -f qcow2 \
        'json:{"driver":"qcow2","file.filename":"plain.qcow2"}' "${last[@]}"
    # shellcheck disable=SC2086
    expect_fail 1 "option '--image-opts' is qemu-img's and not supported" "$BREAKWATER" image $command \
        --image-opts driver=qcow2,file.filename=plain.qcow2 "${last[@]}"
done
expect_fail 1 "protocol 'nbd'" "$BREAKWATER" image convert -f raw -O raw nbd:unix:here x.raw
expect_fail 1 "protocol 'nbd'" "$BREAKWATER" image convert -O raw plain.qcow2 nbd:localhost:10809
expect_fail 1 "protocol 'nbd'" "$BREAKWATER" image create -f raw nbd:localhost:10809 1M
expect_fail 2 "protocol 'json'" "$BREAKWATER" image compare plain.qcow2 json:x.qcow2
for option in --target-image-opts --object=secret,id=s; do
    expect_fail 1 "option '$option' is qemu-img's" "$BREAKWATER" image convert $option plain.qcow2 x.qcow2
done
[ ! -e x.raw ] && [ ! -e x.qcow2 ] && [ ! -e nbd:localhost:10809 ]
"$BREAKWATER" image create -q ./a:b.qcow2 1M
"$BREAKWATER" image check -q "$PWD/a:b.qcow2"

say "locks are respected, and -U does without"
start_serve writer plain.qcow2
for command in info check map; do
    expect_fail 1 'plain.qcow2.*in use.*-U' "$BREAKWATER" image $command plain.qcow2
    "$BREAKWATER" image $command -U plain.qcow2 >/dev/null
done
expect_fail 2 'plain.qcow2.*in use' "$BREAKWATER" image compare plain.qcow2 same.qcow2
expect_fail 1 'in use' "$BREAKWATER" image create --force plain.qcow2 1M
stop_serve writer
