#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# An ext4 file system on a disk that is served over NBD, through nbdfuse (Debian: libnbd-bin,
# e2fsprogs), without mounting it. Needs /dev/fuse.
#
# usage: ext4_on_nbd.sh work      make it, then write three files into it with debugfs
#        ext4_on_nbd.sh check     can e2fsck repair it without asking, and is the last file there?
set -e
dir=$(mktemp -d)

work() {
    mkdir "$dir/disk"
    trap 'umount "$dir/disk"; wait; rm -r "$dir"' EXIT
    nbdfuse "$dir/disk/disk" "$uri" &
    while [ ! -e "$dir/disk/disk" ]; do sleep 0.05; done
    mkfs.ext4 -q "$dir/disk/disk"
    sync "$dir/disk/disk"
    "${BREAKWATER:-breakwater}" explore mark made
    for i in 1 2 3; do
        echo "file $i" >"$dir/text"
        debugfs -w -R "write $dir/text file$i" "$dir/disk/disk"
        sync "$dir/disk/disk"
        "${BREAKWATER:-breakwater}" explore mark "$i"
    done
}

check() {
    trap 'rm -r "$dir"' EXIT
    [ -n "$mark" ] || return 0 # before mkfs was done, nothing was promised
    nbdcopy "$uri" "$dir/disk"
    e2fsck -f -p "$dir/disk" || [ $? -eq 1 ] # 1: it had to repair something
    [ "$mark" = made ] || debugfs -R "cat file$mark" "$dir/disk" | grep -qx "file $mark"
}

"$1"
