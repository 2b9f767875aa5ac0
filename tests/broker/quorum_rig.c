/* The rig's body: a node's directories, its control, and the cores that only return deltas. */
#include "tests/broker/quorum_rig.h"

#include <stdio.h>
#include <string.h>

#include "proto/gen/create_topics.h"

#define MEMORY (256u << 20)

static const struct control_feature served[] = {{"group.version", 0, 1},
                                                {"transaction.version", 0, 2}};

static void say(void *context, const char *line, size_t size)
{
    struct quorum_rig *q = context;
    snprintf(q->said, sizeof(q->said), "%.*s", (int)size, line);
}

void quorum_begin(struct quorum_rig *q, const char *dirs, const char *properties)
{
    memset(q, 0, sizeof(*q));
    rig_start(&q->io, (struct rig_options){0});
    rig_directory(&q->io);
    cr_assert_eq(mem_init(&q->mem, MEMORY), 0);
    char list[256] = "";
    if (dirs[0] == '\0') {
        snprintf(list, sizeof(list), "%s", q->io.directory);
    } else {
        char copy[64];
        snprintf(copy, sizeof(copy), "%s", dirs);
        for (char *save = NULL, *d = strtok_r(copy, ",", &save); d != NULL;
             d = strtok_r(NULL, ",", &save)) {
            size_t at = strlen(list);
            snprintf(list + at, sizeof(list) - at, "%s%s/%s", at > 0 ? "," : "", q->io.directory,
                     d);
        }
    }
    snprintf(q->properties, sizeof(q->properties),
             "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:0,"
             "CONTROLLER://127.0.0.1:9093\ncontroller.listener.names=CONTROLLER\nlog.dirs=%s\n%s",
             list, properties);
    int result =
        config_parse(&q->config, &q->mem, "test", q->properties, strlen(q->properties), NULL, 0);
    cr_assert_eq(result, 0, "%s", q->config.problems_count ? q->config.problems[0].text : "");
    trace_init(&q->trace, say, q, io_wall_pointer(q->io.io));
    wheel_init(&q->wheel, io_now_ns(q->io.io));
}

static void publish(void *context, const struct image_delta *delta)
{
    struct quorum_rig *q = context;
    cr_assert_lt(q->away_count, QUORUM_DELTAS_MAX);
    q->away[q->away_count++] = delta;
    for (int i = 0; i < QUORUM_CORES; i++)
        cr_assert_eq(image_apply(&q->images[i], delta), 0);
}

static void loaded(void *context)
{
    struct quorum_rig *q = context;
    q->loaded = true;
    control_ready(q->control);
}

static void failed(void *context, int error)
{
    ((struct quorum_rig *)context)->failed = error;
}

void quorum_turn(struct quorum_rig *q)
{
    io_poll(q->io.io, io_clock_ns(q->io.io) + NS_PER_MS, 64);
    wheel_run(&q->wheel, io_now_ns(q->io.io), 64);
    if (q->hold)
        return;
    uint32_t n = q->away_count;
    const struct image_delta *home[QUORUM_DELTAS_MAX];
    memcpy(home, q->away, n * sizeof(home[0]));
    q->away_count = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint16_t core = 0; core < QUORUM_CORES; core++)
            control_delta_applied(q->control, home[i], (struct core_id){core});
}

static bool is_unfenced(const struct quorum_rig *q)
{
    const struct broker_image *self = image_broker(&q->images[0], q->config.broker.node_id);
    return self != NULL && !self->fenced;
}

bool quorum_start(struct quorum_rig *q)
{
    q->why[0] = '\0';
    q->loaded = false;
    if (format_open(q->io.io, &q->mem, &q->config, &q->identity, q->why, sizeof(q->why)) != 0)
        return false;
    struct control_config config = {
        .io = q->io.io,
        .mem = &q->mem,
        .wheel = &q->wheel,
        .trace = &q->trace,
        .node = &q->config,
        .cluster_id = q->identity.cluster_id,
        .dir_ids = q->identity.dir_ids,
        .dirs_count = q->config.broker.log_dirs_count,
        .dirs_failed = q->identity.dirs_failed,
        .cores_count = QUORUM_CORES,
        .ports = {19092, 9093},
        .served = served,
        .served_count = 2,
        .publish = publish,
        .loaded = loaded,
        .failed = failed,
        .context = q,
    };
    for (int i = 0; i < QUORUM_CORES; i++)
        image_init(&q->images[i], &q->mem, (uint64_t)i);
    if (control_start(&q->control, &config, q->why, sizeof(q->why)) != 0) {
        q->control = NULL;
        for (int i = 0; i < QUORUM_CORES; i++)
            image_destroy(&q->images[i]);
        return false;
    }
    RIG_UNTIL_TURN(q, is_unfenced(q) && q->away_count == 0);
    return true;
}

