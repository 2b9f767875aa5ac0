/* `torc bench`: words into options, and results into a table, JSON and a page. The load itself is
 * broker/bench.
 *
 *   words ─▶ struct bench_options ─▶ bench_run ─▶ table on stdout, files that were asked for
 *
 *   exit code 0: done and sound   1: failed, or records lost and the like   2: wrong question
 *             3: slower than asked (--slo), or than the other broker (--versus)
 *
 * Failure modes: what cannot be connected, or breaks while it runs, is one complaint. */
#include "broker/cli/bench_command.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/bench/json.h"
#include "broker/cli/commit.h"
#include "broker/cli/version.h"

#define TOPIC_DEFAULT "torc-bench"
#define ADDRESS       "127.0.0.1:9092"
#define RATE_MAX      1e9
#define SECONDS_MAX   1e6
#define STAT_LIMIT    (16ull << 20)

/* clang-format off */
#define BROKERS     {"brokers", 'b', false, "HOST:PORT", "who is asked (127.0.0.1:9092)"}
#define TOPIC       {"topic", 't', false, "NAME", "the topic (torc-bench)"}
#define CREATE      {"create", 'c', false, "N", "makes it with N partitions unless it is there"}
#define FRESH       {"fresh", 0, false, NULL, "deletes the topic before and after"}
#define COPIES      {"replicas", 0, false, "N", "of the topic made (1)"}
#define CONFIG      {"config", 0, true, "KEY=VALUE", "of the topic made"}
#define RATE        {"rate", 'r', false, "N", "records per second, on a timetable: open loop"}
#define MAXIMUM     {"max", 0, false, NULL, "as fast as it goes: closed loop"}
#define SECONDS     {"seconds", 's', false, "N", "measured (10)"}
#define WARMUP      {"warmup", 0, false, "N", "seconds before that (2)"}
#define CONNECTIONS {"connections", 0, false, "N", "of producers (4)"}
#define CONSUMERS   {"consumers", 0, false, "N", "connections of consumers (1)"}
#define IN_FLIGHT   {"in-flight", 0, false, "N", "requests under way per connection (5)"}
#define RECORDS     {"records", 'n', false, "N", "per batch (1)"}
#define SIZE        {"size", 0, false, "N", "bytes of a record's value (1024)"}
#define BATCHES     {"batches", 0, false, "N", "per request, each for another partition (1)"}
#define KEYS        {"keys", 0, false, "N", "records have keys, N different ones (0: none)"}
#define ACKS        {"acks", 0, false, "0|1|all", "who has to have it (all)"}
#define CODEC       {"codec", 0, false, "NAME", "none, gzip, snappy, lz4 or zstd"}
#define SOFT        {"text", 0, false, NULL, "values compress like text; else hardly"}
#define IDEMPOTENT  {"idempotent", 0, false, NULL, "with producer ids and sequence numbers"}
#define THREADS     {"threads", 0, false, "N", "of this program (1)"}
#define PID         {"pid", 'p', false, "PID", "of the broker: says what it used"}
#define SEED        {"seed", 0, false, "N", "of values and keys (1)"}
#define FETCH_BYTES {"fetch-bytes", 0, false, "N", "of an answer at most (16 MiB)"}
#define PARTITION   {"partition-bytes", 0, false, "N", "of a partition in an answer (1 MiB)"}
#define PASSES      {"passes", 0, false, "N", "over all; only the first looks at records (1)"}
#define BACKLOG     {"backlog", 0, false, "N", "records that wait for consumers (1000000)"}
#define HTML        {"html", 0, false, "FILE", "a page with curves"}
#define ABORTS      {"aborts", 0, false, "PERCENT", "of the transactions (0)"}
#define GENERATION  {"generation", 0, false, "1|2", "of the protocol; 2: as Java 4.0 does (1)"}
#define PROTOCOL    {"protocol", 0, false, "NAME", "of groups: classic or consumer (classic)"}
#define COUNT       {"count", 0, false, "N", "records with --max, instead of --seconds"}
#define FLOOR       {"floor", 0, false, "DIR", "measures the machine and DIR's device first"}
#define SWEEP       {"sweep", 0, true, "KEY=A,B..", "a load per value of rate, size, acks ..."}
#define SLO         {"slo", 0, false, "GOAL", "the highest rate with p99.9<2ms or the like"}
#define VERSUS      {"versus", 0, false, "HOST:PORT", "another broker, in turn; ratios"}
#define VERSUS_PID  {"versus-pid", 0, false, "PID", "of the other broker"}
#define REPEAT      {"repeat", 0, false, "N", "times (with --versus 3)"}
#define THRESHOLD   {"threshold", 0, false, "PERCENT", "a regression is worse by more (5)"}
#define HDR         {"hdr", 0, false, "FILE", "histograms as HdrHistogram's tools read them"}
#define JSON        {"json", 0, false, "FILE", "everything, with histograms"}
#define QUIET       {"quiet", 'q', false, NULL, "no progress line"}
#define PLOT        {"plot", 0, false, NULL, "shows latency over time too"}
#define END         {NULL, 0, false, NULL, NULL}
#define WRITING     TOPIC, CREATE, FRESH, COPIES, CONFIG, CONNECTIONS, IN_FLIGHT, RECORDS, SIZE, \
                    BATCHES, KEYS, ACKS, CODEC, SOFT, IDEMPOTENT, SEED
