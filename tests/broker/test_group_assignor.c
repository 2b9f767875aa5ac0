/* The assignors, whatever members and topics there are: everybody gets only what it subscribes to,
 * everything is with somebody, loads are even, and who has something keeps it where that allows. */
#include "broker/group/assignor.h"

#include <criterion/criterion.h>

#include "core/core.h"

#define MEMBERS_MAX 12u
#define TOPICS_MAX  6u
#define PARTS_MAX   20u

struct bench {
    struct mem mem;
    struct arena arena;
    uint64_t random;
    char ids[MEMBERS_MAX][8];
    struct assignor_topic topics[TOPICS_MAX];
    struct assignor_member members[MEMBERS_MAX];
    uint32_t wishes[MEMBERS_MAX][TOPICS_MAX];
    uint32_t owners[TOPICS_MAX][PARTS_MAX], before[TOPICS_MAX][PARTS_MAX];
    struct assignor_input in;
};

static uint32_t dice(struct bench *b, uint32_t sides)
{
    b->random = b->random * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(b->random >> 33) % sides;
}

static void begin(struct bench *b, uint64_t seed)
{
    *b = (struct bench){.random = seed};
    cr_assert_eq(mem_init(&b->mem, 64u << 20), 0);
    arena_init(&b->arena, &b->mem, 32u << 20);
    b->in = (struct assignor_input){
        .topics = b->topics, .members = b->members, .alike = true, .arena = &b->arena};
    memset(b->owners, 0xff, sizeof(b->owners));
}

static void end(struct bench *b)
{
    arena_release(&b->arena);
    cr_assert_eq(b->mem.used_bytes, 0);
    mem_destroy(&b->mem);
}

static void add_topic(struct bench *b, uint32_t partitions)
{
    uint32_t t = b->in.topics_count++;
    b->topics[t] = (struct assignor_topic){.partitions_count = partitions, .owners = b->owners[t]};
    for (uint32_t i = 0; i < 16; i++)
        b->topics[t].id.bytes[i] = (uint8_t)dice(b, 256);
}

static void add_member(struct bench *b)
{
    uint32_t m = b->in.members_count++;
    for (uint32_t i = 0; i < 6; i++)
        b->ids[m][i] = (char)('a' + dice(b, 26));
    b->members[m] = (struct assignor_member){.id = wire_string_of(b->ids[m]),
                                             .instance_id = wire_string_of(NULL),
                                             .topics = b->wishes[m]};
}

static void wish(struct bench *b, uint32_t m, uint32_t topic)
{
    b->wishes[m][b->members[m].topics_count++] = topic;
}

static bool wishes(const struct bench *b, uint32_t m, uint32_t topic)
{
    bool found = false;
    for (uint32_t k = 0; k < b->members[m].topics_count; k++)
        found |= b->wishes[m][k] == topic;
    return found;
}

/* Members and topics by chance; the former owners too, as far as they subscribe. */
static void by_chance(struct bench *b, bool alike)
{
    uint32_t topics = 1 + dice(b, TOPICS_MAX), members = 1 + dice(b, MEMBERS_MAX);
    for (uint32_t t = 0; t < topics; t++)
        add_topic(b, 1 + dice(b, PARTS_MAX));
    for (uint32_t m = 0; m < members; m++) {
        add_member(b);
        for (uint32_t t = 0; t < topics; t++) {
            if (alike || dice(b, 2) == 0 || t == m % topics)
                wish(b, m, t);
        }
    }
    b->in.alike = alike;
    for (uint32_t t = 0; t < topics; t++) {
        for (uint32_t p = 0; p < b->topics[t].partitions_count; p++) {
            uint32_t m = dice(b, members);
            if (dice(b, 3) > 0 && wishes(b, m, t))
                b->owners[t][p] = m;
        }
    }
    memcpy(b->before, b->owners, sizeof(b->owners));
}

static void check_owned(const struct bench *b, uint32_t *loads)
{
    memset(loads, 0, MEMBERS_MAX * sizeof(*loads));
    for (uint32_t t = 0; t < b->in.topics_count; t++) {
        bool anybody = false;
        for (uint32_t m = 0; m < b->in.members_count; m++)
            anybody |= wishes(b, m, t);
        for (uint32_t p = 0; p < b->topics[t].partitions_count; p++) {
            uint32_t m = b->owners[t][p];
            cr_assert_eq(m != ASSIGNOR_NOBODY, anybody);
            if (!anybody)
                continue;
            cr_assert_lt(m, b->in.members_count);
            cr_assert(wishes(b, m, t), "it does not subscribe");
            loads[m]++;
        }
    }
}

static uint32_t moved(const struct bench *b)
{
    uint32_t count = 0;
    for (uint32_t t = 0; t < b->in.topics_count; t++) {
        for (uint32_t p = 0; p < b->topics[t].partitions_count; p++)
            count += b->before[t][p] != ASSIGNOR_NOBODY && b->before[t][p] != b->owners[t][p];
    }
    return count;
}

