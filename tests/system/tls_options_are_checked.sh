#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# `breakwater tls init`, the commands that it prints, and TLS options that make no sense: each is
# refused with a message that names what is wrong.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img nbdinfo

qemu-img create -q -f qcow2 disk.qcow2 16M

say "tls init makes a folder of seven files, secrets for the owner only"
umask 000
"$BREAKWATER" tls init --host disks.example.org --host 192.0.2.7 --user alice --days 2 pki >init.out
umask 022
[ "$(ls pki | tr '\n' ' ')" = "ca-cert.pem ca-key.pem client-cert.pem client-key.pem keys.psk server-cert.pem server-key.pem " ]
[ "$(stat -c %a pki/ca-key.pem pki/server-key.pem pki/client-key.pem pki/keys.psk | sort -u)" = 600 ]
[ "$(stat -c %a pki)" = 700 ]
grep -Eq '^alice:[0-9a-f]{64}$' pki/keys.psk
[ "$(wc -l <pki/keys.psk)" -eq 1 ]

say "... and overwrites none of them"
sum=$(cat pki/* | sha256sum)
expect_fail 2 'pki/ca-cert.pem.*nothing was changed' "$BREAKWATER" tls init pki
[ "$(cat pki/* | sha256sum)" = "$sum" ] || fail "something was changed"
expect_fail 2 'nowhere/pki' "$BREAKWATER" tls init nowhere/pki
expect_fail 2 'disk.qcow2' "$BREAKWATER" tls init disk.qcow2
expect_fail 1 'init' "$BREAKWATER" tls
expect_fail 1 'init' "$BREAKWATER" tls list
expect_fail 1 'folder is missing' "$BREAKWATER" tls init
expect_fail 1 'one folder' "$BREAKWATER" tls init a b
expect_fail 1 'nosuch' "$BREAKWATER" tls init --nosuch a
expect_fail 1 'value' "$BREAKWATER" tls init a --days
expect_fail 1 'days.*0' "$BREAKWATER" tls init --days 0 a
expect_fail 1 'host.*a,DNS:b' "$BREAKWATER" tls init --host 'a,DNS:b' a
expect_fail 1 'user.*eve:00' "$BREAKWATER" tls init --user 'eve:00' a
expect_fail 1 '1 to 64 bytes' "$BREAKWATER" tls init --client '' a
[ ! -e a ] || fail "a folder was made all the same"

say "the commands that it prints work"
"$BREAKWATER" tls init own >init.out
port=$(free_port)
grep -q "breakwater serve --tls-certificates own --tls-verify-peer IMAGE" init.out
grep -q "nbdinfo 'nbds://localhost/?tls-certificates=own'" init.out
"$BREAKWATER" serve -p "$port" --tls-certificates own --tls-verify-peer disk.qcow2 >certs.log 2>&1 </dev/null &
server_pid[certs]=$!
wait_for 20 grep -qs '^nbds://localhost' certs.log
nbdinfo "nbds://localhost:$port/?tls-certificates=own" | grep -q 'with TLS'
kill_tls() {
    kill -TERM "${server_pid[$1]}"
    wait_for 20 gone "$1" || fail "the server $1 is still there"
    wait "${server_pid[$1]}" || fail "the server $1 ended with an error"
    unset "server_pid[$1]"
    no_sanitizer_report "$1.log"
}
kill_tls certs
grep -q "breakwater serve --tls-psk own/keys.psk IMAGE" init.out
grep -q "nbdinfo 'nbds://localhost/?tls-psk-file=own/keys.psk'" init.out
"$BREAKWATER" serve -p "$port" --tls-psk own/keys.psk disk.qcow2 >keys.log 2>&1 </dev/null &
server_pid[keys]=$!
wait_for 20 grep -qs '^nbds://localhost' keys.log
nbdinfo "nbds://$(id -un)@localhost:$port/?tls-psk-file=own/keys.psk" | grep -q 'with TLS'
kill_tls keys

say "over a Unix socket; the URI says that TLS is wanted"
start_serve unix --tls-psk own/keys.psk disk.qcow2
grep -q "^nbds+unix:///?socket=$tmp/unix.sock" unix.log
nbdinfo "nbds+unix://qemu@/?socket=$tmp/unix.sock&tls-psk-file=own/keys.psk" | grep -q 'with TLS'
stop_serve unix

say "SIGHUP without TLS ends the server, as ever; with TLS it does not, even under nohup"
nohup "$BREAKWATER" serve -v -k "$tmp/hup.sock" --tls-psk own/keys.psk disk.qcow2 >hup.log 2>&1 </dev/null &
server_pid[hup]=$!
wait_for 20 listening "$tmp/hup.sock"
kill -HUP "${server_pid[hup]}"
wait_for 10 grep -q 'new TLS credentials are in use' hup.log
stop_serve hup

say "options that do not fit together, or name what is not there"
serve=("$BREAKWATER" serve -k "$tmp/s.sock")
x509=(--object "tls-creds-x509,id=c,dir=own,endpoint=server")
expect_fail 1 'maybe.*off, on or require' "${serve[@]}" --tls maybe disk.qcow2
expect_fail 1 'tls init' "${serve[@]}" --tls=require disk.qcow2
expect_fail 1 'verify-peer needs --tls-certificates' "${serve[@]}" --tls-psk own/keys.psk --tls-verify-peer disk.qcow2
expect_fail 1 'needs TLS credentials' "${serve[@]}" --tls-allow user=bob disk.qcow2
expect_fail 1 'needs TLS credentials' "${serve[@]}" --tls=off --tls-psk own/keys.psk --tls-allow user=bob disk.qcow2
expect_fail 1 'needs --tls-verify-peer' "${serve[@]}" --tls-certificates own --tls-allow subject=CN=bob disk.qcow2
expect_fail 1 'needs --tls-psk' "${serve[@]}" --tls-certificates own --tls-verify-peer --tls-allow user=bob disk.qcow2
expect_fail 1 'shoe=42.*subject=' "${serve[@]}" --tls-psk own/keys.psk --tls-allow shoe=42 disk.qcow2
expect_fail 1 'abc.*64 hexadecimal' "${serve[@]}" --tls-certificates own --tls-verify-peer --tls-allow sha256=abc disk.qcow2
expect_fail 1 'tls-hostname is for clients' "${serve[@]}" --tls-hostname x disk.qcow2
expect_fail 1 'tls-creds-anon.*not known here' "${serve[@]}" --object tls-creds-anon,id=c disk.qcow2
expect_fail 1 "'secret'" "${serve[@]}" --object secret,id=c,data=x disk.qcow2
expect_fail 1 'priority' "${serve[@]}" --object tls-creds-x509,id=c,dir=own,priority=NORMAL disk.qcow2
expect_fail 1 'id is missing' "${serve[@]}" --object tls-creds-x509,dir=own disk.qcow2
expect_fail 1 'endpoint=client' "${serve[@]}" --object tls-creds-x509,id=c,dir=own,endpoint=client disk.qcow2
expect_fail 1 "given twice" "${serve[@]}" "${x509[@]}" "${x509[@]}" disk.qcow2
expect_fail 1 "no --object with the id 'd'" "${serve[@]}" "${x509[@]}" --tls-creds d disk.qcow2
expect_fail 1 "'c' is of type tls-creds-x509" "${serve[@]}" "${x509[@]}" --tls-creds c --tls-authz c disk.qcow2
expect_fail 1 'excludes' "${serve[@]}" "${x509[@]}" --tls-creds c --tls-psk own/keys.psk disk.qcow2
expect_fail 1 'exclude each other' "${serve[@]}" "${x509[@]}" --tls-creds c --tls-authz a --tls-allow subject=x disk.qcow2
expect_fail 1 'identity= is missing' "${serve[@]}" "${x509[@]}" --tls-creds c --object authz-simple,id=a --tls-authz a disk.qcow2
for rules in rules.1.match=x,rules.1.policy=allow rules.0.match=x,rules.0.policy=allow,rules.0.colour=red \
    rules.0.match=x; do
    expect_fail 1 'rules' "${serve[@]}" "${x509[@]}" --tls-creds c --object "authz-list,id=a,$rules" --tls-authz a disk.qcow2
done
expect_fail 1 'perhaps.*allow or deny' "${serve[@]}" "${x509[@]}" --tls-creds c --object authz-list,id=a,policy=perhaps --tls-authz a disk.qcow2
expect_fail 2 'nowhere/server-cert.pem' "${serve[@]}" --tls-certificates nowhere disk.qcow2
expect_fail 2 'nowhere.psk' "${serve[@]}" --tls-psk nowhere.psk disk.qcow2
cp -r own early
rm early/ca-cert.pem
expect_fail 2 'early/ca-cert.pem' "${serve[@]}" --tls-certificates early --tls-verify-peer disk.qcow2
[ ! -e s.sock ] || fail "a socket was made"

if command -v certtool >/dev/null; then
    say "a certificate out of its time is refused at the start"
    printf 'cn = localhost\nactivation_date = "2020-01-01 00:00:00 UTC"\nexpiration_date = "2021-01-01 00:00:00 UTC"\n' >old.tmpl
    cp -r own old
    certtool --generate-certificate --template old.tmpl --load-privkey own/server-key.pem \
        --load-ca-certificate own/ca-cert.pem --load-ca-privkey own/ca-key.pem \
        --outfile old/server-cert.pem 2>certtool.out
    expect_fail 2 'old/server-cert.pem.*expired' "${serve[@]}" --tls-certificates old disk.qcow2
fi
