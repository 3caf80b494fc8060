#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A plain NBD client takes an incremental backup without any second channel: connecting to EXPORT@NAME
# freezes the disk under that name, and the views' contexts tell what changed in between.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io nbdinfo nbdcopy python3

qemu-img create -q -f qcow2 disk.qcow2 64M
image_io disk.qcow2 "${fixture_base[@]}"
start_serve s -x disk -f qcow2 -B daily --view-grace 10s --scratch-dir "$tmp" disk.qcow2

say "monday: a full copy, and the moment has a name"
nbdcopy "$(uri s disk@monday)" monday.raw
qemu-img convert -f raw -O raw "$(uri s disk)" reference.raw
cmp monday.raw reference.raw

say "tuesday: the view stays while the disk changes, with several connections to it"
nbd_io "$(uri s disk)" "${fixture_batch1[@]}"
qemu-img convert -f raw -O raw "$(uri s disk)" reference.raw
extents "$(uri s disk@tuesday)" qemu:dirty-bitmap:monday >changes.out
nbd_io "$(uri s disk)" "${fixture_batch2[@]}" 'write -z 32M 64k' 'discard 16M 64k'
nbdcopy --connections=4 "$(uri s disk@tuesday)" tuesday.raw
cmp tuesday.raw reference.raw

say "the changes are batch 1, at 64 KiB, as the specification's vector has them"
cat >expected.out <<END
0 65536 1
65536 16711680 0
16777216 262144 1
17039360 16449536 0
33488896 131072 1
33619968 33488896 0
END
cmp changes.out expected.out

say "wednesday: against each earlier day, and the export's own bitmap as it was"
nbdinfo --list "$(uri s)" >list.out # listing freezes nothing
extents "$(uri s disk@wednesday)" qemu:dirty-bitmap:monday >since-monday.out
extents "$(uri s disk@wednesday)" qemu:dirty-bitmap:tuesday >since-tuesday.out
extents "$(uri s disk@wednesday)" qemu:dirty-bitmap:daily >daily.out
cmp since-monday.out daily.out
python3 - <<'END'
def dirty(name):
    return sum(int(length) for _, length, kind in map(str.split, open(name)) if kind == "1")
assert dirty("since-monday.out") == 1638400, dirty("since-monday.out")
# Batch 2 and the zeroed granule; the discarded one is among batch 2's.
assert dirty("since-tuesday.out") == 1507328 + 65536, dirty("since-tuesday.out")
END

say "monday's view is gone, but a base it stays"
sleep 10.5 # a try before would join the view and keep it
expect_fail 1 'no longer readable' qemu-img info "$(uri s disk@monday)"
alive s
[ -z "$(find . -name '*scratch*')" ] || fail "scratch files have names"
stop_serve s
check_image disk.qcow2
