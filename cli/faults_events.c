/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The events in words, for `breakwater faults events`.
 */
#include "cli/faults_events.h"

#define R(name, text) [EV_##name] = text

static const char *const texts[EV_COUNT] = {
    R(READ_AIO, "read of a run of allocated guest data"),
    R(WRITE_AIO, "write of guest data"),
    R(READ_BACKING_AIO, "read from the backing file"),
    R(COW_READ, "copy on write: the rest of a cluster is read"),
    R(COW_WRITE, "copy on write: the rest of a cluster is written"),
    R(READ_COMPRESSED, "a compressed cluster is read"),
    R(WRITE_COMPRESSED, "a compressed cluster is written"),
    R(CLUSTER_ALLOC, "host clusters are looked for"),
    R(CLUSTER_ALLOC_BYTES, "room for a compressed cluster is looked for"),
    R(CLUSTER_ALLOC_SPACE, "zeros are written instead of copied on write"),
    R(CLUSTER_FREE, "clusters are given up"),
    R(L1_UPDATE, "an L1 entry is written"),
    R(L1_GROW_ALLOC_TABLE, "the L1 table grows: room is looked for"),
    R(L1_GROW_WRITE_TABLE, "the L1 table grows: the new table is written"),
    R(L1_GROW_ACTIVATE_TABLE, "the L1 table grows: the header is changed"),
    R(L1_SHRINK_WRITE_TABLE, "the L1 table shrinks: it is written"),
    R(L1_SHRINK_FREE_L2_CLUSTERS, "the L1 table shrinks: L2 tables are given up"),
    R(L2_LOAD, "an L2 table is read that is not cached"),
    R(L2_UPDATE, "a changed L2 table is written back"),
    R(L2_UPDATE_COMPRESSED, "an L2 entry is changed for a compressed cluster"),
    R(L2_ALLOC_COW_READ, "a new L2 table is copied from the old"),
    R(L2_ALLOC_WRITE, "a new L2 table is written"),
    R(REFTABLE_LOAD, "the refcount table is read, at the opening"),
    R(REFTABLE_GROW, "the refcount table grows"),
    R(REFTABLE_UPDATE, "the image is emptied: the refcount table is written"),
    R(EMPTY_IMAGE_PREPARE, "the image is emptied"),
    R(REFBLOCK_LOAD, "a refcount block is needed, cached or not"),
    R(REFBLOCK_UPDATE, "never"),
    R(REFBLOCK_UPDATE_PART, "a changed refcount block is written back"),
    R(REFBLOCK_ALLOC, "a refcount changes"),
    R(REFBLOCK_ALLOC_WRITE, "a new refcount block is written"),
    R(REFBLOCK_ALLOC_HOOKUP, "a new refcount block is entered in its table"),
    R(REFBLOCK_ALLOC_WRITE_BLOCKS, "the refcount table grows: its blocks are written"),
    R(REFBLOCK_ALLOC_WRITE_TABLE, "the refcount table grows: it is written"),
    R(REFBLOCK_ALLOC_SWITCH_TABLE, "the refcount table grows: the header is changed"),
    R(FLUSH_TO_OS, "every flush of the format, before cached tables are written"),
    R(FLUSH_TO_DISK, "a flush of the host file, if anything was written"),
    R(PWRITEV, "any write to the host file"),
    R(PWRITEV_ZERO, "any write of zeros to the host file"),
    R(PWRITEV_DONE, "such a write has ended"),
    R(PWRITEV_RMW_HEAD, "an unaligned write is about to read its first block"),
    R(PWRITEV_RMW_AFTER_HEAD, "... has read it"),
    R(PWRITEV_RMW_TAIL, "an unaligned write is about to read its last block"),
    R(PWRITEV_RMW_AFTER_TAIL, "... has read it"),
    R(VMSTATE_SAVE, "saved machine state is written"),
    R(VMSTATE_LOAD, "saved machine state is read"),
    R(COR_WRITE, "copy on read"),
    R(NONE, "once, after the opening"),
};

const char *event_text(enum blk_event ev)
{
    return texts[ev];
}