#define SERIES      SWEEP, SLO, VERSUS, VERSUS_PID, REPEAT, THRESHOLD
#define COMMON      BROKERS, SECONDS, WARMUP, THREADS, PID, JSON, HTML, HDR, QUIET, PLOT, FLOOR

const struct option bench_produce_options[] = {RATE, MAXIMUM, COUNT, COMMON, WRITING, SERIES, END};
const struct option bench_consume_options[] = {COMMON,    TOPIC,  CONSUMERS, FETCH_BYTES,
                                               PARTITION, PASSES, END};
const struct option bench_e2e_options[] = {RATE, MAXIMUM, COMMON, CONSUMERS, WRITING, FETCH_BYTES,
                                           PARTITION, SERIES, END};
const struct option bench_catch_up_options[] = {RATE, MAXIMUM, COMMON, BACKLOG, CONSUMERS, WRITING,
                                                FETCH_BYTES, PARTITION, END};
const struct option bench_txn_options[] = {
    RATE, MAXIMUM, COMMON, CONSUMERS, TOPIC, CREATE, FRESH, COPIES, CONFIG, CONNECTIONS, RECORDS,
    SIZE, BATCHES, KEYS, SOFT, SEED, ABORTS, GENERATION, FETCH_BYTES, PARTITION, SERIES, END};
const struct option bench_groups_options[] = {RATE, MAXIMUM, COMMON,      TOPIC,    CREATE, FRESH,
                                              COPIES, CONFIG, CONNECTIONS, PROTOCOL, SERIES, END};
const struct option bench_suite_options[] = {BROKERS, PID, JSON, HTML, HDR, FLOOR, END};
const struct option bench_floor_options[] = {JSON, END};
const struct option bench_connections_options[] = {RATE, MAXIMUM, COMMON, CONNECTIONS, END};
/* clang-format on */

const char bench_description[] =
    "Works against any Kafka broker. With --rate requests leave on a timetable fixed before, and\n"
    "latency counts from when each was due (response); from when it left it is called service, "
    "and\n"
    "slip is how late it left: its connection's window was full, or this program late. With --max\n"
    "each connection keeps its window full. Records\n"
    "carry sequence numbers: what is lost, repeated or out of order is found where somebody "
    "reads.\n"
    "Exit code 0: done; 1: failed, or records are not as they should be; 3: too slow, or slower.";

/* ---- words into numbers ---------------------------------------------------------------------- */

static void wrong(struct asked *a, const char *option, const char *text, const char *what)
{
    char shown[512];
    if (!a->wrong) {
        int code =
            cli_misused(a->cli, "--%s '%s' is not %s", option, cli_shown(&shown, text), what);
        (void)code;
    }
    a->wrong = true;
}

bool asked_has(const struct asked *a, const char *option)
{
    return option_find(a->cli->command, option) != NULL && cli_count(a->cli, option) > 0;
}

bool asked_number(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    if (end == text)
        return false;
    static const char units[] = "kMG";
    const char *unit = *end == '\0' ? NULL : strchr(units, *end);
    for (const char *at = units; unit != NULL && at <= unit; at++)
        *value *= 1000;
    return (unit == NULL ? *end : end[1]) == '\0' && isfinite(*value);
}

static double number(struct asked *a, const char *option, double least, double most, double other)
{
    double value;
    if (!asked_has(a, option))
        return other;
    const char *text = cli_value(a->cli, option);
    if (asked_number(text, &value) && value >= least && value <= most)
        return value;
    char what[64];
    (void)snprintf(what, sizeof(what), "a number from %g to %g", least, most);
    wrong(a, option, text, what);
    return other;
}

static uint32_t whole(struct asked *a, const char *option, uint32_t least, uint32_t most,
                      uint32_t other)
{
    double value = number(a, option, least, most, other);
    if (value != floor(value))
        wrong(a, option, cli_value(a->cli, option), "a whole number");
    return (uint32_t)value;
}

static const char *word(struct asked *a, const char *option, const char *other)
{
    return asked_has(a, option) ? cli_value(a->cli, option) : other;
}

