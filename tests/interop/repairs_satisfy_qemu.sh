#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Images that QEMU made and left damaged, or was killed with, are repaired: qemu-img finds nothing
# any more, the content is the same, and exit codes and output are those of qemu-img check -r.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3 jq nbdcopy
patch_image=$source_root/tests/lib/patch_image.py

# expect CODE COMMAND...
expect() {
    local want=$1 status=0
    shift
    "$@" >out.log 2>err.log || status=$?
    [ $status -eq "$want" ] || { cat out.log err.log >&2 && fail "exit code $status, not $want: $*"; }
}

# repaired IMAGE: qemu-img agrees, and so does a second repair, which finds nothing.
repaired() {
    qemu-img check -q -f qcow2 "$1" >qemu.log 2>&1 || { cat qemu.log >&2 && fail "$1: qemu-img disagrees"; }
    sha256sum "$1" >sum
    expect 0 "$BREAKWATER" image check -r all "$1"
    grep -q 'No errors were found' out.log
    sha256sum --quiet -c sum || fail "a second repair changed $1"
}

make_image() {
    rm -f "$1"
    qemu-img create -q -f qcow2 -o "cluster_size=4k${2:+,$2}" "$1" 8M
    image_io "$1" 'write -P 0x11 0 100k' 'write -P 0x22 3M 50000' 'write -P 0x33 7M 1M'
}

# killed IMAGE COMMAND...: qemu-io commands, and then SIGKILL.
killed() {
    local image=$1 arguments=()
    shift
    for command; do
        arguments+=(-c "$command")
    done
    qemu-io -f qcow2 "${arguments[@]}" -c 'sigraise 9' "$image" >/dev/null 2>&1 || true
}

is_dirty() {
    qemu-img info --output=json -f qcow2 "$1" | jq -e '."dirty-flag"' >/dev/null
}

say "leaks: exit codes, text, fields"
make_image leak.qcow2
"$patch_image" leak.qcow2 'refcount[7]=2'
expect 2 "$BREAKWATER" image check leak.qcow2 # COPIED is set where the refcount is not one
make_image leak.qcow2
python3 - leak.qcow2 <<'EOF'
import struct, sys
with open(sys.argv[1], "r+b") as f:  # refcounts of clusters that are free
    f.seek(0, 2)
    clusters = f.tell() // 4096
    f.seek(48)
    f.seek(struct.unpack(">Q", f.read(8))[0])
    f.seek(struct.unpack(">Q", f.read(8))[0] + 2 * clusters)
    f.write(struct.pack(">HH", 1, 2))
    f.truncate((clusters + 4) * 4096)
EOF
cp leak.qcow2 qemu.qcow2
expect 3 "$BREAKWATER" image check leak.qcow2
expect 3 "$BREAKWATER" image check -r leaks --dry-run leak.qcow2
grep -q 'would be repaired' out.log
grep -q '^    2 leaked clusters$' out.log
cmp leak.qcow2 qemu.qcow2 || fail "a dry run writes"
expect 0 "$BREAKWATER" image check -r leaks --json leak.qcow2
cp out.log ours.json
expect 0 qemu-img check -r leaks --output=json -f qcow2 qemu.qcow2
diff <(jq -S 'del(.filename, ."check-errors")' ours.json) \
    <(jq -S 'del(.filename, ."check-errors")' out.log) || fail "other fields than qemu-img"
[ "$(jq '."leaks-fixed"' ours.json)" -eq 2 ]
repaired leak.qcow2

