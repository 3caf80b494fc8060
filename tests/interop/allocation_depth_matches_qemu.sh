#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# `serve -A` says of every byte in which image of a chain it is, as qemu-nbd -A does: clusters of
# data, of zeros, compressed ones, backing images that end earlier, and a chain that ends in a raw
# file.
# shellcheck source-path=SCRIPTDIR source=../lib/functions.sh
. "${0%/*}/../lib/functions.sh"
requires qemu-img qemu-io qemu-nbd nbdinfo

qemu-img create -q -f qcow2 base.qcow2 3M
image_io base.qcow2 'write -P 1 0 1M' 'write -z 1M 128k' 'write -P 2 2M 200k'
qemu-img create -q -f qcow2 -o cluster_size=4k -b base.qcow2 -F qcow2 middle.qcow2 5M
image_io middle.qcow2 'write -P 3 512k 64k' 'write -c -P 4 1536k 4k' 'write -z 4M 64k'
qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2 8M
image_io top.qcow2 'write -P 5 0 64k' 'write -z 2M 64k' 'write -P 6 6M 1'
truncate -s 2M raw
qemu-img create -q -f qcow2 -b raw -F raw over_raw.qcow2 3M
image_io over_raw.qcow2 'write -P 1 1M 64k'

for image in base middle top over_raw; do
    say "$image"
    qemu-nbd -r -A -f qcow2 -k "$tmp/q.sock" $image.qcow2 &
    peer=$!
    wait_for 20 listening "$tmp/q.sock"
    nbdinfo --map=qemu:allocation-depth "nbd+unix:///?socket=$tmp/q.sock" >wanted
    wait $peer
    start_serve s -r -A -f qcow2 $image.qcow2
    nbdinfo --map=qemu:allocation-depth "$(uri s)" >got
    stop_serve s
    awk '{ print $1, $2, $3 }' wanted >wanted.numbers
    awk '{ print $1, $2, $3 }' got | diff -u wanted.numbers -
done

say "without the option there is no such context"
start_serve s -r -f qcow2 top.qcow2
expect_fail 1 'allocation-depth' nbdinfo --map=qemu:allocation-depth "$(uri s)"
stop_serve s
