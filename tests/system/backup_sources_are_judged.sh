#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What a backup reads from: servers with and without checkpoints, bitmaps, several connections; odd
# sizes; servers that fail, hang, die, cheat or are not there. Whatever goes wrong, nothing is
# published and no file is left.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io qemu-nbd nbdkit nbdinfo python3

# peer NAME COMMAND...: start a server of another project on NAME.sock.
peer() {
    local name=$1
    shift
    rm -f "$name.sock"
    "$@" >"$name.log" 2>&1 </dev/null &
    server_pid[$name]=$!
    wait_for 20 listening_or_gone "$name"
    listening "$tmp/$name.sock" || fail "$name did not start: $*"
}

# Some of these servers do not survive a client that leaves in the middle.
drop() {
    kill -KILL "${server_pid[$1]}" 2>/dev/null || true
    wait "${server_pid[$1]}" 2>/dev/null || true
    unset "server_pid[$1]"
    rm -f "$1.sock"
}

# backup EXPECTED-CODE ARG...: the exit code must be this one; the output is in backup.out.
backup() {
    local code=$1 status=0
    shift
    "$BREAKWATER" backup "$@" >backup.out 2>&1 </dev/null || status=$?
    no_sanitizer_report backup.out
    [ $status -eq "$code" ] || { cat backup.out >&2 && fail "exit code $status, not $code: $*"; }
}

manifest_field() {
    python3 - "$1" "$2" <<'END'
import glob, json, sys
last = max((json.load(open(p)) for p in glob.glob("repo/disk/*.json")), key=lambda m: m["sequence"])
value = last
for key in sys.argv[2].split("."):
    value = value[key]
print(json.dumps(value))
END
}

field_is() {
    [ "$(manifest_field . "$1")" = "$2" ] || fail "$1 is $(manifest_field . "$1"), not $2"
}

proven_equal() {
    "$BREAKWATER" verify repo/disk >verify.out 2>&1 || { cat verify.out >&2 && fail "verify"; }
    "$BREAKWATER" restore --force -f raw repo/disk restored.raw >/dev/null
    same_content restored.raw raw "$1" "$2"
}

nothing_published() {
    [ -z "$(find repo -name 'G*')" ] || { find repo >&2 && fail "files are left"; }
}

qemu-img create -q -f qcow2 disk.qcow2 64M
image_io disk.qcow2 "${fixture_base[@]}"

say "an export that may change is refused, with advice"
peer live qemu-nbd -t -e 8 -f qcow2 -x disk -k "$tmp/live.sock" disk.qcow2
backup 2 "$(uri live disk)" repo
grep -q -- '--checkpoints' backup.out || fail "no advice"
grep -q -- '--allow-live' backup.out || fail "no advice"
nothing_published

say "... unless the user insists"
backup 0 --allow-live "$(uri live disk)" repo
field_is source.live true
field_is source.checkpoint null
drop live
proven_equal disk.qcow2 qcow2
rm -r repo

say "a read-only export: full, and in full again, which is said"
peer ro qemu-nbd -r -t -e 8 -f qcow2 -x disk -k "$tmp/ro.sock" disk.qcow2
backup 0 "$(uri ro disk)" repo
field_is source.live false
grep -q ' full,' backup.out || fail "not full"
backup 3 "$(uri ro disk)" repo
grep -qi 'full backup instead' backup.out || fail "it did not say so"
backup 0 --full "$(uri ro disk)" repo
field_is sequence 3
drop ro

say "an increment from a named bitmap"
qemu-img bitmap --add disk.qcow2 changes
image_io disk.qcow2 "${fixture_batch1[@]}" 'write -z 1M 32k'
peer bits qemu-nbd -r -t -e 8 -f qcow2 -x disk -B changes -k "$tmp/bits.sock" disk.qcow2
backup 0 --bitmap changes "$(uri bits disk)" repo
field_is level '"incremental"'
field_is source.bitmap '"changes"'
proven_equal disk.qcow2 qcow2
backup 2 --bitmap nosuch "$(uri bits disk)" repo
grep -q nosuch backup.out || fail "the bitmap is not named"
field_is sequence 4

say "the same over one connection"
backup 0 --bitmap changes --connections 1 "$(uri bits disk)" repo
proven_equal disk.qcow2 qcow2
drop bits
rm -r repo

