# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Installs what a task needs from the distribution's packages; sourced by bash scripts.
#
# packages_install SECTION...   install the missing packages of these sections of packages.txt
#
# Nothing is asked of the network when nothing is missing. Without root it uses sudo, which may ask
# for a password on a terminal; without that it names the command to run, and fails. On a system
# without apt it says what is wanted, and leaves it to the build to find out: the packages may be
# there under other names.

packages_file=$(dirname "${BASH_SOURCE[0]}")/packages.txt

packages_list() {
    awk -v wanted=" $* " '
        /^\[/ { section = substr($0, 2, index($0, "]") - 2); next }
        NF && $0 !~ /^#/ && index(wanted, " " section " ") { print $1 }' "$packages_file" | sort -u
}

packages_missing() {
    local package
    for package in $(packages_list "$@"); do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed$' ||
            echo "$package"
    done
}

packages_install() {
    local missing as_root=()
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        echo "This is not a Debian system. Wanted are (Debian's names):" "$(packages_list "$@" | xargs)"
        return 0
    fi
    missing=$(packages_missing "$@" | xargs)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        elif command -v sudo >/dev/null && [ -t 0 ] && [ -t 2 ]; then
            echo "Installing needs root: sudo may ask for your password." >&2
            sudo -v || return 1
            as_root=(sudo -n)
        else
            echo "Missing packages, and no right to install them. Please run:" >&2
            echo "    sudo apt-get install --no-install-recommends $missing" >&2
            return 1
        fi
    fi
    echo "Installing: $missing"
    local log
    log=$(mktemp)
    # shellcheck disable=SC2086 # the list is words
    if "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c '
            apt-get update -q && apt-get install -q -y --no-install-recommends "$@"' sh \
            $missing >"$log" 2>&1 </dev/null; then
        rm -f "$log"
        return 0
    fi
    tail -n 30 "$log" >&2
    rm -f "$log"
    echo "The packages could not be installed: $missing" >&2
    return 1
}
