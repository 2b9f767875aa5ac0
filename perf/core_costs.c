/* What the parts of a core cost, one line per claim:
 *
 *   NAME                     VALUE UNIT        WHAT WAS DONE
 *
 * Each figure is the best of several rounds, because a shared machine only ever makes a round
 * slower; compare lines of two builds from the same machine, not of two machines. The two threads
 * of the ring figures are pinned to CPU 0 and 1. Nothing here is a test: it always succeeds. */
#include "core/core.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/arena.h"
#include "core/crc32c.h"
#include "core/histogram.h"
#include "core/map.h"
#include "core/metric.h"
#include "core/pool.h"
#include "core/ring.h"
#include "core/timer.h"
#include "core/trip.h"

#define ROUNDS 7

static struct mem mem;

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Keeps the compiler from dropping or merging what produces the value. */
static void keep(const volatile void *value)
{
    __asm__ volatile("" : : "r"(value) : "memory");
}

static void line(const char *name, double value, const char *unit, const char *what)
{
    printf("%-24s %10.2f %-8s %s\n", name, value, unit, what);
}

static void pin(size_t cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

/* The fewest nanoseconds per step that run(context, steps) needed in a round. */
static double best_ns(void (*run)(void *context, uint64_t steps), void *context, uint64_t steps)
{
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t begin = now_ns();
        run(context, steps);
        best = MIN(best, (double)(now_ns() - begin) / (double)steps);
    }
    return best;
}

/* ---- rings ----------------------------------------------------------------------------------- */

#define RING_SLOTS  1024u
#define RING_BATCH  32u
#define RING_ITEMS  40000000ull
#define RING_WINDOW 200000ull /* short, so that some have both CPUs to themselves */
#define RING_HOPS   400000ull

struct pair {
    struct ring there, back;
};

static void pass(uint64_t turn)
{
    /* Where both threads share one CPU, spinning on would wait for the end of the time slice. */
    if (turn % 4096 == 4095)
        sched_yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void *drain_all(void *argument)
{
    struct pair *p = argument;
    void *items[RING_BATCH];
    pin(1);
    for (uint64_t received = 0, idle = 0; received < RING_ITEMS;) {
        uint32_t count = ring_drain(&p->there, items, RING_BATCH);
        received += count;
        if (count == 0)
            pass(idle++);
        keep(items);
    }
    return NULL;
}

/* Sends count items, as fast as the consumer lets it. */
static void send_items(struct pair *p, uint64_t count)
{
    for (uint64_t sent = 0, idle = 0; sent < count;) {
        uint64_t before = sent;
        for (uint32_t i = 0; i < RING_BATCH && sent < count; i++)
            if (ring_push(&p->there, p))
                sent++;
        (void)ring_publish(&p->there);
        if (sent == before)
            pass(idle++);
    }
}

static void ring_throughput(struct pair *p)
{
    double best = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, drain_all, p) != 0)
        abort();
    for (uint64_t sent = 0; sent < RING_ITEMS; sent += RING_WINDOW) {
        uint64_t begin = now_ns();
        send_items(p, RING_WINDOW);
        best = MAX(best, (double)RING_WINDOW * 1e3 / (double)(now_ns() - begin));
    }
    (void)pthread_join(thread, NULL);
    line("ring_throughput", best, "M/s", "items through one ring, batches of 32, 1024 slots");
}

static void *return_all(void *argument)
{
    struct pair *p = argument;
    void *item;
    pin(1);
    for (uint64_t hops = 0, idle = 0; hops < RING_HOPS;) {
        if (ring_drain(&p->there, &item, 1) == 0) {
            pass(idle++);
            continue;
        }
        if (!ring_push(&p->back, item))
            abort();
        (void)ring_publish(&p->back);
        hops++;
    }
    return NULL;
}

