/* The table of served requests against what the schemas know, and names clients choose. */
#include "broker/api/api.h"
#include "broker/api/names.h"
#include "broker/data_core.h"
#include "proto/gen/api.h"

#include <criterion/criterion.h>
#include <string.h>

Test(api_table, is_sorted_and_inside_what_the_codecs_can_read)
{
    uint32_t count;
    const struct api *table = api_table(&count);
    cr_assert_gt(count, 20);
    for (uint32_t i = 0; i < count; i++) {
        const struct api_info *info = api_find(table[i].key);
        cr_assert_not_null(info);
        cr_assert_not_null(table[i].start);
        cr_expect_geq(table[i].min, info->version_min, "%s", info->name);
        cr_expect_leq(table[i].max, info->version_max, "%s", info->name);
        cr_expect_leq(table[i].advertised_min, table[i].min, "%s", info->name);
        if (i > 0)
            cr_expect_lt(table[i - 1].key, table[i].key);
    }
}

Test(api_table, serves_the_whole_range_of_kafka_for_what_it_serves)
{
    uint32_t count;
    const struct api *table = api_table(&count);
    for (uint32_t i = 0; i < count; i++) {
        const struct api_info *info = api_find(table[i].key);
        cr_expect_eq(table[i].max, info->advertised_max, "%s", info->name);
        cr_expect_eq(table[i].advertised_min, info->advertised_min, "%s", info->name);
    }
}

Test(api_table, does_not_know_keys_that_are_not_served)
{
    cr_expect_null(api_served(-1));
    cr_expect_null(api_served(4)); /* LeaderAndIsr, gone since Kafka 4 */
    cr_expect_null(api_served(32767));
    cr_expect_not_null(api_served(API_PRODUCE));
}

Test(names, take_what_a_folder_can_be_called)
{
    static const char *const good[] = {"a", "Orders_2026", "a.b-c_d", "...", "0"};
    static const char *const bad[] = {"", ".", "..", "a b", "a/b", "\xc3\xa4", "a\n"};
    char longest[251];
    for (uint32_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        cr_expect(topic_name_valid(wire_string_of(good[i])), "%s", good[i]);
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect_not(topic_name_valid(wire_string_of(bad[i])), "%s", bad[i]);
    memset(longest, 'x', sizeof(longest));
    cr_expect(topic_name_valid((struct wire_string){longest, 249}));
    cr_expect_not(topic_name_valid((struct wire_string){longest, 250}));
    cr_expect_not(topic_name_valid(WIRE_NULL_STRING));
}

Test(names, know_the_internal_topics)
{
    cr_expect(topic_name_internal(wire_string_of("__consumer_offsets")));
    cr_expect(topic_name_internal(wire_string_of("__transaction_state")));
    cr_expect_not(topic_name_internal(wire_string_of("__consumer_offset")));
    cr_expect_not(topic_name_internal(wire_string_of("orders")));
}

Test(owner, spreads_neighbouring_partitions_over_all_cores)
{
    for (uint32_t cores = 1; cores <= 8; cores++) {
        struct uuid id = {{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8}};
        uint32_t seen[8] = {0};
        for (int32_t p = 0; p < (int32_t)cores * 3; p++) {
            struct core_id owner = partition_owner(id, p, cores);
            cr_assert_lt(owner.index, cores);
            cr_assert(core_same(owner, partition_owner(id, p, cores)));
            seen[owner.index]++;
        }
        for (uint32_t c = 0; c < cores; c++)
            cr_expect_eq(seen[c], 3);
    }
}
