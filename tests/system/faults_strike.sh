#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Faults beyond blkdebug's, given to serve as a file or as options, meet a real NBD client: each does
# what it says, and does not when it should not.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3

fresh() {
    qemu-img create -q -f qcow2 disk.qcow2 16M
    image_io disk.qcow2 'write -P 1 0 4M'
}

io_fails() { # URI MESSAGE COMMAND...: the last of these commands fails, and says so
    local target=$1 message=$2 arguments=() command
    shift 2
    for command; do
        arguments+=(-c "$command")
    done
    expect_fail 1 "$message" qemu-io -f raw "${arguments[@]}" "$target"
}

counted() { # NAME PATTERN: the log of the server NAME has such a line
    grep -Eq -- "$2" "$1.log" || fail "no line '$2' in the log of $1"
}

say "error: the 3rd read of a range, once, by name"
fresh
start_serve s --fault 'id=third layer=guest op=read range=1M+4k action=error errno=EIO nth=3' disk.qcow2
nbd_io "$(uri s)" 'read -P 1 1M 4k' 'read -P 1 0 512k' 'read -P 1 1M 4k' 'read -P 1 2M 4k'
io_fails "$(uri s)" 'Input/output error' 'read 1M 4k'
nbd_io "$(uri s)" 'read -P 1 1M 4k'
stop_serve s
counted s '^.*--fault 1 fault "third" .*: seen [0-9]+, matched 4, fired 1$'
counted s 'faults are drawn with --fault-seed 0x[0-9a-f]+$'

say "error: ENOSPC on a flush of the guest"
start_serve s --fault 'layer=guest op=flush action=error errno=ENOSPC once=on' disk.qcow2
io_fails "$(uri s)" '' 'write -P 1 0 4k' flush
nbd_io "$(uri s)" 'write -P 1 0 4k' 'flush'
stop_serve s
counted s 'op=flush .*fired 1$'

say "delay: a read waits, a write does not, and others go on meanwhile"
start_serve s --fault 'layer=guest op=read range=0+4k action=delay ms=1500' disk.qcow2
python3 - "$(uri s)" <<'END'
import subprocess, sys, time

