#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# `image convert` makes images that hold what the source holds, judged by QEMU, and that are as
# sparse as QEMU's.
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io qemu-nbd nbdinfo

image() {
    "$BREAKWATER" image "$@"
}

# converted TARGET FORMAT: it holds what the source does, and is sound.
converted() {
    same_content "$1" "$2" source.raw raw
    [ "$2" = raw ] || check_image "$1"
    rm -f "$1"
}

# A disk whose data, zeros and holes end at odd places, also at its end; half of it compressible.
qemu-img create -q -f qcow2 base.qcow2 13M
image_io base.qcow2 'write -P 7 0 300k' 'write -P 8 4M 1234k' 'write -P 9 12M 1M'
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 source.qcow2 17408512
image_io source.qcow2 'write -P 1 70k 513' 'write -z 5M 100k' 'write -P 0 6M 200k' \
    'write -P 2 15M 700k' 'write -z 12M 64k' 'write -P 3 17408000 512'
head -c 900k /dev/urandom >noise
image_io source.qcow2 'write -s noise 8M 900k'
qemu-img convert -f qcow2 -O raw source.qcow2 source.raw
# A second generation: compressed clusters of both kinds above it, read by us.
qemu-img convert -c -O qcow2 -o compression_type=zstd source.qcow2 packed.qcow2

say "raw and qcow2 in any direction"
for options in "" "-W -m 16" "-m 1" "-S 64k" "-S 512" "-S 0" "-t none -T none" "-t unsafe" "-U"; do
    # shellcheck disable=SC2086
    {
        image convert $options -O raw source.qcow2 t.raw && converted t.raw raw
        image convert $options source.qcow2 t.qcow2 && converted t.qcow2 qcow2
        image convert $options packed.qcow2 t.qcow2 && converted t.qcow2 qcow2
        image convert $options -f raw -O qcow2 source.raw t.qcow2 && converted t.qcow2 qcow2
        image convert $options -f raw -O raw source.raw t.raw && converted t.raw raw
    }
done
image convert -C -f raw -O raw source.raw t.raw
converted t.raw raw
for create in cluster_size=512 cluster_size=4k cluster_size=2M compat=0.10 refcount_bits=1 \
    cluster_size=1k,refcount_bits=64 extended_l2=on extended_l2=on,cluster_size=2M; do
    image convert -o "$create" source.qcow2 t.qcow2
    converted t.qcow2 qcow2
    [[ $create == *refcount_bits=1 ]] || image convert -c -o "$create" source.qcow2 t.qcow2
    [[ $create == *refcount_bits=1 ]] || converted t.qcow2 qcow2
done
image convert -o size=40M source.qcow2 t.qcow2
[ "$(qemu-img info --output=json t.qcow2 | grep -c '"virtual-size": 41943040')" = 1 ]

say "as sparse as QEMU's"
allocated() {
    qemu-img map --output=json -f "$2" "$1" | python3 -c 'import json, sys
print(sum(e["length"] for e in json.load(sys.stdin) if e["data"]))'
}
for options in "-O raw" "-O raw -S 64k" "-O qcow2" "-O qcow2 -o cluster_size=4k" "-O qcow2 -c" \
    "-O raw -S 0" "-O qcow2 -S 0" "-O qcow2 -o extended_l2=on"; do
    # shellcheck disable=SC2086
    image convert $options source.qcow2 ours
    # shellcheck disable=SC2086
    qemu-img convert $options source.qcow2 theirs
    format=$(set -- $options && echo "$2")
    a=$(allocated ours "$format") b=$(allocated theirs "$format")
    [ "$a" -le "$b" ] || fail "$options: $a bytes of data, QEMU has $b"
    a=$(stat -c %s ours) b=$(stat -c %s theirs)
    [ "$a" -le $((b + 65536)) ] || fail "$options: $a bytes long, QEMU's is $b"
done

say "several images become one"
head -c 1000 noise >odd.raw
image convert -f raw -O raw odd.raw source.raw odd.raw t.raw
qemu-img convert -f raw -O raw odd.raw source.raw odd.raw theirs
cmp t.raw theirs
image convert -c source.qcow2 packed.qcow2 base.qcow2 t.qcow2
qemu-img convert -f qcow2 -O raw source.qcow2 packed.qcow2 base.qcow2 theirs
same_content t.qcow2 qcow2 theirs raw

say "with a backing file only what is above it is copied"
for create in cluster_size=64k cluster_size=512 cluster_size=2M; do
    image convert -B base.qcow2 -F qcow2 -o "$create" source.qcow2 t.qcow2
    qemu-img map --output=json t.qcow2 | grep -q '"depth": 1' || fail "nothing left to the backing file"
    converted t.qcow2 qcow2
    image convert -c -b base.qcow2 -F qcow2 -o "$create" source.qcow2 t.qcow2
    converted t.qcow2 qcow2
done
image convert -B base.qcow2 -F qcow2 -f raw source.raw t.qcow2
converted t.qcow2 qcow2

say "into a target that exists"
for target in "raw t.raw" "qcow2 t.qcow2"; do
    read -r format name <<<"$target"
    qemu-img create -q -f "$format" "$name" 17408512
    qemu-io -f "$format" -c 'write -P 0xee 0 17408512' "$name" >io.out
    image convert -n -O "$format" source.qcow2 "$name"
    converted "$name" "$format"
    qemu-img create -q -f "$format" "$name" 17408512
    image convert -n --target-is-zero -O "$format" source.qcow2 "$name"
    converted "$name" "$format"
done
qemu-img create -q -f raw small.raw 1M
expect_fail 1 'small.raw has 1048576 bytes' image convert -n -O raw source.qcow2 small.raw

