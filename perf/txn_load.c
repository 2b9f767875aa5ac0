/* Transactional producers as a load for a Kafka broker; one line of figures.
 *
 *   run    one producer after the other end of a transaction begins the next: a transaction is one
 *          record and its end
 *   ids    takes so many transactional ids, and says nothing more
 *   pids   so many idempotent producers write one batch each to each partition
 *
 * Both generations of the protocol can be measured, each as its clients do it:
 *
 *   1   AddPartitionsToTxn ──▶ Produce (v11) ──▶ EndTxn (v4)
 *   2                          Produce (v12) ──▶ EndTxn (v5), whose answer has the next epoch
 *
 * The latency of a transaction is from its first request to the answer of EndTxn; with an answer
 * that the one before is not over yet the request is repeated at once, as that time belongs to it.
 * Invariant: each record's offset is above the one before, and in the end as many records are
 * committed as transactions were (readers of committed records see them all: the last stable offset
 * is the end). */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/core.h"
#include "core/crc32c.h"
#include "core/histogram.h"
#include "perf/client.h"
#include "perf/peer.h"
#include "perf/usage.h"
#include "proto/batch.h"
#include "proto/error.h"
#include "proto/gen/add_partitions_to_txn.h"
#include "proto/gen/end_txn.h"
#include "proto/gen/init_producer_id.h"
#include "proto/gen/list_offsets.h"
#include "proto/gen/produce.h"

#define TOPIC         "perf-transactions"
#define VALUE_SIZE    100u
#define BATCH_MAX     512u
#define ID_MAX        64u
#define TIMEOUT_MS    60000
#define PARTITIONS    10000u
#define ATTEMPTS      100000u /* of one request, while the transaction before is not over */
#define PATIENCE_NS   (60 * NS_PER_S)
#define TRANSACTIONAL 16u
#define COMMITTED     1

enum mode { MODE_RUN, MODE_IDS, MODE_PIDS, MODES };
static const char *const mode_names[MODES] = {"run", "ids", "pids"};

struct options {
    const char *address, *name;
    enum mode mode;
    uint32_t generation, count;
    double seconds, warmup;
    int32_t pid;
};

struct load {
    struct options o;
    struct client client;
    struct uuid topic_id;
    uint32_t partitions;
    char id[ID_MAX];
    int64_t producer_id;
    int16_t epoch;
    int32_t sequence;
    int64_t highest;
    uint8_t batch[BATCH_MAX];
    uint32_t batch_size;
    uint64_t begin_ns, end_ns, done, all, repeated;
    struct usage used_begin, used_end;
    struct histogram whole, end;
};

static void check(enum kafka_error error, const char *what)
{
    if (error != KE_NONE)
        die("%s: %s", what, kafka_error_name(error));
}