static void quorum_drop(struct quorum_rig *q)
{
    control_free(q->control);
    q->control = NULL;
    q->away_count = 0;
    for (int i = 0; i < QUORUM_CORES; i++)
        image_destroy(&q->images[i]);
}

void quorum_left(struct op *op)
{
    cr_assert_eq(op->result, 0);
}

void quorum_stop(struct quorum_rig *q)
{
    struct op leave;
    op_init(&leave, quorum_left);
    control_leave(q->control, &leave);
    RIG_UNTIL_TURN(q, !leave.armed);
    cr_assert_eq(control_stop(q->control), 0);
    quorum_drop(q);
}

void quorum_kill(struct quorum_rig *q)
{
    quorum_drop(q);
}

void quorum_end(struct quorum_rig *q)
{
    if (q->control != NULL)
        quorum_stop(q);
    config_destroy(&q->config);
    cr_assert_eq(q->mem.used_bytes, 0);
    mem_destroy(&q->mem);
    /* The rig removes one level; here are two. */
    for (int i = 0; i < 4; i++) {
        static const char *const dirs[] = {"", "/a", "/b", "/c"};
        char path[256];
        snprintf(path, sizeof(path), "%s%s/__cluster_metadata-0", q->io.directory, dirs[i]);
        (void)!io_remove_tree(q->io.io, path);
        snprintf(path, sizeof(path), "%s%s", q->io.directory, dirs[i]);
        if (i > 0)
            (void)!io_remove_tree(q->io.io, path);
    }
    rig_stop(&q->io);
}

const char *quorum_path(struct quorum_rig *q, const char *name)
{
    snprintf(q->text, sizeof(q->text), "%s/%s", q->io.directory, name);
    return q->text;
}

/* ---- calls ------------------------------------------------------------------------------------
 */

void quorum_called(struct control_call *call)
{
    struct quorum_call *c = container_of(call, struct quorum_call, call);
    cr_assert(!c->done);
    c->done = true;
}

enum kafka_error quorum_ask(struct quorum_rig *q, struct quorum_call *c, int16_t api_key,
                            int16_t version, const void *request, void *response)
{
    *c = (struct quorum_call){.call = {.api_key = api_key,
                                       .version = version,
                                       .request = request,
                                       .response = response,
                                       .arena = &c->arena,
                                       .done = quorum_called}};
    arena_init(&c->arena, &q->mem, 64u << 20);
    control_submit(q->control, &c->call);
    cr_assert(!c->done);
    RIG_UNTIL_TURN(q, c->done);
    return c->call.error;
}

void quorum_forget(struct quorum_call *c)
{
    arena_release(&c->arena);
}

enum kafka_error quorum_create_topic(struct quorum_rig *q, const char *name, int32_t partitions)
{
    struct create_topics_request_creatable_topic topic;
    struct create_topics_request request;
    struct create_topics_response response;
    struct quorum_call call;
    create_topics_request_creatable_topic_init(&topic);
    create_topics_request_init(&request);
    create_topics_response_init(&response);
    topic.name = wire_string_of(name);
    topic.num_partitions = partitions;
    topic.replication_factor = 1;
    request.topics = &topic;
    request.topics_count = 1;
    cr_assert_eq(quorum_ask(q, &call, 19, 4, &request, &response), KE_NONE);
    cr_assert_eq(response.topics_count, 1);
    enum kafka_error error = (enum kafka_error)response.topics[0].error_code;
    quorum_forget(&call);
    return error;
}

/* ---- comparing --------------------------------------------------------------------------------
 */

#define DIFFERS(condition, ...)                                                                    \
    if (condition) {                                                                               \
        snprintf(why, why_size, __VA_ARGS__);                                                      \
        return false;                                                                              \
    }

