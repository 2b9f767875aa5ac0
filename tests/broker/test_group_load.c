/* What is written is what Kafka writes, and loading it gives the same groups again; and groups as
 * they are seen from outside. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/broker/group_rig.h"

/* ---- bytes ----------------------------------------------------------------------------------- */

static void expect_hex(const uint8_t *data, uint32_t size, const char *hex)
{
    char text[2048];
    cr_assert_lt(size * 2, sizeof(text));
    text[0] = '\0';
    for (uint32_t i = 0; i < size; i++)
        (void)snprintf(text + i * 2, 3, "%02x", data[i]);
    cr_assert_str_eq(text, hex);
}

static void expect_record(struct group_rig *r, uint32_t at, const char *key, const char *value)
{
    cr_assert_lt(at, r->log_count);
    expect_hex(r->log[at].key, r->log[at].key_size, key);
    cr_assert_eq(value == NULL, r->log[at].value == NULL);
    if (value != NULL)
        expect_hex(r->log[at].value, r->log[at].value_size, value);
}

static const uint8_t topic_id[16] = {0x86, 0x72, 0xb7, 0x74, 0xe5, 0xd9, 0x45, 0xfb,
                                     0x9a, 0xbc, 0xb9, 0x76, 0x74, 0x4a, 0x7a, 0xb9};

static void commit_at(struct group_rig *r, int64_t wall_ms, int16_t version, int32_t partition,
                      int64_t offset, int32_t epoch, const char *metadata, int64_t retention_ms)
{
    struct offset_commit_request q;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p;
    offset_commit_request_init(&q);
    offset_commit_request_topic_init(&t);
    offset_commit_request_partition_init(&p);
    r->wall_ms = wall_ms;
    q.group_id = wire_string_of("gold1");
    q.generation_id_or_member_epoch = -1;
    q.retention_time_ms = retention_ms;
    q.topics = &t;
    q.topics_count = 1;
    t.name = wire_string_of("gt");
    memcpy(t.topic_id.bytes, topic_id, sizeof(topic_id));
    t.partitions = &p;
    t.partitions_count = 1;
    p.partition_index = partition;
    p.committed_offset = offset;
    p.committed_leader_epoch = epoch;
    p.committed_metadata = wire_string_of(metadata);
    struct rig_call *c = rig_commit_with(r, &q, version);
    cr_assert_eq(c->tell.commit.topics[0].partitions[0].error_code, 0);
}

/* Keys and values as Apache Kafka 4.3.1 wrote them for these calls at these times. */
Test(group_load, offsets_are_written_as_kafka_writes_them)
{
    struct group_rig r;
    rig_init(&r);
    commit_at(&r, 0x1a1fea78d1a, 9, 1, 42, 5, "note", -1);
    expect_record(&r, 0,
                  "00010005676f6c643100026774"
                  "00000001",
                  "0004000000000000002a00000005056e6f7465000001a1fea78d1a010010"
                  "8672b774e5d945fb9abcb976744a7ab9");
    commit_at(&r, 0x1a1fea78d4c, 10, 0, 43, -1, NULL, -1);
    expect_record(&r, 1,
                  "00010005676f6c643100026774"
                  "00000000",
                  "0004000000000000002bffffffff01000001a1fea78d4c010010"
                  "8672b774e5d945fb9abcb976744a7ab9");
    commit_at(&r, 0x1a1fea78d52, 3, 0, 44, -1, "", 5000);
    expect_record(&r, 2,
                  "00010005676f6c643100026774"
                  "00000000",
                  "0001000000000000002c0000000001a1fea78d52000001a1fea7a0da");
    cr_assert_eq(rig_delete(&r, "gold1"), 0);
    expect_record(&r, 3,
                  "00010005676f6c643100026774"
                  "00000000",
                  NULL);
    expect_record(&r, 4,
                  "00010005676f6c643100026774"
                  "00000001",
                  NULL);
    expect_record(&r, 5, "00020005676f6c6431", NULL);
    cr_assert_eq(r.log_count, 6);
    rig_end(&r);
}

static uint64_t kafkas_random(void *context)
{
    struct group_rig *r = context;
    return r->random++ % 2 == 0 ? 0x03c78312960f40beull : 0xab91b1c88ef5ace8ull;
}