def run(command):
    start = time.monotonic()
    subprocess.run(["qemu-io", "-f", "raw", "-c", command, sys.argv[1]], check=True,
                   stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.monotonic() - start

slow = subprocess.Popen(["qemu-io", "-f", "raw", "-c", "read -P 1 0 4k", sys.argv[1]],
                        stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
start = time.monotonic()
assert run("write -P 1 8k 4k") < 1.4, "a write waited"
assert run("read -P 1 4k 4k") < 1.4, "a read elsewhere waited"
assert slow.wait() == 0
assert run("read -P 1 0 4k") >= 1.5, "a read did not wait"
END
stop_serve s

say "lost: a write of the guest is acknowledged and not there"
start_serve s --fault 'layer=guest op=write range=64k+64k action=lost once=on where=disk' disk.qcow2
nbd_io "$(uri s)" 'write -P 2 64k 64k' 'flush' 'read -P 1 64k 64k' 'write -P 3 64k 64k' 'read -P 3 64k 64k'
stop_serve s
check_image disk.qcow2
image_io disk.qcow2 'read -P 3 64k 64k'

say "torn: only the first half of the units is there"
start_serve s --fault 'layer=guest op=write minlen=16k action=torn unit=4k where=disk' disk.qcow2
nbd_io "$(uri s)" 'write -P 4 1M 16k' 'read -P 4 1M 8k' 'read -P 1 1032k 8k' 'write -P 5 1M 8k' 'read -P 5 1M 8k'
stop_serve s
check_image disk.qcow2
image_io disk.qcow2 'read -P 5 1M 8k' 'read -P 1 1032k 8k'

say "short: an error, and a prefix is there"
start_serve s --fault 'layer=guest op=write action=short bytes=4k once=on' disk.qcow2
io_fails "$(uri s)" 'Input/output error' 'write -P 6 2M 16k'
nbd_io "$(uri s)" 'read -P 6 2M 4k' 'read -P 1 2052k 12k'
stop_serve s

say "misdirect and corrupt"
start_serve s --fault 'layer=guest op=write range=3M+4k action=misdirect delta=64k where=disk' \
    --fault 'layer=guest op=read range=0+512 action=corrupt byte=0x99 once=on' \
    --fault 'layer=guest op=write range=8M+4k action=corrupt zero=on where=disk' disk.qcow2
nbd_io "$(uri s)" 'write -P 7 3M 4k' 'read -P 1 3M 4k' 'read -P 7 3136k 4k' 'read -P 0x99 0 512' \
    'read -P 1 0 512' 'write -P 8 8M 8k' 'read -P 0 8M 4k' 'read -P 8 8196k 4k'
stop_serve s

say "nospace: the host file is full after a megabyte; the image stays sound"
fresh
start_serve s --fault 'action=nospace after=1M' disk.qcow2
nbd_io "$(uri s)" 'write -P 2 0 512k'
io_fails "$(uri s)" 'No space left' 'write -P 3 8M 4M'
nbd_io "$(uri s)" 'read -P 2 0 512k' 'read -P 1 1M 1M'
kill_serve s # its last flush cannot succeed either
qemu-img check -q -r leaks -f qcow2 disk.qcow2 >check.out 2>&1 || { cat check.out && fail "image damaged"; }
image_io disk.qcow2 'read -P 1 1M 1M'

say "host layer: an L2 table's write fails and nothing else; the guest's data does not get lost"
fresh
start_serve s --fault 'kind=l2 action=error errno=EIO once=on' disk.qcow2
io_fails "$(uri s)" '' 'write -P 2 8M 64k' flush
nbd_io "$(uri s)" 'read -P 2 8M 64k' 'write -P 3 9M 4k' 'flush'
stop_serve s
counted s 'kind=l2 .*fired 1$'
check_image disk.qcow2
image_io disk.qcow2 'read -P 2 8M 64k' 'read -P 1 0 4M'

say "a lost flush of the guest does not reach the host's file, which the last one does"
truncate -s 1M disk.raw
start_serve s -f raw --fault 'layer=guest op=flush action=lost' --fault 'op=flush action=log' disk.raw
# Without -t writeback, qemu-io makes its writes FUA.
image_io_run -t writeback -f raw -c 'write -P 9 0 4k' -c flush "$(uri s)"
if grep -q 'host flush' s.log; then fail "the flush was not lost"; fi
stop_serve s
counted s '--fault 2: host flush 0\+0'
counted s 'layer=guest op=flush action=lost: .*fired [1-9]'

say "a write with FUA is told from one without"
start_serve s -f raw --fault 'fua=on layer=guest op=write action=lost' disk.raw
image_io_run -t writeback -f raw -c 'write -P 1 0 4k' -c 'read -P 1 0 4k' -c 'write -f -P 2 0 4k' \
    -c 'read -P 1 0 4k' "$(uri s)"
stop_serve s

say "selectors of clients, times and counts strike what they name and nothing else"
read_log() { echo "layer=guest op=read range=0+2k $1 action=log"; }
start_serve s --fault "$(read_log 'client=unix:*')" --fault "$(read_log 'client=tcp:*')" \
    --fault "$(read_log conn=2)" --fault "$(read_log conn=9)" --fault "$(read_log window=0s..1h)" \
    --fault "$(read_log window=1h..2h)" --fault "$(read_log every=2)" --fault "$(read_log limit=3)" \
    --fault 'layer=guest op=read minlen=4k action=log' disk.qcow2
for _ in 1 2; do
    nbd_io "$(uri s)" 'read 0 512' 'read 512 512' 'read 1k 512' 'read 1536 512'
done
stop_serve s
for fired in 1:8 2:0 3:4 4:0 5:8 6:0 7:4 8:3 9:0; do
    counted s "--fault ${fired%:*} .*fired ${fired#*:}\$"
done

say "hang: no answer, until the server stops"
start_serve s --fault 'layer=guest op=read range=0+512 action=hang' disk.qcow2
qemu-io -f raw -c 'read 0 512' "$(uri s)" >hang.out 2>&1 </dev/null &
hung=$!
sleep 1
kill -0 $hung || fail "the read was answered"
nbd_io "$(uri s)" 'read -P 1 1M 512'
stop_serve s
wait $hung 2>/dev/null || true
grep -q 'failed' hang.out || fail "the read succeeded"

say "a hang while the image is opened fails the opening"
expect_fail 2 'disk.qcow2' "$BREAKWATER" serve -k "$tmp/s.sock" --fault 'op=read action=hang' disk.qcow2

say "the same seed strikes the same requests, another does not"
cat >draws.conf <<'END'
[engine]
seed = 1
[fault "coin"]
layer = guest
op = read
prob = 50%      # each of them
action = error
END
strikes() {
    local command=() i
    for ((i = 0; i < 64; i++)); do
        command+=(-c "read ${i}k 1k")
    done
    start_serve s --faults draws.conf "$@" disk.qcow2
    { qemu-io -f raw "${command[@]}" "$(uri s)" 2>&1 || true; } | grep -E '^read' | sed 's/;.*//' >strikes.out
    stop_serve s
    sha256sum <strikes.out
}
first=$(strikes)
grep -q failed strikes.out || fail "nothing was struck"
grep -q 'read 1024' strikes.out || fail "everything was struck"
[ "$(strikes)" = "$first" ] || fail "the same seed decides otherwise"
[ "$(strikes --fault-seed 2)" != "$first" ] || fail "another seed decides the same"
[ "$(strikes --fault-seed 1 --fault 'op=trim action=lost')" = "$first" ] || fail "another rule changes it"

say "bad faults are refused with a hint; odd ones are warned of"
serve=("$BREAKWATER" serve -k "$tmp/s.sock")
expect_fail 1 "--fault 2: unknown action \"eror\": did you mean error" \
    "${serve[@]}" --fault 'action=log' --fault 'action=eror' disk.qcow2
expect_fail 1 "fault-seed" "${serve[@]}" --fault-seed x disk.qcow2
printf '[fault]\nop=read\naction=error\nms=3\n' >bad.conf
expect_fail 2 "bad.conf:4:4: 'ms' does not go with action=error" "${serve[@]}" --faults bad.conf disk.qcow2
for name in dusk 'x*' disk2 dis disk.; do
    expect_fail 2 "--fault 1: no export is called " \
        "${serve[@]}" -x disk --fault "export=$name action=log" disk.qcow2
done
expect_fail 2 'did you mean "disk"?' "${serve[@]}" -x disk --fault "export=dusk action=log" disk.qcow2
start_serve s -x disk --fault 'export=disk action=log' --fault 'export=d?s* action=log' \
    --fault 'export=disk@crash/1 action=log' --fault 'export=disk@* action=log' disk.qcow2
stop_serve s
start_serve s --fault 'state=9 action=error' disk.qcow2
stop_serve s
counted s '--fault 1: it can never fire: no rule sets state 9'

say "faults check, explain, events, actions"
expect_fail 2 "bad.conf:4:4: 'ms' does not go" "$BREAKWATER" faults check bad.conf
expect_fail 2 "none.conf" "$BREAKWATER" faults check none.conf
expect_fail 1 "needs one rule file" "$BREAKWATER" faults check
expect_fail 1 "there is no 'chek'" "$BREAKWATER" faults chek
[ "$("$BREAKWATER" faults check draws.conf)" = "draws.conf: 1 rule, 0 warnings" ]
"$BREAKWATER" faults explain draws.conf | grep -q 'every read of the guest disk, with a probability of 50%, fails with EIO'
[ "$("$BREAKWATER" faults events | wc -l)" -eq 48 ]
"$BREAKWATER" faults actions >actions.out
grep -q '^  misdirect ' actions.out

say "blkdebug's options, as keys and as JSON, and its file names"
fresh
start_serve s --blkdebug align=4k,max-transfer=64k disk.qcow2
nbd_io "$(uri s)" 'write -P 2 8M 100k' 'read -P 2 8M 100k' 'read -P 1 0 512'
stop_serve s
check_image disk.qcow2
image_io disk.qcow2 'read -P 2 8M 100k'
start_serve s --blkdebug inject-error.0.event=read_aio,inject-error.0.once=on disk.qcow2
io_fails "$(uri s)" 'Input/output error' 'read 1M 4k'
nbd_io "$(uri s)" 'read -P 1 1M 4k'
stop_serve s
counted s 'inject-error.0 inject-error event=read_aio errno=5 once: seen [0-9]+, armed 1, fired 1'
start_serve s --blkdebug '{"set-state": [{"event": "read_aio", "new_state": 2}],
    "inject-error": [{"event": "read_aio", "state": 2, "errno": 28, "once": true}]}' disk.qcow2
nbd_io "$(uri s)" 'read -P 1 1M 4k'
io_fails "$(uri s)" 'No space left' 'read 1M 4k'
stop_serve s
printf '[inject-error]\nevent = "read_aio"\nonce = "on"\n' >once.conf
start_serve s blkdebug:once.conf:disk.qcow2
io_fails "$(uri s)" 'Input/output error' 'read 1M 4k'
nbd_io "$(uri s)" 'read -P 1 1M 4k'
stop_serve s
start_serve s blkdebug::disk.qcow2
nbd_io "$(uri s)" 'read -P 1 1M 4k'
stop_serve s
"$BREAKWATER" image check blkdebug:once.conf:disk.qcow2
expect_fail 2 'Input/output error' "$BREAKWATER" image compare blkdebug:once.conf:disk.qcow2 disk.qcow2
"$BREAKWATER" image compare blkdebug::disk.qcow2 disk.qcow2
expect_fail 1 'cannot read .* of disk.qcow2: Input/output error' "$BREAKWATER" image convert \
    blkdebug:once.conf:disk.qcow2 copy.qcow2
"$BREAKWATER" image convert blkdebug::disk.qcow2 copy.qcow2
printf '[inject-error]\nevent = "write_aio"\nerrno = "28"\n' >full.conf
expect_fail 1 'cannot write .* of copy.qcow2: No space left' "$BREAKWATER" image convert -n disk.qcow2 \
    blkdebug:full.conf:copy.qcow2
expect_fail 1 'cannot be created through blkdebug' "$BREAKWATER" image convert disk.qcow2 blkdebug::copy.qcow2
"$BREAKWATER" image create -q -b copy.qcow2 -F qcow2 over.qcow2
printf '[inject-error]\nevent = "none"\niotype = "flush"\n' >flush.conf
printf '[inject-error]\nevent = "none"\niotype = "read"\n' >read.conf
for command in commit 'snapshot -c one' 'bitmap --add' 'rebase -u -b'; do
    case $command in
        bitmap*) words=(bitmap --add blkdebug:flush.conf:over.qcow2 daily) ;;
        rebase*) words=(rebase -u -b '' blkdebug:flush.conf:over.qcow2) ;;
        *) read -ra words <<<"$command blkdebug:flush.conf:over.qcow2" ;;
    esac
    expect_fail 1 'Input/output error' "$BREAKWATER" image "${words[@]}"
