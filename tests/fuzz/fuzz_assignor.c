/* Any members, topics, subscriptions and former owners, given to both assignors. Whatever they are:
 * who gets a partition subscribes to its topic, and each partition that somebody subscribes to is
 * with somebody; loads are even where everybody subscribes to everything; and what uniform has
 * assigned it leaves as it is. Seeds: a few groups drawn by chance. */
#include "tests/fuzz/fuzz.h"

#include "broker/group/assignor.h"

#define BUDGET      (64u << 20)
#define MEMBERS_MAX 16u
#define TOPICS_MAX  8u
#define PARTS_MAX   24u

struct bench {
    struct mem mem;
    struct arena arena;
    char ids[MEMBERS_MAX][8];
    struct assignor_topic topics[TOPICS_MAX];
    struct assignor_member members[MEMBERS_MAX];
    uint32_t wishes[MEMBERS_MAX][TOPICS_MAX];
    uint32_t owners[TOPICS_MAX][PARTS_MAX], before[TOPICS_MAX][PARTS_MAX];
    struct assignor_input in;
};

static bool wishes(const struct bench *b, uint32_t m, uint32_t topic)
{
    for (uint32_t k = 0; k < b->members[m].topics_count; k++) {
        if (b->wishes[m][k] == topic)
            return true;
    }
    return false;
}

static void read_members(struct bench *b, struct fuzz_reader *r)
{
    uint32_t members = 1 + fuzz_below(r, MEMBERS_MAX);
    b->in.alike = true;
    for (uint32_t m = 0; m < members; m++) {
        uint32_t mask = fuzz_byte(r), fixed = fuzz_byte(r);
        b->ids[m][0] = (char)('a' + fixed % 26);
        b->ids[m][1] = (char)('a' + m); /* ids differ */
        b->ids[m][2] = 0;
        b->members[m] = (struct assignor_member){
            .id = wire_string_of(b->ids[m]),
            .instance_id = fixed & 0x80 ? wire_string_of(b->ids[m]) : WIRE_NULL_STRING,
            .topics = b->wishes[m]};
        for (uint32_t t = 0; t < b->in.topics_count; t++) {
            if ((mask & 1u << t) != 0)
                b->wishes[m][b->members[m].topics_count++] = t;
        }
        b->in.alike &= b->members[m].topics_count == b->in.topics_count;
    }
    b->in.members_count = members;
}

static void read_owners(struct bench *b, struct fuzz_reader *r)
{
    for (uint32_t t = 0; t < b->in.topics_count; t++) {
        for (uint32_t p = 0; p < b->topics[t].partitions_count; p++) {
            uint32_t m = fuzz_below(r, b->in.members_count + 1);
            bool may = m < b->in.members_count && wishes(b, m, t);
            b->before[t][p] = may ? m : ASSIGNOR_NOBODY;
        }
    }
}

static void check(const struct bench *b, bool even)
{
    uint32_t loads[MEMBERS_MAX] = {0}, total = 0;
    for (uint32_t t = 0; t < b->in.topics_count; t++) {
        bool anybody = false;
        for (uint32_t m = 0; m < b->in.members_count; m++)
            anybody |= wishes(b, m, t);
        for (uint32_t p = 0; p < b->topics[t].partitions_count; p++) {
            uint32_t m = b->owners[t][p];
            assert((m != ASSIGNOR_NOBODY) == anybody);
            assert(m == ASSIGNOR_NOBODY || (m < b->in.members_count && wishes(b, m, t)));
            if (m != ASSIGNOR_NOBODY)
                loads[m]++;
            total++;
        }
    }
    uint32_t least = total / b->in.members_count;
    for (uint32_t m = 0; even && m < b->in.members_count; m++)
        assert(loads[m] == least || loads[m] == least + 1);
}

static void assign(struct bench *b, bool uniform)
{
    bool done = uniform ? assign_uniform(&b->in) : assign_range(&b->in);
    assert(done);
    check(b, uniform && b->in.alike);
    arena_release(&b->arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bench b;
    struct fuzz_reader r = {data, size};
    int error = b.mem.budget_bytes == 0 ? mem_init(&b.mem, BUDGET) : 0;
    assert(error == 0);
    arena_init(&b.arena, &b.mem, BUDGET / 2);
    b.in = (struct assignor_input){.topics = b.topics, .members = b.members, .arena = &b.arena};
    b.in.topics_count = 1 + fuzz_below(&r, TOPICS_MAX);
    for (uint32_t t = 0; t < b.in.topics_count; t++) {
        b.topics[t] = (struct assignor_topic){.partitions_count = fuzz_below(&r, PARTS_MAX + 1),
                                              .owners = b.owners[t]};
        b.topics[t].id.bytes[0] = fuzz_byte(&r);
        b.topics[t].id.bytes[15] = (uint8_t)t;
    }
    read_members(&b, &r);
    read_owners(&b, &r);
    memset(b.owners, 0xff, sizeof(b.owners));
    assign(&b, false);
    memcpy(b.owners, b.before, sizeof(b.owners));
    assign(&b, true);
    memcpy(b.before, b.owners, sizeof(b.owners));
    assign(&b, true);
    for (uint32_t t = 0; t < b.in.topics_count; t++)
        assert(memcmp(b.before[t], b.owners[t], b.topics[t].partitions_count * 4) == 0);
    assert(b.mem.used_bytes == 0);
    return 0;
}

size_t fuzz_seed(uint32_t n, uint8_t *to)
{
    uint32_t state = 99991 + n;
    if (n >= 16)
        return 0;
    for (uint32_t i = 0; i < 200; i++) {
        state = state * 1664525u + 1013904223u;
        to[i] = (uint8_t)(state >> 24);
    }
    if (n % 2 == 0) { /* all subscribe to all */
        uint32_t topics = 1 + to[0] % TOPICS_MAX, members = 1 + to[1 + 2 * topics] % MEMBERS_MAX;
        for (uint32_t m = 0; m < members; m++)
            to[2 + 2 * topics + 2 * m] = 0xff;
    }
    return 200;
}
