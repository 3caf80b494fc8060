#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The commands of README.md work as they stand there; and the program that runs them notices when
# one does not.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io nbdinfo nbdcopy python3
run_readme=$source_root/tools/run_readme.py

say "README.md"
"$run_readme" "$source_root/README.md" "$BREAKWATER" >readme.log 2>&1
no_sanitizer_report readme.log

page() {
    printf '%s\n' "$@" >page.md
}

say "a command that fails is noticed, also before a pipe's end"
page '<!-- run -->' '```sh' 'breakwater --version' 'false | true' 'echo reached' '```'
expect_fail 1 '^failed: ' "$run_readme" page.md "$BREAKWATER"
grep -q reached expect.out && fail "it went on"

say "so is one that should fail and does not"
page '<!-- run -->' '```sh' 'true   # fails' '```'
expect_fail 1 'this should fail' "$run_readme" page.md "$BREAKWATER"

say "a block that is neither run nor excused, a page without commands"
page '```sh' 'true' '```'
expect_fail 2 'line 1' "$run_readme" page.md "$BREAKWATER"
page 'nothing'
expect_fail 2 'no block' "$run_readme" page.md "$BREAKWATER"