done
expect_fail 1 'Input/output error' "$BREAKWATER" image resize blkdebug:flush.conf:over.qcow2 +1M
expect_fail 1 'Input/output error' "$BREAKWATER" image measure -O qcow2 \
    blkdebug:read.conf:disk.qcow2
expect_fail 1 'blkdebug requires both config file and image path' "${serve[@]}" blkdebug:disk.qcow2
expect_fail 1 'exclude each other' "${serve[@]}" --faults once.conf blkdebug:once.conf:disk.qcow2
expect_fail 1 'cannot be created through blkdebug' "$BREAKWATER" image create blkdebug::new.qcow2 1M
expect_fail 2 'Cannot meet constraints with align 3' "${serve[@]}" --blkdebug align=3 disk.qcow2
expect_fail 2 "doesn't support the option 'foo'" "${serve[@]}" --blkdebug foo=1 disk.qcow2
expect_fail 1 "align' is neither" "${serve[@]}" --blkdebug '{"align": 1.5}' disk.qcow2
expect_fail 1 "--blkdebug: .* at byte 8" "${serve[@]}" --blkdebug '{"align"' disk.qcow2
expect_fail 1 "'align' is no option" "${serve[@]}" --blkdebug align disk.qcow2
expect_fail 2 'unused.conf' "${serve[@]}" blkdebug:unused.conf:disk.qcow2

