#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# breakwater explore: workloads whose writes are durable pass, others are caught, with a state, a file
# and a command that show it again; recordings are logs of dm-log-writes.
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io jq nbdcopy
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "python3-libnbd is not installed"
export BREAKWATER

explore() {
    "$BREAKWATER" explore "$@" </dev/null
}

# A record is written, made durable (or not), and its number is marked as done.
cat >workload.py <<'E2'
import nbd, os, subprocess, sys
h = nbd.NBD()
h.connect_uri(os.environ["uri"])
for i in range(1, 5):
    h.pwrite(bytes([i]) * 8192, i * 8192, nbd.CMD_FLAG_FUA if sys.argv[1] == "fua" else 0)
    if sys.argv[1] == "flush":
        h.flush()
    subprocess.check_call([os.environ["BREAKWATER"], "explore", "mark", str(i)])
h.pwrite(b"x" * 700, 100000)
h.trim(4096, 65536)
E2
cat >check.py <<'E2'
import nbd, os, sys
h = nbd.NBD()
h.connect_uri(os.environ["uri"])
for i in range(1, int(os.environ["mark"] or 0) + 1):
    if h.pread(8192, i * 8192) != bytes([i]) * 8192:
        sys.exit("record %d of %s is gone in state %s" % (i, os.environ["mark"], os.environ["state"]))
h.pwrite(b"?" * 8192, 8192)  # of no consequence for other states
E2
check='/usr/bin/python3 check.py'

say 'what was flushed, or written with FUA, survives every cut'
for way in flush fua; do
    explore --size 1M --workload "/usr/bin/python3 workload.py $way" --check "$check" --states 60 \
        --json --record $way.rec >$way.json 2>explore.log
    jq -e '.failing == 0 and .states > 10 and .moments == 5' $way.json >/dev/null ||
        fail "$way: $(cat $way.json)"
done

say 'since a mark: only cuts after it, whose states can be shown again'
explore --size 1M --replay flush.rec --since 3 --check '[ "${mark:-0}" -ge 3 ]' --json >since.json 2>explore.log ||
    fail "$(cat since.json explore.log)"
jq -e '.moments == 2 and .states > 5' since.json >/dev/null || fail "$(cat since.json)"
explore --size 1M --replay flush.rec --since 3 --check false -x --jobs 1 >since.out 2>explore.log || true
again=$(sed -n 's/^again: breakwater //p' since.out)
eval "\"\$BREAKWATER\" $again" >again.out 2>&1 </dev/null || true
[ "$(grep left: again.out)" = "$(grep left: since.out)" ] || fail "$(cat since.out again.out)"
expect_fail 2 'no such mark' explore --size 1M --replay flush.rec --since 5 --check true

say 'what was not is caught'
mkdir kept
status=0
explore --size 1M --workload '/usr/bin/python3 workload.py none' --check "$check" --states 60 \
    --record none.rec --keep kept --jobs 3 >none.out 2>explore.log || status=$?
[ $status -eq 3 ] || fail "exit code $status"
grep -Eq '^state 0 failed: exit code 1$' none.out
grep -Eq 'mark: 4$' none.out
grep -Eq 'record 1 of 4 is gone in state 0' none.out
grep -Eq 'left: the first 0 of 6 volatile writes, after entry' none.out
[ "$(stat -c %s kept/state-0.raw)" -eq $((1 << 20)) ] || fail 'the kept state has another size'
cmp -s -n $((1 << 20)) kept/state-0.raw /dev/zero || fail 'state 0 is not empty, as nothing survived'

say 'the command that it names shows the same state again, and no other'
again=$(sed -n 's/^again: breakwater //p' none.out)
status=0
eval "\"\$BREAKWATER\" $again" >again.out 2>&1 </dev/null || status=$?
[ $status -eq 3 ] || fail "exit code $status of: $again"
grep -Eq 'record 1 of 4 is gone in state 0' again.out
grep -Eq '^1 states of' again.out

say 'the same recording and seed give the same states'
for i in 1 2; do
    explore --size 1M --replay none.rec --states 40 --seed 7 --jobs 1 --json \
        --check "nbdcopy \"\$uri\" - | md5sum >>sums.$i" >replay.json 2>explore.log
done
cmp sums.1 sums.2 || fail 'the states differ'
states=$(jq .states replay.json)
[ "$states" -gt 25 ] && [ "$states" -le 40 ] || fail "$states states"
[ "$(sort -u sums.1 | wc -l)" -eq "$states" ] || fail 'some states are equal'

