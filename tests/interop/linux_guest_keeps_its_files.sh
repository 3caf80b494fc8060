#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A Linux guest mounts an ext4 file system that breakwater serves, writes, deletes, trims, syncs and
# checks its files, between two backups; the second, restored, is the guest's disk.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
# shellcheck source-path=SCRIPTDIR source=../lib/guest.sh
. "$source_root/tests/lib/guest.sh"
PATH=$PATH:/usr/sbin:/sbin
requires qemu-img mke2fs e2fsck

say "an initial ram disk whose init is the test"
mkdir seed
guest_begin virtio_blk
cat >>ram/init <<'END'
mount -t ext4 -o discard /dev/vda /disk
cd /disk && cat hello
for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=f$i bs=64k count=40 2>/dev/null; done
sync
rm f3 f5
fstrim -v /disk
dd if=/dev/urandom of=g bs=4k count=300 conv=fsync 2>/dev/null
sha256sum f* g >SUMS
cd / && sync
umount /disk
mount -t ext4 /dev/vda /disk && (cd /disk && sha256sum -c SUMS) && echo GUEST-OK
umount /disk
poweroff -f
END

say "a disk with a file system, served, and backed up in full"
echo hello-from-host >seed/hello
truncate -s 128M disk.raw
mke2fs -q -t ext4 -d seed disk.raw
qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2
start_serve s -x disk -f qcow2 -B daily disk.qcow2
"$BREAKWATER" backup "$(uri s disk)" repo

say "the guest works on it"
socket=$(uri s disk)
socket=${socket##*socket=}
guest_run -drive \
    "driver=nbd,server.type=unix,server.path=$socket,export=disk,if=virtio,discard=unmap,cache=none"
grep -q hello-from-host guest.log
grep -q GUEST-OK guest.log

say "the increment, restored, is the guest's disk"
"$BREAKWATER" backup "$(uri s disk)" repo | grep -q incremental
"$BREAKWATER" verify repo/disk
"$BREAKWATER" restore repo/disk@latest restored.qcow2
stop_serve s
qemu-img check -q -f qcow2 disk.qcow2
qemu-img check -q -f qcow2 restored.qcow2
qemu-img compare -q -f qcow2 -F qcow2 disk.qcow2 restored.qcow2
qemu-img convert -f qcow2 -O raw restored.qcow2 restored.raw
e2fsck -fn restored.raw >/dev/null
