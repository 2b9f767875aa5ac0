/* Fetch sessions: a table of sessions by id, each an ordered list of partitions with a table by
 * key.
 *
 *   used: longest unused ◀── session ── session ── session ──▶ most recently used
 *                              └ partitions: in the order in which answers are filled
 *
 * Invariants
 *  1. A session's epoch is the next one its client must name: 1 after creation, then +1 per
 *     incremental fetch, and 1 again behind INT32_MAX. 0 and -1 never name a session's state.
 *  2. by_key holds exactly the partitions of the list.
 *  3. A session that a flow works with is not freed under it; `dead` defers that.
 *
 * Failure modes: no slot or no memory: the fetch is answered without a session (id 0), which is
 * always legal; adding to a full core's session fails the same way, with the session removed. */
#include "broker/api/fetch_session.h"

#include <string.h>

#include "broker/data_core.h"
#include "core/lab.h"

int fetch_sessions_init(struct fetch_sessions **out, struct data_core *core)
{
    struct fetch_sessions *s = mem_zalloc(&core->mem, sizeof(*s));
    if (s == NULL)
        return -1;
    s->core = core;
    list_init(&s->used);
    map_init(&s->by_id, &core->mem, io_random(core->io));
    uint32_t slots = (uint32_t)core->config->max_incremental_fetch_session_cache_slots;
    s->slots = (slots + core->cores_count - 1) / core->cores_count;
    *out = s;
    return 0;
}

static void partition_free(struct fetch_sessions *s, struct fetch_session *session,
                           struct fetch_partition *p)
{
    map_remove(&session->by_key, p->key, p->key_size);
    list_remove(&p->link);
    mem_free(&s->core->mem, p, p->size);
}

static void session_free(struct fetch_sessions *s, struct fetch_session *session)
{
    LIST_EACH(l, &session->partitions)
    partition_free(s, session, container_of(l, struct fetch_partition, link));
    map_destroy(&session->by_key);
    mem_free(&s->core->mem, session, sizeof(*session));
}

void fetch_session_remove(struct fetch_sessions *s, struct fetch_session *session)
{
    if (session->dead)
        return;
    map_remove(&s->by_id, &session->id, sizeof(session->id));
    list_remove(&session->link);
    session->dead = true;
    if (!session->busy)
        session_free(s, session);
}

void fetch_sessions_free(struct fetch_sessions *s)
{
    LIST_EACH(l, &s->used)
    {
        struct fetch_session *session = container_of(l, struct fetch_session, link);
        session->busy = false;
        fetch_session_remove(s, session);
    }
    map_destroy(&s->by_id);
    mem_free(&s->core->mem, s, sizeof(*s));
}

/* ---- partitions ------------------------------------------------------------------------------ */

#define KEY_MAX (4 + 32767)

static uint32_t partition_key(char *key, bool uses_ids, struct uuid id, struct wire_string name,
                              int32_t partition)
{
    memcpy(key, &partition, 4);
    if (uses_ids) {
        memcpy(key + 4, id.bytes, sizeof(id.bytes));
        return 4 + sizeof(id.bytes);
    }
    if (name.size > 0)
        memcpy(key + 4, name.data, (size_t)name.size);
    return 4 + (uint32_t)MAX(name.size, 0);
}

static struct fetch_partition *session_find(const struct fetch_session *session, struct uuid id,
                                            struct wire_string name, int32_t partition)
{
    char key[KEY_MAX];
    uint32_t size = partition_key(key, session->uses_ids, id, name, partition);
    return map_get(&session->by_key, key, size);
}

static struct fetch_partition *session_insert(struct fetch_sessions *s,
                                              struct fetch_session *session, struct uuid id,
                                              struct wire_string name, int32_t partition)
{
    char key[KEY_MAX];
    uint32_t key_size = partition_key(key, session->uses_ids, id, name, partition);
    struct fetch_partition *p = mem_zalloc(&s->core->mem, sizeof(*p) + key_size);
    if (p == NULL)
        return NULL;
    p->size = (uint32_t)sizeof(*p) + key_size;
    p->key_size = key_size;
    memcpy(p->key, key, key_size);
    p->partition = partition;
    p->topic_id = id;
    p->name_size = session->uses_ids ? 0 : (uint16_t)(key_size - 4);
    p->high_watermark = -1;
    p->log_start_offset = -1;
    if (map_put(&session->by_key, p->key, p->key_size, p) != 0) {
        mem_free(&s->core->mem, p, p->size);
        return NULL;
    }
    list_push_back(&session->partitions, &p->link);
    return p;
}