/* What is said while something is not ready yet, and passes. */
static bool not_yet(struct load *l, int16_t error)
{
    bool wait = error == KE_CONCURRENT_TRANSACTIONS || error == KE_COORDINATOR_LOAD_IN_PROGRESS ||
                error == KE_COORDINATOR_NOT_AVAILABLE || error == KE_NOT_COORDINATOR;
    l->repeated += wait;
    return wait;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* id of size 0: an idempotent producer. */
static void producer_begin(struct load *l, struct wire_string id)
{
    struct init_producer_id_request request;
    struct init_producer_id_response response;
    init_producer_id_request_init(&request);
    request.transactional_id = id.size > 0 ? id : WIRE_NULL_STRING;
    request.transaction_timeout_ms = TIMEOUT_MS;
    uint64_t late = now_ns() + PATIENCE_NS;
    do {
        client_ask(&l->client, API_INIT_PRODUCER_ID, &request, &response);
    } while (not_yet(l, response.error_code) && now_ns() < late);
    check((enum kafka_error)response.error_code, "InitProducerId");
    l->producer_id = response.producer_id;
    l->epoch = response.producer_epoch;
    l->sequence = 0;
}

static void batch_make(struct load *l)
{
    static const uint8_t value[VALUE_SIZE];
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    struct batch_field key = {NULL, 0}, field = {value, VALUE_SIZE};
    struct batch_header header = batch_header_plain(0);
    struct batch_builder b;
    batch_builder_init(&b, l->batch, BATCH_MAX, &header);
    if (!batch_builder_add(&b, (int64_t)t.tv_sec * 1000, key, field, NULL, 0))
        die("a record does not fit");
    l->batch_size = batch_builder_finish(&b);
}

/* Makes the batch this producer's next one. */
static void batch_stamp(struct load *l, bool transactional)
{
    struct batch_bytes *head = (struct batch_bytes *)l->batch;
    wire_store64(head->producer_id, (uint64_t)l->producer_id);
    wire_store16(head->producer_epoch, (uint16_t)l->epoch);
    wire_store32(head->base_sequence, (uint32_t)l->sequence);
    wire_store16(head->attributes, transactional ? TRANSACTIONAL : 0);
    wire_store32(head->crc, crc32c(0, l->batch + BATCH_CRC_FROM, l->batch_size - BATCH_CRC_FROM));
}

/* Writes the batch to so many partitions from 0 on. */
static void produce(struct load *l, struct wire_string id, uint32_t partitions)
{
    static struct produce_request_partition_produce_data parts[PARTITIONS];
    struct produce_request_topic_produce_data topic;
    struct produce_request request;
    struct produce_response response;
    for (uint32_t i = 0; i < partitions; i++) {
        produce_request_partition_produce_data_init(&parts[i]);
        parts[i].index = (int32_t)i;
        parts[i].records = (struct wire_records){.data = l->batch, .size = (int32_t)l->batch_size};
    }
    produce_request_topic_produce_data_init(&topic);
    topic.name = wire_string_of(TOPIC);
    topic.topic_id = l->topic_id;
    topic.partition_data = parts;
    topic.partition_data_count = (int32_t)partitions;
    produce_request_init(&request);
    request.transactional_id = id.size > 0 ? id : WIRE_NULL_STRING;
    request.acks = -1;
    request.timeout_ms = TIMEOUT_MS;
    request.topic_data = &topic;
    request.topic_data_count = 1;
    for (uint32_t attempt = 0; attempt < ATTEMPTS; attempt++) {
        client_ask(&l->client, API_PRODUCE, &request, &response);
        const struct produce_response_partition_produce_response *p =
            response.responses[0].partition_responses;
        if (not_yet(l, p->error_code))
            continue;
        for (int32_t i = 0; i < response.responses[0].partition_responses_count; i++)
            check((enum kafka_error)p[i].error_code, "Produce");
        if (id.size > 0 && p->base_offset <= l->highest)
            die("offset %lld after %lld", (long long)p->base_offset, (long long)l->highest);
        l->highest = p->base_offset;
        return;
    }
    die("the transaction before is never over");
}

static void partition_add(struct load *l, struct wire_string id)
{
    int32_t partition = 0;
    struct add_partitions_to_txn_request_add_partitions_to_txn_topic topic;
    struct add_partitions_to_txn_request request;
    struct add_partitions_to_txn_response response;
    add_partitions_to_txn_request_add_partitions_to_txn_topic_init(&topic);
    topic.name = wire_string_of(TOPIC);
    topic.partitions = &partition;
    topic.partitions_count = 1;
    add_partitions_to_txn_request_init(&request);
    request.v3_and_below_transactional_id = id;
    request.v3_and_below_producer_id = l->producer_id;
    request.v3_and_below_producer_epoch = l->epoch;
    request.v3_and_below_topics = &topic;
    request.v3_and_below_topics_count = 1;
    for (uint32_t attempt = 0; attempt < ATTEMPTS; attempt++) {
        client_ask(&l->client, API_ADD_PARTITIONS_TO_TXN, &request, &response);
        int16_t error =
            response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code;
        if (not_yet(l, error))
            continue;
        check((enum kafka_error)error, "AddPartitionsToTxn");
        return;
    }
    die("the transaction before is never over");
}

static void transaction_end(struct load *l, struct wire_string id)
{
    struct end_txn_request request;
    struct end_txn_response response;
    end_txn_request_init(&request);
    request.transactional_id = id;
    request.producer_id = l->producer_id;
    request.producer_epoch = l->epoch;
    request.committed = true;
    do {
        client_ask(&l->client, API_END_TXN, &request, &response);
    } while (not_yet(l, response.error_code));
    check((enum kafka_error)response.error_code, "EndTxn");
    l->sequence++;
    if (l->o.generation == 1)
        return;
    l->producer_id = response.producer_id;
    l->epoch = response.producer_epoch;
    l->sequence = 0;
}

/* The end for readers of committed records; false: not at the end of all records yet. */
static bool all_committed(struct load *l, int64_t *end)
{
    int64_t ends[2];
    for (int8_t level = 0; level <= COMMITTED; level++) {
        struct list_offsets_request_list_offsets_partition partition;
        struct list_offsets_request_list_offsets_topic topic;
        struct list_offsets_request request;
        struct list_offsets_response response;
        list_offsets_request_list_offsets_partition_init(&partition);
        partition.timestamp = -1;
        list_offsets_request_list_offsets_topic_init(&topic);
        topic.name = wire_string_of(TOPIC);
        topic.partitions = &partition;
        topic.partitions_count = 1;
        list_offsets_request_init(&request);
        request.replica_id = -1;
        request.isolation_level = level;
        request.topics = &topic;
        request.topics_count = 1;
        client_ask(&l->client, API_LIST_OFFSETS, &request, &response);
        check((enum kafka_error)response.topics[0].partitions[0].error_code, "ListOffsets");
        ends[level] = response.topics[0].partitions[0].offset;
    }
    *end = ends[0];
    return ends[0] == ends[COMMITTED];
}

/* ---- modes ----------------------------------------------------------------------------------- */

static void transaction(struct load *l, struct wire_string id)
{
    uint64_t begin = now_ns();
    if (l->o.generation == 1)
        partition_add(l, id);
    batch_stamp(l, true);
    produce(l, id, 1);
    uint64_t ending = now_ns();
    transaction_end(l, id);
    uint64_t now = now_ns();
    l->all++;
    if (begin < l->begin_ns || now >= l->end_ns)
        return;
    l->done++;
    histogram_record(&l->whole, now - begin);
    histogram_record(&l->end, now - ending);
}

static void run_transactions(struct load *l)
{
    struct wire_string id = wire_string_of(l->o.name);
    int64_t before, after;
    l->client.versions[API_PRODUCE] =
        MIN(client_version(&l->client, API_PRODUCE), l->o.generation == 1 ? 11 : 12);
    l->client.versions[API_END_TXN] =
        MIN(client_version(&l->client, API_END_TXN), l->o.generation == 1 ? 4 : 5);
    l->client.versions[API_ADD_PARTITIONS_TO_TXN] =
        MIN(client_version(&l->client, API_ADD_PARTITIONS_TO_TXN), 3);
    producer_begin(l, id);
    (void)all_committed(l, &before);
    l->highest = before - 1;
    uint64_t start = now_ns();
    l->begin_ns = start + (uint64_t)(l->o.warmup * 1e9);
    l->end_ns = l->begin_ns + (uint64_t)(l->o.seconds * 1e9);
    while (now_ns() < l->begin_ns)
        transaction(l, id);
    l->used_begin = usage_now(l->o.pid);
    l->begin_ns = now_ns();
    while (now_ns() < l->end_ns)
        transaction(l, id);
    l->end_ns = now_ns();
    l->used_end = usage_now(l->o.pid);
    uint64_t late = now_ns() + PATIENCE_NS;
    while (!all_committed(l, &after))
        if (now_ns() > late)
            die("a transaction is left open");
    if (after - before != (int64_t)l->all * 2)
        die("%lld offsets after %llu transactions of one record and its marker",
            (long long)(after - before), (unsigned long long)l->all);
}

static void run_ids(struct load *l)
{
    l->begin_ns = now_ns();
    for (; l->done < l->o.count; l->done++) {
        int n = snprintf(l->id, sizeof(l->id), "%s-%llu", l->o.name, (unsigned long long)l->done);
        producer_begin(l, (struct wire_string){l->id, (int32_t)n});
    }
    l->end_ns = now_ns();
}

static void run_pids(struct load *l)
{
    static const struct wire_string none = {NULL, -1};
    l->begin_ns = now_ns();
    for (; l->done < l->o.count; l->done++) {
        producer_begin(l, none);
        batch_stamp(l, false);
        produce(l, none, l->partitions);
    }
    l->end_ns = now_ns();
}

static void load_print(const struct load *l)
{
    double seconds = (double)(l->end_ns - l->begin_ns) / 1e9;
    printf("transactions mode=%s generation=%u seconds=%.3f done=%llu per_s=%.1f repeated=%llu",
           mode_names[l->o.mode], l->o.generation, seconds, (unsigned long long)l->done,
           (double)l->done / seconds, (unsigned long long)l->repeated);
    if (l->o.mode == MODE_RUN) {
        printf(" p50_us=%.1f p99_us=%.1f p999_us=%.1f max_us=%.1f end_p50_us=%.1f end_p99_us=%.1f",
               (double)histogram_quantile(&l->whole, 0.5) / 1e3,
               (double)histogram_quantile(&l->whole, 0.99) / 1e3,
               (double)histogram_quantile(&l->whole, 0.999) / 1e3, (double)l->whole.max / 1e3,
               (double)histogram_quantile(&l->end, 0.5) / 1e3,
               (double)histogram_quantile(&l->end, 0.99) / 1e3);
        printf(" broker_cpu_us=%.1f",
               (l->used_end.broker - l->used_begin.broker) * 1e6 / (double)MAX(l->done, 1));
    }
    putchar('\n');
}

/* ---- options --------------------------------------------------------------------------------- */

static const char usage_text[] =
    "usage: txn_load [options] run|ids|pids HOST:PORT\n"
    "Transactions of one record each, or producers that stay; needs the topic "
    "perf-transactions.\n\n"
    "  --generation 1|2   run: whose requests, see above: 2\n"
    "  --name NAME        transactional id, or how they begin: perf\n"
    "  --count N          ids, pids: 1000\n"
    "  --seconds N        run: measured: 5\n"
    "  --warmup N         run: seconds before that: 1\n"
    "  --pid PID          of the broker: prints its CPU time per transaction\n\n"
    "Status: 0 all is well, 1 failed or an answer was wrong, 2 usage.\n";

_Noreturn static void usage(const char *why)
{
    (void)fprintf(stderr, "txn_load: error: %s; see --help\n", why);
    exit(2);
}

static double number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most))
        usage("a number is out of its range");
    return value;
}