say "wrong refcounts, COPIED flags, missing and misplaced blocks"
for damage in 'refcount[3]=0' 'refcount[20]=0 refcount[21]=5' 'l1[0]=^0x8000000000000000' \
    'l2[5]=^0x8000000000000000 refcount[9]=0' 'reftable[0]=0' 'reftable[0]=+0x200' \
    'reftable[0]=^0x10000000000' 'reftable[1]=0x1000' 'reftable_clusters=0' 'reftable_off=0x10000000' \
    'incompatible=2' 'incompatible=3 refcount[30]=0' 'autoclear=16 refcount[6]=9'; do
    make_image damaged.qcow2
    cp damaged.qcow2 whole.qcow2
    # shellcheck disable=SC2086 # words
    "$patch_image" damaged.qcow2 $damage
    status=0
    "$BREAKWATER" image check -q damaged.qcow2 >/dev/null 2>&1 || status=$?
    case $damage in
    incompatible=2) [ $status -eq 0 ] ;; # only the mark
    *) [ $status -ge 2 ] || fail "$damage is not found" ;;
    esac
    expect 0 "$BREAKWATER" image check --repair damaged.qcow2
    repaired damaged.qcow2
    same_content damaged.qcow2 qcow2 whole.qcow2 qcow2
    qemu-img info --output=json -f qcow2 damaged.qcow2 |
        jq -e '."format-specific".data.corrupt == false' >/dev/null
done

say "what could only be guessed is left, and nothing is lost with it"
make_image guess.qcow2
"$patch_image" guess.qcow2 'l2[2]=+0x200' 'refcount[40]=0'
expect 2 "$BREAKWATER" image check -r all guess.qcow2
grep -q 'cannot be repaired without guessing' out.log
grep -q 'not aligned' err.log

say "two owners of one cluster: the next write copies it"
make_image twice.qcow2
python3 - twice.qcow2 <<'EOF'
import struct, sys
with open(sys.argv[1], "r+b") as f:  # the second cluster of the disk is the first
    f.seek(40)
    f.seek(struct.unpack(">Q", f.read(8))[0])
    l2 = struct.unpack(">Q", f.read(8))[0] & 0x00fffffffffffe00
    f.seek(l2)
    entry = f.read(8)
    f.seek(l2 + 8)
    f.write(entry)
EOF
expect 0 "$BREAKWATER" image check -r all twice.qcow2
repaired twice.qcow2
image_io twice.qcow2 'write -P 0x77 0 4k' 'read -P 0x11 4k 4k' 'read -P 0x77 0 4k'
expect 0 "$BREAKWATER" image check -r all twice.qcow2 # the other one is alone now
repaired twice.qcow2

say "snapshots: a table that overhangs, extra data too short and too long"
make_image snap.qcow2
qemu-img snapshot -c one snap.qcow2
image_io snap.qcow2 'write -P 0x44 50k 200k'
qemu-img snapshot -c two snap.qcow2
cp snap.qcow2 whole.qcow2
"$patch_image" snap.qcow2 'nb_snapshots=70000'
expect 0 "$BREAKWATER" image check -r all snap.qcow2
qemu-img snapshot -l snap.qcow2 | grep -q two
[ "$("$BREAKWATER" image info --json snap.qcow2 | jq '.snapshots | length')" -eq 2 ]
same_content snap.qcow2 qcow2 whole.qcow2 qcow2
for extra in 8 1032; do
    cp whole.qcow2 snap.qcow2
    python3 - snap.qcow2 $extra <<'EOF'
import struct, sys
extra = int(sys.argv[2])
with open(sys.argv[1], "r+b") as f:  # the first snapshot alone, with extra data of another length
    f.seek(64)
    at = struct.unpack(">Q", f.read(8))[0]
    f.seek(at)
    entry = f.read(4096)
    old = struct.unpack(">I", entry[36:40])[0]
    texts = entry[40 + old:40 + old + sum(struct.unpack(">HH", entry[12:16]))]
    data = entry[40:40 + old].ljust(extra, b"x")[:extra]
    new = entry[:36] + struct.pack(">I", extra) + data + texts
    f.seek(at)
    f.write(new.ljust(4096, b"\0"))
    f.seek(60)
    f.write(struct.pack(">I", 1))
EOF
    expect 0 "$BREAKWATER" image check -r all snap.qcow2
    grep -q "extra_data_size is $extra" err.log
    "$BREAKWATER" image info --json snap.qcow2 | jq -e '.snapshots[0].name == "one"' >/dev/null
    repaired snap.qcow2
    same_content snap.qcow2 qcow2 whole.qcow2 qcow2
