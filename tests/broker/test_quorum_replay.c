/* Records into leaves, and back into records. */
#include "tests/broker/quorum_pure.h"

#include "proto/gen/record_security.h"
#include "tests/broker/quorum_rig.h"

static const struct topic_image *topic(struct pure *p, const char *name)
{
    return image_topic_by_name(&p->md.image, name, (uint32_t)strlen(name));
}

Test(quorum_replay, partitions_may_come_in_any_order_but_none_may_be_missing)
{
    struct pure p;
    int32_t replicas[] = {1};
    pure_begin(&p);
    cr_assert_eq(topic(&p, "p")->partitions_count, 2);
    pure_topic(&p, "hole", 9);
    pure_partition(&p, 9, 1, replicas, 1, 1);
    cr_assert_eq(pure_replay(&p), -EBADMSG);
    cr_assert(strstr(p.why, "missing") != NULL);
    cr_assert(topic(&p, "hole") == NULL);
    pure_end(&p);
}

Test(quorum_replay, what_a_record_is_about_has_to_be_there)
{
    struct pure p;
    int32_t replicas[] = {1};
    struct remove_topic_record remove;
    struct partition_change_record change;
    struct broker_registration_change_record broker;
    struct producer_ids_record ids;
    remove_topic_record_init(&remove);
    partition_change_record_init(&change);
    broker_registration_change_record_init(&broker);
    producer_ids_record_init(&ids);
    change.isr_count = change.replicas_count = change.removing_replicas_count = -1;
    change.adding_replicas_count = change.directories_count = -1;
    change.eligible_leader_replicas_count = change.last_known_elr_count = -1;
    broker.cordoned_log_dirs_count = -1;
    pure_begin(&p);
    for (int i = 0; i < 11; i++) {
        switch (i) {
        case 0:
            pure_topic(&p, "p", 77); /* the name is taken */
            break;
        case 1:
            pure_topic(&p, "new", 2); /* the id is taken */
            break;
        case 2:
            pure_partition(&p, 77, 0, replicas, 1, 1);
            break;
        case 3:
            remove.topic_id = pure_id(77);
            record_list_add(&p.records, REMOVE_TOPIC_RECORD_API_KEY, 0, &remove);
            break;
        case 4:
            change.topic_id = pure_id(2);
            change.partition_id = 2;
            record_list_add(&p.records, PARTITION_CHANGE_RECORD_API_KEY, 2, &change);
            break;
        case 5:
            broker.broker_id = 3;
            record_list_add(&p.records, BROKER_REGISTRATION_CHANGE_RECORD_API_KEY, 3, &broker);
            break;
        case 6: /* of an older registration */
            broker.broker_id = 1;
            broker.broker_epoch = 5;
            record_list_add(&p.records, BROKER_REGISTRATION_CHANGE_RECORD_API_KEY, 3, &broker);
            break;
        case 7:
            pure_config(&p, RESOURCE_TOPIC, "nobody", "retention.ms", "1");
            break;
        case 8:
            pure_config(&p, 99, "x", "retention.ms", "1");
            break;
        case 9:
            pure_partition(&p, 2, 0, replicas, 0, 1);
            break;
        case 10:
            pure_partition(&p, 2, -1, replicas, 1, 1);
            break;
        }
        cr_assert_eq(pure_replay(&p), -EBADMSG, "%d", i);
        cr_assert_neq(p.why[0], '\0', "%d", i);
    }
    cr_assert_eq(p.md.image.topics_count, 3);
    pure_end(&p);
}