static void option_set(struct options *o, int option)
{
    switch (option) {
    case 'g':
        o->generation = (uint32_t)number(optarg, 1, 2);
        return;
    case 'N':
        o->name = optarg;
        return;
    case 'c':
        o->count = (uint32_t)number(optarg, 1, 1e8);
        return;
    case 'S':
        o->seconds = number(optarg, 0.1, 1e5);
        return;
    case 'w':
        o->warmup = number(optarg, 0, 1e5);
        return;
    case 'p':
        o->pid = (int32_t)number(optarg, 1, INT32_MAX);
        return;
    case 'h':
        (void)fputs(usage_text, stdout);
        exit(0);
    default:
        usage("no such option, or its value is missing");
    }
}

static void options_read(struct options *o, int count, char **words)
{
    static const struct option options[] = {{"generation", 1, NULL, 'g'}, {"name", 1, NULL, 'N'},
                                            {"count", 1, NULL, 'c'},      {"seconds", 1, NULL, 'S'},
                                            {"warmup", 1, NULL, 'w'},     {"pid", 1, NULL, 'p'},
                                            {"help", 0, NULL, 'h'},       {NULL, 0, NULL, 0}};
    *o = (struct options){
        .name = "perf", .generation = 2, .count = 1000, .seconds = 5, .warmup = 1, .mode = MODES};
    opterr = 0;
    for (int option; (option = getopt_long(count, words, "h", options, NULL)) != -1;)
        option_set(o, option);
    if (optind != count - 2)
        usage("a mode and one HOST:PORT are wanted");
    for (uint32_t i = 0; i < MODES; i++)
        if (strcmp(words[optind], mode_names[i]) == 0)
            o->mode = (enum mode)i;
    if (o->mode == MODES)
        usage("there is no such mode");
    o->address = words[optind + 1];
}

int main(int count, char **words)
{
    static struct load load;
    struct load *l = &load;
    options_read(&l->o, count, words);
    client_init(&l->client, l->o.address);
    l->topic_id = client_find_topic(&l->client, TOPIC, &l->partitions);
    if (l->partitions > PARTITIONS)
        die("more than %u partitions", PARTITIONS);
    batch_make(l);
    histogram_init(&l->whole);
    histogram_init(&l->end);
    if (l->o.mode == MODE_RUN)
        run_transactions(l);
    else if (l->o.mode == MODE_IDS)
        run_ids(l);
    else
        run_pids(l);
    load_print(l);
    client_destroy(&l->client);
    return 0;
}
