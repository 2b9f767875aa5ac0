/* The bytes of a WAL file, wal-<core>-<n>.torc in the root of a log directory. Little-endian, laid
 * out as the structs below: the file is torc's own and is read by the machine that wrote it.
 *
 *   0          file header, one block of 4096 bytes, written in the same write as the first group
 *   4096       group, group, group ... each padded with zeros to a multiple of 4096
 *
 *   group      struct wal_group_header, then `entries` entries, `used` bytes in all
 *   entry      struct wal_entry, then `length` bytes of a record batch, padded with zeros to 8
 *
 * A group's checksum covers its header, the checksums of its entries' headers and, through
 * previous_crc, every group before it in this generation. An entry's checksum covers its header,
 * which holds the batch's own CRC-32C, so each byte of a batch is covered without being read twice.
 * Generation and sequence say which groups follow each other when files are written over in turn;
 * first_in_flight says which groups were still being written when this one left, so may be torn or
 * lost while this one is whole: all before them were durable. */
#ifndef BROKER_LOG_WAL_FORMAT_H
#define BROKER_LOG_WAL_FORMAT_H

#include "core/uuid.h"

#include <stdint.h>

#define WAL_BLOCK         4096u
#define WAL_MAGIC         0x4c415754u /* "TWAL" */
#define WAL_GROUP_MAGIC   0x50524754u /* "TGRP" */
#define WAL_VERSION       1u
#define WAL_ENTRY_ALIGN   8u
#define WAL_NAME_SIZE_MAX 40

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structs are the format");

struct wal_file_header {
    uint32_t magic, version;
    uint64_t generation;
    uint64_t start_sequence; /* of the first group in this file */
    uint64_t file_bytes;
    uint32_t start_crc; /* previous_crc of that group */
    uint32_t number;    /* n of the name */
    uint16_t core, cores_count;
    uint32_t closed; /* 1: everything of this generation is in segments: nothing to read */
    uint32_t reserved;
    uint32_t crc; /* of all before */
};
_Static_assert(sizeof(struct wal_file_header) == 56, "file header");

struct wal_group_header {
    uint32_t magic, version;
    uint64_t generation, sequence;
    uint64_t first_in_flight;
    int64_t wall_ms;
    uint32_t length; /* with padding: multiple of 4096 */
    uint32_t used;   /* header and entries */
    uint32_t entries;
    uint32_t entries_crc; /* CRC-32C over the crc fields of all entries */
    uint32_t previous_crc;
    uint32_t crc; /* of all before */
};
_Static_assert(sizeof(struct wal_group_header) == 64, "group header");

enum wal_entry_type {
    WAL_BATCH = 1,
    WAL_LOG_START = 2, /* base_offset is the new log start offset; no bytes follow */
    WAL_ABORTED = 3, /* base_offset is the first, last_offset the marker of an aborted transaction;
                        struct wal_aborted follows. In the group of the marker, behind it */
};

struct wal_aborted {
    int64_t producer_id, stable_offset;
};
_Static_assert(sizeof(struct wal_aborted) == 16, "WAL_ABORTED");

enum wal_entry_flag {
    WAL_FIRST_IN_SEGMENT = 1, /* the batch begins a segment */
    WAL_AFTER_CACHED = 2,     /* what is below was acknowledged unsynced (write.caching) */
};

struct wal_entry {
    uint32_t crc; /* of all behind, up to slot */
    uint8_t type, flags;
    uint16_t reserved;
    struct uuid topic_id;
    int32_t partition;
    int32_t leader_epoch;
    int64_t base_offset, last_offset;
    uint32_t length;    /* of the batch */
    uint32_t batch_crc; /* the batch's own; of WAL_ABORTED: CRC-32C of what follows */
    uint32_t position;  /* of the batch in its segment */
    uint32_t slot;      /* where the writer keeps the log in memory; means nothing when read */
};
_Static_assert(sizeof(struct wal_entry) == 64, "entry header");

static inline uint32_t wal_padded(uint32_t size, uint32_t to)
{
    return (size + to - 1) & ~(to - 1);
}

#endif
