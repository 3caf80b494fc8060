# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# For tests of whole programs. A test begins with
#
#     . "${0%/*}/../lib/functions.sh"
#     requires qemu-img nbdinfo
#
# and then runs in an empty directory of its own, which is removed at its end; all servers it left
# running are killed then. Exit code: 0 passed, 77 skipped, anything else failed; on a failure the
# logs of the servers are printed. BREAKWATER names the binary.

set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C

here=$(cd "${0%/*}" && pwd)
source_root=$(cd "$here/../.." && pwd)
export here source_root
BREAKWATER=$(realpath "${BREAKWATER:-$source_root/build/cli/breakwater}")
[ -x "$BREAKWATER" ] || { echo "no binary at $BREAKWATER" >&2 && exit 99; }

tmp=$(mktemp -d)
cd "$tmp"
declare -A server_pid=()

on_exit() {
    local status=$? name
    trap - EXIT
    for name in "${!server_pid[@]}"; do
        kill -KILL "${server_pid[$name]}" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then
        for name in *.log; do
            [ -s "$name" ] && { echo "--- $name" && tail -n 60 "$name"; }
        done >&2
    fi
    cd /
    rm -rf "$tmp"
    exit $status
}
trap on_exit EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'echo "${0##*/}:$LINENO: failed: $BASH_COMMAND" >&2' ERR

skip() {
    echo "SKIP: $*"
    exit 77
}

fail() {
    echo "${0##*/}:${BASH_LINENO[-2]}: $*" >&2
    exit 1
}

# say WHAT: names the part of the test that comes; the last one said stands above a failure.
say() {
    echo "- $*"
}

requires() {
    local program
    for program; do
        command -v "$program" >/dev/null || skip "$program is not installed"
    done
}

# expect_fail CODE PATTERN COMMAND...: the command exits with this code and says something that
# matches this extended regular expression (on either stream).
expect_fail() {
    local code=$1 pattern=$2 status=0
    shift 2
    "$@" >expect.out 2>&1 </dev/null || status=$?
    if [ "$status" -ne "$code" ]; then
        cat expect.out >&2
        fail "exit code $status, expected $code: $*"
    fi
    if ! grep -Eq -- "$pattern" expect.out; then
        cat expect.out >&2
        fail "no message like '$pattern' from: $*"
    fi
    no_sanitizer_report expect.out
}

no_sanitizer_report() {
    if grep -Eq 'ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:' "$1"; then
        cat "$1" >&2
        fail "a sanitizer report in $1"
    fi
}

# listening SOCKET: whether somebody listens there. Makes no connection: a server that leaves with
# its last client would take that for one.
listening() {
    [ -S "$1" ] && awk -v path="$1" '$4 == "00010000" && $NF == path { found = 1 } END { exit !found }' \
        /proc/net/unix
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.05
    done
}

# start_serve NAME ARG...: `breakwater serve` on the socket NAME.sock, waits until it listens.
# Stays up without clients (-t).
start_serve() {
    local name=$1
    shift
    rm -f "$name.sock"
    "$BREAKWATER" serve -k "$tmp/$name.sock" -t "$@" >"$name.log" 2>&1 </dev/null &
    server_pid[$name]=$!
    wait_for 20 listening_or_gone "$name"
    # Not a single look: a reader of /proc/net/unix may miss a line while other sockets come and go.
    if ! wait_for 2 listening "$tmp/$name.sock"; then
        local status=0
        kill -TERM "${server_pid[$name]}" 2>/dev/null || true
        wait "${server_pid[$name]}" || status=$?
        unset "server_pid[$name]"
        fail "the server $name did not start (exit code $status): $*"
    fi
}

listening_or_gone() {
    listening "$tmp/$1.sock" || ! kill -0 "${server_pid[$1]}" 2>/dev/null
}

alive() {
    kill -0 "${server_pid[$1]}" 2>/dev/null || fail "the server $1 is gone"
}

