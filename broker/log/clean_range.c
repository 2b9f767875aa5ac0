/* Which part of a log is to be cleaned, and whether it is worth it.
 *
 *   log start        first dirty offset              first uncleanable          end
 *   │ cleaned before │ dirty: dirty bytes            │ too young, not decided, │
 *   │ clean bytes    │                               │ active, not on the disk │
 *
 *   clean it when    dirty / (clean + dirty) > min.cleanable.dirty.ratio
 *            or      a dirty segment begins with records older than max.compaction.lag.ms
 *
 * These are Kafka's rules (LogCleanerManager), with one more: what is replaced must be on the
 * device in its segment, because the WAL stops counting for it (clean_files.c).
 *
 * Invariant: end is the base of a segment, or first_dirty if there is nothing to clean. */
#include "broker/log/cleaner.h"

#include "broker/log/retention.h"
#include "broker/log/segment.h"

/* Where cleaning went to last, if that still makes sense. */
static int64_t first_dirty(struct log *l)
{
    if (l->cleaned_end < l->start_offset || l->cleaned_end > l->end_offset)
        l->cleaned_end = l->cleaned_end == NO_OFFSET ? NO_OFFSET : l->start_offset;
    return l->cleaned_end == NO_OFFSET ? l->start_offset : l->cleaned_end;
}

/* The base of the first dirty segment that is younger than min.compaction.lag.ms. */
static int64_t first_young(struct log *l, uint32_t from)
{
    int64_t lag_ms = log_config(l)->min_compaction_lag_ms;
    int64_t now_ms = io_wall_ms(l->core->io);
    for (uint32_t i = from; lag_ms > 0 && i + 1 < l->segments_count; i++) {
        int64_t largest_ms = retention_largest_time(l, l->segments[i]);
        if (largest_ms > now_ms - lag_ms)
            return l->segments[i]->base;
    }
    return INT64_MAX;
}

/* Is a dirty segment older than max.compaction.lag.ms? */
static bool lag_passed(struct log *l, uint32_t from, uint32_t end)
{
    int64_t lag_ms = log_config(l)->max_compaction_lag_ms;
    int64_t until_ms = io_wall_ms(l->core->io) - MAX(lag_ms, 0);
    for (uint32_t i = from; until_ms > 0 && i < end; i++) {
        struct segment *s = l->segments[i];
        bool known = segment_read_first_time(l, s) == 0 && s->first_timestamp > 0;
        if (known && s->first_timestamp < until_ms)
            return true;
    }
    return false;
}

bool clean_range_find(struct log *l, struct clean_range *r)
{
    assert(l->segments_count > 0);
    *r = (struct clean_range){.first_dirty = first_dirty(l)};
    uint32_t active = l->segments_count - 1, dirty = segment_find(l, r->first_dirty);
    int64_t limit = MIN(log_last_stable_offset(l), l->segments[active]->base);
    limit = MAX(r->first_dirty, MIN(limit, first_young(l, dirty)));
    uint32_t end = MIN(segment_find(l, limit), active); /* it holds limit: not all of it is below */
    r->end = l->segments[end]->base;
    for (uint32_t i = 0; i < end; i++) {
        if (l->segments[i]->base < r->first_dirty)
            r->clean_bytes += l->segments[i]->size;
        if (i >= dirty)
            r->dirty_bytes += l->segments[i]->size;
    }
    uint64_t total = r->clean_bytes + r->dirty_bytes;
    if (total == 0 || dirty >= end)
        return false;
    r->ratio = (double)r->dirty_bytes / (double)total;
    r->due = lag_passed(l, dirty, active);
    return (r->due && r->dirty_bytes > 0) || r->ratio > log_config(l)->min_cleanable_dirty_ratio;
}
