#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Fetches a Linux kernel with its modules for the tests that run a guest, from the distribution's
# packages, without installing it.
#     tools/fetch_guest_kernel.sh DIRECTORY        DIRECTORY is then a GUEST_ROOT for the tests
set -euo pipefail
root=$1
compgen -G "$root/boot/vmlinuz-*" >/dev/null && exit 0
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n 1)
[ -n "$package" ] || { echo "no package of a kernel is known here" >&2 && exit 1; }
work=$(mktemp -d)
chmod 755 "$work" # for apt's own user
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get -qq download "$package" && dpkg-deb -x ./*.deb unpacked)
mkdir -p "$root"
cp -a "$work/unpacked/." "$root/"
