#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Makes the seeds of fuzz_image and fuzz_check anew, with qemu-img and qemu-io: small images of every
# feature (image/), and those that fuzz_image cannot judge, as their data is elsewhere, or must not, as
# they were not closed (check/). fuzz_qcow2 is given all of them. Kept in the repository, so that
# nobody needs QEMU to run the fuzzers.
set -euo pipefail
cd "${0%/*}/../fuzz/seeds/image"

# make NAME OPTIONS SIZE COMMAND...: the commands are qemu-io's.
make() {
    local name=$1 options=$2 size=$3 arguments=()
    shift 3
    for command; do
        arguments+=(-c "$command")
    done
    rm -f "$name"
    qemu-img create -q -f qcow2 -o "$options" "$name" "$size"
    [ $# -eq 0 ] || qemu-io -f qcow2 "${arguments[@]}" "$name" >/dev/null
}

make empty cluster_size=512 32k
make v2 cluster_size=512,compat=0.10 32k 'write -P 1 0 3k' 'write -P 2 20k 1k' 'discard 1k 1k'
make v3 cluster_size=512 32k 'write -P 1 0 3k' 'write -P 2 20k 1k' 'write -z 1k 1k' 'discard 0 512'
make zeros cluster_size=512 64k 'write -z 0 4k' 'write -P 3 33k 100' 'write -z -u 33k 512'
make one_bit cluster_size=512,refcount_bits=1 32k 'write -P 1 5k 2k'
for bits in 2 4 8 32; do
    make refcounts_$bits cluster_size=512,refcount_bits=$bits 32k 'write -P 1 5k 2k'
done
make wide cluster_size=512,refcount_bits=64 128k 'write -P 1 0 12k'
make subclusters extended_l2=on,cluster_size=16k 256k 'write -P 1 0 1k' 'write -P 2 20k 2k' \
    'write -z 40k 2k' 'write -P 3 100k 20k' 'write -z 104k 4k'
make snapshots cluster_size=512 24k 'write -P 1 0 6k'
qemu-img snapshot -c first snapshots
qemu-io -f qcow2 -c 'write -P 2 1k 2k' snapshots >/dev/null
qemu-img snapshot -c second snapshots
make bitmaps cluster_size=512 64k 'write -P 1 0 1k'
qemu-img bitmap --add -g 512 bitmaps one
qemu-io -f qcow2 -c 'write -P 2 30k 2k' bitmaps >/dev/null
make backed cluster_size=1024 48k 'write -P 1 0 3k' 'write -P 2 20k 1k'
qemu-img rebase -q -u -b none.raw -F raw backed
make large_clusters cluster_size=2048 128k 'write -P 7 8k 3k'
make preallocated cluster_size=512,preallocation=metadata 8k 'write -P 1 1k 1k'

# Compressed clusters that share host clusters, one of them overwritten; and one that is a hole.
python3 -c 'import sys; sys.stdout.buffer.write(bytes((i % 50 + i // 4096) & 255 for i in range(16384)))' >packed.raw
for type in zlib zstd; do
    qemu-img convert -c -f raw -O qcow2 -o cluster_size=1024,compression_type=$type packed.raw $type
    qemu-io -f qcow2 -c 'write -P 9 2k 1k' -c 'write -z 5k 1k' $type >/dev/null
done
# The same, shared with a snapshot; in version 2; with subclusters.
cp zlib packed_snapshots
qemu-img snapshot -c first packed_snapshots
qemu-io -f qcow2 -c 'write -P 8 0 1k' packed_snapshots >/dev/null
qemu-img convert -c -f raw -O qcow2 -o cluster_size=1024,compat=0.10 packed.raw packed_v2
qemu-img convert -c -f raw -O qcow2 -o cluster_size=16k,extended_l2=on,compression_type=zstd \
    packed.raw packed_subclusters
qemu-io -f qcow2 -c 'write -P 8 1k 1k' packed_subclusters >/dev/null
rm packed.raw

# A leak: the refcount of a data cluster is 2, and so its COPIED flag is clear.
cp v3 leak
/usr/bin/python3 - leak <<'END'
import struct, sys
with open(sys.argv[1], "r+b") as f:
    def be64(at):
        f.seek(at)
        return struct.unpack(">Q", f.read(8))[0]
    l1, reftable = be64(40), be64(48)
    l2 = be64(l1) & 0x00fffffffffffe00
    block = be64(reftable)
    for at in range(l2, l2 + 512, 8):
        entry = be64(at)
        if entry >> 63 and not entry & 1:
            f.seek(at)
            f.write(struct.pack(">Q", entry & ~(1 << 63)))
            f.seek(block + 2 * ((entry & 0x00fffffffffffe00) // 512))
            f.write(struct.pack(">H", 2))
            break
END

mkdir -p ../check
cd ../check
make snapshots cluster_size=512 24k 'write -P 1 0 6k'
qemu-img snapshot -c first snapshots
qemu-io -f qcow2 -c 'write -P 2 1k 2k' snapshots >/dev/null
qemu-img snapshot -c second snapshots
qemu-io -f qcow2 -c 'write -P 3 20k 1k' -c 'discard 0 1k' snapshots >/dev/null
qemu-img snapshot -c third snapshots
make snapshots_v2 cluster_size=1024,compat=0.10 24k 'write -P 1 0 6k'
qemu-img snapshot -c first snapshots_v2
qemu-io -f qcow2 -c 'write -P 2 1k 2k' snapshots_v2 >/dev/null
make bitmaps cluster_size=512 64k 'write -P 1 0 1k'
qemu-img bitmap --add -g 512 bitmaps one
qemu-img bitmap --add -g 1024 --disable bitmaps two
qemu-io -f qcow2 -c 'write -P 2 30k 2k' bitmaps >/dev/null
make subclusters extended_l2=on,cluster_size=16k 256k 'write -P 1 0 1k' 'write -P 2 20k 2k' \
    'write -z 40k 2k' 'write -P 3 100k 20k' 'write -z 104k 4k'
make data_file cluster_size=512,data_file=none.raw 64k 'write -P 1 0 3k' 'write -z 1k 1k'
rm none.raw
# Killed with its refcounts not written: the dirty bit is set.
make dirty cluster_size=512,lazy_refcounts=on 64k
(qemu-io -f qcow2 -c 'write -P 1 0 6k' -c 'flush' -c 'sigraise 9' dirty >/dev/null 2>&1) || true

# Snapshots of nothing but zeros, which a repair must not take for padding when it has moved them: in
# version 3, where it gives them extra data; in version 2, behind one of which it cuts something off.
blank_snapshots() { # NAME VERSION EXTRA COUNT MARK: the first one's extra data, a byte behind the last
    make "$1" cluster_size=512 1k
    /usr/bin/python3 - "$@" <<'END'
import struct, sys
version, extra, count, mark = map(int, sys.argv[2:])
with open(sys.argv[1], "r+b") as f:
    at = -(-f.seek(0, 2) // 512) * 512
    f.truncate(at + 2048)
    for place, form, value in [(4, ">I", version), (60, ">I", count), (64, ">Q", at),
                               (at + 36, ">I", extra), (at + mark, ">B", 1)]:
        f.seek(place)
        f.write(struct.pack(form, value))
END
}
blank_snapshots blank_snapshots 3 0 10 504
blank_snapshots blank_snapshots_v2 2 1032 4 1535
ls -l . ../image
du -sb . ../image
