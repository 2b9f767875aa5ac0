/* What lies in partitions: written, looked up by time and by epoch, deleted from the front,
 * measured, led and placed. Only the clerk writes to its desks, so it knows every offset. */
#include "tests/sim/run.h"

#include "proto/gen/alter_partition_reassignments.h"
#include "proto/gen/delete_records.h"
#include "proto/gen/describe_log_dirs.h"
#include "proto/gen/describe_producers.h"
#include "proto/gen/elect_leaders.h"
#include "proto/gen/list_offsets.h"
#include "proto/gen/list_partition_reassignments.h"
#include "proto/gen/offset_for_leader_epoch.h"
#include "proto/gen/produce.h"
#include "proto/record.h"

#define TIMEOUT_MS   10000
#define RECORDS_MAX  20u
#define BATCH_ROOM   16384u
#define WALL_MS      1795262400000ll
#define EPOCH_FUTURE 100000

static int64_t *desk_end(struct clerk *c)
{
    return &c->desk->end[c->partition];
}

/* ---- Produce --------------------------------------------------------------------------------- */

enum { PRODUCE_ACKS = 1, PRODUCE_CORRUPT };

static uint32_t batch_make(struct clerk *c, uint8_t room[BATCH_ROOM])
{
    static const uint8_t value[300] = "a record of the clerk";
    struct batch_header header = batch_header_plain(0);
    struct batch_builder builder;
    batch_builder_init(&builder, room, BATCH_ROOM - 4096, &header);
    c->number = 1 + (int64_t)clerk_below(c, RECORDS_MAX);
    for (int64_t i = 0; i < c->number; i++) {
        struct batch_field none = {0}, content = {value, 100 + (uint32_t)clerk_below(c, 200)};
        int64_t at = WALL_MS + (int64_t)(sim_now_ns(c->run->sim) / NS_PER_MS);
        bool fits = batch_builder_add(&builder, at, none, content, NULL, 0);
        assert(fits);
    }
    uint32_t size = batch_builder_finish(&builder);
    if (c->twist == PRODUCE_CORRUPT)
        room[size - 1] ^= 1;
    return size;
}

static void produce_ask(struct clerk *c)
{
    struct produce_request m;
    struct produce_request_topic_produce_data t;
    struct produce_request_partition_produce_data p;
    uint8_t room[BATCH_ROOM];
    produce_request_init(&m);
    produce_request_topic_produce_data_init(&t);
    produce_request_partition_produce_data_init(&p);
    m.transactional_id = (struct wire_string){NULL, -1};
    m.acks = c->twist == PRODUCE_ACKS ? 5 : -1;
    m.timeout_ms = TIMEOUT_MS;
    m.topic_data = &t;
    m.topic_data_count = 1;
    t.name = clerk_text(c->desk->name);
    t.topic_id = c->desk->id;
    t.partition_data = &p;
    t.partition_data_count = 1;
    p.index = c->partition;
    p.records = (struct wire_records){.data = room, .size = (int32_t)batch_make(c, room)};
    CLERK_ASK(c, m, produce);
}

static void produce_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, produce)
    if (!clerk_check(c, m.responses_count == 1 && m.responses[0].partition_responses_count == 1,
                     "not one result"))
        return;
    const struct produce_response_partition_produce_response *p =
        &m.responses[0].partition_responses[0];
    int16_t wanted = c->version >= 13 && !clerk_has_id(c->desk) ? KE_UNKNOWN_TOPIC_ID
                     : !c->desk->there                          ? KE_UNKNOWN_TOPIC_OR_PARTITION
                     : c->twist == PRODUCE_ACKS                 ? KE_INVALID_REQUIRED_ACKS
                     : c->twist == PRODUCE_CORRUPT              ? KE_CORRUPT_MESSAGE
                                                                : KE_NONE;
    bool early =
        p->error_code == KE_UNKNOWN_TOPIC_OR_PARTITION || p->error_code == KE_UNKNOWN_TOPIC_ID;
    if (early && clerk_lags(c))
        return; /* nothing was written */
    if (!clerk_expect(c, p->error_code, wanted) || p->error_code != KE_NONE)
        return;
    (void)clerk_check(c, p->base_offset == *desk_end(c), "not the next offset");
    *desk_end(c) += c->number;
}

/* ---- ListOffsets, OffsetForLeaderEpoch ------------------------------------------------------- */

enum { AT_END, AT_START, AT_NEWEST, AT_LOCAL, AT_TIERED, AT_FIRST, AT_FUTURE };

