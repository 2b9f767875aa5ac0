/* Members of consumer groups as a load for a Kafka broker, of the kinds that `torc bench groups`
 * does not put; one thread, one line of figures.
 *
 *   join     so many members enter one group at once; measures until all have their share
 *   idle     so many groups of one member that joined, committed once and says nothing more,
 *            through few connections: for measuring memory
 *   fill     so many groups without members, so many offsets each
 *   check    reads what fill has written
 *
 * Members speak the classic protocol or that of KIP-848, as real clients do:
 *
 *   classic    JOIN ─79─▶ JOIN ──▶ SYNC ──▶ READY ─27─▶ JOIN ...     the leader assigns
 *   consumer   BEAT(epoch 0) ──▶ BEAT(what is held) ──▶ READY ── told otherwise ─▶ BEAT(...) ...
 *
 * Invariants: 1. a peer has one request under way at most; a heartbeat that falls due meanwhile is
 * skipped. 2. An error that the protocol does not explain is counted and makes the status 1. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "core/core.h"
#include "perf/client.h"
#include "perf/peer.h"
#include "proto/error.h"
#include "proto/gen/consumer_group_heartbeat.h"
#include "proto/gen/heartbeat.h"
#include "proto/gen/join_group.h"
#include "proto/gen/offset_commit.h"
#include "proto/gen/offset_fetch.h"
#include "proto/gen/sync_group.h"

#define ID_MAX         64u
#define NAME_MAX_SIZE  32u
#define EVENTS_MAX     256
#define HELD_MAX       100000u
#define OFFSETS_MAX    10000u
#define GROUPS_MAX     10000000u
#define CONNECTIONS    16u
#define SESSION_MS     600000
#define REBALANCE_MS   60000
#define JOIN_LIMIT_NS  (120 * NS_PER_S)
#define TOPIC          "perf-groups"
#define PROTOCOL       "range"
#define COMMIT_VERSION 9 /* the newest that names topics */
#define FETCH_VERSION  7

enum mode { MODE_JOIN, MODE_IDLE, MODE_FILL, MODE_CHECK, MODES };
static const char *const mode_names[MODES] = {"join", "idle", "fill", "check"};

struct options {
    const char *address, *name; /* what groups are called by */
    enum mode mode;
    uint32_t groups, members, offsets, connections;
    uint32_t heartbeat_ms;
    bool consumer;
};

struct member {
    struct peer peer; /* the first, for epoll's events point to it */
    uint32_t number;  /* of its group, or in the one group */
    char id[ID_MAX];
    uint32_t id_size;
    int32_t epoch; /* or generation */
    bool entered, ready;
    uint32_t held_count;
    int32_t *held; /* partitions */
};

union answer {
    struct join_group_response join;
    struct sync_group_response sync;
    struct heartbeat_response heartbeat;
    struct consumer_group_heartbeat_response beat;
    struct offset_commit_response commit;
    struct offset_fetch_response fetch;
};

struct load {
    struct options o;
    struct client client;
    struct peers peers;
    struct uuid topic_id;
    struct member *members;
    uint32_t members_count, ready_count, next; /* next: group to take up, of idle, fill and check */
    uint32_t leader_saw;                       /* members in the newest generation */
    bool settled;
    uint64_t joins, beats, commits, errors, wrong;
    int16_t first_error;
    uint64_t first_join_ns, last_join_ns, settled_ns, begin_ns, end_ns;
};

static struct wire_string text_of(const char *data, uint32_t size)
{
    return (struct wire_string){data, (int32_t)size};
}

static struct wire_string id_of(const struct member *m)
{
    return text_of(m->id, m->id_size);
}

/* In join mode all are in one group. name must last as long as the request. */
static struct wire_string group_of(const struct load *l, const struct member *m, char *name)
{
    int n =
        snprintf(name, NAME_MAX_SIZE, "%s-%u", l->o.name, l->o.mode == MODE_JOIN ? 0 : m->number);
    return text_of(name, MIN((uint32_t)n, NAME_MAX_SIZE - 1));
}

