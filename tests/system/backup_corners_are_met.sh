#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Backups in odd surroundings: names, URIs and paths that are hard to record; folders that cannot be
# written to or are full; a damaged base; servers that take few connections or never answer. Each
# ends with the right exit code, a message that says why, and a repository that is as it was.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io qemu-nbd nbdkit nbdinfo python3

# backup EXPECTED-CODE ARG...
backup() {
    local code=$1 status=0
    shift
    "$BREAKWATER" backup "$@" >backup.out 2>&1 </dev/null || status=$?
    no_sanitizer_report backup.out
    [ $status -eq "$code" ] || { cat backup.out >&2 && fail "exit code $status, not $code: $*"; }
}

said() {
    grep -Eq -- "$1" backup.out || { cat backup.out >&2 && fail "nothing like '$1' was said"; }
}

file_of() {
    python3 - "$1" "$2" <<'END'
import glob, json, sys
for path in glob.glob("repo/disk/*.json"):
    if json.load(open(path))["sequence"] == int(sys.argv[1]):
        print(path[:-4] + sys.argv[2])
END
}

qemu-img create -q -f qcow2 disk.qcow2 16M
image_io disk.qcow2 'write -P 1 0 4M'
start_serve s -x disk -f qcow2 -B daily --checkpoints disk.qcow2

say "what a manifest cannot hold is refused before anything is copied"
backup 1 --name $'caf\xe9' "$(uri s disk)" repo
said 'UTF-8'
backup 1 --bitmap $'caf\xe9' "$(uri s disk)" repo
said 'UTF-8'
backup 2 "$(uri s 'caf%e9')" repo
said 'export name is not UTF-8'
backup 2 "$(uri s disk)&x=$(printf '%020000d' 0)" repo
said 'longer than'
[ ! -e repo ] || fail "the repository was touched"

say "other names and paths are no trouble"
odd=$'r\xe9po \xc3\xa9'
backup 0 --json --name 'Büro 1' "$(uri s disk)" "$odd"
"$BREAKWATER" verify --json "$odd/Büro 1" | python3 -m json.tool >/dev/null
"$BREAKWATER" restore --json "$odd/Büro 1" $'\xe9.qcow2' | python3 -m json.tool >/dev/null
same_content $'\xe9.qcow2' qcow2 "$(uri s disk)" raw
mv "$odd" moved
backup 0 --name 'Büro 1' "$(uri s disk)" moved
said ' incremental,'
mv 'moved/Büro 1' moved/other
backup 0 --name other "$(uri s disk)" moved
said ' incremental,'
"$BREAKWATER" verify moved >/dev/null
status=0
"$BREAKWATER" restore --json $'\xe9/d' out.qcow2 >restore.out 2>/dev/null || status=$?
[ $status -eq 2 ] || fail "exit code $status"
python3 -c 'import json
result = json.load(open("restore.out"))
assert result["result"] == "failed" and "No such file" in result["error"], result'

say "URIs that can never work are not to be tried again"
for bad in nbdx://h/d nbd+unix:///disk nbd+foo://h/d; do
    backup 2 "$bad" repo
done

say "a folder that cannot be written to: an error, not an invitation to try again"
rm -rf repo
backup 0 "$(uri s disk)" repo
rm -f repo/disk/.lock
ln -s nowhere repo/disk/.lock
backup 2 "$(uri s disk)" repo
said '\.lock'
rm repo/disk/.lock
: >file
backup 2 "$(uri s disk)" file
said 'file'

say "the base's layer is damaged so that nothing can stand on it: in full, and said"
nbd_io "$(uri s disk)" 'write -P 2 1M 64k'
printf 'XXXX' | dd of="$(file_of 1 qcow2)" conv=notrunc bs=1 status=none
backup 3 "$(uri s disk)" repo
said 'no backup to build on:.*not a qcow2 image'
"$BREAKWATER" restore repo/disk out.qcow2 >/dev/null
same_content out.qcow2 qcow2 "$(uri s disk)" raw
rm -r out.qcow2 repo

