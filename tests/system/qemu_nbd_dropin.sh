#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Started under the name qemu-nbd, the program does what scripts that spawn qemu-nbd expect; where it
# can be, the real one is asked the same.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io qemu-nbd nbdinfo python3

mkdir bin
ln -s "$BREAKWATER" bin/qemu-nbd
ours=$tmp/bin/qemu-nbd
# shellcheck disable=SC2034 # by its name in ${!name}
real=$(command -v qemu-nbd)

qemu-img create -q -f qcow2 disk.qcow2 16M
image_io disk.qcow2 'write -P 1 0 1M'
qemu-img bitmap --add disk.qcow2 'day,1'
image_io disk.qcow2 'write -P 2 1M 1M'
qemu-img convert -f qcow2 -O raw disk.qcow2 disk.raw
cp disk.qcow2 disk.img

# start NAME PROGRAM ARG...: in the foreground, on NAME.sock.
start() {
    local name=$1
    shift
    "$@" -k "$tmp/$name.sock" >"$name.log" 2>&1 </dev/null &
    server_pid[$name]=$!
    wait_for 20 listening "$tmp/$name.sock" || fail "$* does not listen: $(cat "$name.log")"
}

# left NAME: it ends by itself, and well.
left() {
    local status=0
    wait_for 20 gone "$1" || fail "$1 stays without clients"
    wait "${server_pid[$1]}" || status=$?
    unset "server_pid[$1]"
    no_sanitizer_report "$1.log"
    [ $status -eq 0 ] || fail "$1 ended with exit code $status: $(cat "$1.log")"
    [ ! -e "$1.sock" ] || fail "$1 left its socket"
}

# fails PATTERN COMMAND...: and does not begin to serve.
fails() {
    expect_fail 1 "$1" timeout 20 "${@:2}"
}

say "the form of backup programs: --fork, a bitmap of the image, several clients"
what_it_shows() { # what_it_shows NAME: of the export, for both programs to agree on
    nbdinfo --json --map='qemu:dirty-bitmap:day,1' "$(uri "$1" sda)"
    nbdinfo --json "$(uri "$1" sda)" | python3 -c '
import json, sys
export = json.load(sys.stdin)["exports"][0]
for key in ("export-name", "export-size", "is_read_only", "can_multi_conn", "can_trim"):
    print(key, export[key])
print(sorted(export["contexts"]))'
}
for name in ours real; do
    "${!name}" -r --format=qcow2 -x sda -k "$tmp/$name.sock" -t -e 2 --fork --detect-zeroes=on \
        --pid-file "$tmp/$name.pid" '--bitmap=day,1' disk.qcow2 >"$name.log" 2>&1 </dev/null
    listening "$tmp/$name.sock" || fail "$name: not ready when the command returned"
    [ ! -s "$name.log" ] || fail "$name said: $(cat "$name.log")"
    server_pid[$name]=$(cat "$name.pid")
    what_it_shows "$name" >"$name.shows"
    what_it_shows "$name" >"$name.again" # -t: it stays
    ! nbdinfo --size "$(uri "$name" sda@now)" >view.out 2>&1 || fail "$name shows a frozen view"
    kill -TERM "${server_pid[$name]}"
    wait_for 20 gone "$name" || fail "$name is still there"
    unset "server_pid[$name]"
    [ ! -e "$name.sock" ] || fail "$name left its socket"
done
diff real.shows ours.shows || fail "the two show different things"
grep -q "'qemu:dirty-bitmap:day,1'" ours.shows

say "... a bitmap that is not there is an error, and is not made"
for name in ours real; do
    fails "[Bb]itmap 'none' is not found" "${!name}" -k "$tmp/$name-x.sock" -f qcow2 -B none disk.qcow2
done
qemu-img info disk.qcow2 | grep -q 'name: none' && fail "a bitmap was made"

say "without -t the server leaves with its last client"
for name in ours real; do
    start "$name" "${!name}" -f qcow2 disk.qcow2
    nbd_io "$(uri "$name")" 'read -P 2 1M 1M'
    left "$name"
done

say "one client at a time, unless -e; what was said to one goes on"
cat >two.py <<'END'
import nbd, sys
uri, both = sys.argv[1], sys.argv[2] == "both"
first, second = nbd.NBD(), nbd.NBD()
first.connect_uri(uri)
try:
    second.connect_uri(uri)
    served = True
except nbd.Error:
    served = False
assert served == both, served
assert first.can_multi_conn() == both
assert first.pread(4096, 1 << 20) == b"\2" * 4096
if served:
    second.shutdown()
    assert first.pread(4096, 0) == b"\1" * 4096
first.shutdown()
END
start one "$ours" disk.qcow2
/usr/bin/python3 two.py "$(uri one)" one
left one
start two "$ours" -e 2 disk.qcow2
/usr/bin/python3 two.py "$(uri two)" both
left two

say "all addresses of IPv4; with -t it stays"
port=$(free_port)
for name in ours real; do
    "${!name}" -t -f raw -p "$port" disk.raw >"$name.log" 2>&1 </dev/null &
    server_pid[$name]=$!
    wait_for 20 eval "grep -q \"^ *[0-9]*: 00000000:$(printf %04X "$port") .* 0A \" /proc/net/tcp" ||
        fail "$name does not listen at 0.0.0.0:$port"
    nbd_io "nbd://127.0.0.2:$port" 'read -P 1 0 1M'
    nbd_io "nbd://127.0.0.1:$port" 'read -P 1 0 1M'
    [ ! -s "$name.log" ] || fail "$name said: $(cat "$name.log")"
    kill -TERM "${server_pid[$name]}"
    wait_for 20 gone "$name" || fail "$name is still there"
    unset "server_pid[$name]"