static void load_error(struct load *l, int16_t error)
{
    if (l->errors++ == 0)
        l->first_error = error;
}

/* ---- what members say ------------------------------------------------------------------------ */

static void member_join(struct load *l, struct member *m)
{
    static const uint8_t subscription[] = {0,   1,   0,   0,   0,   1,   0,   11,  'p',
                                           'e', 'r', 'f', '-', 'g', 'r', 'o', 'u', 'p',
                                           's', 0,   0,   0,   0,   0,   0,   0,   0};
    char name[NAME_MAX_SIZE];
    struct join_group_request_protocol protocol;
    struct join_group_request request;
    join_group_request_protocol_init(&protocol);
    protocol.name = wire_string_of(PROTOCOL);
    protocol.metadata = (struct wire_bytes){subscription, sizeof(subscription)};
    join_group_request_init(&request);
    request.group_id = group_of(l, m, name);
    request.session_timeout_ms = SESSION_MS;
    request.rebalance_timeout_ms = REBALANCE_MS;
    request.member_id = id_of(m);
    request.protocol_type = wire_string_of("consumer");
    request.protocols = &protocol;
    request.protocols_count = 1;
    m->ready = false;
    l->joins++;
    peer_ask(&m->peer, &l->peers, API_JOIN_GROUP, &request);
}

static void member_beat_classic(struct load *l, struct member *m)
{
    char name[NAME_MAX_SIZE];
    struct heartbeat_request request;
    heartbeat_request_init(&request);
    request.group_id = group_of(l, m, name);
    request.generation_id = m->epoch;
    request.member_id = id_of(m);
    l->beats++;
    peer_ask(&m->peer, &l->peers, API_HEARTBEAT, &request);
}

/* tell: what it holds stands in it, as in the first one and whenever that has changed. The rest is
 * said once: who says all of it is answered with all of it, each time. */
static void member_beat_consumer(struct load *l, struct member *m, bool tell)
{
    char name[NAME_MAX_SIZE];
    struct wire_string topic = wire_string_of(TOPIC);
    struct consumer_group_heartbeat_request_topic_partitions held = {
        .topic_id = l->topic_id, .partitions = m->held, .partitions_count = (int32_t)m->held_count};
    struct consumer_group_heartbeat_request request;
    consumer_group_heartbeat_request_init(&request);
    request.group_id = group_of(l, m, name);
    request.member_id = id_of(m);
    request.member_epoch = m->epoch;
    if (m->epoch == 0) {
        request.rebalance_timeout_ms = REBALANCE_MS;
        request.subscribed_topic_names = &topic;
        request.subscribed_topic_names_count = 1;
    }
    if (tell || m->epoch == 0) {
        request.topic_partitions = &held;
        request.topic_partitions_count = m->held_count > 0;
    }
    l->beats++;
    peer_ask(&m->peer, &l->peers, API_CONSUMER_GROUP_HEARTBEAT, &request);
}

static void member_enter(struct load *l, struct member *m)
{
    if (!m->entered) {
        l->last_join_ns = now_ns();
        if (l->first_join_ns == 0)
            l->first_join_ns = l->last_join_ns;
    }
    m->entered = true;
    m->epoch = 0;
    m->held_count = 0;
    m->id_size = 0;
    if (!l->o.consumer) {
        member_join(l, m);
        return;
    }
    int n = snprintf(m->id, sizeof(m->id), "member-%08x-of-perf", m->number);
    m->id_size = (uint32_t)n;
    m->ready = false;
    member_beat_consumer(l, m, true);
}

/* One offset of the member, or as many as are filled in; the last is what check expects. */
static int64_t offset_of(uint32_t group, uint32_t partition)
{
    return (int64_t)group * 1000003 + partition;
}

