/* torc format: the options of Kafka's storage tool, as far as a quorum of one goes.
 *
 *   -r 4.0-IV3 ─▶ metadata level 25     -f NAME=LEVEL ─▶ other features     ─▶ format_node
 *
 * Invariants:
 *  1. Nothing is written before every option has been understood.
 *
 * Failure modes: exit code 2 for what cannot be asked, 1 for what format_node refuses. */
#include "broker/cli/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/quorum/format.h"
#include "broker/quorum/levels.h"
#include "core/core.h"

static const struct release {
    const char *name;
    int16_t level;
} releases[] = {
    {"3.3-IV3", 7},  {"3.4-IV0", 8},  {"3.5-IV0", 9},  {"3.5-IV1", 10}, {"3.5-IV2", 11},
    {"3.6-IV0", 12}, {"3.6-IV1", 13}, {"3.6-IV2", 14}, {"3.7-IV0", 15}, {"3.7-IV1", 16},
    {"3.7-IV2", 17}, {"3.7-IV3", 18}, {"3.7-IV4", 19}, {"3.8-IV0", 20}, {"3.9-IV0", 21},
    {"4.0-IV0", 22}, {"4.0-IV1", 23}, {"4.0-IV2", 24}, {"4.0-IV3", 25}, {"4.1-IV0", 26},
    {"4.1-IV1", 27}, {"4.2-IV0", 28}, {"4.2-IV1", 29}, {"4.3-IV0", 30},
};
#define RELEASES_COUNT (sizeof(releases) / sizeof(releases[0]))
#define FEATURES_ROOM  16 /* each feature once */

/* "4.0-IV3" exactly, or "4.0" for the last of it. */
static const struct release *find_release(const char *text)
{
    size_t size = strlen(text);
    const struct release *found = NULL;
    for (size_t i = 0; i < RELEASES_COUNT; i++) {
        const char *name = releases[i].name;
        if (strcmp(name, text) == 0 || (strncmp(name, text, size) == 0 && name[size] == '-'))
            found = &releases[i];
    }
    return found;
}

/* Splits NAME=LEVEL. The name is copied into the command's memory for the time it runs. */
static bool parse_feature(struct cli *c, const char *text, struct format_feature *f)
{
    const char *equals = strchr(text, '=');
    char *end;
    if (equals == NULL || equals == text)
        return false;
    long level = strtol(equals + 1, &end, 10);
    if (end == equals + 1 || *end != '\0' || level < 0 || level > INT16_MAX)
        return false;
    size_t size = (size_t)(equals - text);
    char *name = mem_alloc(&c->mem, size + 1); /* freed with the command's memory */
    if (name == NULL)
        return false;
    memcpy(name, text, size);
    name[size] = '\0';
    *f = (struct format_feature){name, (int16_t)level};
    return true;
}

/* The features besides metadata.version: the newest level of each, and the metadata level from
 * which on a new cluster has it, as Kafka decides. */
static const struct feature_rule {
    const char *name;
    int16_t newest, since_level, needs_level;
} rules[] = {
    {"group.version", 1, 22, 0},       {FEATURE_ELR, 1, 26, METADATA_4_0_IV1},
    {"share.version", 1, 28, 0},       {"streams.version", 1, 29, 0},
    {"transaction.version", 2, 24, 0},
};
#define RULES_COUNT (sizeof(rules) / sizeof(rules[0]))

static const struct feature_rule *find_rule(const char *name)
{
    for (size_t i = 0; i < RULES_COUNT; i++)
        if (strcmp(rules[i].name, name) == 0)
            return &rules[i];
    return NULL;
}

/* What was not chosen gets the level that belongs to the metadata level. */
static void add_defaults(struct format_options *o, struct format_feature *features)
{
    int16_t level = o->metadata_level == 0 ? METADATA_4_3_IV0 : o->metadata_level;
    uint32_t chosen = o->features_count;
    for (size_t i = 0; i < RULES_COUNT; i++) {
        bool said = false;
        for (uint32_t k = 0; k < chosen; k++)
            said = said || strcmp(features[k].name, rules[i].name) == 0;
        if (!said)
            features[o->features_count++] = (struct format_feature){
                rules[i].name, level >= rules[i].since_level ? rules[i].newest : 0};
    }
    assert(o->features_count <= FEATURES_ROOM);
}

/* One --feature that is not metadata.version. */
static int read_feature(struct cli *c, const struct format_feature *f, struct format_options *o,
                        struct format_feature *features)
{
    const struct feature_rule *rule = find_rule(f->name);
    if (strcmp(f->name, FEATURE_KRAFT_VERSION) == 0) {
        if (f->level == 1 || (f->level == 0 && cli_count(c, "standalone") == 0))
            return EXIT_OK; /* follows from where the voters are named */
        return cli_misused(c, "format: kraft.version %d is not what --standalone makes", f->level);
    }
    if (rule == NULL)
        return cli_misused(c, "format: no feature is called %.60s", f->name);
    if (f->level > rule->newest)
        return cli_misused(c, "format: the newest level of %s is %d", rule->name, rule->newest);
    for (uint32_t i = 0; i < o->features_count; i++)
        if (strcmp(features[i].name, f->name) == 0)
            return cli_misused(c, "format: --feature %s is said twice", rule->name);
    features[o->features_count++] = *f;
    return EXIT_OK;
}

/* Levels that fit the metadata level. */
static int check_features(struct cli *c, const struct format_options *o,
                          const struct format_feature *features)
{
    int16_t level = o->metadata_level == 0 ? METADATA_4_3_IV0 : o->metadata_level;
    for (uint32_t i = 0; i < o->features_count; i++) {
        const struct feature_rule *rule = find_rule(features[i].name);
        if (rule != NULL && features[i].level > 0 && level < rule->needs_level)
            return cli_misused(c, "format: %s needs metadata.version %d, and it would be %d",
                               rule->name, rule->needs_level, level);
    }
    return EXIT_OK;
}