say 'the first failing state is the one with the lowest number, whichever fails first'
mkdir lowest
status=0
explore --size 1M --replay none.rec --jobs 3 --keep lowest --states 6 \
    --check '[ "$state" != 0 ] || sleep 0.5; exit 1' >lowest.out 2>explore.log || status=$?
[ $status -eq 3 ] || fail "exit code $status"
grep -q '^state 0 failed' lowest.out
[ "$(ls lowest)" = state-0.raw ] || fail "kept: $(ls lowest)"

say '{uri} in both commands is the URI, in any quotes'
mkdir "odd 'name\$"
TMPDIR="$tmp/odd 'name\$" explore --size 1M --states 3 --workload \
    'qemu-io -f raw -c "write -P 7 0 4k" {uri} && [ "{uri}" = "$uri" ] && test "$uri" = '"'{uri}'" \
    --check "nbdcopy '{uri}' - >/dev/null && [ \"{uri}+{uri}\" = \"\$uri+\$uri\" ]" >uri.out 2>explore.log ||
    fail "$(cat uri.out explore.log)"
grep -q '^2 states of .* 0 failed' uri.out

say 'a flush that does not wait for the answers to the writes does not cover them'
cat >flight.py <<'E2'
import nbd, os, subprocess, sys
h = nbd.NBD()
h.connect_uri(os.environ["uri"])
def finish(cookie):
    while not h.aio_command_completed(cookie):
        h.poll(-1)
for i in range(1, 31):
    write = h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i]) * 4096), i * 4096)
    if sys.argv[1] == "waits":
        finish(write)
    flush = h.aio_flush()
    if sys.argv[1] == "hurries":
        finish(write)
    finish(flush)
subprocess.check_call([os.environ["BREAKWATER"], "explore", "mark", "done"])
E2
for way in 'waits 0' 'hurries 3'; do
    status=0
    explore --size 1M --workload "/usr/bin/python3 flight.py ${way% *}" --states 100 --check \
        '[ -z "$mark" ] || nbdcopy "$uri" - | tr -d "\0" | wc -c | grep -qx 122880' >flight.out 2>explore.log || status=$?
    [ $status -eq "${way#* }" ] || fail "$way: exit code $status: $(cat flight.out explore.log)"
done
grep -q 'mark: done' flight.out

say 'equal content is tested once, and again where more was promised'
cat >twice.py <<'E2'
import nbd, os, subprocess, sys
h = nbd.NBD()
h.connect_uri(os.environ["uri"])
for step in sys.argv[1:]:
    if step == "mark":
        subprocess.check_call([os.environ["BREAKWATER"], "explore", "mark", "so far"])
    else:
        h.pwrite(bytes([int(step)]) * 512, 4096)
        h.flush()
E2
# Nothing, 1, 2; nothing, 1 again as that which was there; 1 without and with a mark, then 2.
for case in '3 1 2' '2 1 0' '3 1 0 3' '4 1 mark 2'; do
    explore --size 1M --workload "/usr/bin/python3 twice.py ${case#* }" --check true --json >twice.json \
        2>explore.log
    [ "$(jq .states twice.json)" -eq "${case%% *}" ] || fail "$case: $(cat twice.json)"
done

say 'trims of whole disks take no memory'
cat >trim.py <<'E2'
import nbd, os
h = nbd.NBD()
h.connect_uri(os.environ["uri"])
h.pwrite(b"1" * 512, 0)
h.trim(1 << 31, 0)
assert h.pread(512, 0) == b"1" * 512
h.flush()
E2
explore --size 2G --limit 1M --workload '/usr/bin/python3 trim.py' --check true --json >trim.json \
    2>explore.log
[ "$(jq .states trim.json)" -eq 2 ] || fail "$(cat trim.json)"

say 'only the first failure'
explore --size 1M --replay none.rec --check false --jobs 1 -x --json >first.json 2>explore.log || true
[ "$(jq .states first.json)" -eq 1 ] || fail 'it went on'

say 'recordings are logs of dm-log-writes'
cat >parse.py <<'E2'
import struct, sys
log = open(sys.argv[1], "rb").read()
magic, version, n, sector = struct.unpack_from("<QQQI", log)
assert (magic, version, sector) == (0x6A736677736872, 1, 512), (hex(magic), version, sector)
at = sector
names = {0: "write", 1: "flush", 2: "fua", 4: "trim", 8: "mark"}
for _ in range(n):
    start, count, flags, length = struct.unpack_from("<QQQQ", log, at)
    data = log[at + 32:at + 32 + length]
    at += sector
    print(names[flags], start, count, data.decode() or "-")
    if flags in (0, 2):
        at += count * sector
