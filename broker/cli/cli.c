/* The program's face: which command the words mean, its help, its exit code.
 *
 *   torc COMMAND [WORD]... ──▶ longest name in cli_commands that the first words make
 *   torc FILE.properties   ──▶ torc broker FILE.properties
 *
 *   exit code 0: done     1: something is wrong with what was asked about     2: wrong question
 *
 * Invariants:
 *  1. Every command is in cli_commands, in the order in which help shows them, and everything that
 *     help says of a command comes from its row.
 *  2. The reactor is started by commands that touch files, once, and stopped before cli_main
 *     returns or the broker runs; commands run as core 0, the broker outside any core.
 *
 * Failure modes: complaints on stderr that say what, why, and what to do. */
#include "broker/cli/bench_command.h"

#include <stdio.h>
#include <string.h>

#include "broker/bench/page.h"
#include "broker/cli/version.h"
#include "broker/config/config_table.h"
#include "core/core.h"
#include "core/trace.h"

#define CLI_MEMORY_BYTES (1ull << 30)
#define OVERRIDES                                                                                  \
    {                                                                                              \
        NULL, 'X', true, "KEY=VALUE", "sets a key, before what the file says"                      \
    }
#define JSON                                                                                       \
    {                                                                                              \
        "json", 0, false, NULL, "answers in JSON"                                                  \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, 0, false, NULL, NULL                                                                 \
    }

static const struct option broker_options[] = {OVERRIDES, END};
static const struct option check_options[] = {OVERRIDES, JSON, END};
static const struct option list_options[] = {
    {"scope", 's', false, "SCOPE", "broker (default), topic, group or client-metrics"},
    {"treatment", 't', false, "WHAT", "only what is used, accepted or refused"},
    {"all", 'a', false, NULL, "internal keys too"},
    JSON,
    END};
static const struct option explain_options[] = {JSON, END};
static const struct option format_options[] = {
    {"config", 'c', false, "FILE", "the node's server.properties; none: a node of its own"},
    {"cluster-id", 't', false, "ID", "22 characters as Kafka prints them; none: a random one"},
    {"ignore-formatted", 'g', false, NULL, "leaves directories as they are that are formatted"},
    {"standalone", 's', false, NULL, "the quorum is this node, and is kept in the log"},
    {"release-version", 'r', false, "VERSION", "metadata.version to begin with, as 4.3 or 4.0-IV3"},
    {"feature", 'f', true, "NAME=LEVEL", "another level for a feature; 0 leaves it out"},
    {"initial-controllers", 'I', false, "LIST", "refused: quorums of more than one node"},
    {"no-initial-controllers", 'N', false, NULL, "refused: nodes that join a quorum"},
    {"add-scram", 'S', true, "CREDENTIAL", "refused: SCRAM logins are not served"},
    OVERRIDES,
    JSON,
    END};
static const struct option segment_options[] = {
    {"records", 'r', false, NULL, "shows the records in each batch"}, JSON, END};
static const struct option wal_options[] = {
    {"entries", 'e', false, NULL, "shows the entries of each group"}, JSON, END};
static const struct option integrity_options[] = {
    {"records", 'r', false, NULL, "unpacks every batch and reads each record in it"}, JSON, END};
static const struct option stat_options[] = {
    {"brokers", 'b', false, "HOST:PORT", "of this machine (127.0.0.1:9092)"},
    {"watch", 'w', false, "S", "again every S seconds, of what happened in them"},
    JSON,
    END};
static const struct option metadata_options[] = {JSON, END};

