/* Accounts of numbers.
 *
 *   seen, all ──────────────▶ next   1 0 1 1 0 ...   highest
 *                             └ missing, so far       bits in a ring of words
 *
 * A stream without a gap takes no memory: `next` runs along. A gap opens the ring, and what fills
 * it closes it again.
 *
 * Invariants:
 *  1. Bit n of the ring (n mod its size) is set iff next < n was seen; `next` itself was not.
 *  2. count = numbers below next that were seen + above_count.
 *
 * Failure modes: a number more than LEDGER_AHEAD past the first missing one belongs to nobody: it
 * is refused, and so is what the budget has no room to remember. */
#include "broker/bench/ledger.h"

#include <string.h>

#include "core/core.h"

#define WORD_BITS   64u
#define WORDS_FIRST 16u

void ledger_init(struct ledger *l, struct mem *mem, uint64_t first)
{
    *l = (struct ledger){.mem = mem, .next = first};
}

void ledger_free(struct ledger *l)
{
    mem_free(l->mem, l->seen, l->seen_words * sizeof(*l->seen));
    l->seen = NULL;
    l->seen_words = 0;
}

static uint64_t *word_of(const struct ledger *l, uint64_t number)
{
    return &l->seen[number / WORD_BITS & (l->seen_words - 1)];
}

static bool bit_get(const struct ledger *l, uint64_t number)
{
    return (*word_of(l, number) >> number % WORD_BITS & 1) != 0;
}

/* Makes the ring hold `number` too. */
static bool ledger_grow(struct ledger *l, uint64_t number)
{
    /* One word more, as next need not begin one. */
    uint64_t wanted = (number - l->next) / WORD_BITS + 2, words = MAX(l->seen_words, WORDS_FIRST);
    while (words < wanted)
        words *= 2;
    if (words == l->seen_words)
        return true;
    struct ledger grown = *l;
    grown.seen = mem_zalloc(l->mem, words * sizeof(*grown.seen));
    grown.seen_words = words;
    if (grown.seen == NULL)
        return false;
    for (uint64_t i = 0; i < l->seen_words; i++) {
        uint64_t first = l->next + i * WORD_BITS;
        *word_of(&grown, first) = *word_of(l, first);
    }
    ledger_free(l);
    *l = grown;
    return true;
}

static void ledger_advance(struct ledger *l)
{
    l->next++;
    while (l->above_count > 0 && bit_get(l, l->next)) {
        *word_of(l, l->next) &= ~(1ull << l->next % WORD_BITS);
        l->above_count--;
        l->next++;
    }
}

bool ledger_take(struct ledger *l, uint64_t number)
{
    if (number < l->next) {
        l->repeated++;
        return true;
    }
    if (number - l->next > LEDGER_AHEAD)
        return false;
    if (number > l->next) {
        if (!ledger_grow(l, number))
            return false;
        if (bit_get(l, number)) {
            l->repeated++;
            return true;
        }
        *word_of(l, number) |= 1ull << number % WORD_BITS;
        l->above_count++;
    }
    if (l->count > 0 && number < l->highest)
        l->disordered++;
    l->highest = l->count == 0 ? number : MAX(l->highest, number);
    l->count++;
    if (number == l->next)
        ledger_advance(l);
    assert(l->next > number || l->above_count > 0);
    return true;
}

uint64_t ledger_missing(const struct ledger *l, uint64_t end)
{
    if (end <= l->next)
        return 0;
    uint64_t beyond = 0;
    for (uint64_t n = l->next; n < end && l->above_count > 0 && n <= l->highest; n++)
        beyond += bit_get(l, n);
    return end - l->next - beyond;
}

/* ---- spread ---------------------------------------------------------------------------------- */

/* The finaliser of splitmix64: each bit of the number turns over half of the result's. */
static uint64_t mixed(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

void spread_take(struct spread *s, uint64_t number)
{
    s->highest = s->count == 0 ? number : MAX(s->highest, number);
    s->count++;
    s->mix += mixed(number);
}

void spread_merge(struct spread *into, const struct spread *from)
{
    assert(into != from);
    if (from->count == 0)
        return;
    into->highest = into->count == 0 ? from->highest : MAX(into->highest, from->highest);
    into->count += from->count;
    into->mix += from->mix;
}

bool spread_dense(const struct spread *s)
{
    if (s->count == 0)
        return s->mix == 0;
    if (s->highest != s->count - 1)
        return false;
    uint64_t mix = 0;
    for (uint64_t i = 0; i < s->count; i++)
        mix += mixed(i);
    return mix == s->mix;
}
