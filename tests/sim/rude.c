/* See rude.h. On each connection it is rude in one way, drawn when it is up:
 *
 *   bytes        no requests at all: any length, any content
 *   half         the first part of a large frame, and then nothing, or the end
 *   mute         asks and asks, and takes no answer
 *   idle         holds a connection
 *   sessions     fetch sessions that are not its own, of other epochs, of what there is not
 *   nonsense     appends that cannot be: damaged, too large, of two producers, out of sequence, of
 *                old epochs; to a topic of nobody
 *   group        joins, and leaves at once; syncs and beats for generations of the past
 *   late         asks, and is gone before the answer
 *
 * What it is answered does not matter, only that it is answered in order or let go of. */
#include "tests/sim/rude.h"

#include <stdio.h>
#include <string.h>

#include "proto/batch.h"
#include "proto/gen/add_partitions_to_txn.h"
#include "proto/gen/api.h"
#include "proto/gen/delete_topics.h"
#include "proto/gen/end_txn.h"
#include "proto/gen/fetch.h"
#include "proto/gen/heartbeat.h"
#include "proto/gen/init_producer_id.h"
#include "proto/gen/join_group.h"
#include "proto/gen/leave_group.h"
#include "proto/gen/metadata.h"
#include "proto/gen/offset_commit.h"
#include "proto/gen/produce.h"
#include "proto/gen/sync_group.h"
#include "tests/sim/run.h"

#define THINK_NS     (20 * NS_PER_MS)
#define TIMEOUT_NS   (6 * NS_PER_S)
#define MUTE_NS      (90 * NS_PER_S)
#define ACTS         12u
#define ANSWER_LIMIT (16u << 20)
#define RUDE_TOPIC   "nobody" /* made by whoever asks for it first: the broker itself */
#define HALF_MAX     (5u << 20)
#define LARGE        (1200u << 10) /* more than message.max.bytes */

enum way { BYTES, HALF, MUTE, IDLE, SESSIONS, NONSENSE, GROUP, TXN, LATE, WAYS };

static void rude_acts(struct sim_event *e);

static struct wire_string text_of(const char *s)
{
    return (struct wire_string){s, (int32_t)strlen(s)};
}

static void rude_later(struct rude *u, uint64_t mean_ns)
{
    struct run *r = u->run;
    sim_plan(r->sim, &u->act, sim_now_ns(r->sim) + 1 + chance_around(r->chance, mean_ns),
             rude_acts);
}

/* ---- ways ------------------------------------------------------------------------------------ */

static void rude_bytes(struct rude *u)
{
    uint8_t bytes[600];
    struct chance *c = u->run->chance;
    uint32_t size = (uint32_t)chance_between(c, 1, sizeof(bytes));
    for (uint32_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)chance_next(c);
    if (size >= 4 && chance_one_in(c, 2)) /* a length that may be */
        wire_store32(bytes, size - 4);
    sim_client_send(u->link.client, bytes, size);
}

static void rude_half(struct rude *u)
{
    static const uint8_t zeros[1 << 16];
    uint8_t length[4];
    struct chance *c = u->run->chance;
    uint32_t size = (uint32_t)chance_between(c, 1000, HALF_MAX);
    wire_store32(length, size);
    sim_client_send(u->link.client, length, chance_one_in(c, 8) ? 2 : 4);
    for (uint32_t sent = 0, part = (uint32_t)chance_below(c, size); sent < part;
         sent += sizeof(zeros))
        sim_client_send(u->link.client, zeros, MIN(part - sent, (uint32_t)sizeof(zeros)));
    u->left = 0; /* and nothing more */
}

static void ask_metadata(struct rude *u)
{
    struct metadata_request m;
    struct metadata_request_topic topic;
    metadata_request_init(&m);
    metadata_request_topic_init(&topic);
    topic.name = text_of(RUDE_TOPIC);
    m.topics = &topic;
    m.topics_count = 1;
    m.allow_auto_topic_creation = true;
    LINK_ASK(&u->link, &m, metadata, API_METADATA, 12, 0, true);
}