static void ring_hop(struct pair *p)
{
    static struct histogram round_trip;
    pthread_t thread;
    void *item;
    histogram_init(&round_trip);
    if (pthread_create(&thread, NULL, return_all, p) != 0)
        abort();
    for (uint64_t hops = 0, idle = 0; hops < RING_HOPS; hops++) {
        uint64_t begin = now_ns();
        if (!ring_push(&p->there, p))
            abort();
        (void)ring_publish(&p->there);
        while (ring_drain(&p->back, &item, 1) == 0)
            pass(idle++);
        histogram_record(&round_trip, now_ns() - begin);
    }
    (void)pthread_join(thread, NULL);
    line("ring_hop_p50", (double)histogram_quantile(&round_trip, 0.5) / 2, "ns",
         "one way, half of a round trip of one item between spinning cores");
    line("ring_hop_p99", (double)histogram_quantile(&round_trip, 0.99) / 2, "ns", "the same");
}

static void publish_one(void *context, uint64_t steps)
{
    struct pair *p = context;
    void *item;
    for (uint64_t i = 0; i < steps; i++) {
        if (!ring_push(&p->there, p))
            abort();
        (void)ring_publish(&p->there);
        (void)ring_drain(&p->there, &item, 1);
    }
}

static void measure_rings(void)
{
    struct pair *p = mem_pages(&mem, 4096);
    if (p == NULL || ring_init(&p->there, &mem, RING_SLOTS) < 0 ||
        ring_init(&p->back, &mem, RING_SLOTS) < 0)
        abort();
    line("ring_alone", best_ns(publish_one, p, 3000000), "ns",
         "push, publish and drain of one item on one core");
    ring_throughput(p);
    ring_hop(p);
    ring_destroy(&p->there, &mem);
    ring_destroy(&p->back, &mem);
    mem_pages_free(&mem, p, 4096);
}

/* ---- checksums ------------------------------------------------------------------------------- */

struct bytes {
    uint8_t *from, *to;
    size_t size;
    bool copy;
};

static void sum_bytes(void *context, uint64_t steps)
{
    struct bytes *b = context;
    uint32_t crc = 0;
    for (uint64_t i = 0; i < steps; i++)
        crc = b->copy ? crc32c_copy(crc, b->to, b->from, b->size) : crc32c(crc, b->from, b->size);
    keep(&crc);
}

static void measure_sums(void)
{
    static const struct {
        const char *name;
        size_t size;
        bool copy;
    } claims[] = {
        {"crc32c_64B", 64, false},           {"crc32c_255B", 255, false},
        {"crc32c_256B", 256, false},         {"crc32c_1KiB", 1024, false},
        {"crc32c_16KiB", 16384, false},      {"crc32c_1MiB", 1 << 20, false},
        {"crc32c_copy_1KiB", 1024, true},    {"crc32c_copy_16KiB", 16384, true},
        {"crc32c_copy_1MiB", 1 << 20, true},
    };
    struct bytes b = {.from = mem_pages(&mem, 1 << 20), .to = mem_pages(&mem, 1 << 20)};
    if (b.from == NULL || b.to == NULL)
        abort();
    memset(b.from, 0x5a, 1 << 20);
    memset(b.to, 0, 1 << 20);
    for (uint32_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
        b.size = claims[i].size;
        b.copy = claims[i].copy;
        double ns = best_ns(sum_bytes, &b, (64u << 20) / (b.size + 64));
        line(claims[i].name, (double)b.size / ns, "GB/s", b.copy ? "sum and copy" : "sum");
    }
    mem_pages_free(&mem, b.from, 1 << 20);
    mem_pages_free(&mem, b.to, 1 << 20);
}

/* ---- maps ------------------------------------------------------------------------------------ */

struct keys {
    struct map map;
    uint8_t (*keys)[16];
    uint32_t count;
    uint32_t stride; /* odd: visits the keys in an order the prefetcher does not guess */
};

