#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A server killed under load leaves its stored bitmaps right or in use. Arguments: those of
# kill_bitmaps.py.
. "${0%/*}/../lib/functions.sh"
requires qemu-img
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "the Python bindings of libnbd are not installed"
BREAKWATER=$BREAKWATER /usr/bin/python3 "$here/kill_bitmaps.py" "$@"
no_sanitizer_report server.log
