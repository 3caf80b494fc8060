/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The types of blockdev-add, under the names of QEMU's qapi/block-core.json. What a driver here
 * does not do is not among its options, so that it is refused and not passed over.
 */
#include "control/action.h"
#include "control/blockdev.h"

static const struct qtype q_driver;

static const struct qtype q_discard = {
    .kind = Q_ENUM, .name = "BlockdevDiscardOptions", .values = Q_NAMES("ignore", "unmap")};
static const struct qtype q_detect_zeroes = {
    .kind = Q_ENUM, .name = "BlockdevDetectZeroesOptions", .values = Q_NAMES("off", "on", "unmap")};
const struct qtype q_on_off_auto = {
    .kind = Q_ENUM, .name = "OnOffAuto", .values = Q_NAMES("auto", "on", "off")};
static const struct qtype q_aio = {.kind = Q_ENUM,
                                   .name = "BlockdevAioOptions",
                                   .values = Q_NAMES("threads", "native", "io_uring")};
static const struct qtype q_cache = {
    .kind = Q_STRUCT,
    .name = "BlockdevCacheOptions",
    .member = Q_MEMBERS({"direct", &q_bool, true}, {"no-flush", &q_bool, true})};

const struct qtype q_blockdev_ref = {
    .kind = Q_ALT,
    .name = "BlockdevRef",
    .member = Q_MEMBERS({"definition", &q_blockdev_options, false}, {"reference", &q_str, false})};
const struct qtype q_blockdev_ref_or_null = {
    .kind = Q_ALT,
    .name = "BlockdevRefOrNull",
    .member = Q_MEMBERS({"definition", &q_blockdev_options, false}, {"reference", &q_str, false},
                        {"null", &q_null, false})};

static const struct qtype q_options_file = {.kind = Q_STRUCT,
                                            .name = "BlockdevOptionsFile",
                                            .member = Q_MEMBERS({"filename", &q_str, false},
                                                                {"locking", &q_on_off_auto, true},
                                                                {"aio", &q_aio, true})};
static const struct qtype q_options_null = {.kind = Q_STRUCT,
                                            .name = "BlockdevOptionsNull",
                                            .member = Q_MEMBERS({"size", &q_int, true},
                                                                {"latency-ns", &q_size, true},
                                                                {"read-zeroes", &q_bool, true})};
static const struct qtype q_options_raw = {.kind = Q_STRUCT,
                                           .name = "BlockdevOptionsRaw",
                                           .member = Q_MEMBERS({"file", &q_blockdev_ref, false},
                                                               {"offset", &q_int, true},
                                                               {"size", &q_int, true})};
static const struct qtype q_options_qcow2 = {
    .kind = Q_STRUCT,
    .name = "BlockdevOptionsQcow2",
    .member =
        Q_MEMBERS({"file", &q_blockdev_ref, false}, {"backing", &q_blockdev_ref_or_null, true},
                  {"l2-cache-size", &q_size, true}, {"refcount-cache-size", &q_size, true})};

static const char *const event_names[] = {
#define X(id, name) name,
    BLOCK_EVENTS(X)
#undef X
        NULL,
};
static const struct qtype q_event = {
    .kind = Q_ENUM, .name = "BlkdebugEvent", .values = event_names};
static const struct qtype q_iotype = {
    .kind = Q_ENUM,
    .name = "BlkdebugIOType",
    .values = Q_NAMES("read", "write", "write-zeroes", "discard", "flush", "block-status")};
static const struct qtype q_inject = {
    .kind = Q_STRUCT,
    .name = "BlkdebugInjectErrorOptions",
    .member =
        Q_MEMBERS({"event", &q_event, false}, {"state", &q_int, true}, {"iotype", &q_iotype, true},
                  {"errno", &q_int, true}, {"sector", &q_int, true}, {"once", &q_bool, true},
                  {"immediately", &q_bool, true})};
static const struct qtype q_set_state = {.kind = Q_STRUCT,
                                         .name = "BlkdebugSetStateOptions",
                                         .member = Q_MEMBERS({"event", &q_event, false},
                                                             {"state", &q_int, true},
                                                             {"new_state", &q_int, false})};
static const struct qtype q_injects = {
    .kind = Q_LIST, .name = "BlkdebugInjectErrorOptionsList", .element = &q_inject};
static const struct qtype q_set_states = {
    .kind = Q_LIST, .name = "BlkdebugSetStateOptionsList", .element = &q_set_state};
static const struct qtype q_options_blkdebug = {
    .kind = Q_STRUCT,
    .name = "BlockdevOptionsBlkdebug",
    .member = Q_MEMBERS({"image", &q_blockdev_ref, false}, {"config", &q_str, true},
                        {"align", &q_int, true}, {"max-transfer", &q_int, true},
                        {"opt-write-zero", &q_int, true}, {"max-write-zero", &q_int, true},
                        {"opt-discard", &q_int, true}, {"max-discard", &q_int, true},
                        {"inject-error", &q_injects, true}, {"set-state", &q_set_states, true})};

