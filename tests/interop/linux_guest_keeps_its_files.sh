#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A Linux guest mounts an ext4 file system that breakwater serves, writes, deletes, trims, syncs and
# checks its files, between two backups; the second, restored, is the guest's disk. Runs under
# software emulation, so it needs no privilege, but it needs a kernel with modules:
#     apt-get install qemu-system-x86 busybox-static linux-image-cloud-amd64
# GUEST_ROOT names a folder with boot/ and lib/modules/ of the kernel [/].
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-system-x86_64 qemu-img busybox mke2fs e2fsck cpio

root=${GUEST_ROOT:-/}
kernel=$(find "$root/boot" -maxdepth 1 -name 'vmlinuz-*-amd64' 2>/dev/null | sort | tail -n 1)
[ -n "$kernel" ] || skip "no kernel in $root/boot (GUEST_ROOT)"
modules=$root/lib/modules/${kernel##*/vmlinuz-}/kernel/drivers
[ -f "$modules/block/virtio_blk.ko" ] || skip "no virtio_blk.ko in $modules"
file "$(command -v busybox)" 2>/dev/null | grep -q 'dynamically' && skip "busybox is not static"

say "an initial ram disk whose init is the test"
mkdir -p ram/{bin,mod,disk,proc,sys,dev} seed
cp "$(command -v busybox)" ram/bin/busybox
cp "$modules"/virtio/virtio{,_ring,_pci_modern_dev,_pci_legacy_dev,_pci}.ko \
    "$modules/block/virtio_blk.ko" ram/mod/
cat >ram/init <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
# Twice, for the order in which they need each other differs between kernels.
for m in virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio \
    virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
    insmod /mod/$m.ko 2>/dev/null
done
sleep 1
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
chmod +x ram/init
(cd ram && find . | cpio -o -H newc --quiet | gzip) >ram.gz

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
timeout 240 qemu-system-x86_64 -accel tcg -m 256 -nographic -no-reboot -kernel "$kernel" \
    -initrd ram.gz -append 'console=ttyS0 quiet panic=-1' -drive \
    "driver=nbd,server.type=unix,server.path=$socket,export=disk,if=virtio,discard=unmap,cache=none" \
    </dev/null >guest.log 2>&1
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