Test(quorum_replay, records_that_are_newer_or_broken_are_refused)
{
    static const struct {
        uint8_t bytes[9];
        uint32_t size;
    } cases[] = {
        {{0}, 0},                            /* nothing */
        {{0, 2, 0}, 3},                      /* frame version 0 */
        {{1, 99, 0, 0}, 4},                  /* no such record */
        {{1, 3, 9, 0}, 4},                   /* a partition of a later version */
        {{1, 2, 0, 5, 'a'}, 5},              /* cut short */
        {{1, 20, 0, 0xff, 0xff, 0xff}, 6},   /* a tag section without end */
        {{1, 24, 0, 0}, 4},                  /* the end of no transaction */
        {{1, 12, 0, 3, 'a', 0, 0, 1, 0}, 9}, /* a feature whose name has a zero byte */
    };
    struct pure p;
    pure_begin(&p);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct replay r;
        replay_init(&r, &p.md, 1u << 20);
        int result = replay_record(&r, (struct record_value){cases[i].bytes, cases[i].size});
        if (i == 5) /* NoOp is not looked into */
            cr_assert_eq(result, 0);
        else
            cr_assert_eq(result, -EBADMSG, "%zu", i);
        replay_drop(&r);
    }
    pure_end(&p);
}

Test(quorum_replay, a_partition_change_counts_epochs_as_kafka_does)
{
    struct pure p;
    struct partition_change_record m;
    pure_begin(&p);
    partition_change_record_init(&m);
    m.topic_id = pure_id(2);
    m.partition_id = 0;
    m.isr_count = m.replicas_count = m.removing_replicas_count = m.adding_replicas_count = -1;
    m.directories_count = m.eligible_leader_replicas_count = m.last_known_elr_count = -1;
    m.leader = -2;
    record_list_add(&p.records, PARTITION_CHANGE_RECORD_API_KEY, 2, &m);
    cr_assert_eq(pure_replay(&p), 0);
    const struct partition_image *got = &topic(&p, "p")->partitions[0];
    cr_assert(got->leader_epoch == 5 && got->partition_epoch == 6 && got->leader == 1);
    m.leader = 1; /* the same one, but said */
    record_list_add(&p.records, PARTITION_CHANGE_RECORD_API_KEY, 2, &m);
    m.leader = -1;
    m.isr_count = 0;
    m.eligible_leader_replicas = m.last_known_elr = (int32_t[]){1};
    m.eligible_leader_replicas_count = m.last_known_elr_count = 1;
    record_list_add(&p.records, PARTITION_CHANGE_RECORD_API_KEY, 2, &m);
    cr_assert_eq(pure_replay(&p), 0);
    got = &topic(&p, "p")->partitions[0];
    cr_assert(got->leader_epoch == 7 && got->partition_epoch == 8 && got->leader == -1);
    cr_assert(got->isr_count == 0 && got->elr_count == 1 && got->elr[0] == 1);
    cr_assert(uuid_equal(got->directories[0], p.dirs[0]));
    pure_end(&p);
}

Test(quorum_replay, a_transaction_happens_at_its_end_or_not_at_all)
{
    struct pure p;
    struct begin_transaction_record begin;
    struct end_transaction_record end;
    struct abort_transaction_record abort;
    int32_t replicas[] = {1};
    begin_transaction_record_init(&begin);
    end_transaction_record_init(&end);
    abort_transaction_record_init(&abort);
    begin.name = wire_string_of("x");
    abort.reason = WIRE_NULL_STRING;
    pure_begin(&p);
    record_list_add(&p.records, BEGIN_TRANSACTION_RECORD_API_KEY, 0, &begin);
    pure_topic(&p, "undone", 10);
    pure_partition(&p, 10, 0, replicas, 1, 1);
    record_list_add(&p.records, ABORT_TRANSACTION_RECORD_API_KEY, 0, &abort);
    record_list_add(&p.records, BEGIN_TRANSACTION_RECORD_API_KEY, 0, &begin);
    pure_topic(&p, "done", 11);
    pure_partition(&p, 11, 0, replicas, 1, 1);
    record_list_add(&p.records, END_TRANSACTION_RECORD_API_KEY, 0, &end);
    cr_assert_eq(pure_replay(&p), 0, "%s", p.why);
    cr_assert(topic(&p, "undone") == NULL);
    cr_assert(topic(&p, "done") != NULL);
    cr_assert(!p.md.open_transaction);
    record_list_add(&p.records, BEGIN_TRANSACTION_RECORD_API_KEY, 0, &begin);
    pure_topic(&p, "open", 12);
    cr_assert_eq(pure_replay(&p), 0, "%s", p.why);
    cr_assert(topic(&p, "open") == NULL);
    cr_assert(p.md.open_transaction);
    pure_end(&p);
}