Test(group_load, groups_are_written_as_kafka_writes_them)
{
    struct group_rig r;
    rig_init(&r);
    r.shard.random = kafkas_random;
    r.wall_ms = 0x1a1fea78d5f;
    struct rig_call *join = rig_make(&r, GROUP_JOIN, 5);
    struct join_group_request_protocol p = {wire_string_of("range"), {(const uint8_t *)"meta", 4}};
    join_group_request_init(&join->ask.join);
    join->call.client_id = wire_string_of("torc-test");
    join->ask.join.group_id = wire_string_of("gold2");
    join->ask.join.group_instance_id = wire_string_of("inst");
    join->ask.join.session_timeout_ms = 10000;
    join->ask.join.rebalance_timeout_ms = 20000;
    join->ask.join.protocol_type = wire_string_of("consumer");
    join->ask.join.protocols = &p;
    join->ask.join.protocols_count = 1;
    rig_call(&r, join);
    expect_record(&r, 0, "00020005676f6c6432", "0003000000000000ffffffff000001a1fea78d5f00000000");
    r.wall_ms = 0x1a1fea78d68 - 1;
    rig_pass(&r, 1);
    cr_assert(join->answered);
    const char *id = rig_text(&r, join->tell.join.member_id);
    cr_assert_str_eq(id, "inst-03c78312-960f-40be-ab91-b1c88ef5ace8");
    struct rig_call *sync = rig_sync(&r, "gold2", id, 1, (const char *const[]){id, "share", NULL});
    cr_assert(sync->answered);
    expect_record(
        &r, 1, "00020005676f6c6432",
        "00030008636f6e73756d657200000001000572616e6765"
        "0029696e73742d30336337383331322d393630662d343062652d616239312d623163383865663561636538"
        "000001a1fea78d6800000001"
        "0029696e73742d30336337383331322d393630662d343062652d616239312d623163383865663561636538"
        "0004696e73740009746f72632d74657374000a2f3132372e302e302e31"
        "00004e2000002710000000046d657461000000057368617265");
    r.wall_ms = 0x1a1fea78da0;
    cr_assert_eq(rig_leave(&r, "gold2", id, "inst"), 0);
    expect_record(&r, 2, "00020005676f6c6432",
                  "00030008636f6e73756d657200000002ffffffff000001a1fea78da000000000");
    cr_assert_eq(rig_delete(&r, "gold2"), 0);
    expect_record(&r, 3, "00020005676f6c6432", NULL);
    rig_end(&r);
}

/* ---- load ------------------------------------------------------------------------------------ */

/* Everything that is told of a group from outside. */
static const char *account_of(struct group_rig *r, const char *group)
{
    static const size_t room = 1 << 16;
    char *text = arena_alloc(&r->arena, room);
    size_t at = 0;
    const struct describe_groups_response_described_group *g =
        &rig_describe(r, group, 5)->tell.describe;
    at += (size_t)snprintf(text + at, room - at, "%s|%s|%s\n", rig_text(r, g->group_state),
                           rig_text(r, g->protocol_type), rig_text(r, g->protocol_data));
    for (int32_t i = 0; i < g->members_count; i++) {
        const struct describe_groups_response_described_group_member *m = &g->members[i];
        at +=
            (size_t)snprintf(text + at, room - at, "%s|%s|%s|%s|%s|%s\n", rig_text(r, m->member_id),
                             rig_text(r, m->group_instance_id), rig_text(r, m->client_id),
                             rig_text(r, m->client_host), rig_bytes(r, m->member_metadata),
                             rig_bytes(r, m->member_assignment));
    }
    const struct offset_fetch_response_group *o = &rig_fetch_all(r, group)->tell.fetch;
    for (int32_t i = 0; i < o->topics_count; i++) {
        for (int32_t j = 0; j < o->topics[i].partitions_count; j++) {
            const struct offset_fetch_response_partitions *p = &o->topics[i].partitions[j];
            at += (size_t)snprintf(text + at, room - at, "%s-%d %lld/%d %s\n",
                                   rig_text(r, o->topics[i].name), p->partition_index,
                                   (long long)p->committed_offset, p->committed_leader_epoch,
                                   rig_text(r, p->metadata));
        }
    }
    return text;
}

static void expect_same(struct group_rig *a, struct group_rig *b, const char *group)
{
    const char *live = account_of(a, group), *loaded = account_of(b, group);
    cr_assert_str_eq(loaded, live);
}

