# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# For tests with a Linux guest under software emulation, which needs no privilege, but a kernel with
# modules: GUEST_ROOT names a folder with boot/ and lib/modules/ of it [/], as
# tools/fetch_guest_kernel.sh makes one. To be read after functions.sh.

requires qemu-system-x86_64 busybox cpio
guest_root=${GUEST_ROOT:-/}
guest_kernel=$(find "$guest_root/boot" -maxdepth 1 -name 'vmlinuz-*-amd64' 2>/dev/null | sort | tail -n 1)
[ -n "$guest_kernel" ] || skip "no kernel in $guest_root/boot (GUEST_ROOT)"
guest_modules=$guest_root/lib/modules/${guest_kernel##*/vmlinuz-}/kernel
file "$(command -v busybox)" 2>/dev/null | grep -q 'dynamically' && skip "busybox is not static"

# guest_begin MODULE...: an initial RAM disk in ram/, with these modules and those of virtio's PCI.
guest_begin() {
    local module file
    mkdir -p ram/{bin,mod,disk,proc,sys,dev,lib64,lib}
    cp "$(command -v busybox)" ram/bin/busybox
    guest_load=(virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci "$@")
    for module in "${guest_load[@]}"; do
        file=$(find "$guest_modules" -name "$module.ko" | head -n 1)
        [ -n "$file" ] || skip "the guest's kernel has no module $module"
        cp "$file" ram/mod/
    done
    # Twice, for the order in which they need each other differs between kernels.
    cat >ram/init <<END
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for m in ${guest_load[*]} ${guest_load[*]}; do insmod /mod/\$m.ko 2>/dev/null; done
sleep 1
END
    chmod +x ram/init
}

# guest_program PATH: a program and the libraries that it needs.
guest_program() {
    local library
    cp "$1" ram/bin/
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "ram${library%/*}"
        cp -L "$library" "ram$library"
    done
}

# guest_run ARG...: with these arguments for qemu; what it says goes to guest.log.
guest_run() {
    (cd ram && find . | cpio -o -H newc --quiet | gzip -1) >ram.gz
    timeout 240 qemu-system-x86_64 -accel tcg -m 256 -nographic -no-reboot -kernel "$guest_kernel" \
        -initrd ram.gz -append 'console=ttyS0 quiet panic=-1' "$@" </dev/null >guest.log 2>&1
}