static void get_hits(void *context, uint64_t steps)
{
    struct keys *k = context;
    uint32_t at = 0, found = 0;
    for (uint64_t i = 0; i < steps; i++) {
        at = (at + k->stride) & (k->count - 1);
        found += map_get(&k->map, k->keys[at], 16) != NULL;
    }
    if (found != steps)
        abort();
}

static void get_misses(void *context, uint64_t steps)
{
    struct keys *k = context;
    uint32_t found = 0;
    uint64_t key[2] = {0, 0};
    for (uint64_t i = 0; i < steps; i++) {
        key[0] = i;
        found += map_get(&k->map, key, 16) != NULL;
    }
    if (found != 0)
        abort();
}

static void measure_map(uint32_t count, const char *hit, const char *miss, const char *what)
{
    struct keys k = {.count = count, .stride = 0x9e3779b1};
    k.keys = mem_alloc(&mem, (size_t)count * 16);
    map_init(&k.map, &mem, 42);
    if (k.keys == NULL || map_reserve(&k.map, count) < 0)
        abort();
    for (uint64_t i = 0; i < count; i++) {
        uint64_t random[2] = {map_hash(&i, sizeof(i), 1), map_hash(&i, sizeof(i), 2) | 1};
        memcpy(k.keys[i], random, 16);
        if (map_put(&k.map, k.keys[i], 16, k.keys[i]) < 0)
            abort();
    }
    line(hit, best_ns(get_hits, &k, 2000000), "ns", what);
    line(miss, best_ns(get_misses, &k, 2000000), "ns", what);
    map_destroy(&k.map);
    mem_free(&mem, k.keys, (size_t)count * 16);
}

/* ---- memory, timers, counting ---------------------------------------------------------------- */

#define HELD 64u /* objects out at once, as in a busy core */

static void pool_cycle(void *context, uint64_t steps)
{
    void *held[HELD];
    for (uint64_t i = 0; i < steps; i += HELD) {
        for (uint32_t k = 0; k < HELD; k++)
            held[k] = pool_acquire(context);
        for (uint32_t k = 0; k < HELD; k++)
            pool_release(context, held[k]);
        keep(held);
    }
}

static void mem_cycle(void *context, uint64_t steps)
{
    void *held[HELD];
    size_t size = *(const size_t *)context;
    for (uint64_t i = 0; i < steps; i += HELD) {
        for (uint32_t k = 0; k < HELD; k++)
            held[k] = mem_alloc(&mem, size);
        for (uint32_t k = 0; k < HELD; k++)
            mem_free(&mem, held[k], size);
        keep(held);
    }
}

static void arena_cycle(void *context, uint64_t steps)
{
    for (uint64_t i = 0; i < steps; i += HELD) {
        for (uint32_t k = 0; k < HELD; k++)
            keep(arena_alloc(context, 100));
        arena_release(context);
    }
}

static void fire_nothing(struct timer *t)
{
    keep(t);
}

static void timer_cycle(void *context, uint64_t steps)
{
    static struct timer timers[HELD];
    struct wheel *w = context;
    for (uint32_t k = 0; k < HELD; k++)
        timer_init(&timers[k], fire_nothing);
    for (uint64_t i = 0; i < steps; i++)
        timer_arm(w, &timers[i % HELD], i * 1000003 % (300 * NS_PER_S));
    for (uint32_t k = 0; k < HELD; k++)
        timer_cancel(w, &timers[k]);
}

static void clock_cycle(void *context, uint64_t steps)
{
    (void)context;
    for (uint64_t i = 0; i < steps; i++) {
        uint64_t now = now_ns();
        keep(&now);
    }
}

static void histogram_cycle(void *context, uint64_t steps)
{
    for (uint64_t i = 0; i < steps; i++)
        histogram_record(context, i * 7919 % 5000000);
}

/* A produce of another core's partition, from its first byte to its answer's last. */
struct journey {
    struct trip_board home, owner;
    bool exact;
};

static uint64_t journey_clock(void *context)
{
    (void)context;
    return now_ns();
}

