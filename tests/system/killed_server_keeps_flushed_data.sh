#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A server killed at any moment leaves an image that is not corrupt, and in which every block is at
# least as new as the last flush that was acknowledged. Clusters may have leaked, no more.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "python3-libnbd is not installed"

seed=${SEED:-$RANDOM}
echo "seed $seed (SEED=$seed replays the requests)"

# Writes blocks of 4 KiB that each hold their number and a version, with zeros and discards between,
# flushes now and then; logs "v BLOCK VERSION" when issued, "f" when a flush was acknowledged.
cat >writer.py <<'END'
import random, struct, sys
import nbd
uri, seed, log = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "w", buffering=1)
rng = random.Random(seed)
h = nbd.NBD()
h.connect_uri(uri)
blocks = h.get_size() // 4096
version = 0
try:
    while True:
        for _ in range(rng.randrange(1, 60)):
            version += 1
            first, count = rng.randrange(blocks), rng.choice([1, 1, 1, 4, 40])
            count = min(count, blocks - first)
            zero = rng.randrange(8) == 0
            for block in range(first, first + count):
                log.write("v %d %d\n" % (block, -version if zero else version))
            if zero:
                h.zero(count * 4096, first * 4096)
            else:
                h.pwrite(b"".join(struct.pack(">QQ", block, version) * 256
                                  for block in range(first, first + count)), first * 4096)
        h.flush()
        log.write("f\n")
except nbd.Error:
    pass
END

# For every block: which versions may be there (0: never written), judged against the raw content.
cat >judge.py <<'END'
import struct, sys
allowed, flushes = {}, 0
for line in open(sys.argv[1]):
    words = line.split()
    if words == ["f"]:
        flushes += 1
        for block in allowed:
            allowed[block] = allowed[block][-1:]
    elif len(words) == 3:
        allowed.setdefault(int(words[1]), [0]).append(int(words[2]))
with open(sys.argv[2], "rb") as image:
    for block, versions in allowed.items():
        image.seek(block * 4096)
        data = image.read(4096)
        fine = any(data == (bytes(4096) if v <= 0 else struct.pack(">QQ", block, v) * 256)
                   for v in versions)
        if not fine:
            sys.exit("block %d holds %s; allowed are versions %s" %
                     (block, struct.unpack(">QQ", data[:16]), versions))
print("%d flushes, %d blocks" % (flushes, len(allowed)))
END

for round in 1 2 3 4 5 6 7 8; do
    cluster=$((round % 2 ? 65536 : 4096))
    qemu-img create -q -f qcow2 -o cluster_size=$cluster disk.qcow2 24M
    start_serve s -f qcow2 -B daily disk.qcow2
    /usr/bin/python3 writer.py "$(uri s)" $((seed + round)) writes.log 2>writer.err &
    writer=$!
    wait_for 20 grep -qs f writes.log
    sleep 0.$((RANDOM % 9))
    kill_serve s
    wait $writer || { cat writer.err >&2 && fail "the writer failed"; }
    no_sanitizer_report s.log
    status=0
    qemu-img check -f qcow2 disk.qcow2 >check.out 2>&1 || status=$?
    [ $status -eq 0 ] || [ $status -eq 3 ] || { cat check.out >&2 && fail "round $round: corrupt"; }
    qemu-img convert -f qcow2 -O raw disk.qcow2 disk.raw
    python3 judge.py writes.log disk.raw || fail "round $round: flushed data is lost"
    # It is served again as if nothing had been.
    start_serve s -f qcow2 disk.qcow2
    nbd_io "$(uri s)" 'write -P 9 1M 1M' 'read -P 9 1M 1M'
    stop_serve s
    status=0
    qemu-img check -f qcow2 disk.qcow2 >check.out 2>&1 || status=$?
    [ $status -eq 0 ] || [ $status -eq 3 ] || { cat check.out >&2 && fail "round $round: corrupt later"; }
    rm -f disk.qcow2 disk.raw writes.log
done