assert at == len(log), (at, len(log))
E2
/usr/bin/python3 parse.py flush.rec >parsed
cat >expected <<'E2'
mark 0 0 breakwater disk of 1048576 bytes
write 16 16 -
flush 0 0 -
mark 0 0 1
write 32 16 -
flush 0 0 -
mark 0 0 2
write 48 16 -
flush 0 0 -
mark 0 0 3
write 64 16 -
flush 0 0 -
mark 0 0 4
write 195 2 -
trim 128 8 -
E2
diff expected parsed
/usr/bin/python3 parse.py fua.rec >parsed
grep -q '^fua 16 16' parsed || fail 'no FUA in the log'

say 'logs that are none are refused'
head -c 3000 flush.rec >cut.rec
printf 'nonsense' | dd of=magic.rec bs=1 conv=notrunc status=none
explore --size 1M --replay flush.rec --check true --states 5 >/dev/null 2>explore.log
expect_fail 2 'entry [0-9]+ is cut short' explore --size 1M --replay cut.rec --check true
expect_fail 2 'cut short|no log of dm-log-writes' explore --size 1M --replay magic.rec --check true
expect_fail 2 'no log of dm-log-writes' explore --size 1M --replay "$BREAKWATER" --check true
expect_fail 2 'recorded on a disk of 1048576 bytes' explore --size 2M --replay flush.rec --check true
expect_fail 2 'no regular file' explore --size 1M --replay . --check true