done
cp whole.qcow2 snap.qcow2
"$patch_image" snap.qcow2 'snapshot[0].extra=0x70000000'
expect 2 "$BREAKWATER" image check -r all snap.qcow2 # it may hide a snapshot: not dropped
"$patch_image" snap.qcow2 'snapshot[0].extra=24'
cp whole.qcow2 snap.qcow2
expect 0 "$BREAKWATER" image check -r all snap.qcow2
repaired snap.qcow2
same_content snap.qcow2 qcow2 whole.qcow2 qcow2

say "killed with lazy refcounts: check -r all"
make_image lazy.qcow2 lazy_refcounts=on
cp lazy.qcow2 whole.qcow2
killed lazy.qcow2 'write -P 0x55 1M 300k' 'write -P 0x66 10k 10k' flush
image_io whole.qcow2 'write -P 0x55 1M 300k' 'write -P 0x66 10k 10k'
is_dirty lazy.qcow2
"$BREAKWATER" image compare lazy.qcow2 whole.qcow2 >/dev/null || fail "dirty: it cannot be read"
is_dirty lazy.qcow2 || fail "opening it read-only has changed it"
cp lazy.qcow2 served.qcow2
expect 0 "$BREAKWATER" image check -r all lazy.qcow2
! is_dirty lazy.qcow2 || fail "still dirty"
repaired lazy.qcow2
same_content lazy.qcow2 qcow2 whole.qcow2 qcow2
qemu-img info --output=json -f qcow2 lazy.qcow2 |
    jq -e '."format-specific".data."lazy-refcounts"' >/dev/null || fail "the feature is gone"

say "... and opening it for writing"
start_serve writer -f qcow2 served.qcow2
grep -q 'was not closed cleanly' writer.log
nbd_io "$(uri writer)" 'write -P 0x12 2M 100k' 'read -P 0x55 1M 300k' 'read -P 0x66 10k 10k' flush
stop_serve writer
! is_dirty served.qcow2 || fail "still dirty"
repaired served.qcow2
image_io served.qcow2 'read -P 0x12 2M 100k' 'read -P 0x55 1M 300k' 'read -P 0x11 0 10k'

say "... and the file has lost what was written last: nothing is put onto its cluster"
make_image short.qcow2 lazy_refcounts=on
killed short.qcow2 'write -P 0x55 5M 4k' 'write -P 0x66 6M 4k' flush
is_dirty short.qcow2
truncate -s -4096 short.qcow2 # the last cluster, to which an L2 entry points
expect 2 "$BREAKWATER" image check short.qcow2
grep -q 'past the end of the file' err.log
expect 0 "$BREAKWATER" image check -r all short.qcow2
repaired short.qcow2
image_io short.qcow2 'read -P 0x11 0 100k' 'read -P 0x55 5M 4k' 'read -P 0 6M 4k'
image_io short.qcow2 'write -P 0x77 6M 4k' 'write -P 0x78 4M 64k' 'read -P 0x77 6M 4k' \
    'read -P 0x55 5M 4k'
repaired short.qcow2

say "an image in use is not repaired, nor one that cannot be written"
make_image busy.qcow2
start_serve reader -r -f qcow2 busy.qcow2
expect 1 "$BREAKWATER" image check -r all busy.qcow2
stop_serve reader
expect 1 "$BREAKWATER" image check -U -r all busy.qcow2
expect 1 "$BREAKWATER" image check --dry-run busy.qcow2
expect 1 "$BREAKWATER" image check -r some busy.qcow2
expect 63 "$BREAKWATER" image check -f raw -r all busy.qcow2
expect 0 "$BREAKWATER" image check --repair leaks busy.qcow2

say "the images of bench/check are what they should be"
for order in sequential shuffled; do
    "$source_root/bench/check_image.py" --size-gib 2 --order $order bench.qcow2
    expect 0 "$BREAKWATER" image check --json bench.qcow2
    [ "$(jq '."allocated-clusters"' out.log)" -eq 32768 ]
    expect 0 qemu-img check -q -f qcow2 bench.qcow2
done
"$patch_image" bench.qcow2 'refcount[5]=0' 'reftable[0]=0x200'
expect 0 "$BREAKWATER" image check -r all bench.qcow2
repaired bench.qcow2
