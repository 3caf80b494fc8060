#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# libnbd with its own checks switched off, and clients that are killed: each gets an error or is cut
# off; the server and a well-behaved client beside them go on. hostile_clients.py has what no library
# sends.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "python3-libnbd is not installed"

qemu-img create -q -f qcow2 disk.qcow2 64M
image_io disk.qcow2 'write -P 5 0 1M'
start_serve s -x disk -f qcow2 -B daily disk.qcow2

say "malformed requests, the client's own checks switched off"
/usr/bin/python3 - "$(uri s disk)" <<'END'
import errno, sys
import nbd

def connected():
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.add_meta_context("base:allocation")
    h.connect_uri(sys.argv[1])
    return h

def refused(what, numbers, call):
    try:
        call()
    except nbd.Error as problem:
        assert problem.errnum in numbers, (what, problem, problem.errnum)
        return
    raise AssertionError(what + ": was accepted")

h = connected()
size = h.get_size()
assert size == 64 << 20
refused("read past the end", [errno.EINVAL], lambda: h.pread(4096, size))
refused("read across the end", [errno.EINVAL], lambda: h.pread(4096, size - 512))
refused("write past the end", [errno.ENOSPC], lambda: h.pwrite(b"x" * 4096, size))
refused("write across the end", [errno.ENOSPC], lambda: h.pwrite(b"x" * 4096, size - 1))
refused("write near 2^64", [errno.ENOSPC], lambda: h.pwrite(b"x", 2**64 - 1))
refused("zero past the end", [errno.ENOSPC], lambda: h.zero(4096, size))
refused("trim past the end", [errno.EINVAL], lambda: h.trim(4096, size))
refused("status past the end", [errno.EINVAL],
        lambda: h.block_status(4096, size, lambda *a: 0))
refused("unknown flag on a read", [errno.EINVAL], lambda: h.pread(512, 0, 1 << 14))
refused("unknown flag on a write", [errno.EINVAL], lambda: h.pwrite(b"x" * 512, 0, 1 << 14))
refused("unknown flag on a flush", [errno.EINVAL], lambda: h.flush(1 << 14))
# After all that the connection is in step, and nothing was written.
assert h.pread(4096, 0) == bytes([5]) * 4096
assert h.pread(512, size - 512) == bytes(512)
h.shutdown()
END
alive s

say "a client killed in the middle of its work"
for _ in 1 2 3; do
    qemu-io -f raw -c 'aio_write -P 9 16M 16M' -c 'sleep 5000' "$(uri s disk)" >/dev/null 2>&1 &
    client=$!
    sleep 0.3
    kill -KILL $client
    wait $client 2>/dev/null || true
done
alive s

say "a well-behaved client is served as ever, and the image is whole"
nbd_io "$(uri s disk)" 'read -P 5 0 1M' 'write -P 6 4M 1M' 'read -P 6 4M 1M' 'read -P 0 8M 512'
stop_serve s
check_image disk.qcow2