static void offsets_ask(struct clerk *c)
{
    static const int64_t times[] = {-1, -2, -3, -4, -5, 0, INT64_MAX - 1, -1};
    static const int16_t since[] = {1, 1, 7, 8, 9, 1, 1, 1};
    struct list_offsets_request m;
    struct list_offsets_request_list_offsets_topic t;
    struct list_offsets_request_list_offsets_partition p;
    list_offsets_request_init(&m);
    list_offsets_request_list_offsets_topic_init(&t);
    list_offsets_request_list_offsets_partition_init(&p);
    if (c->version < since[c->twist])
        c->twist = AT_END;
    m.replica_id = -1;
    m.isolation_level = c->version >= 2 && clerk_below(c, 2) == 1;
    m.topics = &t;
    m.topics_count = 1;
    m.timeout_ms = TIMEOUT_MS;
    t.name = clerk_text(c->desk->name);
    t.partitions = &p;
    t.partitions_count = 1;
    p.partition_index = c->partition;
    p.current_leader_epoch = -1;
    p.timestamp = times[c->twist];
    CLERK_ASK(c, m, list_offsets);
}

static void offset_check(struct clerk *c, int64_t offset, int64_t known)
{
    if (offset != known)
        run_fail(c->run, "clerk: offset of kind %u of %s-%d: %lld, not %lld (%lld to %lld)",
                 c->twist, c->desk->name, c->partition, (long long)offset, (long long)known,
                 (long long)c->desk->start[c->partition], (long long)*desk_end(c));
}

static void offsets_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    const struct desk *d = c->desk;
    CLERK_TOLD(c, m, list_offsets)
    if (!clerk_check(c, m.topics_count == 1 && m.topics[0].partitions_count == 1,
                     "not one result") ||
        !clerk_expect(c, m.topics[0].partitions[0].error_code, clerk_wanted(c)) || !d->there)
        return;
    int64_t offset = m.topics[0].partitions[0].offset, end = *desk_end(c);
    int64_t start = d->start[c->partition];
    if (offset == -1 && clerk_lags(c))
        return;
    switch (c->twist) {
    case AT_START:
    case AT_LOCAL:
    case AT_FIRST:
        if (d->trims)
            (void)clerk_check(c, offset == -1 || (offset >= start && offset <= end), "a start");
        else if (c->twist == AT_FIRST && start == end)
            (void)clerk_check(c, offset == -1, "a record where there is none");
        else
            offset_check(c, offset, start);
        break;
    case AT_NEWEST:
        (void)clerk_check(c, offset == -1 || (offset >= start && offset < end), "a newest one");
        break;
    case AT_TIERED:
    case AT_FUTURE:
        (void)clerk_check(c, offset == -1, "an offset of nothing");
        break;
    default:
        offset_check(c, offset, end);
        break;
    }
}

static void epochs_ask(struct clerk *c)
{
    struct offset_for_leader_epoch_request m;
    struct offset_for_leader_epoch_request_offset_for_leader_topic t;
    struct offset_for_leader_epoch_request_offset_for_leader_partition p;
    offset_for_leader_epoch_request_init(&m);
    offset_for_leader_epoch_request_offset_for_leader_topic_init(&t);
    offset_for_leader_epoch_request_offset_for_leader_partition_init(&p);
    m.replica_id = -1;
    m.topics = &t;
    m.topics_count = 1;
    t.topic = clerk_text(c->desk->name);
    t.partitions = &p;
    t.partitions_count = 1;
    p.partition = c->partition;
    p.current_leader_epoch = c->twist == 0 ? EPOCH_FUTURE : -1;
    p.leader_epoch = c->twist == 1 ? EPOCH_FUTURE : (int32_t)clerk_below(c, 4);
    CLERK_ASK(c, m, offset_for_leader_epoch);
}

static void epochs_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, offset_for_leader_epoch)
    int16_t wanted = clerk_wanted(c);
    if (wanted == KE_NONE && c->twist == 0)
        wanted = KE_UNKNOWN_LEADER_EPOCH;
    if (!clerk_check(c, m.topics_count == 1 && m.topics[0].partitions_count == 1,
                     "not one result") ||
        !clerk_expect(c, m.topics[0].partitions[0].error_code, wanted) || wanted != KE_NONE)
        return;
    int64_t end = m.topics[0].partitions[0].end_offset;
    (void)clerk_check(c, end >= -1 && end <= *desk_end(c), "an end behind the end");
    if (c->twist == 1)
        (void)clerk_check(c, end == -1, "an end of an epoch to come");
}

/* ---- DeleteRecords --------------------------------------------------------------------------- */