static void member_commit(struct load *l, struct member *m, uint32_t count)
{
    static struct offset_commit_request_partition parts[OFFSETS_MAX];
    char name[NAME_MAX_SIZE];
    struct offset_commit_request_topic topic;
    struct offset_commit_request request;
    assert(count > 0 && count <= OFFSETS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        offset_commit_request_partition_init(&parts[i]);
        parts[i].partition_index = (int32_t)i;
        parts[i].committed_offset = offset_of(m->number, i);
        parts[i].committed_metadata = wire_string_of("");
    }
    offset_commit_request_topic_init(&topic);
    topic.name = wire_string_of(TOPIC);
    topic.partitions = parts;
    topic.partitions_count = (int32_t)count;
    offset_commit_request_init(&request);
    request.group_id = group_of(l, m, name);
    request.generation_id_or_member_epoch = m->id_size > 0 ? m->epoch : -1;
    request.member_id = id_of(m);
    request.topics = &topic;
    request.topics_count = 1;
    peer_ask(&m->peer, &l->peers, API_OFFSET_COMMIT, &request);
}

static void member_fetch(struct load *l, struct member *m)
{
    static int32_t indexes[OFFSETS_MAX];
    char name[NAME_MAX_SIZE];
    struct offset_fetch_request_topic topic;
    struct offset_fetch_request request;
    for (uint32_t i = 0; i < l->o.offsets; i++)
        indexes[i] = (int32_t)i;
    offset_fetch_request_topic_init(&topic);
    topic.name = wire_string_of(TOPIC);
    topic.partition_indexes = indexes;
    topic.partition_indexes_count = (int32_t)l->o.offsets;
    offset_fetch_request_init(&request);
    request.group_id = group_of(l, m, name);
    request.topics = &topic;
    request.topics_count = 1;
    peer_ask(&m->peer, &l->peers, API_OFFSET_FETCH, &request);
}

/* ---- what they hear -------------------------------------------------------------------------- */

static void member_is_ready(struct load *l, struct member *m)
{
    l->ready_count += !m->ready;
    m->ready = true;
    if (l->o.mode == MODE_IDLE)
        member_commit(l, m, 1);
}

/* The leader gives each member of the answer one assignment; what stands in it is nobody's here. */
static void member_sync(struct load *l, struct member *m, const struct join_group_response *joined)
{
    static const uint8_t share[] = {0, 1, 0, 0, 0, 0, 0, 0, 0, 0};
    char name[NAME_MAX_SIZE];
    struct sync_group_request request;
    sync_group_request_init(&request);
    request.group_id = group_of(l, m, name);
    request.generation_id = m->epoch;
    request.member_id = id_of(m);
    request.protocol_type = wire_string_of("consumer");
    request.protocol_name = wire_string_of(PROTOCOL);
    uint32_t count = (uint32_t)joined->members_count;
    struct sync_group_request_assignment *all = calloc(count + 1, sizeof(*all));
    if (all == NULL)
        die("no memory");
    for (uint32_t i = 0; i < count; i++) {
        sync_group_request_assignment_init(&all[i]);
        all[i].member_id = joined->members[i].member_id;
        all[i].assignment = (struct wire_bytes){share, sizeof(share)};
    }
    request.assignments = all;
    request.assignments_count = (int32_t)count;
    if (count > 0)
        l->leader_saw = count;
    peer_ask(&m->peer, &l->peers, API_SYNC_GROUP, &request);
    free(all);
}

static void member_joined(struct load *l, struct member *m, const struct join_group_response *r)
{
    if (r->error_code == KE_MEMBER_ID_REQUIRED && r->member_id.size < (int32_t)ID_MAX) {
        m->id_size = (uint32_t)r->member_id.size;
        memcpy(m->id, r->member_id.data, m->id_size);
        member_join(l, m);
    } else if (r->error_code == KE_NONE) {
        m->epoch = r->generation_id;
        member_sync(l, m, r);
    } else {
        load_error(l, r->error_code);
        member_enter(l, m);
    }
}