Test(group_load, what_is_loaded_is_what_was_there)
{
    struct group_rig r, again;
    rig_init(&r);
    const char *id = rig_stable(&r, "stable", "range=@t,sticky=x");
    for (int i = 0; i < 30; i++)
        (void)rig_commit(&r, "stable", id, 1, i % 2 == 0 ? "t" : "u", i % 7, i, "note");
    (void)rig_commit(&r, "simple", "", -1, "t", 0, 5, "");
    (void)rig_commit(&r, "simple", "", -1, "t", 0, 6, "later");
    const char *left = rig_stable(&r, "empty", "range=@t");
    (void)rig_commit(&r, "empty", left, 1, "t", 0, 8, "");
    (void)rig_leave(&r, "empty", left, NULL);
    (void)rig_offset_delete(&r, "stable", "u", 3);
    (void)rig_stable(&r, "deleted", NULL);
    (void)rig_join(&r, "asked", "", NULL, 4, NULL);
    rig_pass(&r, 100);
    (void)rig_delete(&r, "simple2");
    (void)rig_commit(&r, "gone", "", -1, "t", 0, 5, "");
    cr_assert_eq(rig_delete(&r, "gone"), 0);
    rig_load(&again, &r);
    expect_same(&r, &again, "stable");
    expect_same(&r, &again, "simple");
    expect_same(&r, &again, "empty");
    expect_same(&r, &again, "deleted");
    expect_same(&r, &again, "asked");
    expect_same(&r, &again, "gone");
    cr_assert_eq(rig_list(&r, NULL, NULL)->tell.list.groups_count,
                 rig_list(&again, NULL, NULL)->tell.list.groups_count);
    cr_assert_eq(rig_heartbeat(&again, "stable", id, NULL, 1), 0); /* its members go on */
    cr_assert_eq(rig_commit(&again, "stable", id, 1, "t", 0, 99, ""), 0);
    rig_end(&again);
    rig_end(&r);
}

Test(group_load, members_have_a_whole_session_after_it)
{
    struct group_rig r, again;
    rig_init(&r);
    const char *id = rig_stable(&r, "g", NULL);
    rig_pass(&r, 9000);
    rig_load(&again, &r);
    rig_pass(&again, 9998);
    cr_assert_eq(rig_heartbeat(&again, "g", id, NULL, 1), 0);
    rig_pass(&again, 10002);
    cr_assert_str_eq(rig_state(&again, "g"), "Empty");
    rig_end(&again);
    rig_end(&r);
}

Test(group_load, a_rejoining_leader_is_known_after_it)
{
    struct group_rig r, again;
    rig_init(&r);
    const char *id = rig_stable(&r, "g", "range=1,sticky=2");
    rig_load(&again, &r);
    struct rig_call *join = rig_join(&again, "g", id, NULL, 5, "range=1,sticky=2");
    cr_assert(join->answered); /* alone: the round is over at once */
    cr_assert_eq(join->tell.join.generation_id, 2);
    cr_assert_str_eq(rig_text(&again, join->tell.join.leader), id);
    rig_end(&again);
    rig_end(&r);
}

Test(group_load, a_group_over_the_limit_is_called_together)
{
    struct group_rig r, again;
    rig_init(&r);
    const char *id = rig_stable(&r, "g", NULL);
    r.config.group_max_size = 0;
    rig_load(&again, &r);
    cr_assert_str_eq(rig_state(&again, "g"), "PreparingRebalance");
    cr_assert_eq(rig_heartbeat(&again, "g", id, NULL, 1), KE_REBALANCE_IN_PROGRESS);
    rig_end(&again);
    rig_end(&r);
}

static bool replay_bytes(struct group_rig *r, const void *key, uint32_t key_size, const void *value,
                         uint32_t value_size)
{
    return group_shard_replay(&r->shard, 0, -1, (struct batch_field){key, key_size},
                              (struct batch_field){value, value_size});
}

/* A shard that is not loaded yet. */
static void begin_loading(struct group_rig *r)
{
    rig_init(r);
    group_shard_close(&r->shard, KE_NOT_COORDINATOR);
    group_shard_init(&r->shard, 7);
}