static void read_words(struct asked *a)
{
    struct bench_options *o = &a->o;
    const char *acks = word(a, "acks", "all"), *codec = word(a, "codec", "none");
    char why[160];
    if (strcmp(acks, "all") == 0 || strcmp(acks, "-1") == 0)
        o->acks = BENCH_ACKS_ALL;
    else if (strcmp(acks, "0") == 0 || strcmp(acks, "1") == 0)
        o->acks = (int16_t)(acks[0] - '0');
    else
        wrong(a, "acks", acks, "0, 1 or all");
    const char *protocol = word(a, "protocol", "classic");
    o->consumer_protocol = strcmp(protocol, "consumer") == 0;
    if (!o->consumer_protocol && strcmp(protocol, "classic") != 0)
        wrong(a, "protocol", protocol, "classic or consumer");
    o->codec = CODECS_COUNT;
    for (uint32_t i = 0; i < CODECS_COUNT; i++)
        if (strcmp(codec, codec_name((enum codec)i)) == 0)
            o->codec = (enum codec)i;
    if (o->codec == CODECS_COUNT)
        wrong(a, "codec", codec, "none, gzip, snappy, lz4 or zstd");
    o->brokers = word(a, "brokers", ADDRESS);
    const char *versus = word(a, "versus", o->brokers);
    if (!a->wrong && (!bench_address_read(&o->address, o->brokers, why, sizeof(why)) ||
                      !bench_address_read(&a->versus, versus, why, sizeof(why)))) {
        a->wrong = true;
        int code = cli_misused(a->cli, "%s", why);
        (void)code;
    }
    if (option_find(a->cli->command, "config") == NULL)
        return;
    const char *const *configs = cli_values(a->cli, "config", &o->configs_count);
    o->configs_count = MIN(o->configs_count, BENCH_CONFIGS_MAX);
    memcpy(o->configs, configs, o->configs_count * sizeof(o->configs[0]));
}

static void read_numbers(struct asked *a)
{
    struct bench_options *o = &a->o;
    bool dials = o->kind == BENCH_CONNECTIONS;
    o->rate = number(a, "rate", 0.001, RATE_MAX, 0);
    o->seconds = number(a, "seconds", 0.05, SECONDS_MAX, 10);
    o->warmup = number(a, "warmup", 0, SECONDS_MAX, o->kind == BENCH_CONSUME || dials ? 0 : 2);
    o->threads = whole(a, "threads", 1, BENCH_THREADS_MAX, 1);
    o->connections = whole(a, "connections", 1, BENCH_CONNECTIONS_MAX,
                           dials                     ? 1000
                           : o->kind == BENCH_GROUPS ? 100
                                                     : 4);
    o->consumers = whole(a, "consumers", o->kind == BENCH_TXN ? 0 : 1, BENCH_CONNECTIONS_MAX, 1);
    o->in_flight = whole(a, "in-flight", 1, BENCH_IN_FLIGHT_MAX, 5);
    o->records = whole(a, "records", 1, BENCH_RECORDS_MAX, 1);
    o->size = whole(a, "size", 0, BENCH_SIZE_MAX, 1024);
    o->batches = whole(a, "batches", 1, BENCH_BATCHES_MAX, 1);
    o->keys = whole(a, "keys", 0, UINT32_MAX, 0);
    o->create = whole(a, "create", 1, BENCH_PARTITIONS_MAX, 0);
    o->copies = (int16_t)whole(a, "replicas", 1, 100, 1);
    o->pid = (int32_t)whole(a, "pid", 1, INT32_MAX, 0);
    o->seed = whole(a, "seed", 0, UINT32_MAX, 1);
    o->backlog = (uint64_t)number(a, "backlog", 1, 1e12, 1e6);
    o->fetch_bytes = whole(a, "fetch-bytes", 1, 1u << 28, 16u << 20);
    o->partition_bytes = whole(a, "partition-bytes", 1, 1u << 28, 1u << 20);
    o->passes = whole(a, "passes", 1, UINT32_MAX, 1);
    o->fetch_wait_ms = 500;
    o->limit = (uint64_t)number(a, "count", 1, 1e12, 0);
    o->aborts = number(a, "aborts", 0, 100, 0) / 100;
    o->generation = whole(a, "generation", 1, 2, 1);
    a->versus_pid = (int32_t)whole(a, "versus-pid", 1, INT32_MAX, 0);
    a->repeats = whole(a, "repeat", 1, SERIES_MAX / 2, 0);
    a->threshold = number(a, "threshold", 0, 1000, 5) / 100;
}