static int refuse_options(struct cli *c)
{
    if (cli_count(c, "initial-controllers") > 0)
        return cli_misused(c, "format: --initial-controllers names a quorum of several nodes, and "
                              "torc serves quorums of one; say --standalone");
    if (cli_count(c, "no-initial-controllers") > 0)
        return cli_misused(c, "format: --no-initial-controllers is for nodes that join a quorum, "
                              "and torc serves quorums of one; say --standalone");
    if (cli_count(c, "add-scram") > 0)
        return cli_misused(c, "format: --add-scram is for SCRAM logins, which torc does not serve");
    return EXIT_OK;
}

/* Fills the options from the words. EXIT_OK or EXIT_USAGE. */
static int read_options(struct cli *c, struct format_options *o, struct format_feature *features)
{
    uint32_t count;
    const char *const *texts = cli_values(c, "feature", &count);
    const char *release = cli_value(c, "release-version");
    int refused = refuse_options(c);
    if (refused != EXIT_OK)
        return refused;
    for (uint32_t i = 0; i < count; i++) {
        struct format_feature f;
        if (!parse_feature(c, texts[i], &f))
            return cli_misused(c,
                               "format: --feature %.60s is not NAME=LEVEL, as in "
                               "transaction.version=2",
                               texts[i]);
        if (strcmp(f.name, FEATURE_METADATA_VERSION) != 0) {
            int bad = read_feature(c, &f, o, features);
            if (bad != EXIT_OK)
                return bad;
            continue;
        }
        if (release != NULL)
            return cli_misused(c, "format: --release-version and --feature metadata.version both "
                                  "choose; say one");
        o->metadata_level = f.level;
    }
    if (release != NULL) {
        const struct release *found = find_release(release);
        if (found == NULL)
            return cli_misused(c,
                               "format: --release-version %.40s is unknown; say 3.3-IV3 to "
                               "4.3-IV0",
                               release);
        o->metadata_level = found->level;
    }
    if (o->metadata_level != 0 &&
        (o->metadata_level < METADATA_3_3_IV3 || o->metadata_level > METADATA_4_3_IV0))
        return cli_misused(c, "format: metadata.version %d is not served; say %d to %d",
                           o->metadata_level, METADATA_3_3_IV3, METADATA_4_3_IV0);
    int unfit = check_features(c, o, features);
    if (unfit != EXIT_OK)
        return unfit;
    add_defaults(o, features);
    o->features = features;
    o->cluster_id = cli_value(c, "cluster-id");
    o->ignore_formatted = cli_count(c, "ignore-formatted") > 0;
    return EXIT_OK;
}

static void report(struct cli *c, const struct config *config, const struct node_identity *id)
{
    char uuid[UUID_TEXT_SIZE], shown[512];
    const struct broker_config *b = &config->broker;
    bool json = cli_count(c, "json") > 0;
    if (json) {
        cli_json_begin(c);
        cli_json_open(c, NULL, '{');
        cli_json_text(c, "cluster_id", id->cluster_id);
        cli_json_integer(c, "node_id", id->node_id);
        cli_json_boolean(c, "formatted_now", id->formatted_now);
        cli_json_open(c, "directories", '[');
    }
    for (uint32_t i = 0; i < b->log_dirs_count; i++) {
        if (!json) {
            cli_print(c, "%s %s: cluster %s, node %d, directory %s\n",
                      id->formatted_now ? "formatted" : "left", cli_shown(&shown, b->log_dirs[i]),
                      id->cluster_id, id->node_id, uuid_text(id->dir_ids[i], uuid));
            continue;
        }
        cli_json_open(c, NULL, '{');
        cli_json_text(c, "path", b->log_dirs[i]);
        cli_json_text(c, "directory_id", uuid_text(id->dir_ids[i], uuid));
        cli_json_close(c, '}');
    }
    if (json) {
        cli_json_close(c, ']');
        cli_json_close(c, '}');
        cli_json_end(c, NULL);
    }
}

static int format(struct cli *c, struct io *io, const struct config *config,
                  const struct format_options *options)
{
    struct node_identity identity = {.node_id = -1};
    char why[512] = "";
    if (cli_count(c, "standalone") > 0 && config->broker.voters_count > 0)
        return cli_misused(c, "format: --standalone keeps the voters in the log, and "
                              "controller.quorum.voters names them too; remove the one or the "
                              "other");
    int error = format_node(io, &c->mem, config, options, &identity, why, sizeof(why));
    if (error != 0) {
        cli_complain(c, "%s", why[0] != '\0' ? why : strerror(-error));
        return EXIT_FAILED;
    }
    report(c, config, &identity);
    return EXIT_OK;
}

int command_format(struct cli *c)
{
    struct format_feature features[FEATURES_ROOM];
    struct format_options options = {.features_count = 0};
    int result = read_options(c, &options, features);
    if (result != EXIT_OK)
        return result;
    struct io *io = cli_io(c);
    struct config *config = mem_zalloc(&c->mem, sizeof(*config));
    if (io == NULL || config == NULL)
        return EXIT_FAILED;
    uint32_t overrides_count;
    const char *const *overrides = cli_values(c, "X", &overrides_count);
    int error =
        config_load(config, &c->mem, io, cli_value(c, "config"), overrides, overrides_count);
    cli_problems(c, config);
    result = error == 0 ? format(c, io, config, &options) : EXIT_FAILED;
    config_destroy(config);
    mem_free(&c->mem, config, sizeof(*config));
    return result;
}
