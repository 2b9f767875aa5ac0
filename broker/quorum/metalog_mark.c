/* How far the metadata log was durable, beside the log: what a start may not cut off.
 *
 *   append durable ─▶ durable-end.torc: offset (20 digits), blank, CRC-32C of the digits (8),
 * newline
 *
 * A log that ends in damage looks the same whether a write was under way when the power went or
 * durable records have rotted; a log that was cut between two batches does not even look damaged.
 * The mark tells: what is below it was durable and must be there.
 *
 * It is written over in place and not synced but at a clean close. So a kill leaves it exact, and a
 * power cut leaves an older one, a torn one, or none, which only tell less.
 *
 * Invariant: the mark is never above what was durable when it was written.
 *
 * Failure modes: a mark that cannot be read or written is as none; Apache Kafka, which does not
 * know the file, leaves it lower than it could be. */
#include "broker/quorum/metalog_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/assert.h"
#include "core/crc32c.h"
#include "core/lab.h"

#define MARK_DIGITS 20u
#define MARK_SIZE   30u

static void mark_print(char *text, int64_t offset)
{
    char digits[MARK_DIGITS + 1];
    assert(offset >= 0);
    (void)snprintf(digits, sizeof(digits), "%020" PRId64, offset);
    int size =
        snprintf(text, MARK_SIZE + 1, "%s %08" PRIx32 "\n", digits, crc32c(0, digits, MARK_DIGITS));
    assert(size == (int)MARK_SIZE);
}

void metalog_mark_open(struct metalog *m)
{
    char path[METALOG_PATH_MAX], text[MARK_SIZE + 1] = "", same[MARK_SIZE + 1];
    metalog_path(m, METALOG_MARK_FILE, path);
    m->marked_end = 0;
    m->mark_fd = io_open(m->options.io, path, IO_READ | IO_WRITE | IO_CREATE);
    if (m->mark_fd < 0 || io_pread(m->options.io, m->mark_fd, text, MARK_SIZE, 0) != MARK_SIZE)
        return;
    long long offset = strtoll(text, NULL, 10);
    mark_print(same, MAX(offset, 0));
    if (memcmp(text, same, MARK_SIZE) == 0)
        m->marked_end = offset;
    SOMETIMES_IF(m->marked_end == 0, "the mark of the metadata log cannot be read");
}

void metalog_mark_set(struct metalog *m)
{
    char text[MARK_SIZE + 1];
    if (m->mark_fd < 0)
        return;
    m->marked_end = m->end_offset;
    mark_print(text, m->end_offset);
    if (io_pwrite(m->options.io, m->mark_fd, text, MARK_SIZE, 0) == MARK_SIZE)
        return;
    io_close(m->options.io, m->mark_fd);
    m->mark_fd = -1;
}