done

say "the format is taken from the name, and never probed"
start raw "$ours" -e 1 disk.raw
nbd_io "$(uri raw)" 'read -P 1 0 1M'
left raw
grep -q "format of 'disk.raw' is not said" raw.log || fail "no warning: $(cat raw.log)"
fails "format of 'disk.img'.*like a qcow2" "$ours" -k "$tmp/x.sock" disk.img
start img "$ours" -f raw -r disk.img
[ "$(nbdinfo --size "$(uri img)")" -eq "$(stat -c %s disk.img)" ]
left img

say "discards are ignored unless asked for; zeros are detected if asked for"
blocks() {
    sync "$1"
    stat -c %b "$1"
}
for name in ours real; do
    cp --sparse=never disk.raw thin.raw
    full=$(blocks thin.raw)
    start "$name" "${!name}" -f raw thin.raw
    nbd_io "$(uri "$name")" 'discard 4M 4M'
    left "$name"
    [ "$(blocks thin.raw)" -eq "$full" ] || fail "$name discards"
    start "$name" "${!name}" -f raw --discard=on --detect-zeroes=unmap thin.raw
    nbd_io "$(uri "$name")" 'write -P 0 4M 4M'
    left "$name"
    [ "$(blocks thin.raw)" -le $((full - 8000)) ] || fail "$name does not detect zeros"
    fails 'detect-zeroes|unmap' "${!name}" -k "$tmp/$name-x.sock" -f raw --detect-zeroes=unmap thin.raw
done
cp --sparse=never disk.raw thin.raw
start_serve s --detect-zeroes unmap -f raw thin.raw
nbd_io "$(uri s)" 'write -P 0 4M 4M'
stop_serve s
[ "$(blocks thin.raw)" -le $((full - 8000)) ] || fail "serve does not detect zeros"
fails "detect-zeroes.*'maybe'" "$BREAKWATER" serve --detect-zeroes maybe -f raw disk.raw

say "--image-opts"
for name in ours real; do
    start "$name" "${!name}" --image-opts driver=qcow2,file.driver=file,file.filename=disk.img
    nbd_io "$(uri "$name")" 'read -P 2 1M 1M'
    left "$name"
done
opts=("$ours" -k "$tmp/x.sock" --image-opts)
fails 'file.driver=nbd' "${opts[@]}" driver=raw,file.driver=nbd,file.filename=a
fails "'file.host'" "${opts[@]}" driver=raw,file.host=a
fails 'driver is missing' "${opts[@]}" file.filename=disk.raw
fails 'file.filename is missing' "${opts[@]}" driver=raw
fails 'exclude' "${opts[@]}" -f raw driver=raw,file.filename=disk.raw

say "-s: what is written is seen by all and gone at the end; nothing of it stays in \$TMPDIR"
mkdir temporary
sums=$(sha256sum disk.qcow2 disk.raw)
for image in disk.qcow2 disk.raw; do
    for name in ours real; do
        TMPDIR=$tmp/temporary start "$name" "${!name}" -s -t -e 2 -f "${image##*.}" "$image"
        nbd_io "$(uri "$name")" 'write -P 7 1M 2M' 'discard 0 64k' 'write -z 4M 1M' 'flush'
        nbd_io "$(uri "$name")" 'read -P 7 1M 2M' 'read -P 1 64k 960k' 'read -P 0 3M 4M'
        [ "$name" != ours ] || [ -z "$(ls temporary)" ] || fail "a temporary file has a name"
        kill -TERM "${server_pid[$name]}"
        left "$name"
    done
    [ -z "$(ls temporary)" ] || fail "a temporary file is left"
done
[ "$(sha256sum disk.qcow2 disk.raw)" = "$sums" ] || fail "-s: an image is changed"
fails 'exclude' "$ours" -s -B day,1 disk.qcow2
fails 'exclude' "$ours" -s -r disk.qcow2
qemu-img snapshot -c then disk.qcow2
image_io disk.qcow2 'write -P 9 0 1M'
start s "$ours" --snapshot -l then -t disk.qcow2
nbd_io "$(uri s)" 'read -P 1 0 1M' 'write -P 8 0 64k' 'read -P 8 0 64k'
kill -TERM "${server_pid[s]}"
left s
image_io disk.qcow2 'read -P 9 0 1M'

say "options without effect are taken, those without support are refused by name"
start all "$ours" --aio=native --aio=threads --aio=io_uring -T 'nbd*' --cache=writeback -v \
    --handshake-limit=5 -D text -o 1M -A --trace enable=x disk.qcow2
[ "$(nbdinfo --size "$(uri all)")" -eq $((15 << 20)) ]
left all
fails '--aio.*posix' "$ours" --aio=posix disk.qcow2
fails '--connect' "$ours" -c /dev/nbd0 disk.qcow2
fails '--disconnect' "$ours" -d /dev/nbd0
fails '--list' "$ours" -L
fails '--partition' "$ours" -P 1 disk.raw
fails '--selinux-label' "$ours" --selinux-label=a disk.raw
fails 'writethrough' "$ours" --cache=writethrough disk.qcow2
fails "'--nonsense'" "$ours" --nonsense disk.qcow2
fails 'image is missing' "$ours" -k "$tmp/x.sock"
fails 'one image' "$ours" -k "$tmp/x.sock" disk.qcow2 disk.raw
fails 'none.qcow2' "$ours" --fork -k "$tmp/x.sock" none.qcow2
if [ -e x.sock ] || [ -e ours-x.sock ]; then fail "a socket stayed"; fi
"$ours" --help | grep -q 'defaults of qemu-nbd'
"$ours" --version | grep -q '^qemu-nbd.*breakwater [0-9]'
check_image disk.qcow2