static void member_synced(struct load *l, struct member *m, int16_t error)
{
    if (error == KE_NONE) {
        member_is_ready(l, m);
        return;
    }
    if (error != KE_REBALANCE_IN_PROGRESS && error != KE_ILLEGAL_GENERATION)
        load_error(l, error);
    member_join(l, m);
}

static void member_beaten(struct load *l, struct member *m, int16_t error)
{
    if (error == KE_NONE)
        return;
    l->ready_count -= m->ready;
    m->ready = false;
    if (error != KE_REBALANCE_IN_PROGRESS && error != KE_ILLEGAL_GENERATION)
        load_error(l, error);
    member_join(l, m);
}

static void member_told(struct load *l, struct member *m,
                        const struct consumer_group_heartbeat_response *r)
{
    if (r->error_code != KE_NONE) {
        load_error(l, r->error_code);
        l->ready_count -= m->ready;
        member_enter(l, m);
        return;
    }
    m->epoch = r->member_epoch;
    if (r->assignment == NULL) {
        if (!m->ready)
            member_is_ready(l, m);
        return;
    }
    m->held_count = 0;
    for (int32_t i = 0; i < r->assignment->topic_partitions_count; i++) {
        int32_t count = r->assignment->topic_partitions[i].partitions_count;
        if (m->held_count + (uint32_t)count > HELD_MAX)
            die("a member was given more than %u partitions", HELD_MAX);
        m->held = realloc(m->held, (m->held_count + (uint32_t)count + 1) * sizeof(*m->held));
        if (m->held == NULL)
            die("no memory");
        if (count > 0)
            memcpy(m->held + m->held_count, r->assignment->topic_partitions[i].partitions,
                   (uint32_t)count * sizeof(*m->held));
        m->held_count += (uint32_t)count;
    }
    member_beat_consumer(l, m, true);
}

/* Takes up the next group with this connection, if there is one. */
static void member_next(struct load *l, struct member *m)
{
    if (l->next >= l->o.groups)
        return;
    m->number = l->next++;
    m->id_size = 0;
    m->ready = false;
    if (l->o.mode == MODE_FILL)
        member_commit(l, m, l->o.offsets);
    else if (l->o.mode == MODE_CHECK)
        member_fetch(l, m);
    else
        member_enter(l, m);
}

static void member_committed(struct load *l, struct member *m,
                             const struct offset_commit_response *r)
{
    for (int32_t i = 0; i < r->topics_count; i++)
        for (int32_t j = 0; j < r->topics[i].partitions_count; j++)
            if (r->topics[i].partitions[j].error_code != KE_NONE)
                load_error(l, r->topics[i].partitions[j].error_code);
    l->commits += l->o.mode == MODE_FILL ? l->o.offsets : 1;
    member_next(l, m);
}

static void member_fetched(struct load *l, struct member *m, const struct offset_fetch_response *r)
{
    uint32_t right = 0;
    for (int32_t i = 0; i < r->topics_count; i++)
        for (int32_t j = 0; j < r->topics[i].partitions_count; j++) {
            const struct offset_fetch_response_partition *p = &r->topics[i].partitions[j];
            right += p->committed_offset == offset_of(m->number, (uint32_t)p->partition_index);
        }
    if (r->error_code != KE_NONE)
        load_error(l, r->error_code);
    l->wrong += right != l->o.offsets;
    l->commits += right;
    member_next(l, m);
}

static void member_answer(struct load *l, struct member *m)
{
    union answer a;
    if (!peer_hear(&m->peer, &l->peers, &a))
        return;
    switch (m->peer.key) {
    case API_JOIN_GROUP:
        member_joined(l, m, &a.join);
        break;
    case API_SYNC_GROUP:
        member_synced(l, m, a.sync.error_code);
        break;
    case API_HEARTBEAT:
        member_beaten(l, m, a.heartbeat.error_code);
        break;
    case API_CONSUMER_GROUP_HEARTBEAT:
        member_told(l, m, &a.beat);
        break;
    case API_OFFSET_COMMIT:
        member_committed(l, m, &a.commit);
        break;
    default:
        member_fetched(l, m, &a.fetch);
        break;
    }
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* Takes what has come, waiting for it at most until due. */
static void load_wait(struct load *l, uint64_t due_ns)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now = now_ns(), left = due_ns > now ? due_ns - now : 0;
    struct timespec patience = {.tv_sec = (time_t)(left / NS_PER_S),
                                .tv_nsec = (long)(left % NS_PER_S)};
    int n = epoll_pwait2(l->peers.epoll, events, EVENTS_MAX, &patience, NULL);
    if (n < 0 && errno != EINTR)
        die("epoll: %s", strerror(errno));
    for (int i = 0; i < n; i++)
        member_answer(l, events[i].data.ptr);
}