say "an internal snapshot"
qemu-img create -q -f qcow2 states.qcow2 4M
image_io states.qcow2 'write -P 1 0 1M' 'write -P 2 3M 64k'
qemu-img snapshot -c first states.qcow2
image_io states.qcow2 'write -P 3 0 2M'
qemu-img convert -l first -O raw states.qcow2 theirs
for which in first 1 snapshot.name=first snapshot.id=1,snapshot.name=first; do
    image convert -l $which states.qcow2 t.qcow2
    same_content t.qcow2 qcow2 theirs raw
done
[ "$(image measure -l first -O qcow2 states.qcow2)" = "$(qemu-img measure -l first -O qcow2 states.qcow2)" ]
expect_fail 1 "second" image convert -l second states.qcow2 t.qcow2
expect_fail 1 'has no snapshots' image convert -l first -f raw source.raw t.qcow2

say "stored bitmaps"
qemu-img create -q -f qcow2 maps.qcow2 8M
qemu-img bitmap --add maps.qcow2 one
image_io maps.qcow2 'write -P 1 1M 200k'
qemu-img bitmap --add -g 4k maps.qcow2 two
image_io maps.qcow2 'write -P 2 5M 20k'
qemu-img bitmap --disable maps.qcow2 one
# dirty IMAGE BITMAP: the dirty ranges, as QEMU serves them.
dirty() {
    rm -f dirty.sock
    qemu-nbd -r -k "$tmp/dirty.sock" -B "$2" -f qcow2 "$1" &
    wait_for 10 listening "$tmp/dirty.sock"
    nbdinfo --map="qemu:dirty-bitmap:$2" "nbd+unix:///?socket=$tmp/dirty.sock"
    wait $! || true
}
flags() {
    qemu-img info --output=json "$1" | python3 -c 'import json, sys
print(json.load(sys.stdin)["format-specific"]["data"].get("bitmaps"))'
}
for options in "" "-c" "-o cluster_size=512"; do
    # shellcheck disable=SC2086
    image convert --bitmaps $options maps.qcow2 t.qcow2
    [ "$(flags t.qcow2)" = "$(flags maps.qcow2)" ]
    for name in one two; do
        [ "$(dirty t.qcow2 $name)" = "$(dirty maps.qcow2 $name)" ] || fail "bitmap $name differs"
    done
    check_image t.qcow2
done
image convert maps.qcow2 t.qcow2
[ "$(flags t.qcow2)" = None ] || fail "bitmaps were copied without being asked for"
expect_fail 1 'is for --bitmaps' image convert --skip-broken-bitmaps maps.qcow2 t.qcow2
expect_fail 1 'can have none' image convert --bitmaps -f raw source.raw t.qcow2
expect_fail 1 'a qcow2 target' image convert --bitmaps -O raw maps.qcow2 t.raw
expect_fail 1 "version 2|cannot store|not be stored|compat" image convert --bitmaps -o compat=0.10 maps.qcow2 new.qcow2
[ ! -e new.qcow2 ]
# One that a crash has left in use.
mkfifo hold
qemu-io -f qcow2 maps.qcow2 <hold >io.out 2>&1 &
holder=$!
exec 7>hold
echo 'write -P 3 0 64k' >&7
wait_for 10 grep -q wrote io.out
kill -KILL $holder
wait $holder 2>/dev/null || true
exec 7>&-
expect_fail 1 "inconsistent bitmap '(one|two)'" image convert --bitmaps maps.qcow2 new.qcow2
image convert -q --bitmaps --skip-broken-bitmaps maps.qcow2 t.qcow2
[ "$(flags t.qcow2)" = None ] || fail "broken bitmaps were copied"

rm -f t.qcow2

say "what makes no sense is refused"
expect_fail 1 'cannot be compressed' image convert -c -O raw source.qcow2 t.raw
expect_fail 1 'what is the format' image convert -B base.qcow2 source.qcow2 t.qcow2
expect_fail 1 'has no backing file' image convert -B base.qcow2 -F qcow2 -O raw source.qcow2 t.raw
expect_fail 1 'no compressed clusters' image convert -c -o data_file=x source.qcow2 t.qcow2

say "a data file is made with the target, and replaced with it"
mkdir apart
for options in data_file_raw=on data_file_raw=off data_file_raw=off,extended_l2=on; do
    image convert -o data_file=t.data,$options source.qcow2 apart/t.qcow2
    image compare -q apart/t.qcow2 source.qcow2
    cd apart # where QEMU looks for the data file
    same_content t.qcow2 qcow2 ../source.qcow2 qcow2
    check_image t.qcow2
    rm ./*.out
    cd ..
    [[ $options = *=off* ]] || same_content apart/t.data raw source.qcow2 qcow2
    sha256sum apart/* >sums
    expect_fail 1 'in use' image convert -f raw -O qcow2 -o data_file=t.data,$options apart/t.data apart/t.qcow2
    sha256sum --quiet -c sums
done
[ "$(ls apart)" = "t.data
t.qcow2" ]
expect_fail 1 '-C does not go with' image convert -C -S 4k -O raw source.qcow2 t.raw
expect_fail 1 'for a target that exists' image convert --target-is-zero source.qcow2 t.qcow2
expect_fail 1 'not enough' image convert -o size=1M source.qcow2 t.qcow2
expect_fail 1 'does not belong to convert' image convert -d source.qcow2 t.qcow2
expect_fail 1 "what is the format of 't'" image convert source.qcow2 t
[ ! -e t.qcow2 ] && [ ! -e t.raw ] && [ ! -e t ] || fail "a refused convert left a target"

say "progress is shown on request only"
image convert source.qcow2 t.qcow2 >out 2>&1
[ ! -s out ] || fail "it talks"
image convert -p source.qcow2 t.qcow2 2>out
grep -q '(100.00/100%)' out
