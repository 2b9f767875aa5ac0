/* The control from start to stop, on real files. */
#include "tests/broker/quorum_rig.h"

#include "broker/quorum/control_priv.h"
#include "proto/gen/allocate_producer_ids.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/delete_topics.h"
#include "proto/gen/incremental_alter_configs.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static enum kafka_error set_config(struct quorum_rig *q, int8_t type, const char *resource,
                                   const char *name, const char *value)
{
    struct incremental_alter_configs_request_alterable_config config;
    struct incremental_alter_configs_request_alter_configs_resource r;
    struct incremental_alter_configs_request request;
    struct incremental_alter_configs_response response;
    struct quorum_call call;
    incremental_alter_configs_request_alterable_config_init(&config);
    incremental_alter_configs_request_alter_configs_resource_init(&r);
    incremental_alter_configs_request_init(&request);
    incremental_alter_configs_response_init(&response);
    config.name = wire_string_of(name);
    config.value = wire_string_of(value);
    config.config_operation = value == NULL ? 1 : 0;
    r.resource_type = type;
    r.resource_name = wire_string_of(resource);
    r.configs = &config;
    r.configs_count = 1;
    request.resources = &r;
    request.resources_count = 1;
    cr_assert_eq(quorum_ask(q, &call, 44, 1, &request, &response), KE_NONE);
    enum kafka_error error = (enum kafka_error)response.responses[0].error_code;
    quorum_forget(&call);
    return error;
}

static enum kafka_error delete_topic(struct quorum_rig *q, const char *name)
{
    struct delete_topics_request_delete_topic_state state;
    struct delete_topics_request request;
    struct delete_topics_response response;
    struct quorum_call call;
    delete_topics_request_delete_topic_state_init(&state);
    delete_topics_request_init(&request);
    delete_topics_response_init(&response);
    state.name = wire_string_of(name);
    request.topics = &state;
    request.topics_count = 1;
    cr_assert_eq(quorum_ask(q, &call, 20, 6, &request, &response), KE_NONE);
    enum kafka_error error = (enum kafka_error)response.responses[0].error_code;
    quorum_forget(&call);
    return error;
}

/* Something of everything. */
static void populate(struct quorum_rig *q)
{
    cr_assert_eq(quorum_create_topic(q, "one", 1), KE_NONE);
    cr_assert_eq(quorum_create_topic(q, "many", 100), KE_NONE);
    cr_assert_eq(quorum_create_topic(q, "gone", 3), KE_NONE);
    cr_assert_eq(delete_topic(q, "gone"), KE_NONE);
    cr_assert_eq(set_config(q, RESOURCE_TOPIC, "one", "retention.ms", "12345"), KE_NONE);
    cr_assert_eq(set_config(q, RESOURCE_TOPIC, "many", "cleanup.policy", "compact"), KE_NONE);
    cr_assert_eq(set_config(q, RESOURCE_TOPIC, "many", "cleanup.policy", NULL), KE_NONE);
    cr_assert_eq(set_config(q, RESOURCE_BROKER, "", "log.retention.ms", "777000"), KE_NONE);
    cr_assert_eq(set_config(q, RESOURCE_GROUP, "g", "consumer.session.timeout.ms", "50000"),
                 KE_NONE);
}

