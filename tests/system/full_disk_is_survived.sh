#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# When the host's disk is full, a write gets ENOSPC; the server stays up, what was written before is
# right, the image is not corrupt; with space again, writing goes on.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3

# Corruptions are never allowed; clusters lost by an interrupted allocation are (exit code 3).
check_not_corrupt() {
    local status=0
    qemu-img check -f qcow2 "$1" >check.out 2>&1 || status=$?
    [ $status -eq 0 ] || [ $status -eq 3 ] || { cat check.out >&2 && fail "corrupt: exit $status"; }
}

# fill URI: writes until an error, then proves that all that was acknowledged reads back.
fill() {
    /usr/bin/python3 - "$1" <<'END'
import errno, sys
try:
    import nbd
except ImportError:
    sys.exit(77)
h = nbd.NBD()
h.connect_uri(sys.argv[1])
step, done, caught = 100 << 10, 0, None
while done + step <= h.get_size():
    try:
        h.pwrite(bytes([done // step % 255 + 1]) * step, done)
    except nbd.Error as problem:
        caught = problem
        break
    done += step
assert caught is not None, "the disk was never full"
assert caught.errnum == errno.ENOSPC, caught
assert done > 1 << 20, done
for offset in range(0, done, step):
    data = h.pread(step, offset)
    assert data == bytes([offset // step % 255 + 1]) * step, offset
try:
    h.flush()
except nbd.Error as problem:
    assert problem.errnum in (errno.ENOSPC, errno.EIO), problem
print("%d bytes written, then %s" % (done, caught))
h.shutdown()
END
}

/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "python3-libnbd is not installed"

say "a file size limit"
qemu-img create -q -f qcow2 limited.qcow2 64M
(
    ulimit -f 8192
    exec "$BREAKWATER" serve -k "$tmp/limited.sock" -t -f qcow2 limited.qcow2
) >limited.log 2>&1 </dev/null &
server_pid[limited]=$!
wait_for 20 listening "$tmp/limited.sock"
fill "$(uri limited)"
alive limited
kill -TERM "${server_pid[limited]}"
wait_for 20 gone limited
wait "${server_pid[limited]}" || true # its last flush may not have found room
unset 'server_pid[limited]'
no_sanitizer_report limited.log
check_not_corrupt limited.qcow2

say "a full filesystem"
mkdir small
apart=(unshare -m)
# In a chroot the root is no mount point, and its propagation cannot be changed.
"${apart[@]}" true 2>/dev/null || apart+=(--propagation unchanged)
"${apart[@]}" mount -t tmpfs -o size=8m none small 2>/dev/null ||
    skip "no right to mount a small filesystem (the rest passed)"
! mountpoint -q small || umount small
# shellcheck disable=SC2016
"${apart[@]}" bash -euo pipefail -c '
    mount -t tmpfs -o size=8m none small
    qemu-img create -q -f qcow2 small/disk.qcow2 64M
    head -c 1M /dev/zero >small/ballast
    "$1" serve -k "$PWD/small.sock" -t -f qcow2 small/disk.qcow2 >small.log 2>&1 </dev/null &
    echo $! >small.pid
    while [ ! -e small.done ]; do sleep 0.1; done
    [ ! -e small.free ] || rm small/ballast
    echo >small.freed
    while [ ! -e small.over ]; do sleep 0.1; done
    wait $! || echo $? >small.failed
    cp small/disk.qcow2 small.qcow2
    umount small
' bash "$BREAKWATER" &
holder=$!
wait_for 20 listening "$tmp/small.sock"
server_pid[small]=$(cat small.pid)
fill "$(uri small)"
alive small
touch small.free small.done
wait_for 10 test -e small.freed
nbd_io "$(uri small)" 'write -P 0xee 60M 128k' flush 'read -P 0xee 60M 128k'
kill -TERM "${server_pid[small]}"
touch small.over
wait $holder
unset 'server_pid[small]'
[ ! -e small.failed ] || fail "the server ended with exit code $(cat small.failed)"
no_sanitizer_report small.log
check_not_corrupt small.qcow2
image_io small.qcow2 'read -P 0xee 60M 128k' 'read -P 1 0 100k'