/* Something that each member does once per period, at even distances. */
struct timetable {
    uint64_t start_ns, period_ns, number;
};

static uint64_t timetable_due(const struct timetable *t, uint32_t members)
{
    return t->start_ns + t->number * t->period_ns / members;
}

static void timetable_beats(struct load *l, struct timetable *t, uint64_t now)
{
    for (; timetable_due(t, l->members_count) <= now; t->number++) {
        struct member *m = &l->members[t->number % l->members_count];
        if (m->peer.waits || !m->ready)
            continue;
        if (l->o.consumer)
            member_beat_consumer(l, m, false);
        else
            member_beat_classic(l, m);
    }
}

static void members_make(struct load *l, uint32_t count)
{
    l->members = calloc(count, sizeof(*l->members));
    if (l->members == NULL)
        die("no memory for %u members", count);
    l->members_count = count;
    for (uint32_t i = 0; i < count; i++) {
        peer_open(&l->members[i].peer, &l->peers);
        l->members[i].number = i;
    }
}

/* Everybody who is not waiting for an answer is idle: the end of idle, fill and check. */
static bool load_busy(const struct load *l)
{
    for (uint32_t i = 0; i < l->members_count; i++)
        if (l->members[i].peer.waits)
            return true;
    return false;
}

static void run_through(struct load *l)
{
    members_make(l, MIN(l->o.connections, l->o.groups));
    l->begin_ns = now_ns();
    for (uint32_t i = 0; i < l->members_count; i++)
        member_next(l, &l->members[i]);
    while (l->next < l->o.groups || load_busy(l))
        load_wait(l, now_ns() + NS_PER_S);
    l->end_ns = now_ns();
}

/* Whether everybody has a share of the same, complete group. */
static bool group_settled(const struct load *l)
{
    for (uint32_t i = 0; i < l->members_count; i++) {
        const struct member *m = &l->members[i];
        if (!m->ready || m->epoch != l->members[0].epoch || (l->o.consumer && m->held_count != 1))
            return false;
    }
    return l->o.consumer || l->leader_saw == l->members_count;
}

static void run_join(struct load *l)
{
    members_make(l, l->o.members);
    struct timetable beats = {now_ns(), (uint64_t)l->o.heartbeat_ms * 1000000, 0};
    l->begin_ns = beats.start_ns;
    for (uint32_t i = 0; i < l->members_count; i++)
        member_enter(l, &l->members[i]);
    while (!group_settled(l)) {
        uint64_t now = now_ns();
        if (now - l->begin_ns > JOIN_LIMIT_NS)
            die("the group is not stable; %u of %u members are ready", l->ready_count,
                l->members_count);
        timetable_beats(l, &beats, now);
        load_wait(l, timetable_due(&beats, l->members_count));
    }
    l->settled = true;
    l->settled_ns = l->end_ns = now_ns();
}

/* ---- output and options ---------------------------------------------------------------------- */

