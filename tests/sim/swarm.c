/* See swarm.h. A setting is as usual in most seeds, so that each is met with the others as usual.
 */
#include "tests/sim/swarm.h"

#include <stdio.h>

#include "tests/sim/janitor.h"
#include "tests/sim/options.h"

#define LINGER_NS (50 * NS_PER_S)

/* One in n: between low and high; else `usual`. */
static uint32_t rarely(struct chance *c, uint32_t n, uint32_t low, uint32_t high, uint32_t usual)
{
    uint32_t value = (uint32_t)chance_between(c, low, high);
    return chance_one_in(c, n) ? value : usual;
}

void swarm_draw(struct swarm *w, struct chance *c)
{
    *w = (struct swarm){0};
    w->snapshot_bytes = rarely(c, 2, 200, 8000, 0);
    w->session_slots = rarely(c, 2, 1, 5, 1000);
    w->idle_ms = rarely(c, 4, 600, 5000, 0);
    w->connections = rarely(c, 8, 12, 30, 0);
    w->ring_slots = 1u << rarely(c, 2, 1, 4, 10);
    w->memory_mib = rarely(c, 4, 34, 40, 64);
    w->check_ms = (uint32_t)chance_between(c, 20, 800);
    w->producer_ms = rarely(c, 6, 500, 4000, 0);
    w->txn_ms = rarely(c, 6, 500, 4000, 0);
    w->cleaner_kib = rarely(c, 2, 1, 16, 512);
    w->dedupe_kib = rarely(c, 2, 1, 16, 1024);
    w->janitors = rarely(c, 2, 1, 2, 0);
    w->rudes = rarely(c, 2, 1, 3, 0);
    w->retention_bytes = rarely(c, 2, 4000, 100000, 0);
    w->retention_ms = rarely(c, 4, 50, 1000, 0);
    w->cached = chance_one_in(c, 3);
    w->keeps_sessions = chance_one_in(c, 2);
    w->lingers = chance_one_in(c, 12);
    w->floods = chance_one_in(c, 64) && !w->lingers;
    if (w->producer_ms > 0)
        w->txn_ms = 0; /* one of them at a time tells apart who has forgotten */
}

/* So much that a WAL goes through its files while there is no space for another. */
static void flood(struct run_options *o)
{
    o->harms = HARM_FULL;
    o->harm_mean_ns = 200 * NS_PER_MS;
    o->harm_ns = 4 * NS_PER_S;
    o->cores = o->dirs = 1;
    o->cores_change = 0;
    o->wal_files = 2;
    o->producers = PRODUCERS_MAX;
    o->batches = 400;
    o->records_max = 10;
    o->value_max = 20000;
    o->groups = o->members = o->tellers = o->mixed.movers = 0;
    o->swarm.janitors = JANITORS_MAX; /* who delete records, as the clerk does */
    o->errands = 400;
    o->swarm.memory_mib = MAX(o->swarm.memory_mib, 64u);
}

void swarm_agree(struct run_options *o)
{
    struct swarm *w = &o->swarm;
    if (w->floods)
        flood(o);
    if (o->cores_change)
        w->memory_mib = MAX(w->memory_mib, 64u); /* it is of all cores, however many */
    if (o->tellers > 0)
        w->txn_ms = w->producer_ms = 0; /* their ids would be forgotten */
    if (o->keeper_batches > 0)
        w->producer_ms = 0;
    if ((o->harms & HARM_WALL) != 0)
        w->retention_ms = w->producer_ms = w->txn_ms = 0;
    w->cached &= (o->harms & (HARM_CUT | HARM_ERROR | HARM_DEAD)) == 0;
    if (w->connections > 0) /* beside what the regular clients need */
        w->connections += 2 * o->producers + o->fetchers + o->members + 2 * o->tellers +
                          w->janitors + (o->mixed.movers > 0 ? o->mixed.movers + 1 : 0);
    if (o->mixed.movers > 0)
        o->batches = MIN(o->batches, 20u);
    if (!w->lingers)
        return;
    o->harm_ns = MAX(o->harm_ns, LINGER_NS);
    o->harm_mean_ns = MAX(o->harm_mean_ns, 2 * NS_PER_S);
    o->think_us = MAX(o->think_us, 200000u);
    o->keeper_batches = MIN(o->keeper_batches, 100u);
}

void swarm_properties(const struct swarm *w, char *to, size_t size)
{
    size_t at = 0;
#define LINE(...) at += (size_t)snprintf(to + at, size - at, __VA_ARGS__)
    if (w->snapshot_bytes > 0)
        LINE("metadata.log.max.record.bytes.between.snapshots=%u\nmetadata.log.segment.ms=%u\n"
             "metadata.max.retention.bytes=%u\n",
             w->snapshot_bytes, 50 + w->snapshot_bytes / 2, w->snapshot_bytes);
    LINE("max.incremental.fetch.session.cache.slots=%u\n", w->session_slots);
    if (w->idle_ms > 0)
        LINE("connections.max.idle.ms=%u\n", w->idle_ms);
    if (w->connections > 0)
        LINE("max.connections=%u\n", w->connections);
    LINE("log.retention.check.interval.ms=%u\nlog.segment.delete.delay.ms=%u\n", w->check_ms,
         w->check_ms);
    if (w->producer_ms > 0)
        LINE("producer.id.expiration.ms=%u\n", w->producer_ms);
    if (w->txn_ms > 0)
        LINE("transactional.id.expiration.ms=%u\n"
             "transaction.remove.expired.transaction.cleanup.interval.ms=200\n",
             w->txn_ms);
    LINE("log.cleaner.io.buffer.size=%u\nlog.cleaner.dedupe.buffer.size=%u\n", w->cleaner_kib << 10,
         w->dedupe_kib << 10);
#undef LINE
    (void)at;
}
