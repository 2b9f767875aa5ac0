/* See offsets.h. A bit per batch: a minute of two hundred thousand batches a second takes 1.5 MB.
 */
#include "perf/offsets.h"

#include <stdlib.h>
#include <string.h>

#include "core/assert.h"
#include "core/core.h"
#include "perf/client.h"

#define FIRST_WORDS 1024u

void offsets_init(struct offsets *o, int64_t start, uint32_t step, uint32_t ahead)
{
    assert(step > 0);
    *o = (struct offsets){.start = start, .step = step, .ahead = ahead, .highest = -1};
}

static void offsets_grow(struct offsets *o, uint64_t word)
{
    uint64_t words = MAX(2 * o->seen_words, MAX(FIRST_WORDS, word + 1));
    uint64_t *seen = realloc(o->seen, words * sizeof(*seen));
    if (seen == NULL)
        die("no memory to remember %llu batches", (unsigned long long)words * 64);
    memset(seen + o->seen_words, 0, (words - o->seen_words) * sizeof(*seen));
    o->seen = seen;
    o->seen_words = words;
}

bool offsets_take(struct offsets *o, int64_t base)
{
    int64_t behind = base - o->start;
    if (behind < 0 || behind % o->step != 0)
        return false;
    uint64_t number = (uint64_t)behind / o->step, word = number / 64, bit = 1ull << number % 64;
    if (number > o->taken + o->ahead)
        return false;
    if (word >= o->seen_words)
        offsets_grow(o, word);
    if ((o->seen[word] & bit) != 0)
        return false;
    o->seen[word] |= bit;
    o->highest = MAX(o->highest, base);
    o->taken++;
    return true;
}

bool offsets_dense(const struct offsets *o, int64_t end)
{
    int64_t want = o->start + (int64_t)(o->taken * o->step);
    return end == want && (o->taken == 0 || o->highest == want - o->step);
}
