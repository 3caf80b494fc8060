#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The kernel's nbd driver and nbd-client, in a Linux guest, over breakwater: a file system is made,
# filled, checked; the server is restarted; it is checked once more, inside and outside. Then
# a guest has its root file system on a virtio disk on breakwater.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
# shellcheck source-path=SCRIPTDIR source=../lib/guest.sh
. "$source_root/tests/lib/guest.sh"
PATH=$PATH:/usr/sbin:/sbin
requires nbd-client mke2fs e2fsck qemu-img python3

say "nbd-client and the kernel's driver"
port=$(free_port) doorbell=$(free_port)
guest_begin failover net_failover virtio_net nbd
guest_program "$(command -v nbd-client)"
guest_program "$(command -v mke2fs)"
guest_program "$(command -v e2fsck)"
cat >>ram/init <<END
attach() { nbd-client 10.0.2.2 $port /dev/nbd0 -N disk -b 4096 </dev/null; }
ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
attach
/bin/mke2fs -q -t ext4 /dev/nbd0 && echo MADE
mount -t ext4 -o discard /dev/nbd0 /disk
for i in 1 2 3 4 5 6; do (cd /disk && dd if=/dev/urandom of=f\$i bs=64k count=20 2>/dev/null); done
(cd /disk && sha256sum f* >SUMS)
sync
umount /disk
/bin/e2fsck -fn /dev/nbd0 >/dev/null && echo FIRST-CHECK-OK
# The server goes away and comes back: the driver fails what comes in between, so none shall come.
nbd-client -d /dev/nbd0
nc 10.0.2.2 $doorbell </dev/null
attach
mount -t ext4 -o discard /dev/nbd0 /disk && (cd /disk && sha256sum -c SUMS >/dev/null) && echo SAME
(cd /disk && rm f3)
fstrim /disk
(cd /disk && dd if=/dev/urandom of=g bs=4k count=200 conv=fsync 2>/dev/null) && echo WRITTEN-AFTER-RESTART
(cd /disk && rm SUMS && sha256sum f* g >SUMS)
umount /disk
/bin/e2fsck -fn /dev/nbd0 >/dev/null && echo SECOND-CHECK-OK
mount -t ext4 /dev/nbd0 /disk && (cd /disk && sha256sum -c SUMS >/dev/null) && echo GUEST-OK
umount /disk
nbd-client -d /dev/nbd0
poweroff -f
END
qemu-img create -q -f qcow2 disk.qcow2 128M
serve=(-x disk -f qcow2 -b 127.0.0.1 -p "$port" disk.qcow2)
start_serve s "${serve[@]}"
guest_run -netdev user,id=n -device virtio-net-pci,netdev=n &
guest=$!
# The doorbell: the guest connects, and is let go when the server is back.
python3 -c '
import os, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listener.settimeout(240)
connection = listener.accept()[0]
open("rung", "w").close()
while not os.path.exists("back"):
    time.sleep(0.1)
' "$doorbell" &
ringer=$!
wait_for 200 test -e rung || { cat guest.log >&2; fail "the guest does not get so far"; }
stop_serve s
sleep 0.5
start_serve s "${serve[@]}"
touch back
wait $ringer
wait $guest || { cat guest.log >&2; fail "the guest failed"; }
for word in MADE FIRST-CHECK-OK SAME WRITTEN-AFTER-RESTART SECOND-CHECK-OK GUEST-OK; do
    grep -q $word guest.log || { cat guest.log >&2; fail "the guest did not say $word"; }
done
stop_serve s
check_image disk.qcow2
qemu-img convert -f qcow2 -O raw disk.qcow2 disk.raw
e2fsck -fn disk.raw >/dev/null

say "a root file system on a virtio disk"
rm -rf ram
guest_begin virtio_blk
cat >>ram/init <<'END'
mount -t ext4 /dev/vda /disk && exec switch_root /disk /sbin/init
END
mkdir -p tree/{bin,sbin,proc,sys,dev,tmp}
cp "$(command -v busybox)" tree/bin/
cat >tree/sbin/init <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -o remount,rw /
dd if=/dev/urandom of=/data bs=64k count=40 2>/dev/null
sha256sum /data >/SUMS
sync
echo 3 >/proc/sys/vm/drop_caches
sha256sum -c /SUMS && grep ' / ' /proc/mounts && echo BOOTED-OK
mount -o remount,ro /
poweroff -f
END
chmod +x tree/sbin/init
truncate -s 64M root.raw
mke2fs -q -t ext4 -d tree root.raw
qemu-img convert -f raw -O qcow2 root.raw root.qcow2
start_serve s -x root -f qcow2 root.qcow2
guest_run -drive \
    "driver=nbd,server.type=unix,server.path=$tmp/s.sock,export=root,if=virtio,cache=none" || {
    cat guest.log >&2
    fail "the guest failed"
}
grep -q BOOTED-OK guest.log || { cat guest.log >&2; fail "the guest did not boot"; }
stop_serve s
check_image root.qcow2
qemu-img convert -f qcow2 -O raw root.qcow2 root.raw
e2fsck -fn root.raw >/dev/null