static void partition_ask(struct fetch_partition *p, const struct fetch_request_fetch_partition *q)
{
    p->fetch_offset = q->fetch_offset;
    p->current_leader_epoch = q->current_leader_epoch;
    p->last_fetched_epoch = q->last_fetched_epoch;
    p->max_bytes = q->partition_max_bytes;
}

static bool session_update(struct fetch_sessions *s, struct fetch_session *session,
                           const struct fetch_request *r)
{
    for (int32_t i = 0; i < r->topics_count; i++) {
        const struct fetch_request_fetch_topic *t = &r->topics[i];
        for (int32_t j = 0; j < t->partitions_count; j++) {
            const struct fetch_request_fetch_partition *q = &t->partitions[j];
            struct fetch_partition *p = session_find(session, t->topic_id, t->topic, q->partition);
            if (p == NULL)
                p = session_insert(s, session, t->topic_id, t->topic, q->partition);
            if (p == NULL)
                return false;
            if (!DEFECT(34) || p->max_bytes == 0)
                partition_ask(p, q);
        }
    }
    for (int32_t i = 0; i < r->forgotten_topics_data_count; i++) {
        const struct fetch_request_forgotten_topic *t = &r->forgotten_topics_data[i];
        for (int32_t j = 0; j < t->partitions_count; j++) {
            struct fetch_partition *p =
                session_find(session, t->topic_id, t->topic, t->partitions[j]);
            SOMETIMES_IF(p != NULL, "a fetch session forgets a partition");
            if (p != NULL)
                partition_free(s, session, p);
        }
    }
    return true;
}

/* ---- sessions -------------------------------------------------------------------------------- */

enum kafka_error fetch_context_begin(struct fetch_sessions *s, struct fetch_context *c,
                                     const struct fetch_request *r, int16_t version)
{
    *c = (struct fetch_context){.kind = FETCH_SESSIONLESS};
    if (version < 7)
        return KE_NONE;
    struct fetch_session *session = map_get(&s->by_id, &r->session_id, sizeof(r->session_id));
    if (r->session_epoch <= 0) {
        if (r->session_id != 0 && session != NULL)
            fetch_session_remove(s, session);
        c->kind = r->session_epoch == 0 ? FETCH_FULL : FETCH_SESSIONLESS;
        return KE_NONE;
    }
    SOMETIMES_IF(session == NULL, "a fetch session is not known");
    if (session == NULL || session->busy)
        return KE_FETCH_SESSION_ID_NOT_FOUND;
    SOMETIMES_IF(session->epoch != r->session_epoch, "the epoch of a fetch session is wrong");
    if (session->epoch != r->session_epoch)
        return KE_INVALID_FETCH_SESSION_EPOCH;
    SOMETIMES_IF(session->uses_ids != (version >= 13),
                 "a fetch session knows ids, the request names");
    if (session->uses_ids != (version >= 13))
        return KE_FETCH_SESSION_TOPIC_ID_ERROR;
    if (!session_update(s, session, r)) {
        fetch_session_remove(s, session);
        return KE_FETCH_SESSION_ID_NOT_FOUND;
    }
    SOMETIMES_IF(list_empty(&session->partitions), "a fetch session has no partition left");
    if (list_empty(&session->partitions)) {
        fetch_session_remove(s, session);
        return KE_NONE; /* sessionless, and it asks for nothing */
    }
    session->used_ns = io_now_ns(s->core->io);
    list_remove(&session->link);
    list_push_back(&s->used, &session->link);
    session->epoch = session->epoch == INT32_MAX ? 1 : session->epoch + 1;
    session->busy = true;
    c->kind = FETCH_INCREMENTAL;
    c->session = session;
    return KE_NONE;
}