Test(group_load, records_that_are_not_understood_are_passed_over)
{
    struct group_rig r;
    begin_loading(&r);
    cr_assert(replay_bytes(&r, "", 0, "x", 1));
    cr_assert(replay_bytes(&r, "\0", 1, "x", 1));
    cr_assert(replay_bytes(&r, "\0\3\0\1g", 5, "x", 1));
    cr_assert(replay_bytes(&r, "\0\x0b\0\1g", 5, "\0\0", 2));   /* another kind of group */
    cr_assert(replay_bytes(&r, "\0\2\0\1g", 5, "\0\x63zz", 4)); /* a later version */
    cr_assert(replay_bytes(&r, "\0\2\0\1g", 5, "\0\3\0\1", 4)); /* cut short */
    cr_assert(replay_bytes(&r, "\0\1\0\1g\0\1t", 8, NULL, 0));
    group_shard_loaded(&r.shard);
    cr_assert_eq(rig_list(&r, NULL, NULL)->tell.list.groups_count, 0);
    rig_end(&r);
}

Test(group_load, no_memory_ends_it)
{
    struct group_rig r, again;
    rig_init(&r);
    (void)rig_commit(&r, "g", "", -1, "t", 0, 5, "note");
    begin_loading(&again);
    again.mem.budget_bytes = again.mem.used_bytes;
    cr_assert(!group_shard_replay(&again.shard, 0, -1,
                                  (struct batch_field){r.log[0].key, r.log[0].key_size},
                                  (struct batch_field){r.log[0].value, r.log[0].value_size}) ||
              again.shard.groups.count == 0);
    rig_end(&again);
    rig_end(&r);
}

static void replay_again(struct group_rig *to, const struct group_rig *from, uint32_t i,
                         int64_t offset, int64_t producer_id)
{
    cr_assert(
        group_shard_replay(&to->shard, offset, producer_id,
                           (struct batch_field){from->log[i].key, from->log[i].key_size},
                           (struct batch_field){from->log[i].value, from->log[i].value_size}));
}

Test(group_load, offsets_of_a_transaction_count_from_its_commit_on)
{
    struct group_rig r, again;
    rig_init(&r);
    (void)rig_commit(&r, "g", "", -1, "t", 0, 5, "");
    (void)rig_commit(&r, "g", "", -1, "t", 0, 6, "");
    (void)rig_commit(&r, "g", "", -1, "t", 1, 7, "");
    begin_loading(&again);
    replay_again(&again, &r, 0, 10, 77); /* of producer 77: offset 5 */
    replay_again(&again, &r, 1, 11, -1); /* plain and later: offset 6 */
    replay_again(&again, &r, 2, 12, 77);
    replay_again(&again, &r, 2, 13, 88); /* of a producer that aborts */
    cr_assert(group_shard_replay_end(&again.shard, 77, true));
    cr_assert(group_shard_replay_end(&again.shard, 88, false));
    group_shard_loaded(&again.shard);
    cr_assert_eq(rig_offset(&again, "g", "t", 0), 6); /* the higher record wins */
    cr_assert_eq(rig_offset(&again, "g", "t", 1), 7);
    rig_end(&again);
    rig_end(&r);
}

Test(group_load, offsets_of_an_open_transaction_are_unstable)
{
    struct group_rig r, again;
    rig_init(&r);
    (void)rig_commit(&r, "g", "", -1, "t", 0, 5, "");
    begin_loading(&again);
    replay_again(&again, &r, 0, 10, 77);
    group_shard_loaded(&again.shard);
    cr_assert_eq(rig_offset(&again, "g", "t", 0), -1);
    struct rig_call *c = rig_make(&again, GROUP_FETCH, 8);
    int32_t partition = 0;
    struct offset_fetch_request_topics asked = {
        .name = wire_string_of("t"), .partition_indexes = &partition, .partition_indexes_count = 1};
    offset_fetch_request_group_init(&c->ask.fetch);
    c->ask.fetch.group_id = wire_string_of("g");
    c->ask.fetch.topics = &asked;
    c->ask.fetch.topics_count = 1;
    c->call.require_stable = true;
    rig_call(&again, c);
    cr_assert_eq(c->tell.fetch.topics[0].partitions[0].error_code, KE_UNSTABLE_OFFSET_COMMIT);
    rig_end(&again);
    rig_end(&r);
}

/* ---- from outside ---------------------------------------------------------------------------- */

Test(group_load, partitions_of_ids_are_those_of_javas_hash)
{
    struct {
        const char *id;
        int32_t partition;
    } known[] = {{"", 0},
                 {"g1", 42},
                 {"gold1", 1},
                 {"gold2", 2},
                 {"\xc3\xa4pfel", 41},
                 {"\xf0\x9f\x98\x80", 49},   /* two code units */
                 {"polygenelubricants", 0}}; /* its hash is the least int */
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        cr_assert_eq(group_partition(wire_string_of(known[i].id), 50), known[i].partition);
}