Test(quorum_replay, brokers_dynamic_configs_reach_every_topics_typed_config)
{
    struct pure p;
    pure_begin(&p);
    int64_t before = topic(&p, "p")->config.retention_ms;
    pure_config(&p, RESOURCE_BROKER, "", "log.retention.ms", "1234567");
    pure_config(&p, RESOURCE_TOPIC, "a.b", "retention.ms", "42");
    cr_assert_eq(pure_replay(&p), 0, "%s", p.why);
    cr_assert_neq(before, 1234567);
    cr_assert_eq(topic(&p, "p")->config.retention_ms, 1234567);
    cr_assert_eq(topic(&p, "a.b")->config.retention_ms, 42);
    pure_config(&p, RESOURCE_BROKER, "1", "log.retention.ms", "7777777");
    cr_assert_eq(pure_replay(&p), 0, "%s", p.why);
    cr_assert_eq(topic(&p, "p")->config.retention_ms, 7777777);
    pure_config(&p, RESOURCE_BROKER, "1", "log.retention.ms", NULL);
    pure_config(&p, RESOURCE_BROKER, "", "log.retention.ms", NULL);
    pure_config(&p, RESOURCE_TOPIC, "a.b", "retention.ms", NULL);
    cr_assert_eq(pure_replay(&p), 0, "%s", p.why);
    cr_assert_eq(topic(&p, "p")->config.retention_ms, before);
    cr_assert_eq(topic(&p, "a.b")->config.retention_ms, before);
    cr_assert(image_config(&p.md.image, RESOURCE_BROKER, "1", 1) == NULL);
    pure_end(&p);
}

Test(quorum_replay, deletion_takes_configs_along_and_frees_the_name)
{
    struct pure p;
    struct remove_topic_record m;
    pure_begin(&p);
    pure_config(&p, RESOURCE_TOPIC, "p", "retention.ms", "42");
    cr_assert_eq(pure_replay(&p), 0);
    remove_topic_record_init(&m);
    m.topic_id = pure_id(2);
    record_list_add(&p.records, REMOVE_TOPIC_RECORD_API_KEY, 0, &m);
    int32_t replicas[] = {1};
    pure_topic(&p, "p", 50);
    pure_partition(&p, 50, 0, replicas, 1, 1);
    cr_assert_eq(pure_replay(&p), 0, "%s", p.why);
    cr_assert(uuid_equal(topic(&p, "p")->id, pure_id(50)));
    cr_assert_eq(topic(&p, "p")->overrides.set.count, 0);
    cr_assert(image_topic_by_id(&p.md.image, pure_id(2)) == NULL);
    pure_end(&p);
}

static void quota(struct pure *p, const char *user, const char *client, bool swapped, bool remove)
{
    struct client_quota_record_entity_data e[2];
    struct client_quota_record m;
    client_quota_record_init(&m);
    e[swapped] =
        (struct client_quota_record_entity_data){wire_string_of("user"), wire_string_of(user)};
    e[!swapped] = (struct client_quota_record_entity_data){wire_string_of("client-id"),
                                                           wire_string_of(client)};
    m.entity = e;
    m.entity_count = 2;
    m.key = wire_string_of("producer_byte_rate");
    m.value = 5;
    m.remove = remove;
    /* No encoder of ours writes quotas: the frame by hand. */
    uint8_t *bytes = arena_alloc(&p->scratch, 256);
    struct wire_writer w;
    wire_writer_init(&w, bytes, 256);
    wire_put_uvarint(&w, 1);
    wire_put_uvarint(&w, CLIENT_QUOTA_RECORD_API_KEY);
    wire_put_uvarint(&w, 0);
    client_quota_record_encode(&m, &w, 0);
    record_list_add_value(&p->records, (struct record_value){bytes, (uint32_t)w.position});
}

