/* From a server.properties file and -X options to typed values.
 *
 *   file ─ properties ─┐
 *                      ├─▶ given (later wins) ─▶ each key: known? type? treatment? ─▶ fields
 *   -X key=value ──────┘                          │
 *                                                 └─▶ problems: FILE:LINE: key: what; what to do
 *
 * All mistakes are told in one run, since nobody likes to fix a file one line per start. An unknown
 * key is a warning, as Kafka ignores it, with the key that was probably meant.
 *
 * Invariants:
 *  1. given has distinct names; node.id and broker.id are both there or both not, and equal.
 *  2. errors_count is 0 exactly when 0 is returned (or memory was short, or the file unreadable).
 *  3. Everything in a struct config lives in its arena; config_destroy frees all of it.
 *
 * Failure modes: -errno for a file that cannot be read, -ENOMEM, -EINVAL for mistakes. */
#include "broker/config/load.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/assert.h"
#include "core/core.h"
#include "core/properties.h"
#include "core/trace.h"

#define ARENA_BYTES_MAX (8u << 20)
#define SENTENCE_MAX    1024
#define GIVEN_MAX       4096 /* keys in a file; Kafka has fewer than 400 */

static const char *format_name(const struct config *c)
{
    return c->path == NULL ? "(no file)" : c->path;
}

static uint32_t line_of(const struct config *c, const char *key)
{
    for (uint32_t i = 0; key != NULL && i < c->given_count; i++)
        if (strcmp(c->given[i].name, key) == 0)
            return c->given[i].line;
    return 0;
}

const char *config_copy(struct config *c, const char *text, size_t size)
{
    char *copy = arena_alloc(&c->arena, size + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, text, size);
    copy[size] = '\0';
    return copy;
}

void config_complain(struct config *c, enum config_severity severity, const char *key,
                     const char *format, ...)
{
    assert(severity <= CONFIG_NOTE);
    assert(format != NULL);
    char sentence[SENTENCE_MAX], shown[128];
    uint32_t line = line_of(c, key);
    size_t used = 0;
    if (line > 0)
        used = (size_t)snprintf(sentence, sizeof(sentence), "%.300s:%u: ", format_name(c), line);
    else if (key == NULL || config_given(c, key) == NULL)
        used = (size_t)snprintf(sentence, sizeof(sentence), "%.300s: ", format_name(c));
    else
        used = (size_t)snprintf(sentence, sizeof(sentence), "-X ");
    if (key != NULL)
        used += (size_t)snprintf(sentence + used, sizeof(sentence) - used,
                                 "%s: ", trace_escape(shown, sizeof(shown), key, strlen(key)));
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(sentence + used, sizeof(sentence) - used, format, arguments);
    va_end(arguments);
    c->errors_count += severity == CONFIG_ERROR ? 1 : 0;
    if (c->problems_count == CONFIG_PROBLEMS_MAX)
        return;
    const char *text = config_copy(c, sentence, strlen(sentence));
    c->problems[c->problems_count++] =
        (struct config_problem){severity, line, key, text != NULL ? text : "(memory is short)"};
}

const char *config_text(const struct config *c, const char *key)
{
    const char *given = config_given(c, key);
    const struct config_key *row = config_find(SCOPE_BROKER, key);
    assert(row != NULL);
    return given != NULL ? given : row->default_value;
}

struct config_value config_list(const struct config *c, const char *key)
{
    const struct config_key *row = config_find(SCOPE_BROKER, key);
    struct config_value v;
    assert(row != NULL);
    assert(row->type == CONFIG_LIST);
    const char *text = config_text(c, key);
    if (text == NULL || !config_value_parse(row, key, text, &v, NULL))
        v = (struct config_value){.text = ""};
    return v;
}

