#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# `breakwater ctl`: values become what commands want, tables, events, the shell, exit codes.
. "${0%/*}/../lib/functions.sh"
requires qemu-img nbdinfo

ctl() {
    "$BREAKWATER" ctl control.sock "$@"
}

start_daemon() {
    "$BREAKWATER" daemon --chardev "socket,id=c,path=$tmp/control.sock,server=on,wait=off" \
        --monitor chardev=c >daemon.log 2>&1 </dev/null &
    server_pid[daemon]=$!
    wait_for 20 listening "$tmp/control.sock" || fail "the daemon does not listen"
}

job_concluded() {
    ctl jobs | has -E "^j +create +concluded +1/1 +Cannot find device='gone'"
}

# grep that reads to the end: who writes into a pipe that is closed early would fail.
has() {
    grep "$@" >/dev/null
}

# follow: print events into the file events, from now on for sure.
follow() {
    "$BREAKWATER" ctl --follow control.sock >events 2>&1 &
    follower=$!
    ctl blockdev-add driver=null-co node-name=poked
    wait_for 20 poke || fail "no event came"
}

poke() {
    ctl block-export-add type=nbd id=poke node-name=poked
    ctl block-export-del id=poke
    [ -s events ]
}

same() {
    [ "$1" = "$2" ] || fail "expected '$2', got '$1'"
}

qemu-img create -q -f qcow2 disk.qcow2 64M
start_daemon

say "words become what the command wants"
same "$(ctl blockdev-add driver=qcow2 node-name=disk file.driver=file file.filename=disk.qcow2)" ""
ctl blockdev-add driver=null-co node-name=123 size=64k >out 2>&1 && fail "a node named 123"
grep -q "Invalid node-name: '123'" out
ctl blockdev-add driver=null-co node-name=n size=64k read-only=on
ctl blockdev-add '{"driver": "null-co", "node-name": "m", "size": 512}'
ctl block-dirty-bitmap-add node=disk name=daily granularity=128k
ctl transaction actions.0.type=block-dirty-bitmap-disable actions.0.data.node=disk \
    actions.0.data.name=daily
ctl transaction 'actions=[{"type": "block-dirty-bitmap-enable", "data": {"node": "disk", "name": "daily"}}]'
ctl nbd-server-start addr.type=unix addr.data.path="$tmp/nbd.sock"
ctl block-export-add type=nbd id=e node-name=disk writable=on bitmaps.0=daily

say "results: indented, or one line"
ctl query-block-exports | has '^    "id": "e"'
same "$(ctl query-block-exports --json)" \
    '[{"id":"e","type":"nbd","node-name":"disk","shutting-down":false}]'
same "$("$BREAKWATER" ctl -j control.sock query-block)" '[]'

say "tables"
ctl nodes | has -E '^disk +qcow2 +64.0 MiB no  disk.qcow2$'
ctl nodes | has -E '^n +null-co +64.0 KiB yes '
ctl exports | has -E '^e +nbd +disk +running$'
ctl bitmaps | has -E '^disk +daily +128 KiB +0 bytes recording, busy$'
ctl bitmaps --json | has '"granularity":131072'

ctl blockdev-create job-id=j options.driver=qcow2 options.file=gone options.size=1M
wait_for 10 job_concluded || fail "$(ctl jobs)"
ctl job-dismiss id=j

say "exit codes"
expect_fail 2 "Cannot find device='' nor node-name='zz'" ctl block_resize node-name=zz size=1M
expect_fail 2 'CommandNotFound: The command nope has not been found' ctl nope a=1
expect_fail 2 "Parameter 'size' is missing" ctl block_resize node-name=disk
expect_fail 2 "Parameter 'x' is unexpected" ctl query-block x=1
expect_fail 1 "'word' is no argument" ctl query-block word
expect_fail 1 'socket is missing' "$BREAKWATER" ctl
expect_fail 1 "there is no option '--nope'" "$BREAKWATER" ctl --nope control.sock
expect_fail 75 "control socket 'gone.sock'" "$BREAKWATER" ctl gone.sock query-block

say "events are followed"
follow
same "$(ctl block-export-del id=e mode=hard)" ""
wait_for 10 grep -Eq '^20[0-9-]+ [0-9:.]+ BLOCK_EXPORT_DELETED \{"id":"e"\}$' events ||
    fail "no event: $(cat events)"

say "a script ends at the first error"
printf '%s\n' '# comment' '' 'query-block' 'nodes' >script
ctl <script >out
head -n 1 out | has -x '\[\]'
printf '%s\n' 'nope' 'blockdev-add driver=null-co node-name=after' >script
expect_fail 2 'CommandNotFound' bash -c '"$0" ctl control.sock <script' "$BREAKWATER"
ctl nodes | has '^after' && fail "the script went on"
printf '%s\n' "blockdev-add {\"driver\": \"null-co\", \"node-name\": 'after', \"size\": 512}" \
    "object-add qom-type=secret id=s 'data=two words'" >script
ctl <script
ctl nodes | has '^after'

say "completion knows commands and arguments"
"$BREAKWATER" ctl --completion >completion
bash -n completion
complete_word() {
    bash -c 'source ./completion
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        compopt() { :; }
        _breakwater_ctl
        printf "%s\n" "${COMPREPLY[@]}"' bash "$@"
}
same "$(complete_word breakwater ctl control.sock query-block-e)" query-block-exports
same "$(complete_word breakwater ctl control.sock block_resize node)" 'node-name='
complete_word breakwater ctl control.sock blockdev-add cache. | has -x 'cache.direct='
same "$(complete_word breakwater ctl control.sock bit)" 'bitmaps'

say "the end of the daemon ends who follows"
ctl quit
wait "${server_pid[daemon]}" || fail "the daemon failed"
unset "server_pid[daemon]"
wait $follower || fail "the follower failed"
no_sanitizer_report daemon.log
no_sanitizer_report events

say "serve offers the same socket for what it serves"
start_serve disk -x x -B daily --control "$tmp/control.sock" --checkpoints disk.qcow2
ctl nodes | has -E '^disk +cbw +64.0 MiB no '
ctl nodes | has -E '^#block[0-9]+ +qcow2 '
ctl exports | has -E '^disk +nbd +disk +running$'
expect_fail 2 'what this server was started for' ctl block-export-del id=disk
expect_fail 2 'what this program was started for' ctl nbd-server-stop
expect_fail 2 'Node disk is in use' ctl blockdev-del node-name=disk
expect_fail 2 'in use by the export that this server was started for' \
    ctl block_resize node-name=disk size=128M
ctl blockdev-add driver=null-co node-name=n size=1M read-zeroes=on
ctl block-export-add type=nbd id=e node-name=n
same "$(nbdinfo --size "$(uri disk n)")" 1048576
same "$(nbdinfo --size "$(uri disk x)")" 67108864
ctl quit
wait "${server_pid[disk]}" || fail "serve failed"
unset "server_pid[disk]"
no_sanitizer_report disk.log
[ ! -e control.sock ] || fail "the control socket was left behind"
start_serve disk --control "$tmp/control.sock" disk.qcow2
follow
stop_serve disk
wait $follower || fail "the follower failed"
check_image disk.qcow2