static void trim_ask(struct clerk *c)
{
    const struct desk *d = c->desk;
    struct delete_records_request m;
    struct delete_records_request_delete_records_topic t;
    struct delete_records_request_delete_records_partition p;
    delete_records_request_init(&m);
    delete_records_request_delete_records_topic_init(&t);
    delete_records_request_delete_records_partition_init(&p);
    int64_t start = d->start[c->partition], end = *desk_end(c);
    c->number = c->twist == 0   ? -1
                : c->twist == 1 ? end + 10
                                : start + (int64_t)clerk_below(c, (uint64_t)(end - start) + 1);
    m.topics = &t;
    m.topics_count = 1;
    m.timeout_ms = TIMEOUT_MS;
    t.name = clerk_text(d->name);
    t.partitions = &p;
    t.partitions_count = 1;
    p.partition_index = c->partition;
    p.offset = c->number;
    CLERK_ASK(c, m, delete_records);
}

static void trim_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    struct desk *d = c->desk;
    CLERK_TOLD(c, m, delete_records)
    int16_t wanted = clerk_wanted(c);
    if (wanted == KE_NONE && c->twist == 1)
        wanted = KE_OFFSET_OUT_OF_RANGE;
    if (!clerk_check(c, m.topics_count == 1 && m.topics[0].partitions_count == 1, "not one result"))
        return;
    int16_t error = m.topics[0].partitions[0].error_code;
    if (error == KE_UNKNOWN_TOPIC_OR_PARTITION && clerk_lags(c))
        return;
    if (!clerk_expect(c, error, wanted) || error != KE_NONE)
        return;
    int64_t low = m.topics[0].partitions[0].low_watermark;
    int64_t to = c->number == -1 ? *desk_end(c) : c->number;
    (void)clerk_check(c, low == to || (d->trims && low >= to && low <= *desk_end(c)),
                      "another low watermark");
    d->start[c->partition] = low;
}

/* ---- where it lies, who leads ---------------------------------------------------------------- */

static void dirs_ask(struct clerk *c)
{
    struct describe_log_dirs_request m;
    struct describe_log_dirs_request_describable_log_dir_topic t;
    int32_t partitions[DESK_PARTITIONS] = {0, 1, 2, 3, 4, 5};
    describe_log_dirs_request_init(&m);
    describe_log_dirs_request_describable_log_dir_topic_init(&t);
    t.topic = clerk_text(c->desk->name);
    t.partitions = partitions;
    t.partitions_count = c->desk->there ? c->desk->partitions : 1;
    m.topics = &t;
    m.topics_count = c->twist == 0 ? -1 : 1; /* -1: null, all */
    CLERK_ASK(c, m, describe_log_dirs);
}

static void dirs_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    const struct desk *d = c->desk;
    const struct run *r = c->run;
    int32_t found = 0;
    bool whole = r->faulted == 0 && r->faulted_before == 0 && !r->full && !r->full_before;
    CLERK_TOLD(c, m, describe_log_dirs)
    (void)clerk_check(c, m.results_count == (int32_t)r->options.dirs || !whole,
                      "not so many disks");
    for (int32_t i = 0; i < m.results_count; i++) {
        if (!clerk_expect(c, m.results[i].error_code, KE_NONE))
            continue;
        for (int32_t t = 0; t < m.results[i].topics_count; t++) {
            if (clerk_is(m.results[i].topics[t].name, d->name))
                found += m.results[i].topics[t].partitions_count;
        }
    }
    if (whole && !clerk_lags(c))
        (void)clerk_check(c, found == (d->there ? d->partitions : 0), "not each partition once");
}

static void producers_ask(struct clerk *c)
{
    struct describe_producers_request m;
    struct describe_producers_request_topic_request t;
    describe_producers_request_init(&m);
    describe_producers_request_topic_request_init(&t);
    t.name = clerk_text(c->desk->name);
    t.partition_indexes = &c->partition;
    t.partition_indexes_count = 1;
    m.topics = &t;
    m.topics_count = 1;
    CLERK_ASK(c, m, describe_producers);
}

static void producers_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, describe_producers)
    if (clerk_check(c, m.topics_count == 1 && m.topics[0].partitions_count == 1,
                    "not one result") &&
        clerk_expect(c, m.topics[0].partitions[0].error_code, clerk_wanted(c)))
        (void)clerk_check(c, m.topics[0].partitions[0].active_producers_count == 0,
                          "a producer with an id");
}

static void elect_ask(struct clerk *c)
{
    struct elect_leaders_request m;
    struct elect_leaders_request_topic_partitions t;
    elect_leaders_request_init(&m);
    elect_leaders_request_topic_partitions_init(&t);
    t.topic = clerk_text(c->desk->name);
    t.partitions = &c->partition;
    t.partitions_count = 1;
    m.election_type = c->version >= 1 && c->twist % 2 == 1; /* 1: unclean */
    m.topic_partitions = &t;
    m.topic_partitions_count = 1;
    m.timeout_ms = TIMEOUT_MS;
    CLERK_ASK(c, m, elect_leaders);
}

