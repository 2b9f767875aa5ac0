/* Reading a WAL back; see wal_scan.c. */
#ifndef BROKER_LOG_WAL_SCAN_H
#define BROKER_LOG_WAL_SCAN_H

#include "broker/log/log_priv.h"

struct wal_scan_result {
    uint64_t groups, entries, bytes;
    uint32_t torn_tails, rot;
};

/* Reads the headers of the WAL files found in the directory: d->generation, d->had_wal. 0 or
 * -errno. */
NODISCARD int wal_scan_headers(struct log_dir *d);
/* Calls visit for each entry this core must look at, in the order they were written (batch: its
 * bytes, checked; NULL for entries without). visit returns 0 to go on. 0 or -errno. */
NODISCARD int wal_scan(struct log_dir *d,
                       int (*visit)(void *context, const struct wal_entry *e, const uint8_t *batch),
                       void *context, struct wal_scan_result *result);

#endif