const struct command cli_commands[] = {
    {"broker", "[FILE.properties]", 0, 1, "run a broker",
     "Without a file it is a node of its own on 127.0.0.1:9092 with its data in /tmp/torc-logs.\n"
     "`torc FILE.properties` is the same command.",
     broker_options, command_broker},
    {"config", NULL, 0, 0, "check a configuration, list and explain keys", NULL, NULL, NULL},
    {"config check", "FILE", 1, 1, "tell everything that is wrong with a configuration",
     "Exit code 0: the broker starts with it; 1: it does not.", check_options,
     command_config_check},
    {"config list", "", 0, 0, "list configuration keys", NULL, list_options, command_config_list},
    {"config explain", "KEY", 1, 1, "tell all about a configuration key", NULL, explain_options,
     command_config_explain},
    {"format", "", 0, 0, "prepare the data directories of a new node",
     "Writes what Kafka's own storage tool would write. A broker that finds all its directories\n"
     "empty does the same by itself with a random cluster id.",
     format_options, command_format},
    {"inspect", NULL, 0, 0, "look into files of a data directory", NULL, NULL, NULL},
    {"inspect integrity", "DIR...", 1, POSITIONALS_MAX,
     "verify the data directories of a stopped node",
     "Name all log.dirs of the node: checksums, offsets, indexes, snapshots, checkpoints, the\n"
     "write-ahead log and the metadata are held against each other. Nothing is written. It\n"
     "reads what Apache Kafka wrote, too. Exit code 0: no damage; 1: damage, each with what to\n"
     "do; 2: no data directory, or one that a broker uses.",
     integrity_options, command_inspect_integrity},
    {"inspect segment", "FILE.log|PARTITION-DIRECTORY", 1, 1, "show the batches of a segment",
     "A line per batch as Kafka's dump tool prints it. Exit code 1: not every byte is a whole\n"
     "batch with the right checksum.",
     segment_options, command_inspect_segment},
    {"inspect metadata", "FILE.log|FILE.checkpoint|DIRECTORY", 1, 1,
     "show the records of the metadata log or of a snapshot", NULL, metadata_options,
     command_inspect_metadata},
    {"inspect wal", "FILE.torc|LOG-DIRECTORY", 1, 1, "show the groups of write-ahead log files",
     NULL, wal_options, command_inspect_wal},
    {"bench", NULL, 0, 0, "put load on a Kafka broker and measure it", NULL, NULL, NULL},
    {"bench produce", "", 0, 0, "latency and throughput of producing", bench_description,
     bench_produce_options, command_bench_produce},
    {"bench consume", "", 0, 0, "read a topic from its beginning to its end", bench_description,
     bench_consume_options, command_bench_consume},
    {"bench e2e", "", 0, 0, "produce and consume: latency from due to read", bench_description,
     bench_e2e_options, command_bench_e2e},
    {"bench catch-up", "", 0, 0, "consumers work off a backlog while producers go on",
     bench_description, bench_catch_up_options, command_bench_catch_up},
    {"bench connections", "", 0, 0, "open connections and keep them", bench_description,
     bench_connections_options, command_bench_connections},
    {"bench txn", "", 0, 0, "transactions: latency from due to committed, and read committed",
     bench_description, bench_txn_options, command_bench_txn},
    {"bench groups", "", 0, 0, "groups of one member each that commit offsets: due to committed",
     bench_description, bench_groups_options, command_bench_groups},
    {"bench suite", "FILE.properties", 1, 1, "run the scenarios of a file",
     "NAME.kind=produce|consume|e2e|connections|txn|groups, NAME.OPTION=VALUE (true for flags); "
     "what "
     "stands\n"
     "under all.OPTION goes for every scenario that has such an option.",
     bench_suite_options, command_bench_suite},
    {"bench floor", "[DIR]", 0, 1, "what this machine does without a broker",
     "Scheduling, timers, loopback, and the device under DIR (here) at depths of 1 to 32 writes.",
     bench_floor_options, command_bench_floor},
    {"bench page", "PAGE.html RUN.json...", 2, 1 + PAGE_RUNS_MAX, "a page of saved runs",
     "Of what --json wrote, or perf/compare. Loads of the same name lie over each other, so that "
     "two\n"
     "runs can be compared.",
     NULL, command_bench_page},
    {"stat", "", 0, 0, "show where the time of a running broker's requests and cores goes",
     "Asks a broker of this machine that runs as this user (or anybody's, as root). Figures count\n"
     "from its start, with --watch from the answer before. Each stage of a request is shown with\n"
     "its share of the time of all, and with the quantiles of one request in 16, which is timed\n"
     "exactly. With --json --watch a line each time, from the start.",
     stat_options, command_stat},
    {"help", "[COMMAND]...", 0, 4, "show help, also of one command", NULL, NULL, command_help},
    {"version", "", 0, 0, "show the version", NULL, NULL, command_version},
};
const uint32_t cli_commands_count = sizeof(cli_commands) / sizeof(cli_commands[0]);

const struct command *cli_find(const char *name)
{
    assert(name != NULL);
    for (uint32_t i = 0; i < cli_commands_count; i++)
        if (strcmp(cli_commands[i].name, name) == 0)
            return &cli_commands[i];
    return NULL;
}

const char *cli_nearest(const char *name)
{
    const char *nearest = NULL;
    uint32_t best = 4;
    assert(name != NULL);
    for (uint32_t i = 0; i < cli_commands_count; i++) {
        uint32_t distance = config_distance(name, cli_commands[i].name, 3);
        if (distance < best && distance < strlen(cli_commands[i].name)) {
            best = distance;
            nearest = cli_commands[i].name;
        }
    }
    return nearest;
}

/* ---- options --------------------------------------------------------------------------------- */

static uint32_t index_of(const struct cli *c, const char *option)
{
    const struct option *o = option_find(c->command, option);
    assert(o != NULL);
    return (uint32_t)(o - c->command->options);
}

uint32_t cli_count(const struct cli *c, const char *option)
{
    return c->parsed.counts[index_of(c, option)];
}

