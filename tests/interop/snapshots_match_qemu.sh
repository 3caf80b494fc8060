#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Snapshots made, applied and deleted by one program, used by the other; and resizing. Each image is
# checked by qemu-img after each step, and compared with raw copies of what it must hold.
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io jq

bw() {
    "$BREAKWATER" image "$@"
}

# sound IMAGE
sound() {
    qemu-img check -q -f qcow2 "$1" || fail "qemu-img check $1: exit $?"
    bw check -q "$1" || fail "our check of $1: exit $?"
}

# holds IMAGE RAW
holds() {
    qemu-img compare -q -f qcow2 -F raw "$1" "$2" || fail "$1 does not hold what $2 does"
}

# pattern IMAGE BYTE: writes here and there.
pattern() {
    qemu-io -f qcow2 -c "write -P $2 0 300k" -c "write -P $2 700001 5000" -c "write -z 64k 64k" \
        -c "write -P $2 1900k 100k" "$1" >/dev/null
}

# keep IMAGE RAW: what it holds now.
keep() {
    rm -f "$2"
    qemu-img convert -f qcow2 -O raw "$1" "$2"
}

# theirs/ours OP ARGUMENT IMAGE
theirs() {
    qemu-img snapshot "$1" "$2" "$3"
}
ours() {
    bw snapshot -f qcow2 -q "$1" "$2" "$3"
}

# story OPTIONS CREATE APPLY DELETE: the same by different programs.
story() {
    local i=story.qcow2
    rm -f $i
    qemu-img create -q -f qcow2 -o "$1" $i 2M
    pattern $i 1
    keep $i one.raw
    $2 -c one $i
    sound $i
    pattern $i 2
    keep $i two.raw
    $2 -c two $i
    sound $i
    qemu-io -f qcow2 -c "write -P 3 100k 1M" $i >/dev/null
    sound $i
    qemu-img convert -f qcow2 -l one -O raw $i got.raw
    cmp one.raw got.raw || fail "$*: qemu reads another snapshot one"
    bw convert -q -f qcow2 -l snapshot.name=two -O raw $i got2.raw
    cmp two.raw got2.raw || fail "$*: we read another snapshot two"
    rm got.raw got2.raw
    $3 -a one $i
    sound $i
    holds $i one.raw
    pattern $i 4
    sound $i
    $3 -a two $i
    sound $i
    holds $i two.raw
    $4 -d one $i
    sound $i
    holds $i two.raw
    pattern $i 5
    $3 -a two $i
    holds $i two.raw
    $4 -d two $i
    sound $i
    holds $i two.raw
    [ -z "$(bw snapshot -l -f qcow2 $i)" ] || fail "$*: snapshots are left"
}

for o in cluster_size=64k cluster_size=512 cluster_size=2M compat=0.10 \
    refcount_bits=2,cluster_size=4k refcount_bits=64,cluster_size=1k refcount_bits=8 extended_l2=on; do
    story "$o" ours theirs ours
    story "$o" theirs ours theirs
done

# The list, word for word; ids and names.
rm -f l.qcow2
qemu-img create -q -f qcow2 l.qcow2 1M
theirs -c one l.qcow2
ours -c 1 l.qcow2
theirs -c three l.qcow2
qemu-img snapshot -l l.qcow2 | cut -c1-67 >theirs.txt
bw snapshot -l l.qcow2 | cut -c1-67 >ours.txt
diff theirs.txt ours.txt || fail "the lists differ"
[ "$(bw snapshot --json l.qcow2 | jq -r '.[] | .id + .name + (."disk-size" | tostring)' | tr '\n' ' ')" = \
    "1one1048576 211048576 3three1048576 " ] || fail "$(bw snapshot --json l.qcow2)"
ours -d 1 l.qcow2 # the name goes before the id
[ "$(bw snapshot --json l.qcow2 | jq -r '.[].name' | tr '\n' ' ')" = "one three " ] || fail "-d"
ours -d 3 l.qcow2
! ours -d 3 l.qcow2 2>err || fail "deleted twice"
grep -q "there is no snapshot with the id or name '3'" err || fail "$(cat err)"
! ours -a nobody l.qcow2 2>/dev/null || fail "applied nothing"
bw snapshot -c x -l l.qcow2 2>/dev/null && fail "two things at a time"
rm -f raw.raw
truncate -s 1M raw.raw
bw snapshot -f raw -l raw.raw 2>/dev/null && fail "a raw image with snapshots"
qemu-img create -q -f qcow2 -o refcount_bits=1 narrow.qcow2 1M
qemu-io -c 'write 0 64k' narrow.qcow2 >/dev/null
! ours -c x narrow.qcow2 2>err || fail "a snapshot with refcounts of one bit"
grep -q "refcounts of 1 bits are too narrow" err || fail "$(cat err)"
sound narrow.qcow2

