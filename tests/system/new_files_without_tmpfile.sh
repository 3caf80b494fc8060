#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Where the file system has no files without a name, a new image has one of its own while it is made:
# all that is promised of new files holds there, too, but for what a SIGKILL leaves.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io python3

old_system=(python3 "$source_root/tests/lib/without_tmpfile.py")
status=0
"${old_system[@]}" true || status=$?
[ $status -ne 77 ] || skip "no system call filters"
"${old_system[@]}" python3 -c 'import os; os.open(".", os.O_TMPFILE | os.O_RDWR)' 2>/dev/null &&
    fail "there are files without a name"

image() {
    "${old_system[@]}" "$BREAKWATER" image "$@"
}

qemu-img create -q -f qcow2 source.qcow2 24M
image_io source.qcow2 'write -P 1 0 9M' 'write -P 2 13M 2M'
qemu-img create -q -f qcow2 old.qcow2 1M
sha256sum source.qcow2 old.qcow2 >sums

nothing_changed() {
    sha256sum --quiet -c sums || fail "something was changed"
    local left
    left=$(ls | grep -Ev '^((expect|io|check|compare)\.out|sums)$' | tr '\n' ' ')
    [ "$left" = "old.qcow2 source.qcow2 " ] || fail "there are now: $left"
}

# A file size limit is the cheapest full disk.
limited() {
    (
        trap '' XFSZ
        ulimit -f $((4 << 10))
        image "$@"
    )
}

say "a new image has a name of its own until it is whole"
image convert -r 8M source.qcow2 new.qcow2 &
converter=$!
wait_for 20 compgen -G 'new.qcow2.tmp*' >/dev/null || fail "it has no name: this tests nothing"
[ ! -e new.qcow2 ]
wait $converter
same_content source.qcow2 qcow2 new.qcow2 qcow2
check_image new.qcow2
rm new.qcow2
nothing_changed

say "what replaces a file is no more readable than that was, with a name or without"
with_names=("${old_system[@]}")
for old_system in "${with_names[*]}" env; do
    read -ra old_system <<<"$old_system"
    for mode in 600 604 660; do
        qemu-img create -q -f qcow2 new.qcow2 1M
        chmod $mode new.qcow2
        [ "$(id -u)" -ne 0 ] || chown 1:2 new.qcow2
        owner=$(stat -c %u:%g:%a new.qcow2)
        image convert source.qcow2 new.qcow2
        [ "$(stat -c %u:%g:%a new.qcow2)" = "$owner" ] || fail "convert: $mode is $(stat -c %a new.qcow2)"
        image create -q --force new.qcow2 1M
        [ "$(stat -c %u:%g:%a new.qcow2)" = "$owner" ] || fail "create: $mode is $(stat -c %a new.qcow2)"
        rm new.qcow2
    done
done
old_system=("${with_names[@]}")
nothing_changed

say "a failure leaves nothing"
for target in old.qcow2 new.qcow2; do
    expect_fail 1 'File too large|No space left' limited convert source.qcow2 $target
    expect_fail 1 'File too large|No space left' limited convert -o data_file=new.data source.qcow2 $target
    expect_fail 1 'File too large|No space left' limited create -f raw --force -o preallocation=full \
        $target 24M
    nothing_changed
done

say "a name that is taken is not replaced unasked, also where rename() cannot be told"
for more in '' --no-noreplace; do
    old_system=(python3 "$source_root/tests/lib/without_tmpfile.py" $more)
    expect_fail 1 'old.qcow2 exists already' image create old.qcow2 1M
    nothing_changed
    image create -q new.qcow2 3M
    check_image new.qcow2
    image create -q --force new.qcow2 4M
    qemu-img info new.qcow2 | grep -q 'virtual size: 4 MiB'
    rm new.qcow2
    # Taken by somebody else meanwhile: what is there stays.
    image create -q -f raw -o preallocation=full new.qcow2 256M 2>race.out &
    creator=$!
    until compgen -G 'new.qcow2.tmp*' >/dev/null; do
        kill -0 $creator || fail "it is over too soon"
    done
    echo mine >new.qcow2
    status=0
    wait $creator || status=$?
    [ $status -eq 1 ] || fail "it says $status"
    grep -q 'cannot put the new file at new.qcow2: File exists' race.out
    [ "$(cat new.qcow2)" = mine ] || fail "the other's file is gone"
    rm new.qcow2 race.out
    nothing_changed
done