Test(quorum_control, a_new_node_formats_itself_and_becomes_leader_and_broker)
{
    struct quorum_rig q;
    quorum_begin(&q, "", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    cr_assert(q.identity.formatted_now);
    const struct image *img = &q.images[1];
    cr_assert_eq(image_feature(img, "metadata.version"), 30);
    cr_assert_eq(image_feature(img, "transaction.version"), 2);
    cr_assert_eq(image_feature(img, "eligible.leader.replicas.version"), 1);
    const struct broker_image *self = image_broker(img, 1);
    cr_assert(self != NULL && !self->fenced);
    cr_assert_eq(self->epoch, control_broker_epoch(q.control));
    const struct endpoint_image *e = broker_endpoint(self, "PLAINTEXT");
    cr_assert(e != NULL && e->port == 19092);
    cr_assert_str_eq(e->host, "127.0.0.1");
    cr_assert(broker_endpoint(self, "CONTROLLER") == NULL);
    cr_assert_eq(self->log_dirs_count, 1);
    cr_assert(uuid_equal(self->log_dirs[0], q.identity.dir_ids[0]));
    cr_assert_str_eq(
        config_image_get(image_config(img, RESOURCE_BROKER, "", 0), "min.insync.replicas"), "1");
    cr_assert_eq(control_leader_epoch(q.control), 1);
    quorum_end(&q);
}

Test(quorum_control, what_was_answered_is_there_after_a_clean_stop_and_after_a_kill)
{
    struct quorum_rig q;
    char why[256] = "";
    quorum_begin(&q, "", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    populate(&q);
    for (int round = 0; round < 2; round++) {
        struct uuid id = image_topic_by_name(&q.images[0], "many", 4)->id;
        int32_t epoch = control_leader_epoch(q.control);
        if (round == 0)
            quorum_stop(&q);
        else
            quorum_kill(&q);
        cr_assert(quorum_start(&q), "%s", q.why);
        cr_assert_eq(control_leader_epoch(q.control), epoch + 1);
        const struct topic_image *many = image_topic_by_name(&q.images[0], "many", 4);
        cr_assert(many != NULL && uuid_equal(many->id, id));
        cr_assert_eq(many->partitions_count, 100);
        cr_assert_eq(many->overrides.set.count, 0);
        cr_assert_eq(many->config.retention_ms, 777000);
        const struct topic_image *one = image_topic_by_name(&q.images[0], "one", 3);
        cr_assert_eq(one->config.retention_ms, 12345);
        cr_assert_eq(one->partitions[0].leader, 1);
        cr_assert_eq(one->partitions[0].leader_epoch, round + 1);
        cr_assert(uuid_equal(one->partitions[0].directories[0], q.identity.dir_ids[0]));
        cr_assert(image_topic_by_name(&q.images[0], "gone", 4) == NULL);
        cr_assert(images_equal(&q.images[0], control_image(q.control), why, sizeof(why)), "%s",
                  why);
        cr_assert(images_equal(&q.images[0], &q.images[1], why, sizeof(why)), "%s", why);
    }
    quorum_end(&q);
}

Test(quorum_control, deltas_lead_to_the_image_that_a_replay_of_the_log_leads_to)
{
    struct quorum_rig q;
    char why[256] = "";
    quorum_begin(&q, "a,b", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    populate(&q);
    /* The same log, read by another. */
    struct metadata md;
    struct control other = {.config = {.io = q.io.io,
                                       .mem = &q.mem,
                                       .trace = &q.trace,
                                       .node = &q.config,
                                       .cluster_id = "x",
                                       .dir_ids = q.identity.dir_ids,
                                       .dirs_count = 2}};
    metadata_init(&other.md, &q.mem, &q.config);
    batch_buffer_init(&other.group, &q.mem);
    cr_assert_eq(control_load(&other, why, sizeof(why)), 0, "%s", why);
    md = other.md;
    /* It has registered itself and taken over, in memory: leaders and brokers differ. */
    cr_assert_eq(md.image.topics_count, q.images[0].topics_count);
    const struct topic_image *a = image_topic_by_name(&md.image, "many", 4);
    const struct topic_image *b = image_topic_by_name(&q.images[0], "many", 4);
    cr_assert_eq(a->partitions[99].leader_epoch, b->partitions[99].leader_epoch + 1);
    cr_assert(uuid_equal(a->partitions[99].directories[0], b->partitions[99].directories[0]));
    cr_assert(memcmp(&a->config, &b->config, sizeof(a->config)) == 0);
    cr_assert_eq(metalog_close(other.log, false), 0);
    metadata_destroy(&other.md);
    batch_buffer_release(&other.group);
    quorum_end(&q);
}

Test(quorum_control, partitions_are_spread_over_directories)
{
    struct quorum_rig q;
    quorum_begin(&q, "a,b,c", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    cr_assert_eq(quorum_create_topic(&q, "t", 9), KE_NONE);
    cr_assert_eq(quorum_create_topic(&q, "u", 3), KE_NONE);
    uint32_t loads[3] = {0};
    for (uint32_t i = 0; i < q.images[0].topics_count; i++) {
        const struct topic_image *t = q.images[0].topics[i];
        for (uint32_t p = 0; p < t->partitions_count; p++)
            for (uint32_t d = 0; d < 3; d++)
                loads[d] += uuid_equal(t->partitions[p].directories[0], q.identity.dir_ids[d]);
    }
    cr_assert(loads[0] == 4 && loads[1] == 4 && loads[2] == 4);
    quorum_end(&q);
}

Test(quorum_control, new_partitions_are_not_placed_in_a_directory_that_has_failed)
{
    struct quorum_rig q;
    quorum_begin(&q, "a,b,c", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    control_dir_failed(q.control, 0);
    control_dir_failed(q.control, 2);
    cr_assert_eq(quorum_create_topic(&q, "t", 5), KE_NONE);
    const struct topic_image *t = image_topic_by_name(&q.images[0], "t", 1);
    cr_assert(t != NULL);
    for (uint32_t i = 0; i < t->partitions_count; i++)
        cr_assert(uuid_equal(t->partitions[i].directories[0], q.identity.dir_ids[1]));
    quorum_stop(&q);
    quorum_end(&q);
}

/* It has no id, which as the id of a directory would mean that none is assigned. */
Test(quorum_control, a_directory_that_cannot_be_read_at_start_is_not_registered)
{
    struct quorum_rig q;
    quorum_begin(&q, "a,b,c", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    quorum_stop(&q);
    q.identity.dirs_failed = 1u << 1;
    cr_assert(quorum_start(&q), "%s", q.why);
    const struct broker_image *self = image_broker(&q.images[0], 1);
    cr_assert_eq(self->log_dirs_count, 2);
    for (uint32_t i = 0; i < 2; i++)
        cr_assert(uuid_equal(self->log_dirs[i], q.identity.dir_ids[0]) ||
                  uuid_equal(self->log_dirs[i], q.identity.dir_ids[2]));
    cr_assert_eq(quorum_create_topic(&q, "t", 4), KE_NONE);
    const struct topic_image *t = image_topic_by_name(&q.images[0], "t", 1);
    for (uint32_t i = 0; i < t->partitions_count; i++)
        cr_assert(!uuid_is_zero(t->partitions[i].directories[0]));
    quorum_stop(&q);
    quorum_end(&q);
}

/* Space for what follows is taken ahead, so that a full disk does not end the node; Kafka, which
 * reads a log to the end of its file, does not see it. */
Test(quorum_control, the_log_has_a_reserve_of_space_that_is_no_part_of_its_content)
{
    struct quorum_rig q;
    struct stat st;
    quorum_begin(&q, "", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    cr_assert_eq(quorum_create_topic(&q, "t", 5), KE_NONE);
    const char *path = quorum_path(&q, "__cluster_metadata-0/00000000000000000000.log");
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_lt(st.st_size, 100000);
    cr_assert_geq(st.st_blocks * 512, 4 << 20);
    quorum_stop(&q);
    quorum_end(&q);
}

Test(quorum_control, a_call_is_done_only_when_all_cores_have_its_delta)
{
    struct quorum_rig q;
    struct create_topics_request_creatable_topic topic;
    struct create_topics_request request;
    struct create_topics_response response, again;
    struct quorum_call first = {0}, second = {0};
    quorum_begin(&q, "", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    create_topics_request_creatable_topic_init(&topic);
    create_topics_request_init(&request);
    create_topics_response_init(&response);
    create_topics_response_init(&again);
    topic.name = wire_string_of("held");
    topic.num_partitions = topic.replication_factor = 1;
    request.topics = &topic;
    request.topics_count = 1;
    q.hold = true;
    struct quorum_call *calls[] = {&first, &second};
    for (int i = 0; i < 2; i++) {
        arena_init(&calls[i]->arena, &q.mem, 1u << 20);
        calls[i]->call = (struct control_call){.api_key = 19,
                                               .version = 4,
                                               .request = &request,
                                               .response = i == 0 ? &response : &again,
                                               .arena = &calls[i]->arena,
                                               .done = NULL};
    }

    first.call.done = second.call.done = quorum_called;
    control_submit(q.control, &first.call);
    control_submit(q.control, &second.call);
    RIG_UNTIL_TURN(&q, q.away_count == 1);
    for (int i = 0; i < 20; i++)
        quorum_turn(&q);
    cr_assert(!first.done && !second.done);
    cr_assert(image_topic_by_name(&q.images[0], "held", 4) != NULL);
    control_delta_applied(q.control, q.away[0], (struct core_id){1});
    quorum_turn(&q);
    cr_assert(!first.done);
    control_delta_applied(q.control, q.away[0], (struct core_id){0});
    cr_assert(first.done && second.done);
    q.away_count = 0;
    q.hold = false;
    cr_assert_eq(response.topics[0].error_code, KE_NONE);
    /* The second one wrote nothing, but what it was told rests on the first. */
    cr_assert_eq(again.topics[0].error_code, KE_TOPIC_ALREADY_EXISTS);
    quorum_forget(&first);
    quorum_forget(&second);
    quorum_end(&q);
}

static void call_begin(struct quorum_rig *q, struct quorum_call *call, int16_t api_key,
                       int16_t version, const void *request, void *response)
{
    memset(call, 0, sizeof(*call));
    arena_init(&call->arena, &q->mem, 1u << 20);
    call->call = (struct control_call){.api_key = api_key,
                                       .version = version,
                                       .request = request,
                                       .response = response,
                                       .arena = &call->arena,
                                       .done = quorum_called};
    control_submit(q->control, &call->call);
}

static int64_t end_offset(const struct quorum_rig *q)
{
    struct control_stats stats;
    control_stats(q->control, &stats);
    return stats.end_offset;
}

Test(quorum_control, a_topic_of_the_same_name_is_told_when_all_cores_have_let_the_old_one_go)
{
    struct quorum_rig q;
    struct delete_topics_request_delete_topic_state state;
    struct delete_topics_request gone;
    struct delete_topics_response gone_response;
    struct create_topics_request_creatable_topic topic;
    struct create_topics_request made;
    struct create_topics_response made_response;
    struct quorum_call deletion, creation;
    quorum_begin(&q, "", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    cr_assert_eq(quorum_create_topic(&q, "again", 1), KE_NONE);
    delete_topics_request_delete_topic_state_init(&state);
    delete_topics_request_init(&gone);
    delete_topics_response_init(&gone_response);
    create_topics_request_creatable_topic_init(&topic);
    create_topics_request_init(&made);
    create_topics_response_init(&made_response);
    state.name = topic.name = wire_string_of("again");
    topic.num_partitions = topic.replication_factor = 1;
    gone.topics = &state;
    made.topics = &topic;
    gone.topics_count = made.topics_count = 1;
    q.hold = true;
    call_begin(&q, &deletion, 20, 6, &gone, &gone_response);
    RIG_UNTIL_TURN(&q, q.away_count == 1);
    int64_t end = end_offset(&q);
    call_begin(&q, &creation, 19, 4, &made, &made_response);
    RIG_UNTIL_TURN(&q, end_offset(&q) > end);
    cr_assert_eq(q.away_count, 1);
    control_delta_applied(q.control, q.away[0], (struct core_id){1});
    cr_assert_eq(q.away_count, 1); /* core 0 may have the old one open still */
    control_delta_applied(q.control, q.away[0], (struct core_id){0});
    cr_assert(deletion.done && !creation.done);
    cr_assert_eq(q.away_count, 2);
    q.away[0] = q.away[1];
    q.away_count = 1;
    q.hold = false;
    RIG_UNTIL_TURN(&q, creation.done);
    cr_assert_eq(made_response.topics[0].error_code, KE_NONE);
    cr_assert(image_topic_by_name(&q.images[0], "again", 5) != NULL);
    quorum_forget(&deletion);
    quorum_forget(&creation);
    quorum_stop(&q);
    quorum_end(&q);
}

Test(quorum_control, blocks_of_producer_ids_follow_each_other_over_restarts)
{
    struct quorum_rig q;
    quorum_begin(&q, "", "");
    for (int64_t start = 0; start < 3000; start += 1000) {
        struct allocate_producer_ids_request request;
        struct allocate_producer_ids_response response;
        struct quorum_call call;
        cr_assert(quorum_start(&q), "%s", q.why);
        allocate_producer_ids_request_init(&request);
        allocate_producer_ids_response_init(&response);
        request.broker_id = 1;
        request.broker_epoch = control_broker_epoch(q.control);
        cr_assert_eq(quorum_ask(&q, &call, 67, 0, &request, &response), KE_NONE);
        cr_assert_eq(response.error_code, KE_NONE);
        cr_assert_eq(response.producer_id_start, start);
        cr_assert_eq(response.producer_id_len, 1000);
        quorum_forget(&call);
        request.broker_epoch--;
        cr_assert_eq(quorum_ask(&q, &call, 67, 0, &request, &response), KE_NONE);
        cr_assert_eq(response.error_code, KE_STALE_BROKER_EPOCH);
        quorum_forget(&call);
        quorum_kill(&q);
    }
    quorum_end(&q);
}

Test(quorum_control, a_snapshot_and_what_follows_it_say_what_the_whole_log_says)
{
    struct quorum_rig q;
    char why[256] = "";
    quorum_begin(&q, "", "metadata.log.max.record.bytes.between.snapshots=2000\n");
    cr_assert(quorum_start(&q), "%s", q.why);
    populate(&q);
    struct control_stats stats;
    control_stats(q.control, &stats);
    RIG_UNTIL_TURN(&q, !q.control->snapshot.armed);
    control_stats(q.control, &stats);
    cr_assert_gt(stats.snapshots, 0);
    cr_assert_lt(stats.snapshot_offset, stats.end_offset);
    quorum_kill(&q);
    struct metadata with, without;
    struct control readers[2] = {0};
    for (int i = 0; i < 2; i++) {
        struct control *c = &readers[i];
        if (i == 1) { /* without the snapshots; the one at 0 holds the voters */
            char command[256];
            snprintf(command, sizeof(command), "rm %s/__cluster_metadata-0/*[1-9]-*.checkpoint",
                     q.io.directory);
            cr_assert_eq(system(command), 0);
        }
        c->config = (struct control_config){.io = q.io.io,
                                            .mem = &q.mem,
                                            .trace = &q.trace,
                                            .node = &q.config,
                                            .cluster_id = "x",
                                            .dir_ids = q.identity.dir_ids,
                                            .dirs_count = 1};
        metadata_init(&c->md, &q.mem, &q.config);
        batch_buffer_init(&c->group, &q.mem);
        cr_assert_eq(control_load(c, why, sizeof(why)), 0, "%s", why);
        cr_assert_eq(metalog_close(c->log, false), 0);
        batch_buffer_release(&c->group);
    }
    with = readers[0].md;
    without = readers[1].md;
    cr_assert(images_equal(&with.image, &without.image, why, sizeof(why)), "%s", why);
    cr_assert_eq(with.next_producer_id, without.next_producer_id);
    cr_assert_eq(with.kept.count, without.kept.count);
    cr_assert_eq(with.voters_size, without.voters_size);
    metadata_destroy(&readers[0].md);
    metadata_destroy(&readers[1].md);
    quorum_end(&q);
}

Test(quorum_control, calls_after_leaving_are_sent_elsewhere)
{
    struct quorum_rig q;
    quorum_begin(&q, "", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    struct op leave;
    op_init(&leave, NULL);
    struct create_topics_request request;
    struct create_topics_response response;
    struct quorum_call call;
    create_topics_request_init(&request);
    create_topics_response_init(&response);
    q.hold = true; /* leaving takes till the delta of the fence is home */

    leave.done = quorum_left;
    control_leave(q.control, &leave);
    cr_assert_eq(quorum_ask(&q, &call, 19, 4, &request, &response), KE_NOT_CONTROLLER);
    quorum_forget(&call);
    cr_assert(leave.armed);
    q.hold = false;
    RIG_UNTIL_TURN(&q, !leave.armed);
    cr_assert(image_broker(&q.images[0], 1)->fenced);
    cr_assert_eq(control_stop(q.control), 0);
    quorum_kill(&q);
    quorum_end(&q);
}

Test(quorum_control, a_request_without_memory_changes_nothing)
{
    struct quorum_rig q;
    quorum_begin(&q, "", "");
    cr_assert(quorum_start(&q), "%s", q.why);
    uint64_t budget = q.mem.budget_bytes;
    struct control_stats before, after;
    control_stats(q.control, &before);
    struct create_topics_request_creatable_topic topic;
    struct create_topics_request request;
    struct create_topics_response response;
    struct quorum_call call;
    create_topics_request_creatable_topic_init(&topic);
    create_topics_request_init(&request);
    create_topics_response_init(&response);
    topic.name = wire_string_of("big");
    topic.num_partitions = 9000;
    topic.replication_factor = 1;
    request.topics = &topic;
    request.topics_count = 1;
    q.mem.budget_bytes = q.mem.used_bytes + (1u << 20);
    cr_assert_eq(quorum_ask(&q, &call, 19, 4, &request, &response), KE_UNKNOWN_SERVER_ERROR);
    quorum_forget(&call);
    q.mem.budget_bytes = budget;
    control_stats(q.control, &after);
    cr_assert_eq(after.end_offset, before.end_offset);
    cr_assert(image_topic_by_name(control_image(q.control), "big", 3) == NULL);
    cr_assert_eq(quorum_create_topic(&q, "big", 9000), KE_NONE);
    quorum_end(&q);
}