static const struct qtype q_options_throttle = {
    .kind = Q_STRUCT,
    .name = "BlockdevOptionsThrottle",
    .member = Q_MEMBERS({"throttle-group", &q_str, false}, {"file", &q_blockdev_ref, false})};

static const struct qtype q_socket_address = {
    .kind = Q_UNION,
    .name = "SocketAddress",
    .member = Q_MEMBERS({"type", &q_address_type, false}),
    .tag = "type",
    .variant = (const struct qvariant[]){{"inet", &q_inet}, {"unix", &q_unix}, {0}}};
static const struct qtype q_options_nbd = {
    .kind = Q_STRUCT,
    .name = "BlockdevOptionsNbd",
    .member = Q_MEMBERS({"server", &q_socket_address, false}, {"export", &q_str, true},
                        {"reconnect-delay", &q_uint32, true}, {"open-timeout", &q_uint32, true})};

static const struct qtype q_options_filter = {.kind = Q_STRUCT,
                                              .name = "BlockdevOptionsGenericFormat",
                                              .member =
                                                  Q_MEMBERS({"file", &q_blockdev_ref, false})};
static const struct qtype q_options_blkverify = {
    .kind = Q_STRUCT,
    .name = "BlockdevOptionsBlkverify",
    .member = Q_MEMBERS({"test", &q_blockdev_ref, false}, {"raw", &q_blockdev_ref, false})};

static const struct qtype q_options_blklogwrites = {
    .kind = Q_STRUCT,
    .name = "BlockdevOptionsBlklogwrites",
    .member = Q_MEMBERS({"file", &q_blockdev_ref, false}, {"log", &q_blockdev_ref, false},
                        {"log-sector-size", &q_uint32, true},
                        {"log-super-update-interval", &q_size, true})};

static const struct qtype q_on_cbw_error = {
    .kind = Q_ENUM, .name = "OnCbwError", .values = Q_NAMES("break-guest-write", "break-snapshot")};
static const struct qtype q_options_cbw = {
    .kind = Q_STRUCT,
    .name = "BlockdevOptionsCbw",
    .member = Q_MEMBERS({"file", &q_blockdev_ref, false}, {"target", &q_blockdev_ref, false},
                        {"bitmap", &q_dirty, true}, {"on-cbw-error", &q_on_cbw_error, true},
                        {"cbw-timeout", &q_uint32, true})};

static const struct qtype q_fault_layer = {
    .kind = Q_ENUM, .name = "FaultLayer", .values = Q_NAMES("host", "guest")};
static const struct qtype q_options_fault = {
    .kind = Q_STRUCT,
    .name = "BlockdevOptionsFault",
    .member =
        Q_MEMBERS({"file", &q_blockdev_ref, false}, {"layer", &q_fault_layer, true},
                  {"config", &q_str, true}, {"rules", &q_str, true}, {"faults", &q_str_list, true},
                  {"seed", &q_size, true}, {"trace", &q_str, true}, {"trace-size", &q_size, true})};

static const struct qtype q_driver = {
    .kind = Q_ENUM,
    .name = "BlockdevDriver",
    .values = Q_NAMES("blkdebug", "blklogwrites", "blkverify", "compress", "copy-before-write",
                      "copy-on-read", "fault", "file", "nbd", "null-aio", "null-co", "qcow2", "raw",
                      "snapshot-access", "throttle")};

const struct qtype q_blockdev_options = {
    .kind = Q_UNION,
    .name = "BlockdevOptions",
    .member = Q_MEMBERS({"driver", &q_driver, false}, {"node-name", &q_str, true},
                        {"discard", &q_discard, true}, {"cache", &q_cache, true},
                        {"read-only", &q_bool, true}, {"auto-read-only", &q_bool, true},
                        {"force-share", &q_bool, true}, {"detect-zeroes", &q_detect_zeroes, true}),
    .tag = "driver",
    .variant = (const struct qvariant[]){{"blkdebug", &q_options_blkdebug},
                                         {"blklogwrites", &q_options_blklogwrites},
                                         {"blkverify", &q_options_blkverify},
                                         {"compress", &q_options_filter},
                                         {"copy-before-write", &q_options_cbw},
                                         {"copy-on-read", &q_options_filter},
                                         {"fault", &q_options_fault},
                                         {"file", &q_options_file},
                                         {"nbd", &q_options_nbd},
                                         {"null-aio", &q_options_null},
                                         {"null-co", &q_options_null},
                                         {"qcow2", &q_options_qcow2},
                                         {"raw", &q_options_raw},
                                         {"snapshot-access", &q_options_filter},
                                         {"throttle", &q_options_throttle},
                                         {0}}};