static bool ids_equal(const int32_t *a, uint16_t a_count, const int32_t *b, uint16_t b_count)
{
    return a_count == b_count && (a_count == 0 || memcmp(a, b, a_count * sizeof(*a)) == 0);
}

static bool sets_equal(struct config_overrides a, struct config_overrides b)
{
    if (a.count != b.count)
        return false;
    for (uint32_t i = 0; i < a.count; i++) {
        if (strcmp(a.entries[i].name, b.entries[i].name) != 0 ||
            strcmp(a.entries[i].value, b.entries[i].value) != 0)
            return false;
    }
    return true;
}

static bool partitions_equal(const struct partition_image *a, const struct partition_image *b)
{
    return a->index == b->index && a->leader == b->leader && a->leader_epoch == b->leader_epoch &&
           a->partition_epoch == b->partition_epoch && a->recovery_state == b->recovery_state &&
           ids_equal(a->replicas, a->replicas_count, b->replicas, b->replicas_count) &&
           ids_equal(a->isr, a->isr_count, b->isr, b->isr_count) &&
           ids_equal(a->elr, a->elr_count, b->elr, b->elr_count) &&
           ids_equal(a->last_known_elr, a->last_known_elr_count, b->last_known_elr,
                     b->last_known_elr_count) &&
           ids_equal(a->removing, a->removing_count, b->removing, b->removing_count) &&
           ids_equal(a->adding, a->adding_count, b->adding, b->adding_count) &&
           memcmp(a->directories, b->directories, a->replicas_count * sizeof(struct uuid)) == 0;
}

static bool topics_equal(const struct topic_image *a, const struct topic_image *b, char *why,
                         size_t why_size)
{
    DIFFERS(strcmp(a->name, b->name) != 0, "topic %s against %s", a->name, b->name);
    DIFFERS(!uuid_equal(a->id, b->id), "id of %s", a->name);
    DIFFERS(a->internal != b->internal, "internal of %s", a->name);
    DIFFERS(!sets_equal(a->overrides.set, b->overrides.set), "configs of %s", a->name);
    DIFFERS(memcmp(&a->config, &b->config, sizeof(a->config)) != 0, "typed config of %s", a->name);
    DIFFERS(a->partitions_count != b->partitions_count, "partitions of %s", a->name);
    for (uint32_t i = 0; i < a->partitions_count; i++)
        DIFFERS(!partitions_equal(&a->partitions[i], &b->partitions[i]), "partition %s-%u", a->name,
                i);
    return true;
}

bool images_equal(const struct image *a, const struct image *b, char *why, size_t why_size)
{
    DIFFERS(a->topics_count != b->topics_count, "topics");
    DIFFERS(a->partitions_count != b->partitions_count, "partitions");
    for (uint32_t i = 0; i < a->topics_count; i++) {
        if (!topics_equal(a->topics[i], b->topics[i], why, why_size))
            return false;
    }
    DIFFERS(a->brokers_count != b->brokers_count, "brokers");
    for (uint32_t i = 0; i < a->brokers_count; i++) {
        const struct broker_image *x = a->brokers[i], *y = b->brokers[i];
        DIFFERS(x->id != y->id || x->epoch != y->epoch || x->fenced != y->fenced, "broker %d",
                x->id);
        DIFFERS(x->endpoints_count != y->endpoints_count || x->log_dirs_count != y->log_dirs_count,
                "endpoints or directories of broker %d", x->id);
    }
    DIFFERS(a->configs_count != b->configs_count, "configs");
    for (uint32_t i = 0; i < a->configs_count; i++)
        DIFFERS(a->configs[i]->type != b->configs[i]->type ||
                    strcmp(a->configs[i]->name, b->configs[i]->name) != 0 ||
                    !sets_equal(a->configs[i]->set, b->configs[i]->set),
                "config %s", a->configs[i]->name);
    DIFFERS((a->features == NULL) != (b->features == NULL), "features");
    for (uint32_t i = 0; a->features != NULL && i < a->features->features_count; i++)
        DIFFERS(a->features->features_count != b->features->features_count ||
                    strcmp(a->features->features[i].name, b->features->features[i].name) != 0 ||
                    a->features->features[i].level != b->features->features[i].level,
                "feature %s", a->features->features[i].name);
    return true;
}