void fetch_context_end(struct fetch_sessions *s, struct fetch_context *c)
{
    struct fetch_session *session = c->session;
    if (session == NULL)
        return;
    session->busy = false;
    SOMETIMES_IF(session->dead, "a fetch session ends while it is in use");
    if (session->dead)
        session_free(s, session);
    c->session = NULL;
}

/* Room for one more: a session idle for two minutes goes, else the smallest one that is smaller
 * than the newcomer (FetchSessionCache.tryEvict, without its privileged followers). */
static bool sessions_make_room(struct fetch_sessions *s, uint32_t partitions_count)
{
    if (s->by_id.count < s->slots)
        return true;
    struct list *oldest = list_first(&s->used);
    if (oldest == NULL)
        return false;
    struct fetch_session *victim = container_of(oldest, struct fetch_session, link);
    if (io_now_ns(s->core->io) - victim->used_ns <= FETCH_SESSION_EVICTION_NS) {
        uint32_t smallest = partitions_count;
        victim = NULL;
        LIST_EACH(l, &s->used)
        {
            struct fetch_session *it = container_of(l, struct fetch_session, link);
            if (it->by_key.count < smallest) {
                smallest = it->by_key.count;
                victim = it;
            }
        }
    }
    if (victim == NULL)
        return false;
    SOMETIMES("a fetch session makes room");
    s->evicted++;
    fetch_session_remove(s, victim);
    return true;
}

struct fetch_session *fetch_session_create(struct fetch_sessions *s, bool uses_ids,
                                           uint32_t partitions_count)
{
    if (!sessions_make_room(s, partitions_count))
        return NULL;
    struct fetch_session *session = mem_zalloc(&s->core->mem, sizeof(*session));
    if (session == NULL)
        return NULL;
    do {
        session->id = (int32_t)(io_random(s->core->io) & INT32_MAX);
    } while (session->id == 0 || map_get(&s->by_id, &session->id, sizeof(session->id)) != NULL);
    session->epoch = 1;
    session->uses_ids = uses_ids;
    session->used_ns = io_now_ns(s->core->io);
    list_init(&session->partitions);
    map_init(&session->by_key, &s->core->mem, io_random(s->core->io));
    if (map_put(&s->by_id, &session->id, sizeof(session->id), session) != 0) {
        map_destroy(&session->by_key);
        mem_free(&s->core->mem, session, sizeof(*session));
        return NULL;
    }
    list_push_back(&s->used, &session->link);
    s->created++;
    return session;
}

bool fetch_session_add(struct fetch_sessions *s, struct fetch_session *session,
                       const struct fetch_request_fetch_topic *topic,
                       const struct fetch_request_fetch_partition *q,
                       const struct fetch_response_partition_data *told)
{
    struct fetch_partition *p = session_find(session, topic->topic_id, topic->topic, q->partition);
    if (p == NULL)
        p = session_insert(s, session, topic->topic_id, topic->topic, q->partition);
    if (p == NULL)
        return false;
    partition_ask(p, q);
    p->high_watermark = told->error_code == KE_NONE ? told->high_watermark : -1;
    p->log_start_offset = told->log_start_offset;
    return true;
}

bool fetch_partition_tells(struct fetch_session *session, struct fetch_partition *p,
                           const struct fetch_response_partition_data *a, uint32_t records_size)
{
    bool tells = records_size > 0;
    if (p->high_watermark != a->high_watermark) {
        tells = true;
        p->high_watermark = a->high_watermark;
    }
    if (p->log_start_offset != a->log_start_offset) {
        tells = true;
        p->log_start_offset = a->log_start_offset;
    }
    if (a->preferred_read_replica != -1 || a->diverging_epoch.epoch != -1)
        tells = true;
    if (a->error_code != KE_NONE) {
        tells = true;
        SOMETIMES("a fetch session tells of an error");
        p->high_watermark = -1; /* so that the partition is sent again once it is well */
    }
    if (records_size > 0) {
        list_remove(&p->link);
        list_push_back(&session->partitions, &p->link);
    }
    return tells;
}
