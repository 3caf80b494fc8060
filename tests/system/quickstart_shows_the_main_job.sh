#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# ./quickstart does what it tells, on its own disk and on a copy of a user's image, which stays as it
# was; and it notices when the main job goes wrong.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io
export BREAKWATER TMPDIR=$tmp/work
mkdir work

# Nothing is installed by a test: what the quickstart needs is here already.
quickstart() {
    "$source_root/quickstart" "$@" >quickstart.log 2>&1 </dev/null
}

say "on its own disk"
quickstart
for text in 'A full backup' 'meets the fault' 'Nothing was published' 'Images are identical' \
    'That was the main job'; do
    grep -q "$text" quickstart.log || fail "it does not say: $text"
done
no_sanitizer_report quickstart.log
[ -z "$(ls work)" ] || fail "it left files: $(ls work)"

say "on a user's image: with a backing file, compressed clusters, an odd size"
qemu-img create -q -f qcow2 base.qcow2 40001k
image_io base.qcow2 'write -P 1 0 3M' 'write -P 2 30M 1M'
qemu-img convert -c -f qcow2 -O qcow2 base.qcow2 packed.qcow2
qemu-img create -q -f qcow2 -b packed.qcow2 -F qcow2 user.qcow2
image_io user.qcow2 'write -P 3 10M 2M'
chmod a-w user.qcow2
sum=$(sha256sum user.qcow2 packed.qcow2)
stamp=$(stat -c '%Y %Z %s %i' user.qcow2)
quickstart user.qcow2
grep -q 'That was the main job' quickstart.log || fail "it did not get to the end"
[ "$(sha256sum user.qcow2 packed.qcow2)" = "$sum" ] || fail "the user's image was changed"
[ "$(stat -c '%Y %Z %s %i' user.qcow2)" = "$stamp" ] || fail "the user's file was touched"
[ -z "$(ls work)" ] || fail "it left files: $(ls work)"

say "what is no image is refused"
head -c 1M /dev/urandom >noise
expect_fail 2 'noise' "$source_root/quickstart" noise
expect_fail 2 'none.qcow2' "$source_root/quickstart" none.qcow2
expect_fail 2 'no-such' "$source_root/quickstart" --no-such

say "when the backup does not notice the fault, the quickstart fails"
cat >broken <<END
#!/bin/sh
[ "\$1" != backup ] || { mkdir -p repo && exit 0; }
exec "$BREAKWATER" "\$@"
END
chmod +x broken
BREAKWATER=$tmp/broken expect_fail 1 'did not notice|failed' "$source_root/quickstart"
[ -z "$(ls work)" ] || fail "it left files: $(ls work)"
