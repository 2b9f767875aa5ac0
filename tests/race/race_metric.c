/* A core counts while another takes snapshots: each value is whole and never goes backwards, and
 * the last snapshot has everything. */
#include "core/metric.h"

#include <string.h>

#include "tests/race/race.h"

#define ROUNDS 2000000ull

enum { SMALL, LARGE, COUNTERS };

static const char *const names[COUNTERS] = {"small", "large"};

/* Crosses 32 bits with every step, so that a torn read would show. */
#define STEP 0x100000001ull

static void *count(void *argument)
{
    struct counters *c = argument;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        counter_add(c, SMALL, 1);
        counter_add(c, LARGE, STEP);
    }
    return NULL;
}

int main(void)
{
    static struct counters counters;
    pthread_t thread;
    uint64_t last[COUNTERS] = {0}, snapshots = 0;
    counters_init(&counters, names, COUNTERS);
    race_start(&thread, count, &counters);
    while (last[LARGE] < ROUNDS * STEP) {
        uint64_t now[COUNTERS] = {0};
        counters_collect(&counters, now);
        race_check(now[SMALL] >= last[SMALL] && now[LARGE] >= last[LARGE], "went backwards");
        race_check(now[LARGE] >> 32 == (now[LARGE] & UINT32_MAX), "a value was torn");
        memcpy(last, now, sizeof(last));
        snapshots++;
    }
    race_join(thread);
    race_check(counter_get(&counters, SMALL) == ROUNDS, "a count was lost");
    printf("metric: %llu counts, %llu snapshots\n", (unsigned long long)ROUNDS,
           (unsigned long long)snapshots);
    return 0;
}