say 'damaged logs are refused or explored, and harm nothing'
cat >damage.py <<'E2'
import random, sys
random.seed(int(sys.argv[1]))
log = bytearray(open("flush.rec", "rb").read())
for _ in range(random.randrange(1, 4)):
    sector = random.randrange(len(log) // 512)
    log[sector * 512 + random.randrange(40)] = random.choice((0, 1, 2, 4, 8, 127, 128, 255))
open("damaged.rec", "wb").write(log[:random.choice((len(log), len(log), random.randrange(len(log))))])
E2
for seed in $(seq 40); do
    /usr/bin/python3 damage.py "$seed"
    status=0
    timeout 20 "$BREAKWATER" explore --size 1M --replay damaged.rec --check builtin:qcow2 --states 20 -q \
        >damaged.out 2>&1 </dev/null || status=$?
    [ $status -eq 2 ] || [ $status -eq 3 ] || { cat damaged.out && fail "seed $seed: $status"; }
    no_sanitizer_report damaged.out
done

say 'a check that hangs has failed; a workload that fails ends it'
status=0
timeout 60 "$BREAKWATER" explore --size 1M --replay none.rec --check 'sleep 1000' --timeout 200ms \
    --states 3 >hang.out 2>explore.log || status=$?
[ $status -eq 3 ] || fail "exit code $status"
grep -q 'state 0 failed: not done after 200 ms' hang.out
expect_fail 2 'the workload failed: exit code 5' explore --size 1M --workload 'exit 5' --check true
expect_fail 2 'the workload failed: not done after 100 ms' explore --size 1M --workload 'sleep 1000' \
    --workload-timeout 100ms --check true
expect_fail 2 'more than --limit allows' explore --size 64M --limit 1M --check true \
    --workload "qemu-io -f raw -c 'write 0 8M' \"\$uri\"; true"
expect_fail 2 'there is no state 100000' explore --size 1M --replay none.rec --check true --state 100000

say 'an interrupt ends the commands, and the folder goes'
mkdir scratch
TMPDIR=$tmp/scratch "$BREAKWATER" explore --size 1M --replay none.rec --check 'sleep 1000' --jobs 2 \
    >interrupt.out 2>&1 </dev/null &
server_pid[explore]=$!
wait_for 20 pgrep -P $! -f 'sleep 1000' >/dev/null
kill -TERM "${server_pid[explore]}"
status=0
wait "${server_pid[explore]}" || status=$?
unset 'server_pid[explore]'
[ $status -eq 2 ] || fail "exit code $status"
grep -q interrupted interrupt.out
[ -z "$(ls -A scratch)" ] || fail "something is left: $(ls -A scratch)"

# State 0 fails, state 1 passes, and the others wait for an end that does not come.
check='case $state in 0) echo it is lost; exit 1 ;; 1) ;; *) >partial/waits; exec sleep 1000 ;; esac'
for signal in INT TERM; do
    say "what was tested before SIG$signal is summed up, and the first failure is kept"
    rm -rf partial && mkdir partial
    TMPDIR=$tmp/scratch env --default-signal=INT "$BREAKWATER" explore --size 1M --replay none.rec \
        --keep partial --jobs 2 --check "$check" >partial.out 2>partial.log </dev/null &
    server_pid[explore]=$!
    wait_for 20 test -e partial/waits
    wait_for 20 test -e partial/state-0.raw
    sleeper=$(pgrep -P "${server_pid[explore]}" | head -n 1)
    kill "-$signal" "${server_pid[explore]}"
    status=0
    wait "${server_pid[explore]}" || status=$?
    unset 'server_pid[explore]'
    [ $status -eq 3 ] || fail "exit code $status: $(cat partial.out partial.log)"
    grep -q interrupted partial.log
    no_sanitizer_report partial.log
    grep -Eq '^state 0 failed: exit code 1$' partial.out
    grep -Eq '^    it is lost$' partial.out
    grep -Eq '^2 states of [0-9]+ moments, 1 failed; .*; interrupted$' partial.out
    grep -Eq '^again: breakwater explore .* --replay none.rec .* --state 0$' partial.out
    [ -f partial/state-0.raw ] || fail 'the failing state was not kept'
    [ ! -e "/proc/$sleeper" ] || fail 'a check still runs'
    [ -z "$(ls -A scratch)" ] || fail "something is left: $(ls -A scratch)"
done

say 'the host: what is left of the image file, judged by us and by QEMU'
qemu-img create -q -f qcow2 disk.qcow2 32M
md5sum disk.qcow2 >before
cat >writes.py <<'E2'
import nbd, os, random
h = nbd.NBD()
h.connect_uri(os.environ["uri"])
random.seed(4)
for i in range(30):
    h.pwrite(bytes([i + 1]) * 4096, random.randrange(8192) * 4096)
    if i % 6 == 5:
        h.flush()
E2
explore --disk disk.qcow2 --layer host --workload '/usr/bin/python3 writes.py' --check builtin:qcow2 \
    --record host.rec --json >host.json 2>explore.log
jq -e '.failing == 0 and .states > 200' host.json >/dev/null || fail "$(cat host.json)"
# Leaks are legal: 3.
explore --disk disk.qcow2 --layer host --replay host.rec --states 40 --json >host.json 2>explore.log \
    --check 'qemu-img check -q -f qcow2 "$uri" || [ $? -eq 3 ]'
jq -e '.failing == 0' host.json >/dev/null || fail "$(cat host.json)"
md5sum --status -c before || fail 'the image was written to'

say 'the checker of images does find what is wrong: the table reaches the disk, its refcounts do not'
cat >broken.py <<'E2'
import nbd, os
h = nbd.NBD()
h.connect_uri(os.environ["uri"])
l1 = int.from_bytes(h.pread(8, 40), "big")
h.pwrite((0x8000000000000000 | 3 * 65536).to_bytes(8, "big"), l1)
E2
truncate -s 256K disk.qcow2
status=0
explore --disk disk.qcow2 -f raw --workload '/usr/bin/python3 broken.py' --check builtin:qcow2 \
    >broken.out 2>explore.log || status=$?
[ $status -eq 3 ] || fail "exit code $status"
grep -q 'state 1 failed: [0-9]* corruptions' broken.out

say 'command lines that cannot be'
expect_fail 1 'either --disk IMAGE or --size' explore --workload true --check true
expect_fail 1 'either --workload COMMAND or --replay' explore --size 1M --check true
expect_fail 1 '--check is missing' explore --size 1M --workload true
expect_fail 1 'neither guest nor host' explore --size 1M --layer disk --workload true --check true
expect_fail 1 'needs an image' explore --size 1M --layer host --workload true --check true
expect_fail 1 'builtin:qcow2' explore --size 1M --workload true --check builtin:ext4
expect_fail 1 'multiple of 512' explore --size 1000 --workload true --check true
expect_fail 1 "option '--chek' is not known; did you mean '--check'" explore --chek true
expect_fail 1 'in quotes' explore --size 1M --workload true --check ls here
expect_fail 2 'only in the workload' explore mark 1
expect_fail 1 'mark needs one name' explore mark
no_sanitizer_report explore.log