static void ask_fetch(struct rude *u, bool sessions)
{
    struct chance *c = u->run->chance;
    struct fetch_request q;
    struct fetch_request_fetch_topic topic;
    struct fetch_request_fetch_partition parts[4];
    struct fetch_request_forgotten_topic forgotten;
    int32_t forgets = (int32_t)chance_below(c, 4);
    fetch_request_init(&q);
    fetch_request_fetch_topic_init(&topic);
    fetch_request_forgotten_topic_init(&forgotten);
    bool known = !chance_one_in(c, 3);
    bool by_id = sessions && chance_one_in(c, 3);
    for (uint32_t i = 0; i < 4; i++) {
        fetch_request_fetch_partition_init(&parts[i]);
        parts[i].partition = (int32_t)i;
        parts[i].fetch_offset = (int64_t)chance_below(c, 3) - 1;
        parts[i].current_leader_epoch = (int32_t)chance_below(c, 4) - 1;
        parts[i].last_fetched_epoch = (int32_t)chance_below(c, 4) - 1;
        parts[i].partition_max_bytes = 1 << 20;
    }
    topic.topic = text_of(chance_one_in(c, 4) ? RUDE_TOPIC
                          : known             ? u->run->topics[0].name
                                              : "there is none");
    topic.topic_id = u->run->topics[0].id;
    topic.partitions = parts;
    topic.partitions_count = (int32_t)chance_below(c, 5);
    forgotten.topic = topic.topic;
    forgotten.topic_id = topic.topic_id;
    forgotten.partitions = &forgets;
    forgotten.partitions_count = 1;
    q.max_wait_ms = (int32_t)chance_below(c, 600);
    q.min_bytes = 1;
    q.max_bytes = 1 << 22;
    q.rack_id = (struct wire_string){"", 0};
    q.topics = &topic;
    q.topics_count = topic.partitions_count > 0;
    q.session_epoch = -1;
    if (sessions) {
        q.session_id = chance_one_in(c, 8) ? (int32_t)chance_below(c, 1000) : u->session;
        q.session_epoch = u->session == 0 ? 0 : (int32_t)(1 + chance_below(c, 3));
        q.forgotten_topics_data = &forgotten;
        q.forgotten_topics_data_count = u->session != 0 && chance_one_in(c, 2);
    }
    LINK_ASK(&u->link, &q, fetch, API_FETCH, by_id ? 13 : 12, (uint64_t)(by_id ? 13 : 12), true);
}

static void ask_id(struct rude *u)
{
    struct init_producer_id_request m;
    init_producer_id_request_init(&m);
    m.transactional_id = (struct wire_string){NULL, -1};
    LINK_ASK(&u->link, &m, init_producer_id, API_INIT_PRODUCER_ID, 4, 0, true);
}

/* A batch that is well formed, but for what the way of it says. */
static uint32_t nonsense_batch(struct rude *u, uint8_t *to, uint32_t room, uint64_t way)
{
    static const uint8_t value[LARGE];
    struct chance *c = u->run->chance;
    struct batch_header header = batch_header_plain(0);
    struct batch_builder b;
    if (way != 0) {
        header.producer_id = u->id + (way == 3 ? (int64_t)chance_below(c, 2) : 0);
        header.producer_epoch = (int16_t)(way == 2 ? chance_below(c, 3) : 0);
        header.base_sequence = way == 1 ? (int32_t)chance_below(c, 5) : 0;
        header.attributes = way == 3 ? BATCH_TRANSACTIONAL : 0;
    }
    batch_builder_init(&b, to, room, &header);
    uint32_t size = way == 4 ? LARGE - 1000 : (uint32_t)chance_between(c, 1, 30000);
    bool added = batch_builder_add(&b, 1795262400000ll, (struct batch_field){0},
                                   (struct batch_field){value, size}, NULL, 0);
    assert(added);
    size = batch_builder_finish(&b);
    if (way == 5)
        to[BATCH_HEADER_SIZE + chance_below(c, size - BATCH_HEADER_SIZE)] ^= 1;
    return size;
}

