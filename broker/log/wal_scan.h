/* Reading a WAL back; see wal_scan.c. */
#ifndef BROKER_LOG_WAL_SCAN_H
#define BROKER_LOG_WAL_SCAN_H

#include "broker/log/log_priv.h"

struct wal_scan_result {
    uint64_t groups, entries, bytes;
    uint32_t torn_tails, rot;
    uint32_t unknown; /* places where records were durable, and whose they were cannot be told */
};

/* Who takes what is read. Each returns 0 to go on, else wal_scan ends with it. */
struct wal_reader {
    void *context;
    /* An entry, in the order in which they were written; its bytes, checked, NULL when it has none.
     */
    int (*entry)(void *context, const struct wal_entry *e, const uint8_t *bytes);
    /* An entry that was durable, and whose bytes are damaged. NULL: not asked for. */
    void (*lost)(void *context, const struct wal_entry *e);
};

/* Reads the headers of the WAL files found in the directory: d->generation, d->had_wal. A header
 * that is damaged is made anew from the first group, unless the directory was closed: then nothing
 * in it is needed. 0 or -errno. */
NODISCARD int wal_scan_headers(struct log_dir *d);
/* Reads all entries this core must look at. 0 or -errno. */
NODISCARD int wal_scan(struct log_dir *d, const struct wal_reader *reader,
                       struct wal_scan_result *result);

#endif