say "a layer that names another parent than its manifest does"
for number in 1 2 3; do
    backup 0 "$(uri s disk)" repo
    nbd_io "$(uri s disk)" "write -P 3$number ${number}M 64k"
done
first=$(file_of 1 qcow2)
(cd repo/disk && qemu-img rebase -u -f qcow2 -F qcow2 -b "${first##*/}" "$(basename "$OLDPWD/$(cd "$OLDPWD" && file_of 3 qcow2)")")
expect_fail 5 'backing file' "$BREAKWATER" verify repo/disk
expect_fail 4 'SHA-256' "$BREAKWATER" restore repo/disk out.qcow2
backup 0 "$(uri s disk)" repo # on backup 2
said 'cannot build on backup 3'
"$BREAKWATER" verify repo/disk@4 >/dev/null
"$BREAKWATER" restore repo/disk@4 out.qcow2 >/dev/null
same_content out.qcow2 qcow2 "$(uri s disk)" raw
rm -r out.qcow2 repo
stop_serve s

# interrupted_after SECONDS ARG...: a backup that gets SIGTERM then; it must end soon and cleanly.
interrupted_after() {
    local after=$1 status=0
    shift
    SECONDS=0
    timeout --foreground -k 60 -s TERM "$after" "$BREAKWATER" backup "$@" >backup.out 2>&1 || status=$?
    [ $status -eq 124 ] || { cat backup.out >&2 && fail "timeout says $status"; }
    [ $SECONDS -lt $((after + 10)) ] || fail "SIGTERM was heard after $((SECONDS - after)) s"
    said '^breakwater: interrupted$'
    no_sanitizer_report backup.out
    [ -z "$(find repo -name 'G*')" ] || fail "files are left"
}

# peer NAME COMMAND...: start a server of another project on NAME.sock.
peer() {
    local name=$1
    shift
    "$@" >"$name.log" 2>&1 </dev/null &
    server_pid[$name]=$!
    wait_for 20 listening "$tmp/$name.sock" || fail "$name did not start: $*"
}

drop() {
    kill -KILL "${server_pid[$1]}" 2>/dev/null || true
    wait "${server_pid[$1]}" 2>/dev/null || true
    unset "server_pid[$1]"
}

say "looking for the view of a backup after a restart does not make it anew"
start_serve s -x disk -f qcow2 -B daily --checkpoints disk.qcow2
backup 0 "$(uri s disk)" repo
checkpoint=$(basename "$(file_of 1 json)" .json)
nbd_io "$(uri s disk)" 'write -P 0x61 1M 64k' flush
stop_serve s
start_serve s -x disk -f qcow2 -B daily --checkpoints disk.qcow2
expect_fail 1 'No such file' nbdinfo "$(uri s "disk@bw-${checkpoint#G}")"
nbd_io "$(uri s disk)" 'write -P 0x62 2M 64k'
backup 0 "$(uri s disk)" repo
"$BREAKWATER" restore repo/disk out.qcow2 >/dev/null
same_content out.qcow2 qcow2 "$(uri s disk)" raw
rm -r out.qcow2 repo
stop_serve s

say "a server that takes fewer connections than it is asked for"
for room in 1 2; do
    peer few qemu-nbd -r -t -e $room -f qcow2 -x disk -k "$tmp/few.sock" disk.qcow2
    backup 0 --json --full "$(uri few disk)" repo
    python3 -c 'import json, sys
assert json.load(open("backup.out"))["connections"] == int(sys.argv[1])' $room
    drop few
done
rm -r repo

say "SIGTERM while a server says nothing"
peer silent python3 -c 'import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(8)
time.sleep(600)' "$tmp/silent.sock"
interrupted_after 1 "$(uri silent disk)" repo
drop silent

say "SIGTERM while the digests of a huge disk are summed up"
peer huge nbdkit -f -r -U "$tmp/huge.sock" null 64T
interrupted_after 5 --name disk "$(uri huge)" repo
drop huge
rm -r repo