# A disk that has had another size: both apply the size, too.
rm -f s.qcow2
qemu-img create -q -f qcow2 -o cluster_size=4k s.qcow2 1M
qemu-io -c 'write -P 9 0 1M' s.qcow2 >/dev/null
keep s.qcow2 small.raw
ours -c small s.qcow2
bw resize -q s.qcow2 +2M
sound s.qcow2
qemu-io -c 'write -P 8 1M 2M' s.qcow2 >/dev/null
keep s.qcow2 large.raw
theirs -c large s.qcow2
ours -a small s.qcow2
sound s.qcow2
holds s.qcow2 small.raw
theirs -a large s.qcow2
ours -a small s.qcow2
ours -a large s.qcow2
sound s.qcow2
holds s.qcow2 large.raw

# Resizing.
bw resize s.qcow2 1M 2>err && fail "shrunk without being told to"
grep -q -- --shrink err || fail "$(cat err)"
bw resize --shrink s.qcow2 -1000K | grep -qx 'Image resized.' || fail "no word of it"
sound s.qcow2
truncate -s $((3 * 1024 * 1024 - 1000 * 1024)) large.raw
holds s.qcow2 large.raw
bw resize -q --shrink s.qcow2 4k
bw resize -q s.qcow2 8M
truncate -s 4k large.raw
truncate -s 8M large.raw
sound s.qcow2
holds s.qcow2 large.raw
ours -d small s.qcow2
ours -d large s.qcow2
bw resize -q --shrink s.qcow2 64k
[ "$(stat -c %s s.qcow2)" -le 1200000 ] || fail "the file has $(stat -c %s s.qcow2) bytes"
for how in metadata falloc full metadata,extended_l2=on falloc,extended_l2=on; do
    mode=${how%%,*}
    rm -f p.qcow2
    case $how in
        *extended*) options=extended_l2=on ;;
        *) options=cluster_size=4k ;;
    esac
    qemu-img create -q -f qcow2 -o $options p.qcow2 300k
    qemu-io -c 'write -P 9 0 300k' p.qcow2 >/dev/null
    keep p.qcow2 p.raw
    truncate -s 10M p.raw
    bw resize -q --preallocation $mode p.qcow2 10M
    sound p.qcow2
    holds p.qcow2 p.raw
    qemu-img map --output=json p.qcow2 | jq -e 'all(.present and has("offset"))' >/dev/null ||
        fail "$mode: not all is allocated"
    [ $mode = metadata ] || [ "$(stat -c %b p.qcow2)" -ge 20480 ] || fail "$mode: no space is set aside"
    cp p.raw r.raw
    bw resize -f raw -q r.raw 12M --preallocation $mode 2>/dev/null && fail "SIZE is the last word"
    if [ $mode = metadata ]; then
        bw resize -f raw -q --preallocation $mode r.raw 12M 2>/dev/null && fail "metadata of raw"
    else
        bw resize -f raw -q --preallocation $mode r.raw 12M
        [ "$(stat -c %s r.raw)" = 12582912 ] || fail "raw: $(stat -c %s r.raw)"
        cmp -n 10485760 p.raw r.raw
    fi
done
# With the data in another file.
for o in data_file=d.raw data_file=d.raw,data_file_raw=on; do
    rm -f d.raw e.qcow2 e.raw
    qemu-img create -q -f qcow2 -o $o e.qcow2 3M
    qemu-io -c 'write -P 7 0 1900k' -c 'write -P 8 2500k 5k' -c 'discard 200k 70k' e.qcow2 >/dev/null
    keep e.qcow2 e.raw
    for mode in off metadata falloc full; do
        bw resize -q --preallocation $mode e.qcow2 +1M
        truncate -s +1M e.raw
        sound e.qcow2
        holds e.qcow2 e.raw
    done
    bw resize -q --shrink e.qcow2 1999k
    [ "$(stat -c %s d.raw)" = $((1999 * 1024)) ] || fail "the data file has $(stat -c %s d.raw) bytes"
    bw resize -q e.qcow2 4M
    truncate -s 1999k e.raw
    truncate -s 4M e.raw
    sound e.qcow2
    holds e.qcow2 e.raw
    case $o in *raw=on) cmp d.raw e.raw || fail "$o: the data file is not the disk" ;; esac
    ! ours -c x e.qcow2 2>err || fail "a snapshot of an image with a data file"
    grep -q 'external data file can have no snapshots' err || fail "$(cat err)"
done

bw resize -q -f raw --shrink r.raw 5k
cmp -n 5120 p.raw r.raw
[ "$(stat -c %s r.raw)" = 5120 ] || fail "raw: $(stat -c %s r.raw)"
rm -f v2.qcow2
qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 1M
ours -c x v2.qcow2
bw resize -q v2.qcow2 2M 2>err && fail "version 2 with snapshots"
grep -q "do not store their size (version 2)" err || fail "$(cat err)"