# stop_serve NAME: SIGTERM; it must drain, exit 0, remove its socket, and have no sanitizer report.
stop_serve() {
    local name=$1 status=0
    alive "$name"
    kill -TERM "${server_pid[$name]}"
    wait_for 30 gone "$name" || fail "the server $name is still there 30 s after SIGTERM"
    wait "${server_pid[$name]}" || status=$?
    unset "server_pid[$name]"
    no_sanitizer_report "$name.log"
    [ $status -eq 0 ] || fail "the server $name ended with exit code $status"
    [ ! -e "$name.sock" ] || fail "the server $name left its socket behind"
}

# A child that has ended is a zombie until it is waited for: kill -0 still finds it.
gone() {
    local stat
    { read -r stat <"/proc/${server_pid[$1]}/stat"; } 2>/dev/null || return 0
    [[ ${stat##*) } == Z* ]]
}

# kill_serve NAME: as a crash would end it. The kernel may close an io_uring, and the sockets in it,
# some time after the process has gone.
kill_serve() {
    kill -KILL "${server_pid[$1]}"
    wait "${server_pid[$1]}" 2>/dev/null || true
    unset "server_pid[$1]"
    wait_for 10 not_listening "$tmp/$1.sock" || fail "the socket of $1 outlives it"
}

not_listening() {
    ! grep -q " 00010000 .* $1\$" /proc/net/unix
}

# uri NAME [EXPORT]: of the server NAME.
uri() {
    echo "nbd+unix:///${2-}?socket=$tmp/$1.sock"
}

free_port() {
    /usr/bin/env python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# nbd_io URI COMMAND...: qemu-io commands over NBD; fails if any of them failed (qemu-io itself only
# prints that).
nbd_io() {
    local target=$1 arguments=() command
    shift
    for command; do
        arguments+=(-c "$command")
    done
    image_io_run -f raw "${arguments[@]}" "$target"
}

# image_io IMAGE COMMAND...: the same by QEMU itself on a qcow2 file.
image_io() {
    local target=$1 arguments=() command
    shift
    for command; do
        arguments+=(-c "$command")
    done
    image_io_run -f qcow2 "${arguments[@]}" "$target"
}

image_io_run() {
    local status=0
    qemu-io "$@" >io.out 2>&1 </dev/null || status=$?
    if [ $status -ne 0 ] || grep -Eiq 'fail|error|verification' io.out; then
        cat io.out >&2
        return 1
    fi
}

# same_content URI-or-FILE FORMAT FILE FORMAT
same_content() {
    qemu-img compare -f "$2" -F "$4" "$1" "$3" >compare.out 2>&1 || {
        cat compare.out >&2
        fail "$1 and $3 differ"
    }
}

# check_image FILE: QEMU finds nothing wrong with it, not even a leak.
check_image() {
    qemu-img check -f qcow2 "$1" >check.out 2>&1 || {
        cat check.out >&2
        fail "qemu-img check is not content with $1"
    }
}

# dirty_bytes URI BITMAP: how many bytes it reports dirty.
dirty_bytes() {
    nbdinfo --json --map="qemu:dirty-bitmap:$2" "$1" |
        python3 -c 'import json, sys
print(sum(e["length"] for e in json.load(sys.stdin) if e["type"] & 1))'
}

# extents URI CONTEXT: one line per extent: offset length type.
extents() {
    nbdinfo --json --map="$2" "$1" |
        python3 -c 'import json, sys
for e in json.load(sys.stdin):
    print(e["offset"], e["length"], e["type"])'
}

# The write batches of QEMU's iotest 124 and the content they go on top of, for nbd_io and image_io.
# shellcheck disable=SC2034
fixture_base=('write -P 0x41 0 512' 'write -P 0xd5 1M 32k' 'write -P 0xdc 32M 124k')
# shellcheck disable=SC2034
fixture_batch1=('write -P 0xab 0 512' 'write -P 0xfe 16M 256k' 'write -P 0x64 32736k 64k')
# shellcheck disable=SC2034
fixture_batch2=('write -P 0x9a 0 512' 'write -P 0x55 8M 352k' 'write -P 0x78 15872k 1M')