const char *cli_value(const struct cli *c, const char *option)
{
    uint32_t i = index_of(c, option);
    return c->parsed.counts[i] == 0 ? NULL : c->parsed.values[i][c->parsed.counts[i] - 1];
}

const char *const *cli_values(const struct cli *c, const char *option, uint32_t *count)
{
    uint32_t i = index_of(c, option);
    *count = c->parsed.counts[i];
    return c->parsed.values[i];
}

/* ---- help ------------------------------------------------------------------------------------ */

static void help_option(struct cli *c, const struct option *o)
{
    char left[64];
    size_t used = 0;
    if (o->letter != 0)
        used += (size_t)snprintf(left + used, sizeof(left) - used, "-%c%s", o->letter,
                                 o->name != NULL ? ", " : "");
    if (o->name != NULL)
        used += (size_t)snprintf(left + used, sizeof(left) - used, "--%s", o->name);
    if (o->value != NULL)
        snprintf(left + used, sizeof(left) - used, " %s", o->value);
    cli_print(c, "  %-30s %s%s\n", left, o->help, o->repeats ? " (may be repeated)" : "");
}

static void help_family(struct cli *c, const char *family)
{
    size_t size = strlen(family);
    for (uint32_t i = 0; i < cli_commands_count; i++) {
        const struct command *k = &cli_commands[i];
        bool inside = size == 0 ? strchr(k->name, ' ') == NULL
                                : strncmp(k->name, family, size) == 0 && k->name[size] == ' ';
        if (inside)
            cli_print(c, "  %-18s %s\n", k->name, k->summary);
    }
}

void cli_help(struct cli *c, const struct command *k)
{
    if (k == NULL) {
        cli_print(c,
                  "torc %s: a Kafka broker\n\nusage: torc COMMAND [OPTION]... [WORD]...\n"
                  "       torc FILE.properties\n\n",
                  TORC_VERSION);
        help_family(c, "");
        cli_print(c,
                  "\n`torc help COMMAND` tells more. Exit codes: 0 done, 1 failed, 2 misused.\n");
        return;
    }
    if (k->run == NULL) {
        cli_print(c, "torc %s: %s\n\n", k->name, k->summary);
        help_family(c, k->name);
        return;
    }
    cli_print(c, "torc %s: %s\n\nusage: torc %s%s%s%s\n", k->name, k->summary, k->name,
              options_count(k) > 0 ? " [OPTION]..." : "", k->arguments[0] != '\0' ? " " : "",
              k->arguments);
    if (k->description != NULL)
        cli_print(c, "\n%s\n", k->description);
    if (options_count(k) > 0)
        cli_print(c, "\n");
    for (uint32_t i = 0; i < options_count(k); i++)
        help_option(c, &k->options[i]);
}

/* The first words that are a command's name: its row, and how many words it took. */
static const struct command *find_words(int count, char *const *words, int *taken)
{
    char name[64];
    const struct command *found = NULL;
    size_t used = 0;
    for (int i = 0; i < count && used < sizeof(name); i++) {
        used +=
            (size_t)snprintf(name + used, sizeof(name) - used, "%s%s", i == 0 ? "" : " ", words[i]);
        const struct command *k = used < sizeof(name) ? cli_find(name) : NULL;
        if (k == NULL)
            break;
        found = k;
        *taken = i + 1;
    }
    return found;
}

static int say_unknown(struct cli *c, const char *prefix, const char *word)
{
    char name[128], shown[512];
    snprintf(name, sizeof(name), "%s%s%.60s", prefix, prefix[0] == '\0' ? "" : " ", word);
    const char *nearest = cli_nearest(name);
    if (nearest != NULL)
        return cli_misused(c, "no command is called '%s'; did you mean `torc %s`?",
                           cli_shown(&shown, name), nearest);
    return cli_misused(c, "no command is called '%s'", cli_shown(&shown, name));
}

int command_help(struct cli *c)
{
    int taken = 0;
    const char *const *words = c->parsed.positionals;
    int count = (int)c->parsed.positionals_count;
    if (count == 0) {
        cli_help(c, NULL);
        return EXIT_OK;
    }
    char *copy[POSITIONALS_MAX];
    memcpy(copy, words, (size_t)count * sizeof(copy[0]));
    const struct command *k = find_words(count, copy, &taken);
    if (k == NULL || taken < count)
        return say_unknown(c, k == NULL ? "" : k->name, words[taken]);
    cli_help(c, k);
    return EXIT_OK;
}

int command_version(struct cli *c)
{
    cli_print(c, "torc %s, speaks Kafka 4.3\n", TORC_VERSION);
    return EXIT_OK;
}

/* ---- running --------------------------------------------------------------------------------- */