static void load_print(const struct load *l)
{
    double seconds = (double)(l->end_ns - l->begin_ns) / 1e9;
    printf("groups mode=%s protocol=%s connections=%u seconds=%.3f joins=%llu heartbeats=%llu "
           "commits=%llu commits_per_s=%.0f errors=%llu wrong=%llu",
           mode_names[l->o.mode], l->o.consumer ? "consumer" : "classic", l->members_count, seconds,
           (unsigned long long)l->joins, (unsigned long long)l->beats,
           (unsigned long long)l->commits, (double)l->commits / seconds,
           (unsigned long long)l->errors, (unsigned long long)l->wrong);
    if (l->settled)
        printf(" join_s=%.3f settled_s=%.3f", (double)(l->last_join_ns - l->first_join_ns) / 1e9,
               (double)(l->settled_ns - l->last_join_ns) / 1e9);
    putchar('\n');
}

static const char usage_text[] =
    "usage: group_load [options] join|idle|fill|check HOST:PORT\n"
    "Members of consumer groups of a Kafka broker; prints one line. Needs the topic "
    "perf-groups.\n\n"
    "  --groups N           idle, fill, check: 1000\n"
    "  --members N          join: 1000; the topic must have as many partitions\n"
    "  --name NAME          what groups are called by: perf\n"
    "  --offsets N          fill, check: per group, one per partition: 100\n"
    "  --connections N      idle, fill, check: 16\n"
    "  --consumer           the protocol of KIP-848; else the classic one\n"
    "  --heartbeat-ms N     join: 3000\n\n"
    "Status: 0 all is well, 1 failed or an answer was wrong, 2 usage.\n";

_Noreturn static void usage(const char *why)
{
    (void)fprintf(stderr, "group_load: error: %s; see --help\n", why);
    exit(2);
}

static uint32_t number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most))
        usage("a number is out of its range");
    return (uint32_t)value;
}

static void option_set(struct options *o, int option)
{
    switch (option) {
    case 'g':
        o->groups = number(optarg, 1, GROUPS_MAX);
        return;
    case 'N':
        o->name = optarg;
        return;
    case 'm':
        o->members = number(optarg, 1, HELD_MAX);
        return;
    case 'o':
        o->offsets = number(optarg, 1, OFFSETS_MAX);
        return;
    case 'n':
        o->connections = number(optarg, 1, 20000);
        return;
    case 'c':
        o->consumer = true;
        return;
    case 'b':
        o->heartbeat_ms = number(optarg, 1, 1e6);
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
    static const struct option options[] = {
        {"groups", 1, NULL, 'g'},   {"members", 1, NULL, 'm'},     {"offsets", 1, NULL, 'o'},
        {"consumer", 0, NULL, 'c'}, {"connections", 1, NULL, 'n'}, {"heartbeat-ms", 1, NULL, 'b'},
        {"name", 1, NULL, 'N'},     {"help", 0, NULL, 'h'},        {NULL, 0, NULL, 0}};
    *o = (struct options){.name = "perf",
                          .groups = 1000,
                          .members = 1000,
                          .offsets = 100,
                          .connections = CONNECTIONS,
                          .heartbeat_ms = 3000,
                          .mode = MODES};
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
    uint32_t partitions;
    options_read(&l->o, count, words);
    client_init(&l->client, l->o.address);
    l->topic_id = client_find_topic(&l->client, TOPIC, &partitions);
    l->client.versions[API_OFFSET_COMMIT] =
        MIN(client_version(&l->client, API_OFFSET_COMMIT), COMMIT_VERSION);
    l->client.versions[API_OFFSET_FETCH] =
        MIN(client_version(&l->client, API_OFFSET_FETCH), FETCH_VERSION);
    peers_init(&l->peers, &l->client);
    if (l->o.mode == MODE_JOIN)
        run_join(l);
    else
        run_through(l);
    load_print(l);
    if (l->errors > 0)
        (void)fprintf(stderr, "error: %llu answers were errors, the first %s\n",
                      (unsigned long long)l->errors,
                      kafka_error_name((enum kafka_error)l->first_error));
    for (uint32_t i = 0; i < l->members_count; i++) {
        free(l->members[i].held);
        peer_close(&l->members[i].peer);
    }
    free(l->members);
    peers_destroy(&l->peers);
    client_destroy(&l->client);
    return l->errors > 0 || l->wrong > 0;
}