static void elect_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, elect_leaders)
    if (m.error_code != KE_NONE) {
        (void)clerk_expect(c, m.error_code, KE_NONE);
        return;
    }
    if (!clerk_check(c,
                     m.replica_election_results_count == 1 &&
                         m.replica_election_results[0].partition_result_count == 1,
                     "not one result"))
        return;
    int16_t error = m.replica_election_results[0].partition_result[0].error_code;
    bool dark = error == KE_PREFERRED_LEADER_NOT_AVAILABLE ||
                error == KE_ELIGIBLE_LEADERS_NOT_AVAILABLE || error == KE_NONE;
    if (dark && c->run->phase == PHASE_HARM)
        return; /* its disk is away, or it had no leader */
    (void)clerk_expect(c, error, c->desk->there ? KE_ELECTION_NOT_NEEDED : clerk_wanted(c));
}

enum { MOVE_CANCEL, MOVE_FAR };

static void move_ask(struct clerk *c)
{
    struct alter_partition_reassignments_request m;
    struct alter_partition_reassignments_request_reassignable_topic t;
    struct alter_partition_reassignments_request_reassignable_partition p;
    int32_t broker = c->twist == MOVE_FAR ? 9 : 1;
    alter_partition_reassignments_request_init(&m);
    alter_partition_reassignments_request_reassignable_topic_init(&t);
    alter_partition_reassignments_request_reassignable_partition_init(&p);
    p.partition_index = c->partition;
    p.replicas = &broker;
    p.replicas_count = c->twist == MOVE_CANCEL ? -1 : 1;
    t.name = clerk_text(c->desk->name);
    t.partitions = &p;
    t.partitions_count = 1;
    m.topics = &t;
    m.topics_count = 1;
    m.timeout_ms = TIMEOUT_MS;
    CLERK_ASK(c, m, alter_partition_reassignments);
}

static void move_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, alter_partition_reassignments)
    if (m.error_code != KE_NONE) {
        (void)clerk_expect(c, m.error_code, KE_NONE);
        return;
    }
    int16_t wanted = !c->desk->there           ? KE_UNKNOWN_TOPIC_OR_PARTITION
                     : c->twist == MOVE_CANCEL ? KE_NO_REASSIGNMENT_IN_PROGRESS
                     : c->twist == MOVE_FAR    ? KE_INVALID_REPLICA_ASSIGNMENT
                                               : KE_NONE;
    if (clerk_check(c, m.responses_count == 1 && m.responses[0].partitions_count == 1,
                    "not one result"))
        (void)clerk_expect(c, m.responses[0].partitions[0].error_code, wanted);
}

static void moves_ask(struct clerk *c)
{
    struct list_partition_reassignments_request m;
    struct list_partition_reassignments_request_list_partition_reassignments_topics t;
    list_partition_reassignments_request_init(&m);
    list_partition_reassignments_request_list_partition_reassignments_topics_init(&t);
    t.name = clerk_text(c->desk->name);
    t.partition_indexes = &c->partition;
    t.partition_indexes_count = 1;
    m.topics = &t;
    m.topics_count = c->twist % 2 == 0 ? -1 : 1;
    m.timeout_ms = TIMEOUT_MS;
    CLERK_ASK(c, m, list_partition_reassignments);
}

static void moves_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, list_partition_reassignments)
    if (clerk_expect(c, m.error_code, KE_NONE))
        (void)clerk_check(c, m.topics_count == 0, "something moves");
}

static const struct errand errands[] = {
    {API_PRODUCE, true, produce_ask, produce_told},
    {API_PRODUCE, true, produce_ask, produce_told}, /* more often */
    {API_PRODUCE, true, produce_ask, produce_told},
    {API_LIST_OFFSETS, false, offsets_ask, offsets_told},
    {API_LIST_OFFSETS, false, offsets_ask, offsets_told},
    {API_OFFSET_FOR_LEADER_EPOCH, false, epochs_ask, epochs_told},
    {API_DELETE_RECORDS, true, trim_ask, trim_told},
    {API_DESCRIBE_LOG_DIRS, false, dirs_ask, dirs_told},
    {API_DESCRIBE_PRODUCERS, false, producers_ask, producers_told},
    {API_ELECT_LEADERS, false, elect_ask, elect_told},
    {API_ALTER_PARTITION_REASSIGNMENTS, false, move_ask, move_told},
    {API_LIST_PARTITION_REASSIGNMENTS, false, moves_ask, moves_told},
};

const struct errand *clerk_logs(uint32_t *count)
{
    *count = sizeof(errands) / sizeof(errands[0]);
    return errands;
}
