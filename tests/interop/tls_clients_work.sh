#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The clients of libnbd and QEMU, which speak TLS through GnuTLS, are served with certificates and
# with pre-shared keys, under TLS 1.2 and 1.3; those that should not get in do not.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io qemu-nbd nbdinfo nbdcopy certtool psktool

qemu-img create -q -f qcow2 disk.qcow2 16M
image_io disk.qcow2 'write -P 0x5a 1M 3M' 'write -P 7 9000 1'
qemu-img convert -f qcow2 -O raw disk.qcow2 disk.raw
"$BREAKWATER" tls init --client 'a client' pki >init.out
"$BREAKWATER" tls init --client 'a client' other >init.out
pki=$tmp/pki other=$tmp/other
psktool -q -u bob -p bob.psk 2>/dev/null || psktool -u bob -p bob.psk >psktool.out
[ -s bob.psk ] || fail "psktool wrote no key"
# The folder under which QEMU looks for keys.
mkdir psk bobs
cp pki/keys.psk psk/keys.psk
cp bob.psk bobs/keys.psk
# GnuTLS reads this for libnbd, which has no option for it.
printf '[overrides]\ndisabled-version = tls1.3\n' >only1.2.conf
: >only1.3.conf # what it does anyway

# start_tls NAME ARG...: a server on NAME.sock and, for QEMU, which checks names, on a TCP port.
start_tls() {
    local name=$1
    shift
    port=$(free_port)
    rm -f "$name.log"
    "$BREAKWATER" serve -v -b 127.0.0.1 -p "$port" -x disk "$@" disk.qcow2 >"$name.log" 2>&1 </dev/null &
    server_pid[$name]=$!
    wait_for 20 grep -Eqs '^nbds?://' "$name.log" || fail "the server $name did not start: $*"
}

# logged NAME PATTERN: the server has said so, or does soon.
logged() {
    wait_for 10 grep -Eq -- "$2" "$1.log" || fail "the server $1 does not say '$2'"
}