Test(group_assignor, uniform_is_even_and_moves_only_what_is_too_much)
{
    for (uint64_t seed = 1; seed <= 500; seed++) {
        struct bench b;
        uint32_t loads[MEMBERS_MAX], had[MEMBERS_MAX] = {0}, total = 0, surplus = 0;
        begin(&b, seed);
        by_chance(&b, true);
        for (uint32_t t = 0; t < b.in.topics_count; t++) {
            total += b.topics[t].partitions_count;
            for (uint32_t p = 0; p < b.topics[t].partitions_count; p++) {
                if (b.owners[t][p] != ASSIGNOR_NOBODY)
                    had[b.owners[t][p]]++;
            }
        }
        cr_assert(assign_uniform(&b.in));
        check_owned(&b, loads);
        uint32_t least = total / b.in.members_count;
        for (uint32_t m = 0; m < b.in.members_count; m++) {
            cr_assert(loads[m] == least || loads[m] == least + 1, "seed %u", (uint32_t)seed);
            surplus += had[m] > least ? had[m] - least : 0;
        }
        cr_assert_leq(moved(&b), surplus, "seed %u: nobody gives up what it may keep",
                      (uint32_t)seed);
        memcpy(b.before, b.owners, sizeof(b.owners));
        cr_assert(assign_uniform(&b.in));
        cr_assert_eq(moved(&b), 0, "seed %u: what is even stays", (uint32_t)seed);
        end(&b);
    }
}

Test(group_assignor, uneven_subscriptions_are_balanced_topic_by_topic)
{
    for (uint64_t seed = 1; seed <= 500; seed++) {
        struct bench b;
        uint32_t loads[MEMBERS_MAX];
        begin(&b, seed);
        by_chance(&b, false);
        cr_assert(assign_uniform(&b.in));
        check_owned(&b, loads);
        /* Who has a partition of a topic has at most one more than any other subscriber of it. */
        for (uint32_t t = 0; t < b.in.topics_count; t++) {
            for (uint32_t p = 0; p < b.topics[t].partitions_count; p++) {
                uint32_t owner = b.owners[t][p];
                for (uint32_t m = 0; owner != ASSIGNOR_NOBODY && m < b.in.members_count; m++)
                    cr_assert(!wishes(&b, m, t) || loads[owner] <= loads[m] + 1, "seed %u",
                              (uint32_t)seed);
            }
        }
        memcpy(b.before, b.owners, sizeof(b.owners));
        cr_assert(assign_uniform(&b.in));
        cr_assert_eq(moved(&b), 0, "seed %u: what is even stays", (uint32_t)seed);
        end(&b);
    }
}

Test(group_assignor, range_gives_each_subscriber_a_run_of_each_topic)
{
    for (uint64_t seed = 1; seed <= 500; seed++) {
        struct bench b;
        uint32_t loads[MEMBERS_MAX];
        begin(&b, seed);
        by_chance(&b, seed % 2 == 0);
        cr_assert(assign_range(&b.in));
        check_owned(&b, loads);
        for (uint32_t t = 0; t < b.in.topics_count; t++) {
            uint32_t counts[MEMBERS_MAX] = {0}, subscribers = 0;
            for (uint32_t p = 0; p < b.topics[t].partitions_count; p++) {
                uint32_t m = b.owners[t][p];
                if (m == ASSIGNOR_NOBODY)
                    continue;
                cr_assert(counts[m] == 0 || b.owners[t][p - 1] == m, "it is one run");
                counts[m]++;
            }
            for (uint32_t m = 0; m < b.in.members_count; m++)
                subscribers += wishes(&b, m, t);
            for (uint32_t m = 0; m < b.in.members_count; m++) {
                if (!wishes(&b, m, t))
                    continue;
                uint32_t least = b.topics[t].partitions_count / subscribers;
                cr_assert(counts[m] == least || counts[m] == least + 1);
            }
        }
        end(&b);
    }
}

Test(group_assignor, range_takes_static_members_first_and_all_by_name)
{
    struct bench b;
    begin(&b, 1);
    add_topic(&b, 4);
    for (uint32_t m = 0; m < 3; m++) {
        add_member(&b);
        wish(&b, m, 0);
    }
    b.members[0].id = wire_string_of("b");
    b.members[1].id = wire_string_of("a");
    b.members[2].id = wire_string_of("z");
    b.members[2].instance_id = wire_string_of("i");
    cr_assert(assign_range(&b.in));
    static const uint32_t wanted[] = {2, 2, 1, 0};
    for (uint32_t p = 0; p < 4; p++)
        cr_assert_eq(b.owners[0][p], wanted[p]);
    end(&b);
}

Test(group_assignor, hashes_are_those_of_java)
{
    struct uuid id = {{0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 8}};
    cr_assert_eq(assignor_java_hash(wire_string_of("member-0")), (int32_t)0xd94a51bd);
    cr_assert_eq(assignor_java_hash(wire_string_of("")), 0);
    cr_assert_eq(assignor_java_hash_uuid(id), (1 ^ 4) ^ (2 ^ 8));
    struct uuid negative = {{0x80}};
    cr_assert_lt(assignor_uuid_order(negative, id), 0);
}