Test(group_load, missing_groups_are_dead_and_from_version_6_an_error)
{
    struct group_rig r;
    rig_init(&r);
    struct rig_call *old = rig_describe(&r, "nope", 5), *now = rig_describe(&r, "nope", 6);
    cr_assert_eq(old->tell.describe.error_code, 0);
    cr_assert_str_eq(rig_text(&r, old->tell.describe.group_state), "Dead");
    cr_assert_eq(now->tell.describe.error_code, KE_GROUP_ID_NOT_FOUND);
    cr_assert_str_eq(rig_text(&r, now->tell.describe.error_message), "Group nope not found.");
    rig_end(&r);
}

Test(group_load, a_stable_group_shows_what_its_members_subscribe_and_got)
{
    struct group_rig r;
    rig_init(&r);
    const char *id = rig_stable(&r, "g", "range=sub");
    struct describe_groups_response_described_group *g = &rig_describe(&r, "g", 6)->tell.describe;
    cr_assert_str_eq(rig_text(&r, g->protocol_type), "consumer");
    cr_assert_str_eq(rig_text(&r, g->protocol_data), "range");
    cr_assert_eq(g->members_count, 1);
    cr_assert_str_eq(rig_text(&r, g->members[0].member_id), id);
    cr_assert_str_eq(rig_text(&r, g->members[0].client_host), "/127.0.0.1");
    cr_assert_str_eq(rig_bytes(&r, g->members[0].member_metadata), "sub");
    cr_assert_str_eq(rig_bytes(&r, g->members[0].member_assignment), "mine");
    (void)rig_join(&r, "g", "", NULL, 3, "range=sub");
    g = &rig_describe(&r, "g", 6)->tell.describe;
    cr_assert_eq(g->protocol_data.size, 0); /* it is not chosen yet */
    cr_assert_eq(g->members[0].member_metadata.size, 0);
    rig_end(&r);
}

Test(group_load, lists_are_filtered_by_state_and_type_whatever_the_case)
{
    struct group_rig r;
    rig_init(&r);
    (void)rig_stable(&r, "s", NULL);
    (void)rig_commit(&r, "e", "", -1, "t", 0, 1, "");
    struct rig_call *all = rig_list(&r, NULL, NULL);
    cr_assert_eq(all->tell.list.groups_count, 2);
    cr_assert_str_eq(rig_text(&r, all->tell.list.groups[0].group_id), "s");
    cr_assert_str_eq(rig_text(&r, all->tell.list.groups[0].group_type), "classic");
    cr_assert_eq(rig_list(&r, " sTABLE ", NULL)->tell.list.groups_count, 1);
    cr_assert_eq(rig_list(&r, "Empty", "Classic")->tell.list.groups_count, 1);
    cr_assert_eq(rig_list(&r, "Empt", NULL)->tell.list.groups_count, 0);
    cr_assert_eq(rig_list(&r, NULL, "consumer")->tell.list.groups_count, 0);
    rig_end(&r);
}

Test(group_load, only_empty_groups_are_deleted)
{
    struct group_rig r;
    rig_init(&r);
    const char *id = rig_stable(&r, "g", NULL);
    cr_assert_eq(rig_delete(&r, "nope"), KE_GROUP_ID_NOT_FOUND);
    cr_assert_eq(rig_delete(&r, "g"), KE_NON_EMPTY_GROUP);
    (void)rig_leave(&r, "g", id, NULL);
    cr_assert_eq(rig_delete(&r, "g"), 0);
    cr_assert_eq(rig_delete(&r, "g"), KE_GROUP_ID_NOT_FOUND);
    rig_end(&r);
}

Test(group_load, a_shard_that_closes_sends_everybody_away)
{
    struct group_rig r;
    rig_init(&r);
    r.config.group_initial_rebalance_delay_ms = 1000;
    struct rig_call *waits = rig_join(&r, "g", "", NULL, 3, NULL);
    cr_assert(!waits->answered);
    group_shard_close(&r.shard, KE_NOT_COORDINATOR);
    r.shard.changed(&r.shard);
    cr_assert(waits->answered);
    cr_assert_eq(waits->tell.join.error_code, KE_NOT_COORDINATOR);
    cr_assert_eq(r.mem.used_bytes, 0);
    group_shard_init(&r.shard, 7);
    rig_end(&r);
}
