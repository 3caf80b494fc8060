#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The walk-through of docs/explore.md: its commands do what it says. SQLite with its durability switched
# off is caught losing committed transactions; with it on, it loses none.
. "${0%/*}/../lib/functions.sh"
requires qemu-img jq
/usr/bin/python3 -c 'import nbd, apsw' 2>/dev/null ||
    skip "python3-libnbd or python3-apsw is not installed"
export BREAKWATER
mkdir bin
ln -s "$BREAKWATER" bin/breakwater
cp "$source_root/docs/examples/explore/sqlite_on_nbd.py" .
export PATH=$tmp/bin:$PATH

# The indented commands of the page, in order; a state of SQLite's takes Python some time to judge.
awk '/^    \$ / { line = substr($0, 7); while (line ~ /\\$/) { sub(/\\$/, "", line); getline; line = line $0 }
     print line }' "$source_root/docs/explore.md" >commands
[ "$(wc -l <commands)" -ge 6 ] || fail 'the page has lost its commands'
while IFS= read -r command; do
    say "$command"
    status=0
    bash -c "$command" >out 2>log </dev/null || status=$?
    cat out
    no_sanitizer_report log
    case $command in
    *'work OFF'*)
        [ $status -eq 3 ] || fail "exit code $status"
        grep -q 'the check said' out
        grep -Eq 'transactions were committed; these are there' out
        compgen -G 'state-*.raw' >/dev/null || fail 'no state was kept'
        ;;
    *'--state '*) [ $status -eq 3 ] || fail "exit code $status" ;;
    *) [ $status -eq 0 ] || { cat log && fail "exit code $status"; } ;;
    esac
done <commands
