#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Every client of other projects that is at hand works as a client: nbdinfo, nbdcopy, qemu-img,
# qemu-io, `qemu-nbd --list`, nbdkit's nbd plugin, fio.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io qemu-nbd nbdinfo nbdcopy nbdkit python3

qemu-img create -q -f qcow2 disk.qcow2 64M
image_io disk.qcow2 'write -P 0x41 0 1M' 'write -z 1M 64k' 'write -P 0x42 32M 2M'
qemu-img convert -f qcow2 -O raw disk.qcow2 disk.raw
start_serve s -x disk -D 'a disk of tests' -f qcow2 disk.qcow2
disk=$(uri s disk)

say "nbdinfo: size, flags, JSON"
[ "$(nbdinfo --size "$disk")" -eq $((64 << 20)) ] || fail "wrong size"
nbdinfo --no-content --json "$disk" >info.json
python3 - <<'END'
import json
info = json.load(open("info.json"))
export = info["exports"][0]
assert info["protocol"] == "newstyle-fixed", info
assert info["structured"] is True, info
assert export["export-name"] == "disk", export
assert export["export-size"] == 64 << 20, export
assert "base:allocation" in export["contexts"], export
assert export["is_read_only"] is False, export
for ability in ("can_flush", "can_fua", "can_trim", "can_zero", "can_df", "can_multi_conn",
                "can_cache"):
    assert export[ability] is True, (ability, export)
assert export["block_size_minimum"] >= 1 and export["block_size_maximum"] >= 32 << 20, export
END
for ability in write flush fua trim zero df multi-conn cache; do
    nbdinfo --can "$ability" "$disk" || fail "nbdinfo --can $ability"
done

say "nbdinfo --list and qemu-nbd --list"
nbdinfo --no-content --list "$(uri s)" >list.out
grep -q 'export="disk"' list.out
grep -q 'a disk of tests' list.out
qemu-nbd --list -k "$tmp/s.sock" >list.out
grep -q "export: 'disk'" list.out
grep -q 'base:allocation' list.out

say "an unknown export is refused, and the server stays"
expect_fail 1 . nbdinfo "$(uri s nosuch)"
alive s

say "nbdinfo --map: data, holes and zeros lie where they were put"
extents "$disk" base:allocation >map.out
python3 - <<'END'
M = 1 << 20
rows = [tuple(map(int, line.split())) for line in open("map.out")]
assert sum(length for _, length, _ in rows) == 64 * M, rows
def flags(at):
    return next(kind for offset, length, kind in rows if offset <= at < offset + length)
assert flags(0) == 0 and flags(M - 1) == 0, rows
assert flags(M) & 2 and flags(M + 65535) & 2, rows        # written as zeros
assert flags(2 * M) == 3, rows                            # never written: hole, zero
assert flags(32 * M) == 0 and flags(34 * M - 1) == 0, rows
assert flags(34 * M) == 3, rows
END

say "qemu-img: info, map, convert, compare"
qemu-img info -f raw "$disk" | grep -q '64 MiB'
qemu-img map -f raw --output=json "$disk" >map.json
python3 - <<'END'
import json
data = sum(e["length"] for e in json.load(open("map.json")) if e["data"])
assert data == 3 << 20, data
END
qemu-img convert -f raw -O qcow2 "$disk" out.qcow2
same_content out.qcow2 qcow2 disk.raw raw
same_content "$disk" raw disk.raw raw

say "nbdcopy: out, in, and to nowhere"
nbdcopy --connections=4 --requests=64 "$disk" out.raw
cmp out.raw disk.raw
nbdcopy "$disk" null:

say "qemu-io: write, zero, discard, flush, forced unit access, across clusters and at odd offsets"
nbd_io "$disk" 'write -P 0x51 100 70000' 'read -P 0x51 100 70000' 'read -P 0x41 0 100' \
    'write -f -P 0x52 5M 64k' 'flush' 'read -P 0x52 5M 64k' 'write -z 5M 32k' 'read -P 0 5M 32k' \
    'read -P 0x52 5152k 32k' 'discard 32M 1M' 'read -P 0x42 33M 1M' 'aio_write -P 0x61 40M 1M' \
    'aio_write -P 0x62 41M 1M' 'aio_flush' 'read -P 0x61 40M 1M' 'read -P 0x62 41M 1M'

say "nbdkit's nbd plugin, with a client of its own behind it"
# shellcheck disable=SC2016
nbdkit -U - nbd uri="$disk" --run 'nbdcopy "$uri" through.raw'
nbdcopy "$disk" direct.raw
cmp through.raw direct.raw
# shellcheck disable=SC2016
nbdkit -U - nbd uri="$disk" --run 'qemu-io -f raw -c "write -P 0x71 50M 100k" "$uri"' >/dev/null
nbd_io "$disk" 'read -P 0x71 50M 100k'

say "the image is whole afterwards"
stop_serve s
check_image disk.qcow2
image_io disk.qcow2 'read -P 0x71 50M 100k' 'read -P 0x61 40M 1M' 'read -P 0x52 5152k 32k'

say "over TCP"
port=$(free_port)
"$BREAKWATER" serve -b 127.0.0.1 -p "$port" -t -f qcow2 disk.qcow2 >tcp.log 2>&1 </dev/null &
server_pid[tcp]=$!
wait_for 20 nbdinfo --size "nbd://127.0.0.1:$port" >/dev/null 2>&1
nbd_io "nbd://127.0.0.1:$port" 'read -P 0x71 50M 100k' 'write -P 0x72 51M 4k'
stop_serve tcp
check_image disk.qcow2