static void ask_nonsense(struct rude *u)
{
    struct run *r = u->run;
    struct produce_request m;
    struct produce_request_topic_produce_data topic;
    struct produce_request_partition_produce_data parts[2];
    uint64_t way = chance_below(r->chance, 6);
    uint32_t room = LARGE + 4096, sizes[2];
    uint8_t *bytes[2];
    produce_request_init(&m);
    produce_request_topic_produce_data_init(&topic);
    for (uint32_t i = 0; i < 2; i++) {
        bytes[i] = mem_alloc(&r->mem, room);
        assert(bytes[i] != NULL);
        sizes[i] = nonsense_batch(u, bytes[i], room, way);
        produce_request_partition_produce_data_init(&parts[i]);
        parts[i].index = (int32_t)i;
        parts[i].records = (struct wire_records){.data = bytes[i], .size = (int32_t)sizes[i]};
    }
    topic.name = text_of(RUDE_TOPIC);
    topic.partition_data = parts;
    topic.partition_data_count = way == 4 ? 1 : 2;
    m.acks = (int16_t)((int64_t)chance_below(r->chance, 3) - 1);
    m.timeout_ms = 1000;
    m.topic_data = &topic;
    m.topic_data_count = 1;
    if (way == 3)
        m.transactional_id = text_of("rude");
    LINK_ASK(&u->link, &m, produce, API_PRODUCE, 9, 0, m.acks != 0);
    for (uint32_t i = 0; i < 2; i++)
        mem_free(&r->mem, bytes[i], room);
}

/* While others write to it and read it. */
static void ask_delete(struct rude *u)
{
    struct delete_topics_request m;
    struct wire_string name = text_of(RUDE_TOPIC);
    delete_topics_request_init(&m);
    m.topic_names = &name;
    m.topic_names_count = 1;
    m.timeout_ms = 1000;
    LINK_ASK(&u->link, &m, delete_topics, API_DELETE_TOPICS, 5, 0, true);
}

static void ask_txn_id(struct rude *u, const char *name)
{
    struct init_producer_id_request m;
    init_producer_id_request_init(&m);
    m.transactional_id = text_of(name);
    m.transaction_timeout_ms = 1000;
    LINK_ASK(&u->link, &m, init_producer_id, API_INIT_PRODUCER_ID, 4, 1, true);
}

static void ask_txn_add(struct rude *u, const char *name)
{
    struct add_partitions_to_txn_request m;
    struct add_partitions_to_txn_request_add_partitions_to_txn_topic topic;
    int32_t partition = 0;
    add_partitions_to_txn_request_init(&m);
    add_partitions_to_txn_request_add_partitions_to_txn_topic_init(&topic);
    topic.name = text_of(RUDE_TOPIC);
    topic.partitions = &partition;
    topic.partitions_count = 1;
    m.v3_and_below_transactional_id = text_of(name);
    m.v3_and_below_producer_id = u->txn_id;
    m.v3_and_below_producer_epoch = u->txn_epoch;
    m.v3_and_below_topics = &topic;
    m.v3_and_below_topics_count = 1;
    LINK_ASK(&u->link, &m, add_partitions_to_txn, API_ADD_PARTITIONS_TO_TXN, 3, 0, true);
}

static void rude_txn(struct rude *u)
{
    struct end_txn_request m;
    char name[16];
    (void)snprintf(name, sizeof(name), "rude-%d", u->number);
    uint64_t way = chance_below(u->run->chance, 6);
    int16_t version = chance_one_in(u->run->chance, 2) ? 3 : 5;
    if (u->txn_id < 0 || way == 0) {
        ask_txn_id(u, name);
    } else if (way < 3) {
        ask_txn_add(u, name);
    } else {
        end_txn_request_init(&m);
        m.transactional_id = text_of(name);
        m.producer_id = u->txn_id;
        m.producer_epoch = u->txn_epoch;
        m.committed = way == 5 && chance_one_in(u->run->chance, 2);
        LINK_ASK(&u->link, &m, end_txn, API_END_TXN, version, 0, true);
    }
}

