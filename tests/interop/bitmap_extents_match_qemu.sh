#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What `-B NAME` records and publishes is what QEMU would: the extents and counts of the write batches
# of QEMU's iotest 124, at three granularities at once; and QEMU's own client reads them.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io nbdinfo python3

fixture() {
    qemu-img create -q -f qcow2 disk.qcow2 64M
    image_io disk.qcow2 "${fixture_base[@]}"
    start_serve s -f qcow2 -B g64 -B g32,granularity=32k -B g128,granularity=131072 disk.qcow2
}

expect_counts() {
    local bitmap
    for bitmap in g64 g32 g128; do
        [ "$(dirty_bytes "$(uri s)" $bitmap)" -eq "$1" ] ||
            fail "$bitmap: $(dirty_bytes "$(uri s)" $bitmap) bytes dirty, expected $1"
        shift
    done
}

say "a fresh bitmap is clean and one extent"
fixture
expect_counts 0 0 0
[ "$(extents "$(uri s)" qemu:dirty-bitmap:g64)" = '0 67108864 0' ] || fail "not one clean extent"

say "reading marks nothing"
nbd_io "$(uri s)" 'read -P 0x41 0 512' 'read 0 64M' flush
expect_counts 0 0 0

say "batch 1: the known extents"
nbd_io "$(uri s)" "${fixture_batch1[@]}"
expect_counts 458752 360448 655360
cat >expected <<END
0 65536 1
65536 16711680 0
16777216 262144 1
17039360 16449536 0
33488896 131072 1
33619968 33488896 0
END
extents "$(uri s)" qemu:dirty-bitmap:g64 >got
diff expected got

say "batches 1 and 2"
nbd_io "$(uri s)" "${fixture_batch2[@]}"
expect_counts 1638400 1507328 1835008

say "QEMU's client sees the bitmap as a map"
qemu-img map --output=json --image-opts \
    "driver=nbd,server.type=unix,server.path=$tmp/s.sock,x-dirty-bitmap=qemu:dirty-bitmap:g64" \
    >map.json
python3 - <<'END'
import json
dirty = sum(e["length"] for e in json.load(open("map.json")) if not e["data"])
assert dirty == 1638400, dirty
END

say "all contexts are listed, and several can be asked at once"
nbdinfo --no-content --json "$(uri s)" | python3 -c '
import json, sys
contexts = json.load(sys.stdin)["exports"][0]["contexts"]
wanted = {"base:allocation"} | {"qemu:dirty-bitmap:" + n for n in ("g64", "g32", "g128")}
assert wanted <= set(contexts), contexts'
stop_serve s

say "batch 2 alone"
fixture
nbd_io "$(uri s)" "${fixture_batch2[@]}"
expect_counts 1507328 1441792 1572864

say "zeros and discards are changes, too"
nbd_io "$(uri s)" 'write -z 40M 64k' 'discard 48M 64k'
expect_counts $((1507328 + 131072)) $((1441792 + 131072)) $((1572864 + 262144))
stop_serve s
check_image disk.qcow2