say "each kind of write can be selected"
# strikes KIND COMMAND...: an error of writes of this kind, and of no other, fails the command.
strikes() {
    local kind=$1 other
    cp over.qcow2 kinds.qcow2
    shift
    for other in data header l1 l2 reftable refblock snapshot bitmap; do
        printf '[fault "%s"]\nkind = %s\naction = error\n' $other $other >$other.conf
    done
    expect_fail 1 'Input/output error' "$BREAKWATER" image "${@/FILE/blkdebug:$kind.conf:kinds.qcow2}"
    cp over.qcow2 kinds.qcow2
    case $kind in bitmap) other=snapshot ;; *) other=bitmap ;; esac
    "$BREAKWATER" image "${@/FILE/blkdebug:$other.conf:kinds.qcow2}" >/dev/null
}
qemu-img create -q -f qcow2 -o cluster_size=512 over.qcow2 64k
strikes bitmap bitmap --add FILE daily
for kind in snapshot l1 refblock reftable header; do
    strikes $kind snapshot -c one FILE
done
qemu-img create -q -f raw disk.raw 64k
image_io_run -f raw -c "write -P 3 0 64k" disk.raw
for kind in data l2; do
    strikes $kind convert -n -f raw -O qcow2 disk.raw FILE
done

say "a breakpoint of a file holds one operation; others go on, and its timeout ends it"
printf '[suspend "read"]\nevent = read_aio\ntimeout = 1500ms\n' >hold.conf
start_serve s --faults hold.conf disk.qcow2
qemu-io -f raw -c 'read -P 1 0 4k' "$(uri s)" >held.out 2>&1 </dev/null &
held=$!
wait_for 5 grep -q 'held at read_aio' s.log || fail "nothing was held"
nbd_io "$(uri s)" 'read -P 1 1M 4k'
kill -0 $held || fail "the first read was not held"
wait $held
stop_serve s
start_serve s --faults hold.conf disk.qcow2
qemu-io -f raw -c 'read -P 1 0 4k' "$(uri s)" >held.out 2>&1 </dev/null &
held=$!
wait_for 5 grep -q 'held at read_aio' s.log || fail "nothing was held"
stop_serve s
wait $held || true
