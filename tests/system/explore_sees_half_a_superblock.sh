#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The file system of docs/explore.md: ext4 written by debugfs, without a journal, through nbdfuse. A power
# cut in the middle of its superblock is seen; when all was synced nothing is missing.
. "${0%/*}/../lib/functions.sh"
export PATH=$PATH:/usr/sbin:/sbin
requires nbdfuse nbdcopy mkfs.ext4 debugfs e2fsck jq
export BREAKWATER
[ -w /dev/fuse ] || skip '/dev/fuse cannot be used'
# In a container it may be there and forbidden.
mkdir try
"$BREAKWATER" explore --size 1M --check true --workload-timeout 20s >log 2>&1 --workload \
    'nbdfuse try/disk "$uri" & for i in $(seq 100); do [ -e try/disk ] && break; sleep 0.05; done
     umount try' || skip "FUSE does not work here: $(tail -n 1 log)"

script=$source_root/docs/examples/explore/ext4_on_nbd.sh

say 'a superblock half written is one that e2fsck gives up on'
status=0
"$BREAKWATER" explore --size 16M --workload "$script work" --workload-timeout 60s --check "$script check" \
    --states 100 --record fs.rec --json >fs.json 2>log </dev/null || status=$?
[ $status -eq 3 ] || fail "exit code $status: $(cat log fs.json)"
jq -r .first.output fs.json | grep -qi 'superblock' || fail "$(cat fs.json)"
[ "$(jq '.states - .failing' fs.json)" -gt 20 ] || fail "hardly anything is good: $(cat fs.json)"

say 'at the end, when all was synced, everything is there'
"$BREAKWATER" explore --size 16M --replay fs.rec --check '[ "$mark" != 3 ] || '"$script check" --states 100 \
    --json >fs.json 2>log </dev/null || fail "$(cat log fs.json)"