/* A static one comes under the same name again and again, without an id; the others with the id
 * they were given, or, at first, without. */
static void ask_join(struct rude *u)
{
    struct join_group_request m;
    struct join_group_request_protocol protocol;
    join_group_request_init(&m);
    join_group_request_protocol_init(&protocol);
    protocol.name = text_of("rude");
    protocol.metadata = (struct wire_bytes){(const uint8_t *)"", 0};
    m.group_id = text_of("rude-group");
    bool fixed = chance_one_in(u->run->chance, 3);
    m.member_id = text_of(fixed && chance_one_in(u->run->chance, 2) ? "" : u->member);
    if (fixed)
        m.group_instance_id = text_of("rude-static");
    m.protocol_type = text_of("rude");
    m.protocols = &protocol;
    m.protocols_count = 1;
    m.session_timeout_ms = m.rebalance_timeout_ms = 300;
    LINK_ASK(&u->link, &m, join_group, API_JOIN_GROUP, 7, 0, true);
}

static void ask_commit(struct rude *u)
{
    struct offset_commit_request m;
    struct offset_commit_request_topic topic;
    struct offset_commit_request_partition part;
    offset_commit_request_init(&m);
    offset_commit_request_topic_init(&topic);
    offset_commit_request_partition_init(&part);
    bool simple = chance_one_in(u->run->chance, 2);
    part.committed_metadata = text_of("");
    topic.name = text_of(u->run->janitors[0].run != NULL ? u->run->janitors[0].name : RUDE_TOPIC);
    topic.partitions = &part;
    topic.partitions_count = 1;
    m.group_id = text_of(simple ? "rude-offsets" : "no such group");
    m.member_id = text_of("");
    m.generation_id_or_member_epoch = simple ? -1 : 5;
    m.topics = &topic;
    m.topics_count = 1;
    LINK_ASK(&u->link, &m, offset_commit, API_OFFSET_COMMIT, 8, 0, true);
}

static void ask_past(struct rude *u)
{
    struct sync_group_request s;
    struct heartbeat_request h;
    struct leave_group_request l;
    struct leave_group_request_member_identity who;
    uint64_t way = chance_below(u->run->chance, 5);
    int32_t generation = u->generation - (chance_one_in(u->run->chance, 3) ? 1 : 0);
    if (way < 2) {
        sync_group_request_init(&s);
        s.group_id = text_of("rude-group");
        s.member_id = text_of(u->member);
        s.generation_id = generation;
        LINK_ASK(&u->link, &s, sync_group, API_SYNC_GROUP, 4, 0, true);
    } else if (way < 4) {
        heartbeat_request_init(&h);
        h.group_id = text_of("rude-group");
        h.member_id = text_of(u->member);
        h.generation_id = generation;
        LINK_ASK(&u->link, &h, heartbeat, API_HEARTBEAT, 4, 0, true);
    } else {
        leave_group_request_init(&l);
        leave_group_request_member_identity_init(&who);
        who.member_id = text_of(u->member);
        l.group_id = text_of("rude-group");
        l.members = &who;
        l.members_count = 1;
        LINK_ASK(&u->link, &l, leave_group, API_LEAVE_GROUP, 4, 0, true);
    }
}

/* ---- acting ---------------------------------------------------------------------------------- */

static void rude_group(struct rude *u)
{
    uint64_t way = chance_below(u->run->chance, 8);
    if (way < 4)
        ask_join(u);
    else if (way == 4)
        ask_commit(u);
    else
        ask_past(u);
}

static void rude_does(struct rude *u)
{
    switch ((enum way)u->way) {
    case BYTES:
        rude_bytes(u);
        break;
    case HALF:
        rude_half(u);
        break;
    case MUTE:
    case LATE:
        if (chance_one_in(u->run->chance, 3))
            ask_metadata(u);
        else
            ask_fetch(u, false);
        break;
    case SESSIONS:
        ask_fetch(u, true);
        break;
    case NONSENSE:
        if (chance_one_in(u->run->chance, 8))
            ask_delete(u);
        else if (chance_one_in(u->run->chance, 8))
            ask_metadata(u);
        else if (u->id < 0)
            ask_id(u);
        else
            ask_nonsense(u);
        break;
    case GROUP:
        rude_group(u);
        break;
    case TXN:
        rude_txn(u);
        break;
    case IDLE:
    case WAYS:
        break;
    }
}