creds() { # creds TYPE DIR [VERSION]
    local priority=
    [ $# -lt 3 ] || priority=",priority=NORMAL:-VERS-TLS-ALL:+VERS-TLS$3"
    # With a priority of one's own, QEMU does not add what keys need.
    [ -z "$priority" ] || [ "$1" != psk ] || priority+=":+ECDHE-PSK:+DHE-PSK:+PSK"
    echo "tls-creds-$1,id=t,dir=$2,endpoint=client$priority"
}

# qemu_reads TYPE DIR [VERSION]: qemu-img reads the whole disk.
qemu_reads() {
    rm -f qemu.raw
    qemu-img convert --object "$(creds "$@")" --image-opts -O raw \
        "driver=nbd,host=127.0.0.1,port=$port,export=disk,tls-creds=t" qemu.raw &&
        cmp disk.raw qemu.raw
}

# libnbd_reads PARAMETERS [CONFIG]: nbdcopy reads the whole disk.
libnbd_reads() {
    rm -f libnbd.raw
    GNUTLS_SYSTEM_PRIORITY_FILE=${2-/dev/null} nbdcopy "nbds://${3-}127.0.0.1:$port/disk?$1" libnbd.raw &&
        cmp disk.raw libnbd.raw
}

say "certificates"
start_tls x509 --tls-certificates "$pki" --tls-verify-peer
grep -q "^nbds://127.0.0.1:$port/disk" x509.log || fail "the URI does not ask for TLS"
qemu_reads x509 "$pki"
libnbd_reads "tls-certificates=$pki"
logged x509 "TLSv1.3 TLS_AES_128_GCM_SHA256, client CN=a client,O=breakwater"
for version in 1.2 1.3; do
    qemu_reads x509 "$pki" $version
    libnbd_reads "tls-certificates=$pki" "$tmp/only$version.conf"
    logged x509 "TLSv$version"
done
qemu-nbd --object "$(creds x509 "$pki")" --tls-creds t -L -b 127.0.0.1 -p "$port" | grep -q "export: 'disk'"
nbdinfo --list "nbds://127.0.0.1:$port?tls-certificates=$pki" | grep -q 'export="disk"'


say "others are turned away while a good client goes on"
cat >good.py <<'END'
import os, sys, nbd
h = nbd.NBD()
h.set_uri_allow_local_file(True)
h.connect_uri(sys.argv[1])
open("good.ready", "w").close()
rounds = 0
while not os.path.exists("good.stop"):
    data = bytes([rounds % 251]) * (1 << 20)
    h.pwrite(data, 8 << 20)
    if h.pread(1 << 20, 8 << 20) != data:
        sys.exit("what was read is not what was written")
    rounds += 1
h.shutdown()
END
/usr/bin/python3 good.py "nbds://127.0.0.1:$port/disk?tls-certificates=$pki" >good.log 2>&1 &
good=$!
wait_for 20 test -e good.ready || fail "the good client did not get in"
# refused PATTERN COMMAND...: the client fails, and the server's log tells why.
refused() {
    local pattern=$1 before
    shift
    before=$(wc -l <x509.log)
    expect_fail 1 . "$@"
    wait_for 10 eval "tail -n +$((before + 1)) x509.log | grep -Eq '$pattern'" ||
        fail "the server does not say '$pattern' about: $*"
}
mkdir nocert && cp pki/ca-cert.pem nocert/
mkdir foreign && cp pki/ca-cert.pem foreign/ && cp other/client-*.pem foreign/
mkdir server_as_client && cp pki/ca-cert.pem server_as_client/ &&
    cp pki/server-cert.pem server_as_client/client-cert.pem &&
    cp pki/server-key.pem server_as_client/client-key.pem
mkdir expired && cp pki/ca-cert.pem expired/
certtool --generate-privkey --key-type ecdsa --outfile expired/client-key.pem 2>certtool.out
cat >expired.tmpl <<'END'
cn = "a client"
tls_www_client
signing_key
activation_date = "2020-01-01 00:00:00 UTC"
expiration_date = "2021-01-01 00:00:00 UTC"
END
certtool --generate-certificate --template expired.tmpl --load-privkey expired/client-key.pem \
    --load-ca-certificate pki/ca-cert.pem --load-ca-privkey pki/ca-key.pem \
    --outfile expired/client-cert.pem 2>certtool.out
image=driver=nbd,host=127.0.0.1,port=$port,export=disk
expect_fail 1 'TLS' nbdinfo "nbd://127.0.0.1:$port/disk?tls-certificates=$tmp/none"
refused 'did not return a certificate' \
    qemu-img info --object "$(creds x509 nocert)" --image-opts "$image,tls-creds=t"
refused 'client.s certificate: .*(signature|issuer)' \
    qemu-img info --object "$(creds x509 foreign),sanity-check=no" --image-opts "$image,tls-creds=t"
refused 'client.s certificate: .*purpose' qemu-img info \
    --object "$(creds x509 server_as_client),sanity-check=no" --image-opts "$image,tls-creds=t"
refused 'client.s certificate: .*expired' \
    qemu-img info --object "$(creds x509 expired),sanity-check=no" --image-opts "$image,tls-creds=t"
# A client that does not believe the server.
refused 'unknown ca|bad certificate|TLS' nbdinfo "nbds://127.0.0.1:$port/disk?tls-certificates=$other"
touch good.stop
wait $good || fail "the good client was harmed"
rm good.stop good.ready

say "a revoked certificate"
printf 'crl_next_update = 9\ncrl_number = 1\n' >crl.tmpl
certtool --generate-crl --template crl.tmpl --load-ca-certificate pki/ca-cert.pem \
    --load-ca-privkey pki/ca-key.pem --load-certificate pki/client-cert.pem --outfile pki/ca-crl.pem \
    2>certtool.out
kill -HUP "${server_pid[x509]}"
logged x509 'new TLS credentials are in use'
refused 'client.s certificate: .*revoked' nbdinfo "nbds://127.0.0.1:$port/disk?tls-certificates=$pki"
rm pki/ca-crl.pem
kill -HUP "${server_pid[x509]}"
wait_for 10 eval '[ "$(grep -c "new TLS credentials are in use" x509.log)" -eq 2 ]'
nbdinfo --size "nbds://127.0.0.1:$port/disk?tls-certificates=$pki" >size.out

say "SIGHUP: a broken file keeps the old credentials, new ones count at once"
cp pki/server-cert.pem kept.pem
echo 'no certificate' >pki/server-cert.pem
kill -HUP "${server_pid[x509]}"
logged x509 "old TLS credentials stay in use: no usable certificate in '$pki/server-cert.pem'"
cp kept.pem pki/server-cert.pem
nbdinfo --size "nbds://127.0.0.1:$port/disk?tls-certificates=$pki" >size.out
cp -r pki swapped
cp other/server-*.pem other/ca-*.pem pki/
kill -HUP "${server_pid[x509]}"
wait_for 10 eval '[ "$(grep -c "new TLS credentials are in use" x509.log)" -eq 3 ]'
nbdinfo --size "nbds://127.0.0.1:$port/disk?tls-certificates=$other" >size.out
expect_fail 1 . nbdinfo "nbds://127.0.0.1:$port/disk?tls-certificates=$tmp/swapped"
rm -r pki && mv swapped pki
stop_tls() {
    local status=0
    kill -TERM "${server_pid[$1]}"
    wait_for 30 gone "$1" || fail "the server $1 is still there"
    wait "${server_pid[$1]}" || status=$?
    unset "server_pid[$1]"
    no_sanitizer_report "$1.log"
    [ $status -eq 0 ] || fail "the server $1 ended with exit code $status"
}
stop_tls x509
qemu-img convert -f qcow2 -O raw disk.qcow2 disk.raw

say "pre-shared keys, those of breakwater and those of psktool"
start_tls psk --tls-psk pki/keys.psk
qemu_reads psk psk
libnbd_reads "tls-psk-file=$pki/keys.psk" "" qemu@
logged psk 'TLSv1.3 .*, client qemu'
for version in 1.2 1.3; do
    qemu_reads psk psk $version
    libnbd_reads "tls-psk-file=$pki/keys.psk" "$tmp/only$version.conf" qemu@
    logged psk "TLSv$version"
done
expect_fail 1 . nbdinfo "nbds://bob@127.0.0.1:$port/disk?tls-psk-file=$tmp/bob.psk"
stop_tls psk
start_tls bob --tls-psk bob.psk --tls-certificates pki
libnbd_reads "tls-psk-file=$tmp/bob.psk" "" bob@
libnbd_reads "tls-certificates=$pki"
nbdinfo --size "nbds://bob@127.0.0.1:$port/disk?tls-psk-file=$tmp/bob.psk" >size.out
stop_tls bob

say "--tls=on serves both kinds"
start_tls on --tls=on --tls-psk pki/keys.psk
nbdinfo "nbd://127.0.0.1:$port/disk" | grep -q 'newstyle-fixed without TLS'
libnbd_reads "tls-psk-file=$pki/keys.psk" "" qemu@
stop_tls on
start_tls off --tls=off --tls-psk pki/keys.psk
expect_fail 1 . nbdinfo "nbds://qemu@127.0.0.1:$port/disk?tls-psk-file=$pki/keys.psk"
nbdinfo --size "nbd://127.0.0.1:$port/disk" >size.out
stop_tls off

say "who may use the export"
print=$(certtool --fingerprint --hash sha256 --infile pki/client-cert.pem 2>/dev/null | tr -dc '0-9a-f')
uri="nbds://127.0.0.1:PORT/disk?tls-certificates=$pki"
for rule in 'subject=CN=a client,*' "sha256=${print:0:64}"; do
    start_tls allow --tls-certificates pki --tls-verify-peer --tls-allow 'subject=CN=x' --tls-allow "$rule"
    nbdinfo --size "${uri/PORT/$port}" >size.out || fail "$rule did not let the client in"
    stop_tls allow
done
start_tls deny --tls=on --tls-certificates pki --tls-verify-peer --tls-allow 'subject=CN=a client'
grep -q "^nbds:" deny.log || fail "the URI of an export for TLS only does not ask for TLS"
expect_fail 1 'error to opt_go' nbdinfo "${uri/PORT/$port}"
expect_fail 1 'TLS' nbdinfo "nbd://127.0.0.1:$port/disk?tls-certificates=$tmp/none"
[ -z "$(nbdinfo --list --json "nbds://127.0.0.1:$port?tls-certificates=$pki" | grep export-name)" ] ||
    fail "the export is listed to one who may not use it"
stop_tls deny

say "QEMU's objects"
start_tls objects --object "tls-creds-x509,id=c,dir=$pki,endpoint=server" --tls-creds c \
    --object 'authz-list,id=a,policy=deny,rules.0.match=CN=nobody,rules.0.policy=deny,rules.1.match=CN=a*,rules.1.policy=allow,rules.1.format=glob' \
    --tls-authz a
qemu_reads x509 "$pki"
expect_fail 1 . qemu-img info --object "$(creds x509 nocert)" --image-opts \
    "driver=nbd,host=127.0.0.1,port=$port,export=disk,tls-creds=t"
stop_tls objects
start_tls simple --object "tls-creds-psk,id=c,dir=$tmp/psk,endpoint=server" --tls-creds c \
    --object authz-simple,id=a,identity=alice --tls-authz a
expect_fail 1 . nbdinfo "nbds://qemu@127.0.0.1:$port/disk?tls-psk-file=$pki/keys.psk"
stop_tls simple
start_tls subject --object "tls-creds-x509,id=c,dir=$pki,endpoint=server,verify-peer=yes" --tls-creds c \
    --object 'authz-simple,id=a,identity=CN=a client,,O=breakwater' --tls-authz a
qemu_reads x509 "$pki"
stop_tls subject

say "a backup over TLS"
mkdir repo keys
start_tls source --checkpoints --tls-certificates pki --tls-verify-peer
"$BREAKWATER" backup "nbds://127.0.0.1:$port/disk?tls-certificates=$pki" repo >backup.out
stop_tls source
start_tls source --checkpoints --tls-psk pki/keys.psk
"$BREAKWATER" backup "nbds://qemu@127.0.0.1:$port/disk?tls-psk-file=$pki/keys.psk" keys >backup.out
expect_fail 2 'refuses the export' "$BREAKWATER" backup "nbd://127.0.0.1:$port/disk" repo
stop_tls source
"$BREAKWATER" restore -f raw repo/disk@latest restored.raw >restore.out
cmp disk.raw restored.raw