static void sink(void *context, const char *line, size_t size)
{
    (void)context;
    io_print(2, line, size);
}

struct io *cli_io(struct cli *c)
{
    char why[512];
    static const int64_t no_time = 0;
    if (c->io != NULL)
        return c->io;
    trace_init(&c->trace, sink, NULL, &no_time);
    bool quiet = trace_set_levels(&c->trace, "error");
    assert(quiet);
    if (io_world_start(&c->world, 1, why, sizeof(why)) != 0) {
        cli_complain(c, "%s", why);
        c->world = NULL;
        return NULL;
    }
    struct io_config config = {.world = c->world, .core = {0}, .mem = &c->mem, .trace = &c->trace};
    if (io_start(&c->io, &config, why, sizeof(why)) != 0) {
        cli_complain(c, "%s", why);
        io_world_stop(c->world);
        c->world = NULL;
        c->io = NULL;
    }
    return c->io;
}

static void stop_io(struct cli *c)
{
    if (c->io != NULL)
        io_stop(c->io);
    if (c->world != NULL)
        io_world_stop(c->world);
    c->io = NULL;
    c->world = NULL;
}

void cli_problems(struct cli *c, const struct config *config)
{
    static const char *const words[] = {"error", "warning", "note"};
    for (uint32_t i = 0; i < config->problems_count; i++)
        if (config->problems[i].severity != CONFIG_NOTE)
            cli_complain(c, "%s: %s", words[config->problems[i].severity],
                         config->problems[i].text);
}

/* Loads, lets go of the reactor, and runs the broker with what was loaded. */
int command_broker(struct cli *c)
{
    struct config *config = mem_zalloc(&c->mem, sizeof(*config));
    struct io *io = cli_io(c);
    uint32_t overrides_count;
    const char *const *overrides = cli_values(c, "X", &overrides_count);
    if (io == NULL || config == NULL)
        return EXIT_FAILED;
    const char *file = c->parsed.positionals_count > 0 ? c->parsed.positionals[0] : NULL;
    int error = config_load(config, &c->mem, io, file, overrides, overrides_count);
    cli_problems(c, config);
    int result = EXIT_FAILED;
    cli_flush(c);
    if (error == 0) {
        stop_io(c);
        core_leave();
        result = c->run_broker(config);
        core_enter((struct core_id){0});
    } else if (config->errors_count > 0) {
        cli_complain(c, "not started: %u error%s in the configuration", config->errors_count,
                     config->errors_count == 1 ? "" : "s");
    }
    config_destroy(config);
    mem_free(&c->mem, config, sizeof(*config));
    return result;
}

static int dispatch(struct cli *c)
{
    int taken = 0;
    char why[256];
    int count = c->argc - 1;
    char *const *words = c->argv + 1;
    if (count == 0) {
        cli_help(c, NULL);
        return EXIT_USAGE;
    }
    size_t size = strlen(words[0]);
    static const char suffix[] = ".properties";
    bool file =
        size > sizeof(suffix) - 1 && strcmp(words[0] + size - (sizeof(suffix) - 1), suffix) == 0;
    if (strcmp(words[0], "--help") == 0 || strcmp(words[0], "-h") == 0)
        c->command = cli_find("help");
    else if (strcmp(words[0], "--version") == 0 || strcmp(words[0], "-V") == 0)
        c->command = cli_find("version");
    else
        c->command = file ? cli_find("broker") : find_words(count, words, &taken);
    if (c->command == NULL)
        return say_unknown(c, "", words[0]);
    if (words[0][0] == '-')
        taken = 1;
    bool asks_help =
        count > taken && (strcmp(words[taken], "--help") == 0 || strcmp(words[taken], "-h") == 0);
    if (c->command->run == NULL) {
        if (count > taken && !asks_help)
            return say_unknown(c, c->command->name, words[taken]);
        cli_help(c, c->command);
        return asks_help ? EXIT_OK : EXIT_USAGE;
    }
    if (!option_parse(c->command, count - taken, words + taken, &c->parsed, why, sizeof(why)))
        return cli_misused(c, "%s: %s", c->command->name, why);
    if (c->parsed.help) {
        cli_help(c, c->command);
        return EXIT_OK;
    }
    return c->command->run(c);
}

int cli_main(int argc, char **argv, int (*run_broker)(const struct config *config))
{
    struct cli c = {.argc = argc, .argv = argv, .run_broker = run_broker};
    assert(argc >= 1 && argv != NULL);
    assert(run_broker != NULL);
    core_enter((struct core_id){0});
    if (mem_init(&c.mem, CLI_MEMORY_BYTES) != 0)
        return EXIT_FAILED;
    int result = dispatch(&c);
    cli_flush(&c);
    stop_io(&c);
    mem_destroy(&c.mem);
    core_leave();
    return result;
}