Test(quorum_replay, what_is_kept_is_found_by_what_identifies_it)
{
    struct pure p;
    pure_begin(&p);
    quota(&p, "u", "c", false, false);
    quota(&p, "u", NULL, false, false); /* the default client */
    quota(&p, "u", "", false, false);
    cr_assert_eq(pure_replay(&p), 0, "%s", p.why);
    cr_assert_eq(p.md.kept.count, 3);
    quota(&p, "u", "c", true, false); /* the same, said in another order */
    cr_assert_eq(pure_replay(&p), 0, "%s", p.why);
    cr_assert_eq(p.md.kept.count, 3);
    quota(&p, "u", "c", true, true);
    quota(&p, "x", "c", true, true); /* was not there */
    cr_assert_eq(pure_replay(&p), 0, "%s", p.why);
    cr_assert_eq(p.md.kept.count, 2);
    pure_end(&p);
}

Test(quorum_replay, a_snapshots_records_lead_to_the_same_metadata)
{
    struct pure p, other;
    char why[256] = "";
    pure_begin(&p);
    pure_config(&p, RESOURCE_TOPIC, "p", "retention.ms", "42");
    pure_config(&p, RESOURCE_GROUP, "g", "consumer.session.timeout.ms", "50000");
    quota(&p, "u", "c", false, false);
    struct producer_ids_record ids;
    producer_ids_record_init(&ids);
    ids.next_producer_id = 5000;
    record_list_add(&p.records, PRODUCER_IDS_RECORD_API_KEY, 0, &ids);
    cr_assert_eq(pure_replay(&p), 0, "%s", p.why);
    snapshot_records(&p.md, &p.records);
    cr_assert(!p.records.failed);
    /* Into metadata that knows nothing. */
    memset(&other, 0, sizeof(other));
    cr_assert_eq(mem_init(&other.mem, 64u << 20), 0);
    arena_init(&other.scratch, &other.mem, 1u << 20);
    metadata_init(&other.md, &other.mem, &p.config);
    other.records = p.records;
    cr_assert_eq(pure_replay(&other), 0, "%s", other.why);
    cr_assert(images_equal(&p.md.image, &other.md.image, why, sizeof(why)), "%s", why);
    cr_assert_eq(other.md.next_producer_id, 5000);
    cr_assert_eq(other.md.kept.count, 1);
    metadata_destroy(&other.md);
    cr_assert_eq(other.mem.used_bytes, 0);
    mem_destroy(&other.mem);
    pure_end(&p);
}

Test(quorum_replay, without_memory_nothing_changes_wherever_it_runs_out)
{
    struct pure p;
    int32_t replicas[] = {1};
    pure_begin(&p);
    uint64_t budget = p.mem.budget_bytes;
    uint32_t refused = 0;
    for (uint64_t room = 0; room < 400000; room += 997) {
        uint64_t used = p.mem.used_bytes;
        for (uint8_t i = 0; i < 20; i++) {
            char name[16];
            snprintf(name, sizeof(name), "t%d", i);
            pure_topic(&p, name, (uint8_t)(100 + i));
            pure_partition(&p, (uint8_t)(100 + i), 0, replicas, 1, 1);
        }
        struct record_list list = p.records;
        struct replay r;
        struct image_delta *delta = NULL;
        int result = 0;
        p.mem.budget_bytes = p.mem.used_bytes + room;
        replay_init(&r, &p.md, 64u << 20);
        for (uint32_t i = 0; i < list.count && result == 0; i++)
            result = replay_record(&r, list.items[i]);
        if (result == 0)
            result = replay_finish(&r, 2, 1, &delta);
        if (result == 0) {
            result = metadata_apply(&p.md, delta);
            if (result == 0)
                delta_retire(&p.mem, delta);
            else
                delta_discard(&p.mem, delta);
        } else {
            replay_drop(&r);
        }
        p.mem.budget_bytes = budget;
        arena_release(&p.scratch);
        record_list_init(&p.records, &p.scratch);
        if (result == 0)
            break; /* enough */
        cr_assert_eq(result, -ENOMEM);
        cr_assert_eq(p.md.image.topics_count, 3);
        cr_assert_leq(p.mem.used_bytes, used + 65536); /* tables may have grown */
        refused++;
    }
    cr_assert_gt(refused, 3);
    cr_assert_eq(p.md.image.topics_count, 23);
    pure_end(&p);
}