/* Adds or replaces (later wins). */
static void give(struct config *c, const char *name, const char *value, uint32_t line)
{
    for (uint32_t i = 0; i < c->given_count; i++)
        if (strcmp(c->given[i].name, name) == 0) {
            c->given[i].value = value;
            c->given[i].line = line;
            return;
        }
    if (c->given_count == GIVEN_MAX) {
        config_complain(c, CONFIG_ERROR, NULL, "more than %d keys; the rest is not read",
                        GIVEN_MAX);
        return;
    }
    c->given[c->given_count++] = (struct config_given){name, value, line};
}

static void give_override(struct config *c, const char *option)
{
    const char *equals = strchr(option, '=');
    if (equals == NULL || equals == option) {
        config_complain(c, CONFIG_ERROR, NULL, "-X %.100s is not key=value, as in -X node.id=1",
                        option);
        return;
    }
    const char *name = config_copy(c, option, (size_t)(equals - option));
    const char *value = config_copy(c, equals + 1, strlen(equals + 1));
    if (name != NULL && value != NULL)
        give(c, name, value, 0);
}

/* A node of its own, for a start without a file. */
static void give_defaults(struct config *c)
{
    static const char *const pairs[][2] = {{"process.roles", "broker,controller"},
                                           {"node.id", "1"},
                                           {"listeners", "PLAINTEXT://127.0.0.1:9092"},
                                           {"log.dirs", "/tmp/torc-logs"}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        give(c, pairs[i][0], pairs[i][1], 0);
}

/* Kafka keeps the two names of one number the same. */
static void join_ids(struct config *c)
{
    const char *node = config_given(c, "node.id"), *broker = config_given(c, "broker.id");
    if (node == NULL && broker != NULL)
        give(c, "node.id", broker, line_of(c, "broker.id"));
    if (node != NULL && broker == NULL)
        give(c, "broker.id", node, line_of(c, "node.id"));
    if (node != NULL && broker != NULL && strcmp(node, broker) != 0)
        config_complain(c, CONFIG_ERROR, "broker.id",
                        "it is %.40s and node.id is %.40s; remove broker.id", broker, node);
}

static void check_unknown(struct config *c, const struct config_given *g)
{
    const struct config_key *gone = config_find_gone(g->name);
    if (gone != NULL) {
        bool refused = gone->treatment == TREATMENT_REFUSED;
        config_complain(c, refused ? CONFIG_ERROR : CONFIG_WARNING, g->name,
                        refused ? "%s" : "ignored: %s", gone->reason);
        return;
    }
    const char *nearest = config_nearest(SCOPE_BROKER, g->name);
    if (nearest == NULL && config_find(SCOPE_TOPIC, g->name) != NULL &&
        config_find(SCOPE_TOPIC, g->name)->from != NULL)
        nearest = config_find(SCOPE_TOPIC, g->name)->from->name; /* a topic's name for it */
    if (nearest != NULL)
        config_complain(c, CONFIG_WARNING, g->name, "unknown and ignored; did you mean %s?",
                        nearest);
    else
        config_complain(c, CONFIG_WARNING, g->name,
                        "unknown and ignored; `torc config list` shows all keys");
}

static bool same_as_default(const struct config_key *key, const struct config_value *v)
{
    char shown[512];
    if (key->default_value == NULL)
        return v->size == 0;
    return strcmp(config_value_text(key, v, shown, sizeof(shown)), key->default_value) == 0;
}

static void check_given(struct config *c, const struct config_given *g)
{
    bool prefixed;
    struct config_value v;
    struct config_refusal refusal;
    const struct config_key *key = config_find_broker(g->name, &prefixed);
    if (key == NULL) {
        check_unknown(c, g);
        return;
    }
    if (!config_value_parse(key, g->name, g->value, &v, &refusal)) {
        char shown[600];
        config_complain(
            c, CONFIG_ERROR, g->name, "%s; `torc config explain %s` tells more",
            trace_escape(shown, sizeof(shown), refusal.message, strlen(refusal.message)),
            key->name);
        return;
    }
    if (key->treatment == TREATMENT_REFUSED && !same_as_default(key, &v))
        config_complain(c, CONFIG_ERROR, g->name, "%s", key->reason);
    if (key->treatment == TREATMENT_ACCEPTED && !same_as_default(key, &v))
        config_complain(c, CONFIG_NOTE, g->name, "accepted without effect: %s", key->reason);
}

static void store_fields(struct config *c)
{
    const struct config_table *t = &config_tables[SCOPE_BROKER];
    for (uint32_t i = 0; i < t->count; i++) {
        const struct config_key *key = &t->keys[i];
        struct config_value v;
        const char *text = key->has_field ? config_text(c, key->name) : NULL;
        if (text == NULL || !config_value_parse(key, key->name, text, &v, NULL))
            continue;
        if (!config_field_store(key, &v, &c->broker, &c->arena))
            config_complain(c, CONFIG_ERROR, NULL, "memory is short");
    }
}

static void build_roles(struct config *c)
{
    struct config_value roles = config_list(c, "process.roles");
    const char *at = roles.text;
    struct config_item item;
    while (config_list_next(&roles, &at, &item))
        c->broker.process_roles |=
            (uint32_t)(config_item_is(&item, "broker") ? ROLE_BROKER : ROLE_CONTROLLER);
    if (config_given(c, "process.roles") == NULL)
        config_complain(c, CONFIG_ERROR, NULL,
                        "process.roles is missing; for a node of its own say "
                        "process.roles=broker,controller and node.id=1");
    else if (config_given(c, "node.id") == NULL)
        config_complain(c, CONFIG_ERROR, NULL,
                        "node.id is missing; say node.id=1, or another number in a cluster");
}

static void build_dirs(struct config *c)
{
    const char *key = config_given(c, "log.dirs") != NULL ? "log.dirs" : "log.dir";
    struct config_value list = config_list(c, key);
    const char *at = list.text;
    struct config_item item;
    struct broker_config *b = &c->broker;
    while (config_list_next(&list, &at, &item)) {
        if (b->log_dirs_count == LOG_DIRS_MAX) {
            config_complain(c, CONFIG_ERROR, key, "more than %d directories", LOG_DIRS_MAX);
            return;
        }
        const char *dir = config_copy(c, item.text, item.size);
        if (dir == NULL)
            return;
        if (dir[0] != '/')
            config_complain(c, CONFIG_ERROR, key,
                            "'%.100s' depends on where torc is started; write the whole path", dir);
        for (uint32_t i = 0; i < b->log_dirs_count; i++)
            if (strcmp(b->log_dirs[i], dir) == 0)
                config_complain(c, CONFIG_ERROR, key, "'%.100s' is there twice", dir);
        b->log_dirs[b->log_dirs_count++] = dir;
    }
    if (b->metadata_log_dir == NULL && b->log_dirs_count > 0)
        b->metadata_log_dir = b->log_dirs[0];
}

static void build_groups(struct config *c)
{
    static const char *const served[] = {"uniform", "range"};
    struct broker_config *b = &c->broker;
    struct config_value list = config_list(c, "group.consumer.assignors");
    const char *at = list.text;
    struct config_item item;
    while (config_list_next(&list, &at, &item)) {
        const char *name = NULL;
        for (size_t i = 0; i < sizeof(served) / sizeof(served[0]); i++)
            name = config_item_is(&item, served[i]) ? served[i] : name;
        if (name == NULL)
            config_complain(c, CONFIG_ERROR, "group.consumer.assignors",
                            "'%.*s' is not served; uniform and range are", (int)item.size,
                            item.text);
        else if (b->group_consumer_assignors_count < GROUP_ASSIGNORS_MAX)
            b->group_consumer_assignors[b->group_consumer_assignors_count++] = name;
    }
    list = config_list(c, "group.coordinator.rebalance.protocols");
    at = list.text;
    while (config_list_next(&list, &at, &item))
        b->group_protocol_consumer |= config_item_is(&item, "consumer");
}

static void build(struct config *c)
{
    join_ids(c);
    for (uint32_t i = 0; i < c->given_count; i++)
        check_given(c, &c->given[i]);
    store_fields(c);
    build_roles(c);
    build_dirs(c);
    build_groups(c);
    config_build_listeners(c);
    config_build_voters(c);
    struct config_refusal refusal;
    if (!config_parse_ip_overrides(config_text(c, "max.connections.per.ip.overrides"), &c->broker,
                                   &refusal))
        config_complain(c, CONFIG_ERROR, "max.connections.per.ip.overrides", "%s", refusal.message);
    const struct config_layers l = {.node = c};
    config_resolve_topic(&l, (struct config_overrides){0}, &c->broker.topic);
    config_check(c);
}

static int read_text(struct config *c, const char *text, size_t size)
{
    struct properties p;
    uint32_t line = 0;
    int error = properties_parse(&p, &c->arena, text, size, &line);
    if (error == -EINVAL) {
        config_complain(c, CONFIG_ERROR, NULL,
                        "line %u: a \\u without four hexadecimal digits, or a NUL byte", line);
        return 0;
    }
    for (uint32_t i = 0; error == 0 && i < p.count; i++)
        give(c, p.items[i].key, p.items[i].value, p.items[i].line);
    return error;
}

static int start(struct config *c, struct mem *mem, const char *name)
{
    *c = (struct config){0};
    arena_init(&c->arena, mem, ARENA_BYTES_MAX);
    strcpy(c->host_name, "localhost");
    c->given = arena_array(&c->arena, GIVEN_MAX + 2, sizeof(*c->given));
    if (c->given == NULL)
        return -ENOMEM;
    c->path = name == NULL ? NULL : config_copy(c, name, strlen(name));
    return name != NULL && c->path == NULL ? -ENOMEM : 0;
}

static int finish(struct config *c, const char *const *overrides, uint32_t overrides_count)
{
    for (uint32_t i = 0; i < overrides_count; i++)
        give_override(c, overrides[i]);
    build(c);
    if (c->arena.failed)
        return -ENOMEM;
    return c->errors_count > 0 ? -EINVAL : 0;
}

int config_parse(struct config *c, struct mem *mem, const char *name, const char *text, size_t size,
                 const char *const *overrides, uint32_t overrides_count)
{
    assert(c != NULL && mem != NULL);
    assert(text != NULL);
    int error = start(c, mem, name);
    if (error == 0)
        error = read_text(c, text, size);
    return error != 0 ? error : finish(c, overrides, overrides_count);
}

/* What the machine calls itself; "localhost" stays where it does not say. */
static void learn_host_name(struct config *c, struct io *io)
{
    char name[HOST_MAX];
    int fd = io_open(io, "/proc/sys/kernel/hostname", IO_READ);
    if (fd < 0)
        return;
    int64_t size = io_pread(io, fd, name, sizeof(name) - 1, 0);
    io_close(io, fd);
    while (size > 0 && (name[size - 1] == '\n' || name[size - 1] == ' '))
        size--;
    if (size <= 0)
        return;
    name[size] = '\0';
    memcpy(c->host_name, name, (size_t)size + 1);
}

int config_load(struct config *c, struct mem *mem, struct io *io, const char *file,
                const char *const *overrides, uint32_t overrides_count)
{
    assert(c != NULL && mem != NULL);
    assert(io != NULL);
    int error = start(c, mem, file);
    if (error != 0)
        return error;
    learn_host_name(c, io);
    if (file == NULL) {
        give_defaults(c);
        return finish(c, overrides, overrides_count);
    }
    char *text;
    size_t size;
    error = io_slurp(io, mem, file, CONFIG_FILE_BYTES_MAX, &text, &size);
    if (error != 0) {
        config_complain(c, CONFIG_ERROR, NULL, "cannot be read: %s", strerror(-error));
        return error;
    }
    error = read_text(c, text, size);
    mem_free(mem, text, size + 1);
    return error != 0 ? error : finish(c, overrides, overrides_count);
}

void config_destroy(struct config *c)
{
    assert(c != NULL);
    assert(c->arena.mem != NULL);
    arena_release(&c->arena);
    c->given_count = 0;
    c->problems_count = 0;
}