static void trip_cycle(void *context, uint64_t steps)
{
    struct journey *j = context;
    struct trip whole, leg;
    for (uint64_t i = 0; i < steps; i++) {
        trip_begin(&whole, &j->home, *j->home.now_ns, NULL);
        whole.exact = j->exact;
        trip_move(&whole, &j->home, j->exact ? TRIP_DECODE : TRIP_ROUTE);
        trip_note(&whole, &j->home, TRIP_ROUTE);
        trip_leg(&leg, &whole, NULL);
        trip_depart(&leg, &j->home, true);
        trip_arrive(&leg, &j->owner);
        trip_move(&leg, &j->owner, TRIP_WAIT);
        trip_move(&leg, &j->owner, TRIP_WRITE);
        trip_note(&leg, &j->owner, TRIP_PUBLISH);
        trip_depart(&leg, &j->owner, false);
        trip_arrive(&leg, &j->home);
        trip_note(&whole, &j->home, TRIP_ENCODE);
        trip_move(&whole, &j->home, TRIP_SEND);
        trip_end(&whole, &j->home);
        keep(&whole);
    }
}

static void measure_trips(void)
{
    static const uint64_t turn_ns; /* the turn's clock: exact ones run ahead of it */
    struct journey j = {.home = {.now_ns = &turn_ns, .clock = journey_clock},
                        .owner = {.core = {1}, .now_ns = &turn_ns, .clock = journey_clock}};
    line("trip", best_ns(trip_cycle, &j, 1000000), "ns", "of a produce, by the turn's clock");
    j.exact = true;
    line("trip_exact", best_ns(trip_cycle, &j, 300000), "ns", "by the real one");
}

static void counter_cycle(void *context, uint64_t steps)
{
    for (uint64_t i = 0; i < steps; i++)
        counter_add(context, (uint32_t)(i % 4), 1);
}

static void measure_the_rest(void)
{
    static struct histogram histogram;
    static struct wheel wheel;
    static struct counters counters;
    static const char *const names[] = {"a", "b", "c", "d"};
    struct pool pool;
    struct arena arena;
    size_t small = 100, large = 10000;
    pool_init(&pool, &mem, 256, HELD);
    line("pool_cycle", best_ns(pool_cycle, &pool, HELD * 100000), "ns",
         "acquire and release, 64 out at once");
    pool_destroy(&pool);
    line("mem_cycle_100B", best_ns(mem_cycle, &small, HELD * 30000), "ns",
         "alloc and free from the core's budget, 64 out at once");
    line("mem_cycle_10kB", best_ns(mem_cycle, &large, HELD * 30000), "ns", "the same");
    arena_init(&arena, &mem, 1 << 20);
    line("arena_alloc", best_ns(arena_cycle, &arena, HELD * 30000), "ns",
         "100 B, with its share of a release after every 64");
    wheel_init(&wheel, 0);
    line("timer_arm", best_ns(timer_cycle, &wheel, 3000000), "ns", "of an armed timer");
    histogram_init(&histogram);
    line("clock_read", best_ns(clock_cycle, NULL, 1000000), "ns", "CLOCK_MONOTONIC");
    line("histogram_record", best_ns(histogram_cycle, &histogram, 5000000), "ns", "");
    measure_trips();
    counters_init(&counters, names, 4);
    line("counter_add", best_ns(counter_cycle, &counters, 10000000), "ns", "");
}

int main(void)
{
    pin(0);
    if (mem_init(&mem, 1ull << 30) < 0)
        return 1;
    measure_rings();
    measure_sums();
    measure_map(1024, "map_get_1k", "map_miss_1k", "1,024 keys of 16 bytes");
    measure_map(1 << 20, "map_get_1M", "map_miss_1M", "1,048,576 keys of 16 bytes, random order");
    measure_the_rest();
    if (mem.used_bytes != 0)
        return 1;
    mem_destroy(&mem);
    return 0;
}