static void rude_acts(struct sim_event *e)
{
    struct rude *u = container_of(e, struct rude, act);
    struct run *r = u->run;
    if (!u->link.is_up)
        return;
    if (u->left == 0 || r->phase > PHASE_HEAL) {
        bool holds = r->phase == PHASE_HARM && (u->way == MUTE || u->way == IDLE || u->way == HALF);
        if (holds && !chance_one_in(r->chance, 16)) {
            rude_later(u, TIMEOUT_NS / 4);
            return;
        }
        link_break(&u->link);
        return;
    }
    u->left--;
    u->acts++;
    if (u->link.requests_count < LINK_REQUESTS_MAX && r->admin.created)
        rude_does(u);
    if (u->link.client != NULL)
        rude_later(u, u->way == MUTE || u->way == LATE ? 1 : THINK_NS);
}

static void rude_answered(struct link *l, const struct link_request *q, struct wire_reader *body)
{
    struct rude *u = l->owner;
    struct arena arena;
    arena_init(&arena, &u->run->mem, ANSWER_LIMIT);
    if (q->api_key == API_FETCH) {
        struct fetch_response m;
        if (fetch_response_decode(&m, body, (int16_t)q->tag, &arena) == 0 && m.session_id != 0)
            u->session = m.session_id;
    } else if (q->api_key == API_INIT_PRODUCER_ID) {
        struct init_producer_id_response m;
        if (init_producer_id_response_decode(&m, body, 4, &arena) == 0 && m.error_code == 0) {
            u->id = q->tag == 0 ? m.producer_id : u->id;
            u->txn_id = q->tag == 1 ? m.producer_id : u->txn_id;
            u->txn_epoch = q->tag == 1 ? m.producer_epoch : u->txn_epoch;
        }
    } else if (q->api_key == API_JOIN_GROUP) {
        struct join_group_response m;
        if (join_group_response_decode(&m, body, 7, &arena) == 0 && m.member_id.size > 0) {
            (void)snprintf(u->member, sizeof(u->member), "%.*s", m.member_id.size,
                           m.member_id.data);
            u->generation = m.error_code == 0 ? m.generation_id : u->generation;
        }
    }
    arena_release(&arena);
}

static void rude_up(struct link *l)
{
    struct rude *u = l->owner;
    u->way = (uint32_t)chance_below(u->run->chance, WAYS);
    u->left = u->way == IDLE ? 0 : u->way == LATE ? 1 : ACTS;
    if (chance_one_in(u->run->chance, 2))
        u->session = 0;
    l->mute = u->way == MUTE;
    sim_client_hold(l->client, l->mute);
    l->timeout_ns = u->way == MUTE ? MUTE_NS : TIMEOUT_NS;
    rude_later(u, THINK_NS);
}

static void rude_down(struct link *l)
{
    struct rude *u = l->owner;
    sim_unplan(u->run->sim, &u->act);
}

/* It has no right to complain; but it does not listen any longer. */
static void rude_broken(struct link *l, const char *why)
{
    (void)why;
    link_break(l);
}

void rude_start(struct rude *u, struct run *r, uint32_t index)
{
    *u = (struct rude){.run = r, .id = -1, .txn_id = -1, .number = (int32_t)index};
    u->link = (struct link){.sim = r->sim,
                            .mem = &r->mem,
                            .to = r->machine,
                            .port = SIM_NODE_PORT,
                            .timeout_ns = TIMEOUT_NS,
                            .owner = u,
                            .up = rude_up,
                            .down = rude_down,
                            .answered = rude_answered,
                            .broken = rude_broken};
    link_start(&u->link);
}

void rude_stop(struct rude *u)
{
    sim_unplan(u->run->sim, &u->act);
    link_stop(&u->link);
}
