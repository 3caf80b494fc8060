#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A server killed under load loses nothing that was flushed. Arguments: those of kill_server.py.
. "${0%/*}/../lib/functions.sh"
requires qemu-img
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "the Python bindings of libnbd are not installed"
BREAKWATER=$BREAKWATER /usr/bin/python3 "$here/kill_server.py" "$@"
no_sanitizer_report server.log