say "no export, no server, no sense"
peer ro qemu-nbd -r -t -e 8 -f qcow2 -x disk -k "$tmp/ro.sock" disk.qcow2
backup 2 "$(uri ro other)" repo
grep -q "other" backup.out || fail "the export is not named"
backup 75 "$(uri nowhere disk)" repo
backup 75 "nbd://localhost:$(free_port)/disk" repo
backup 1 "$(uri ro disk)"
backup 1 --depth 0 "$(uri ro disk)" repo
backup 1 --request-size 100k "$(uri ro disk)" repo
backup 1 --name a/b "$(uri ro disk)" repo
backup 1 --nosuch "$(uri ro disk)" repo
backup 2 disk.qcow2 repo
backup 2 "$(uri ro a%2Fb)" repo
grep -q -- "--name" backup.out || fail "no advice to name the disk"
drop ro
[ -z "$(find repo -type f -name 'G*')" ] || fail "files are left"
rm -rf repo

say "a size that is no multiple of anything, one connection, no allocation map"
python3 -c 'import random
random.seed(1)
open("odd.raw", "wb").write(random.randbytes(3 * 65536 + 1001))'
peer odd nbdkit -f -r -U "$tmp/odd.sock" --filter=multi-conn --filter=noextents file odd.raw \
    multi-conn-mode=disable
backup 0 --json --name disk "$(uri odd)" repo
python3 - <<'END'
import json
result = json.load(open("backup.out"))
assert result["connections"] == 1, result
assert result["size"] == 3 * 65536 + 1001, result
assert result["data_bytes"] == result["size"], result
assert result["level"] == "full", result
END
"$BREAKWATER" verify repo/disk >/dev/null
"$BREAKWATER" restore -f raw repo/disk odd.out >/dev/null
cmp odd.raw odd.out
drop odd
rm -r repo

say "zeros that the server calls data are found here"
truncate -s 32M zeros.raw
printf x | dd of=zeros.raw bs=1 seek=5000000 conv=notrunc status=none
peer zeros nbdkit -f -r -U "$tmp/zeros.sock" --filter=noextents file zeros.raw
backup 0 --json --name disk "$(uri zeros)" repo
python3 -c 'import json
result = json.load(open("backup.out"))
assert result["read_bytes"] == 32 << 20 and result["data_bytes"] == 65536, result'
field_is source.checkpoint null # this server takes any name, and freezes nothing
backup 3 --name disk "$(uri zeros)" repo
grep -q 'not taken from a checkpoint' backup.out || fail "not the right reason"
proven_equal zeros.raw raw
drop zeros
rm -r repo

say "one read error among many fails the run"
peer errors nbdkit -f -r -U "$tmp/errors.sock" --filter=error pattern 64M error-pread=EIO \
    error-pread-rate=2%
backup 2 --name disk "$(uri errors)" repo
grep -Eq 'Input/output error' backup.out || fail "the error is not named"
nothing_published
drop errors

say "a server that hangs"
slow_server() {
    peer slow nbdkit -f -r -U "$tmp/slow.sock" --filter=delay pattern 64M rdelay=30
}
slow_server
SECONDS=0
backup 2 --name disk --timeout 1s "$(uri slow)" repo
[ $SECONDS -le 15 ] || fail "it took $SECONDS s to give up"
grep -q 'did not answer' backup.out || fail "the reason is not said"
nothing_published
drop slow

say "SIGTERM and SIGINT in the middle: clean and quick"
for signal in TERM INT; do
    slow_server
    status=0
    timeout --foreground -s $signal 1 "$BREAKWATER" backup --name disk "$(uri slow)" repo \
        >killed.out 2>&1 || status=$?
    [ $status -eq 124 ] || fail "timeout says $status"
    grep -q interrupted killed.out || { cat killed.out >&2 && fail "not said"; }
    no_sanitizer_report killed.out
    nothing_published
    drop slow
done

say "the server dies in the middle"
slow_server
"$BREAKWATER" backup --name disk "$(uri slow)" repo >died.out 2>&1 &
client=$!
sleep 1
drop slow
status=0
wait $client || status=$?
[ $status -eq 2 ] || { cat died.out >&2 && fail "exit code $status"; }
no_sanitizer_report died.out
nothing_published

say "a server that answers with less than was asked, and says it is all"
for how in short empty overlong twice; do
    rm -f cheat.sock
    peer cheat python3 "$here/../lib/cheating_server.py" "$tmp/cheat.sock" $how
    backup 2 --name disk "$(uri cheat)" repo
    nothing_published
    drop cheat
done

say "a huge, empty disk costs nothing"
qemu-img create -q -f qcow2 huge.qcow2 16T
image_io huge.qcow2 'write -P 7 8T 64k' 'write -P 8 15T 3k'
peer huge qemu-nbd -r -t -e 8 -f qcow2 -x disk -k "$tmp/huge.sock" huge.qcow2
backup 0 "$(uri huge disk)" repo
"$BREAKWATER" verify repo/disk >verify.out
drop huge