bool asked_read(struct asked *a, enum bench_kind kind)
{
    struct bench_options *o = &a->o;
    *o = (struct bench_options){.kind = kind};
    read_numbers(a);
    read_words(a);
    o->topic = word(a, "topic", TOPIC_DEFAULT);
    o->idempotent = asked_has(a, "idempotent");
    o->soft = asked_has(a, "text");
    o->delete_before = o->delete_after = asked_has(a, "fresh");
    o->quiet = asked_has(a, "quiet");
    o->interrupted = &a->interrupted;
    if (a->wrong)
        return false;
    const char *why = NULL;
    bool timed = kind != BENCH_CONSUME;
    if (timed && !asked_has(a, "rate") && !asked_has(a, "max") && kind != BENCH_CONNECTIONS)
        why = "say --rate N (open loop) or --max (closed loop)";
    else if (timed && asked_has(a, "rate") && asked_has(a, "max"))
        why = "--rate and --max contradict each other";
    else if (o->idempotent && (o->acks != BENCH_ACKS_ALL || o->in_flight > 5))
        why = "--idempotent needs --acks all and at most 5 --in-flight";
    else if (asked_has(a, "slo") && o->rate <= 0)
        why = "--slo needs --rate N to begin with";
    else if (asked_has(a, "sweep") + asked_has(a, "slo") + asked_has(a, "versus") > 1)
        why = "--sweep, --slo and --versus are different questions";
    else if (o->limit > 0 && o->rate > 0)
        why = "--count goes with --max";
    else if (o->delete_before && o->create == 0)
        why = "--fresh needs --create N";
    else if ((uint64_t)o->records * o->size > (1u << 30))
        why = "a batch of more than 1 GiB";
    if (why != NULL) {
        int code = cli_misused(a->cli, "%s", why);
        (void)code;
    }
    return why == NULL;
}

/* ---- running --------------------------------------------------------------------------------- */

static void interrupted(struct op *op)
{
    struct asked *a = container_of(op, struct asked, signals);
    a->interrupted = true;
}

/* A torc says itself which it is; another broker's version is in the names of its files. */
static void ask_version(struct cli *c, struct provenance *p, const struct io_address *broker)
{
    struct text text;
    struct arena arena;
    size_t at;
    text_init(&text, &c->mem);
    arena_init(&arena, &c->mem, STAT_LIMIT);
    const struct json *said = NULL;
    if (stat_ask(c, broker->port, &text) == 0)
        said = json_parse(&arena, text.data, strcspn(text.data, "\n"), &at);
    if (json_string(said, "version")[0] != '\0') {
        (void)snprintf(p->broker, sizeof(p->broker), "torc");
        (void)snprintf(p->broker_version, sizeof(p->broker_version), "%.20s, commit %.30s",
                       json_string(said, "version"), json_string(said, "commit"));
    }
    arena_release(&arena);
    text_free(&text);
}

void asked_provenance(const struct asked *a, struct provenance *p, const char *directory)
{
    struct cli *c = a->cli;
    size_t size = 0;
    p->version = TORC_VERSION;
    p->commit = TORC_COMMIT;
    for (int i = 1; i < c->argc && size < sizeof(p->words); i++)
        size += (size_t)snprintf(p->words + size, sizeof(p->words) - size, "%s%s", i > 1 ? " " : "",
                                 c->argv[i]);
    provenance_read(p, c->io, &c->mem, directory);
}

void asked_broker(const struct asked *a, struct provenance *p, const struct io_address *broker,
                  int32_t pid)
{
    provenance_broker(p, a->cli->io, &a->cli->mem, broker, pid);
    if (pid > 0 || strncmp(broker->host, "127.", 4) == 0)
        ask_version(a->cli, p, broker);
}

void asked_signals(struct asked *a)
{
    op_init(&a->signals, interrupted);
    io_signals(a->cli->io, &a->signals);
}

static int run(struct cli *c, enum bench_kind kind)
{
    /* What the signals point to lives as long as the reactor. */
    struct asked *a = mem_zalloc(&c->mem, sizeof(*a));
    if (a == NULL)
        return EXIT_FAILED;
    a->cli = c;
    if (!asked_read(a, kind))
        return EXIT_USAGE;
    if (cli_io(c) == NULL)
        return EXIT_FAILED;
    asked_signals(a);
    return asked_run(a, c);
}

int command_bench_produce(struct cli *c)
{
    return run(c, BENCH_PRODUCE);
}

int command_bench_consume(struct cli *c)
{
    return run(c, BENCH_CONSUME);
}

int command_bench_e2e(struct cli *c)
{
    return run(c, BENCH_E2E);
}

int command_bench_catch_up(struct cli *c)
{
    return run(c, BENCH_CATCH_UP);
}

int command_bench_connections(struct cli *c)
{
    return run(c, BENCH_CONNECTIONS);
}

int command_bench_txn(struct cli *c)
{
    return run(c, BENCH_TXN);
}

int command_bench_groups(struct cli *c)
{
    return run(c, BENCH_GROUPS);
}
