/* A consumer group in memory: members, names and patterns they subscribe to, who has which
 * partition. Nothing here makes records; what a record says is put into memory here, by replay and
 * by the steps alike, so both end in the same state.
 *
 *   member record ──▶ consumer_apply ────▶ member, names counted, patterns counted
 *   target record ──▶ consumer_apply_target
 *   current record ─▶ consumer_apply_now ─▶ epoch, state, who owns what
 *   pattern record ─▶ consumers_apply_pattern ─▶ names it stands for, counted
 *
 * Invariants
 *  1. topics holds each name with the number of members that name it and of resolved patterns that
 *     stand for it; a name that nobody means is not there.
 *  2. A partition's owner is the member that has it, be it to read or to give up. A partition has
 *     one; if the log says otherwise the later record wins.
 *  3. by_id has exactly the members of the list, by_instance exactly the static ones (the last to
 *     come with that name).
 *  4. Each apply makes room first and changes something after.
 *
 * Failure modes: no memory: false, and nothing has changed (places that were made for names, topics
 * or partitions may stay; they count nothing). A partition of a number beyond PARTITIONS_MAX in a
 * record has no owner: no broker has made such a topic. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"

#define PARTITIONS_MAX (1 << 20) /* of a topic, for the table of owners */

/* ---- what is subscribed to ------------------------------------------------------------------- */

static struct consumer_topic *topic_of(const struct consumer_group *cg, struct wire_string name)
{
    return map_get(&cg->topics_by_name, name.data, (uint32_t)MAX(name.size, 0));
}

static struct mem *mem_of(const struct consumer_group *cg)
{
    return cg->group->shard->mem;
}

static void topic_free_if_unused(struct consumer_group *cg, struct consumer_topic *t)
{
    if (t->by_name > 0 || t->by_pattern > 0)
        return;
    (void)map_remove(&cg->topics_by_name, t->name.data, (uint32_t)t->name.size);
    list_remove(&t->link);
    disown_string(mem_of(cg), &t->name);
    mem_free(mem_of(cg), t, sizeof(*t));
}

static bool topic_ensure(struct consumer_group *cg, struct wire_string name)
{
    if (name.size <= 0 || topic_of(cg, name) != NULL)
        return true;
    struct consumer_topic *t = mem_zalloc(mem_of(cg), sizeof(*t));
    if (t == NULL)
        return false;
    list_init(&t->link);
    if (!own_string(mem_of(cg), &t->name, name) ||
        map_put(&cg->topics_by_name, t->name.data, (uint32_t)t->name.size, t) != 0) {
        disown_string(mem_of(cg), &t->name);
        mem_free(mem_of(cg), t, sizeof(*t));
        return false;
    }
    list_push_back(&cg->topics, &t->link);
    return true;
}

static void topics_sweep(struct consumer_group *cg)
{
    LIST_EACH(l, &cg->topics)
    topic_free_if_unused(cg, container_of(l, struct consumer_topic, link));
}

/* Places for names that are about to be counted. */
static bool topics_ensure(struct consumer_group *cg, const struct name_set *names)
{
    for (uint32_t i = 0; i < names->count; i++) {
        if (!topic_ensure(cg, names->list[i])) {
            topics_sweep(cg);
            return false;
        }
    }
    return true;
}

static void topics_count(struct consumer_group *cg, const struct name_set *names, int by_name,
                         int by_pattern)
{
    for (uint32_t i = 0; i < names->count; i++) {
        struct consumer_topic *t = topic_of(cg, names->list[i]);
        if (t == NULL)
            continue; /* an empty name */
        t->by_name = (uint32_t)((int)t->by_name + by_name);
        t->by_pattern = (uint32_t)((int)t->by_pattern + by_pattern);
    }
}

/* What is not meant any more goes; `gone` is what was just counted down. */
static void topics_drop(struct consumer_group *cg, const struct name_set *gone)
{
    for (uint32_t i = 0; i < gone->count; i++) {
        struct consumer_topic *t = topic_of(cg, gone->list[i]);
        if (t != NULL)
            topic_free_if_unused(cg, t);
    }
}

bool consumers_subscribe(const struct consumer_group *cg, struct wire_string topic)
{
    return topic_of(cg, topic) != NULL;
}

bool consumer_subscribes(const struct consumer *c, struct wire_string topic)
{
    if (name_set_has(&c->topics, topic))
        return true;
    const struct consumer_pattern *p = consumers_pattern(c->of, c->pattern);
    return p != NULL && p->resolved && name_set_has(&p->topics, topic);
}

static uint32_t patterns_used(const struct consumer_group *cg, const struct consumer_pattern **one)
{
    uint32_t used = 0;
    LIST_EACH(l, &cg->patterns)
    {
        const struct consumer_pattern *p = container_of(l, struct consumer_pattern, link);
        if (p->members > 0) {
            *one = p;
            used++;
        }
    }
    return used;
}

/* All members subscribe to the same: each name by everybody, or one pattern and no names. */
bool consumers_all_alike(const struct consumer_group *cg)
{
    const struct consumer_pattern *one = NULL;
    uint32_t patterns = patterns_used(cg, &one);
    if (patterns > 1 || (patterns == 1 && one->members != cg->count))
        return false;
    LIST_EACH(l, &cg->topics)
    {
        const struct consumer_topic *t = container_of(l, struct consumer_topic, link);
        if (patterns == 0 && t->by_name != cg->count)
            return false;
        if (patterns == 1 && (t->by_pattern != 1 || t->by_name > 0))
            return false;
    }
    return true;
}

/* ---- patterns -------------------------------------------------------------------------------- */

struct consumer_pattern *consumers_pattern(const struct consumer_group *cg, struct wire_string text)
{
    return text.size > 0 ? map_get(&cg->patterns_by_text, text.data, (uint32_t)text.size) : NULL;
}

static struct consumer_pattern *pattern_make(struct consumer_group *cg, struct wire_string text)
{
    struct consumer_pattern *p = consumers_pattern(cg, text);
    if (p != NULL)
        return p;
    p = mem_zalloc(mem_of(cg), sizeof(*p));
    if (p == NULL)
        return NULL;
    list_init(&p->link);
    if (!own_string(mem_of(cg), &p->text, text) ||
        map_put(&cg->patterns_by_text, p->text.data, (uint32_t)p->text.size, p) != 0) {
        disown_string(mem_of(cg), &p->text);
        mem_free(mem_of(cg), p, sizeof(*p));
        return NULL;
    }
    list_push_back(&cg->patterns, &p->link);
    return p;
}

static void pattern_unresolve(struct consumer_group *cg, struct consumer_pattern *p)
{
    if (!p->resolved)
        return;
    topics_count(cg, &p->topics, 0, -1);
    topics_drop(cg, &p->topics);
    name_set_disown(mem_of(cg), &p->topics);
    p->resolved = false;
}

static void pattern_free_if_unused(struct consumer_group *cg, struct consumer_pattern *p)
{
    if (p->members > 0 || p->resolved)
        return;
    (void)map_remove(&cg->patterns_by_text, p->text.data, (uint32_t)p->text.size);
    list_remove(&p->link);
    disown_string(mem_of(cg), &p->text);
    mem_free(mem_of(cg), p, sizeof(*p));
}

bool consumers_apply_pattern(struct consumer_group *cg, struct wire_string text,
                             const struct consumer_group_regular_expression_value *v)
{
    struct name_set topics;
    if (text.size <= 0)
        return true;
    struct consumer_pattern *p = pattern_make(cg, text);
    if (p == NULL || !name_set_own(mem_of(cg), &topics, v->topics, v->topics_count))
        return false;
    if (!topics_ensure(cg, &topics)) {
        name_set_disown(mem_of(cg), &topics);
        pattern_free_if_unused(cg, p);
        return false;
    }
    topics_count(cg, &topics, 0, 1);
    pattern_unresolve(cg, p);
    p->topics = topics;
    p->resolved = true;
    p->version = v->version;
    p->timestamp_ms = v->timestamp;
    return true;
}

void consumers_drop_pattern(struct consumer_group *cg, struct wire_string text)
{
    struct consumer_pattern *p = consumers_pattern(cg, text);
    if (p == NULL)
        return;
    pattern_unresolve(cg, p);
    pattern_free_if_unused(cg, p);
}

static void pattern_leave(struct consumer_group *cg, struct wire_string text)
{
    struct consumer_pattern *p = consumers_pattern(cg, text);
    if (p == NULL)
        return;
    assert(p->members > 0);
    p->members--;
    pattern_free_if_unused(cg, p);
}

/* ---- who has what ---------------------------------------------------------------------------- */

static struct consumer_owned *owned_of(const struct consumer_group *cg, struct uuid topic)
{
    return map_get(&cg->owned_by_topic, topic.bytes, sizeof(topic.bytes));
}

struct consumer *consumers_owner(const struct consumer_group *cg, struct uuid topic, int32_t index)
{
    const struct consumer_owned *o = owned_of(cg, topic);
    if (o == NULL || index < 0 || (uint32_t)index >= o->room)
        return NULL;
    return o->owners[index];
}

static struct consumer_owned *owned_make(struct consumer_group *cg, struct uuid topic)
{
    struct consumer_owned *o = owned_of(cg, topic);
    if (o != NULL)
        return o;
    o = mem_zalloc(mem_of(cg), sizeof(*o));
    if (o == NULL)
        return NULL;
    o->topic = topic;
    if (map_put(&cg->owned_by_topic, o->topic.bytes, sizeof(o->topic.bytes), o) != 0) {
        mem_free(mem_of(cg), o, sizeof(*o));
        return NULL;
    }
    return o;
}

static void owned_free(struct consumer_group *cg, struct consumer_owned *o)
{
    (void)map_remove(&cg->owned_by_topic, o->topic.bytes, sizeof(o->topic.bytes));
    if (o->room > 0)
        mem_free(mem_of(cg), o->owners, o->room * sizeof(struct consumer *));
    mem_free(mem_of(cg), o, sizeof(*o));
}

static bool owned_reserve(struct consumer_group *cg, const struct part_set *s)
{
    for (uint32_t i = 0; i < s->count; i += part_set_run(s, i)) {
        int32_t last = s->list[i + part_set_run(s, i) - 1].index;
        struct consumer_owned *o = owned_make(cg, s->list[i].topic);
        if (o == NULL)
            return false;
        uint32_t room = (uint32_t)MIN(MAX(last, 0), PARTITIONS_MAX - 1) + 1;
        if (room <= o->room)
            continue;
        room = MAX(room, o->room * 2);
        struct consumer **owners =
            mem_realloc(mem_of(cg), o->owners, o->room * sizeof(struct consumer *),
                        room * sizeof(struct consumer *));
        if (owners == NULL)
            return false;
        memset(owners + o->room, 0, (room - o->room) * sizeof(struct consumer *));
        o->owners = owners;
        o->room = room;
    }
    return true;
}

static void owned_take(struct consumer *c, const struct part_set *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        struct consumer_owned *o = owned_of(c->of, s->list[i].topic);
        int32_t index = s->list[i].index;
        if (o == NULL || index < 0 || (uint32_t)index >= o->room)
            continue;
        o->count += o->owners[index] == NULL;
        o->owners[index] = c;
    }
}

static void owned_give(struct consumer *c, const struct part_set *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        struct consumer_owned *o = owned_of(c->of, s->list[i].topic);
        int32_t index = s->list[i].index;
        if (o == NULL || index < 0 || (uint32_t)index >= o->room || o->owners[index] != c)
            continue;
        o->owners[index] = NULL;
        o->count--;
    }
}

static void owned_sweep(struct consumer_group *cg)
{
    struct consumer_owned *o;
    for (uint32_t at = 0; (o = map_next(&cg->owned_by_topic, &at)) != NULL;) {
        if (o->count > 0)
            continue;
        owned_free(cg, o);
        at--; /* removal moves the next one into this slot */
    }
}

/* ---- members --------------------------------------------------------------------------------- */

struct consumer *consumer_find(const struct consumer_group *cg, struct wire_string id)
{
    return id.size > 0 ? map_get(&cg->by_id, id.data, (uint32_t)id.size) : NULL;
}

struct consumer *consumer_static(const struct consumer_group *cg, struct wire_string instance_id)
{
    if (instance_id.size < 0)
        return NULL;
    return map_get(&cg->by_instance, instance_id.data, (uint32_t)instance_id.size);
}

bool consumer_reconciled(const struct consumer *c)
{
    return c->state == CONSUMER_STABLE && c->epoch == c->of->target_epoch;
}

const char *consumers_state(const struct consumer_group *cg)
{
    if (cg->count == 0)
        return "Empty";
    if (cg->epoch > cg->target_epoch)
        return "Assigning";
    LIST_EACH(l, &cg->members)
    {
        if (!consumer_reconciled(container_of(l, struct consumer, link)))
            return "Reconciling";
    }
    return "Stable";
}

/* What a member record is about; everything in it is owned. */
struct told {
    struct wire_string instance_id, rack_id, client_id, client_host, pattern, assignor;
    struct name_set topics;
    struct consumer_classic *classic;
};

/* NULL is ignored. */
static void classic_free(struct mem *mem, struct consumer_classic *c)
{
    if (c != NULL)
        protocols_free(mem, &c->protocols);
    mem_free(mem, c, sizeof(*c));
}

static void told_free(struct mem *mem, struct told *t)
{
    disown_string(mem, &t->instance_id);
    disown_string(mem, &t->rack_id);
    disown_string(mem, &t->client_id);
    disown_string(mem, &t->client_host);
    disown_string(mem, &t->pattern);
    disown_string(mem, &t->assignor);
    name_set_disown(mem, &t->topics);
    classic_free(mem, t->classic);
}

static bool told_classic(struct group_shard *s, struct told *t,
                         const struct consumer_group_member_metadata_value *v)
{
    const struct consumer_group_member_metadata_value_classic_member_metadata *m =
        v->classic_member_metadata;
    if (m == NULL)
        return true;
    struct join_group_request_protocol *list =
        arena_array(&s->update.arena, (size_t)MAX(m->supported_protocols_count, 0), sizeof(*list));
    if (list == NULL)
        return false;
    for (int32_t i = 0; i < m->supported_protocols_count; i++) {
        list[i].name = m->supported_protocols[i].name;
        list[i].metadata = m->supported_protocols[i].metadata;
    }
    t->classic = mem_zalloc(s->mem, sizeof(*t->classic));
    if (t->classic == NULL)
        return false;
    consumer_classic_init(t->classic);
    t->classic->session_timeout_ms = m->session_timeout_ms;
    return protocols_copy(s->mem, &t->classic->protocols, list, m->supported_protocols_count);
}

static bool told_make(struct group_shard *s, struct told *t,
                      const struct consumer_group_member_metadata_value *v)
{
    const struct wire_string null = WIRE_NULL_STRING;
    *t = (struct told){null, null, null, null, null, null, {0}, NULL};
    if (own_string(s->mem, &t->instance_id, v->instance_id) &&
        own_string(s->mem, &t->rack_id, v->rack_id) &&
        own_string(s->mem, &t->client_id, v->client_id) &&
        own_string(s->mem, &t->client_host, v->client_host) &&
        own_string(s->mem, &t->pattern, v->subscribed_topic_regex) &&
        own_string(s->mem, &t->assignor, v->server_assignor) &&
        name_set_own(s->mem, &t->topics, v->subscribed_topic_names,
                     v->subscribed_topic_names_count) &&
        told_classic(s, t, v))
        return true;
    told_free(s->mem, t);
    return false;
}

/* A member that is in the table and has been told nothing yet. */
static struct consumer *consumer_make(struct consumer_group *cg, struct wire_string id)
{
    struct consumer *c = mem_zalloc(mem_of(cg), sizeof(*c));
    const struct wire_string null = WIRE_NULL_STRING;
    if (c == NULL)
        return NULL;
    assert(id.size > 0 && consumer_find(cg, id) == NULL);
    list_init(&c->link);
    c->of = cg;
    c->instance_id = c->rack_id = c->client_id = c->client_host = c->pattern = c->assignor = null;
    c->rebalance_timeout_ms = -1;
    c->previous_epoch = -1;
    consumer_timers_init(c);
    if (!own_string(mem_of(cg), &c->id, id) ||
        map_put(&cg->by_id, c->id.data, (uint32_t)c->id.size, c) != 0) {
        disown_string(mem_of(cg), &c->id);
        mem_free(mem_of(cg), c, sizeof(*c));
        return NULL;
    }
    list_push_back(&cg->members, &c->link);
    cg->count++;
    return c;
}

/* The names and patterns it meant are not counted any more. */
static void consumer_uncount(struct consumer *c)
{
    struct consumer_group *cg = c->of;
    topics_count(cg, &c->topics, -1, 0);
    topics_drop(cg, &c->topics);
    if (c->pattern.size > 0)
        pattern_leave(cg, c->pattern);
    cg->classic_count -= c->classic != NULL;
    if (consumer_static(cg, c->instance_id) == c)
        (void)map_remove(&cg->by_instance, c->instance_id.data, (uint32_t)c->instance_id.size);
}

static void consumer_forget_told(struct consumer *c)
{
    struct told old = {c->instance_id, c->rack_id,  c->client_id, c->client_host,
                       c->pattern,     c->assignor, c->topics,    NULL};
    told_free(mem_of(c->of), &old);
}

void consumer_drop(struct consumer *c)
{
    struct consumer_group *cg = c->of;
    struct mem *mem = mem_of(cg);
    consumer_timers_cancel(c);
    consumer_uncount(c);
    owned_give(c, &c->assigned);
    owned_give(c, &c->revoking);
    owned_sweep(cg);
    part_set_disown(mem, &c->assigned);
    part_set_disown(mem, &c->revoking);
    part_set_disown(mem, &c->target);
    consumer_forget_told(c);
    classic_free(mem, c->classic);
    (void)map_remove(&cg->by_id, c->id.data, (uint32_t)c->id.size);
    list_remove(&c->link);
    assert(cg->count > 0);
    cg->count--;
    disown_string(mem, &c->id);
    mem_free(mem, c, sizeof(*c));
}

/* From now on it speaks as it was told to. */
static void consumer_speak(struct consumer *c, struct consumer_classic *told)
{
    struct mem *mem = mem_of(c->of);
    struct consumer_classic *has = c->classic;
    if (has != NULL && told != NULL) { /* its timers go on */
        struct group_protocols old = has->protocols;
        has->protocols = told->protocols;
        has->session_timeout_ms = told->session_timeout_ms;
        told->protocols = old;
        classic_free(mem, told);
        return;
    }
    if (has != NULL)
        consumer_classic_cancel(c->of->group->shard->wheel, has);
    classic_free(mem, has);
    c->classic = told;
    if (told != NULL)
        told->of = c;
}

/* Rooms for what apply counts. */
static bool apply_reserve(struct consumer_group *cg, const struct told *t)
{
    if (!topics_ensure(cg, &t->topics) ||
        (t->instance_id.size >= 0 && map_reserve(&cg->by_instance, cg->by_instance.count + 1) != 0))
        return false;
    return t->pattern.size <= 0 || pattern_make(cg, t->pattern) != NULL;
}

bool consumer_apply(struct consumer_group *cg, struct wire_string id,
                    const struct consumer_group_member_metadata_value *v)
{
    struct told t;
    struct consumer *c = consumer_find(cg, id);
    bool known = c != NULL;
    if (id.size <= 0)
        return true;
    if (!told_make(cg->group->shard, &t, v))
        return false;
    if (!known)
        c = consumer_make(cg, id);
    if (c == NULL || !apply_reserve(cg, &t)) {
        told_free(mem_of(cg), &t);
        if (c != NULL && !known)
            consumer_drop(c);
        topics_sweep(cg);
        return false;
    }
    topics_count(cg, &t.topics, 1, 0);
    if (t.pattern.size > 0) {
        struct consumer_pattern *pattern = consumers_pattern(cg, t.pattern);
        assert(pattern != NULL); /* apply_reserve has made it */
        pattern->members++;
    }
    consumer_uncount(c);
    consumer_forget_told(c);
    c->instance_id = t.instance_id;
    c->rack_id = t.rack_id;
    c->client_id = t.client_id;
    c->client_host = t.client_host;
    c->pattern = t.pattern;
    c->assignor = t.assignor;
    c->topics = t.topics;
    consumer_speak(c, t.classic);
    c->rebalance_timeout_ms = v->rebalance_timeout_ms;
    cg->classic_count += c->classic != NULL;
    if (c->instance_id.size >= 0) {
        int error =
            map_put(&cg->by_instance, c->instance_id.data, (uint32_t)c->instance_id.size, c);
        assert(error == 0); /* room was made */
    }
    return true;
}

bool consumer_apply_rename(struct consumer *c, struct wire_string id)
{
    struct consumer_group *cg = c->of;
    struct wire_string copy;
    assert(consumer_find(cg, id) == NULL || consumer_find(cg, id) == c);
    if (map_reserve(&cg->by_id, cg->by_id.count + 1) != 0 || !own_string(mem_of(cg), &copy, id))
        return false;
    consumer_timers_cancel(c);
    list_remove(&c->link);
    list_push_back(&cg->members, &c->link); /* as who reads the records finds it */
    (void)map_remove(&cg->by_id, c->id.data, (uint32_t)c->id.size);
    disown_string(mem_of(cg), &c->id);
    c->id = copy;
    int error = map_put(&cg->by_id, c->id.data, (uint32_t)c->id.size, c);
    assert(error == 0); /* room was made */
    return true;
}

/* ---- what its record says -------------------------------------------------------------------- */

void consumer_told_nothing(struct consumer_group_member_metadata_value *v)
{
    consumer_group_member_metadata_value_init(v);
    v->instance_id = v->rack_id = v->server_assignor = WIRE_NULL_STRING;
    v->subscribed_topic_regex = wire_string_of("");
    v->classic_member_metadata = NULL;
}

bool consumer_told(const struct consumer *c, struct arena *arena,
                   struct consumer_group_member_metadata_value *v)
{
    consumer_group_member_metadata_value_init(v);
    v->instance_id = c->instance_id;
    v->rack_id = c->rack_id;
    v->client_id = c->client_id.size >= 0 ? c->client_id : wire_string_of("");
    v->client_host = c->client_host.size >= 0 ? c->client_host : wire_string_of("");
    v->subscribed_topic_names = c->topics.list;
    v->subscribed_topic_names_count = (int32_t)c->topics.count;
    v->subscribed_topic_regex = c->pattern;
    v->rebalance_timeout_ms = c->rebalance_timeout_ms;
    v->server_assignor = c->assignor;
    v->classic_member_metadata = NULL; /* that is not what is left out */
    const struct consumer_classic *classic = c->classic;
    if (classic == NULL)
        return true;
    struct consumer_group_member_metadata_value_classic_member_metadata *m =
        arena_array(arena, 1, sizeof(*m));
    if (m == NULL)
        return false;
    m->session_timeout_ms = classic->session_timeout_ms;
    m->supported_protocols =
        arena_array(arena, classic->protocols.count, sizeof(*m->supported_protocols));
    if (m->supported_protocols == NULL)
        return false;
    for (uint32_t i = 0; i < classic->protocols.count; i++) {
        m->supported_protocols[i].name = classic->protocols.list[i].name;
        m->supported_protocols[i].metadata = classic->protocols.list[i].metadata;
    }
    m->supported_protocols_count = (int32_t)classic->protocols.count;
    v->classic_member_metadata = m;
    return true;
}

static bool
classic_same(const struct consumer_classic *c,
             const struct consumer_group_member_metadata_value_classic_member_metadata *m)
{
    if (c == NULL || m == NULL)
        return c == NULL && m == NULL;
    if (c->session_timeout_ms != m->session_timeout_ms ||
        (int32_t)c->protocols.count != m->supported_protocols_count)
        return false;
    for (uint32_t i = 0; i < c->protocols.count; i++) {
        struct wire_bytes a = c->protocols.list[i].metadata, b = m->supported_protocols[i].metadata;
        if (!wire_string_equal(c->protocols.list[i].name, m->supported_protocols[i].name) ||
            a.size != b.size || (a.size > 0 && memcmp(a.data, b.data, (size_t)a.size) != 0))
            return false;
    }
    return true;
}

bool consumer_has_topics(const struct consumer *c, const struct wire_string *names, int32_t count)
{
    struct name_set none = {0};
    const struct name_set *has = c != NULL ? &c->topics : &none;
    bool same = (int32_t)has->count == count;
    for (uint32_t i = 0; same && i < has->count; i++)
        same = wire_string_equal(has->list[i], names[i]);
    return same;
}

bool consumer_same(const struct consumer *c, const struct consumer_group_member_metadata_value *v)
{
    return wire_string_equal(c->instance_id, v->instance_id) &&
           wire_string_equal(c->rack_id, v->rack_id) &&
           wire_string_equal(c->client_id, v->client_id) &&
           wire_string_equal(c->client_host, v->client_host) &&
           wire_string_equal(c->pattern, v->subscribed_topic_regex) &&
           wire_string_equal(c->assignor, v->server_assignor) &&
           c->rebalance_timeout_ms == v->rebalance_timeout_ms &&
           consumer_has_topics(c, v->subscribed_topic_names, v->subscribed_topic_names_count) &&
           classic_same(c->classic, v->classic_member_metadata);
}

/* ---- what it has ----------------------------------------------------------------------------- */

bool consumer_apply_target(struct consumer *c, const struct part_set *target)
{
    struct part_set copy;
    if (!part_set_own(mem_of(c->of), &copy, target))
        return false;
    part_set_disown(mem_of(c->of), &c->target);
    c->target = copy;
    c->has_target = true;
    return true;
}

bool consumer_apply_now(struct consumer *c, const struct consumer_now *now)
{
    struct mem *mem = mem_of(c->of);
    struct part_set assigned = {0}, revoking = {0};
    if (!part_set_own(mem, &assigned, &now->assigned) ||
        !part_set_own(mem, &revoking, &now->revoking) || !owned_reserve(c->of, &assigned) ||
        !owned_reserve(c->of, &revoking)) {
        part_set_disown(mem, &assigned);
        part_set_disown(mem, &revoking);
        owned_sweep(c->of);
        return false;
    }
    owned_give(c, &c->assigned);
    owned_give(c, &c->revoking);
    owned_take(c, &assigned);
    owned_take(c, &revoking);
    owned_sweep(c->of);
    part_set_disown(mem, &c->assigned);
    part_set_disown(mem, &c->revoking);
    c->assigned = assigned;
    c->revoking = revoking;
    c->epoch = now->epoch;
    c->previous_epoch = now->previous_epoch;
    c->state = now->state;
    return true;
}

/* ---- the group ------------------------------------------------------------------------------- */

struct consumer_group *consumers_make(struct group *g)
{
    struct group_shard *s = g->shard;
    assert(g->consumers == NULL);
    struct consumer_group *cg = mem_zalloc(s->mem, sizeof(*cg));
    if (cg == NULL)
        return NULL;
    cg->group = g;
    cg->epoch = 1; /* and the target's is 0: even a group without topics gets a target */
    list_init(&cg->members);
    list_init(&cg->topics);
    list_init(&cg->patterns);
    map_init(&cg->by_id, s->mem, s->groups.seed);
    map_init(&cg->by_instance, s->mem, s->groups.seed);
    map_init(&cg->topics_by_name, s->mem, s->groups.seed);
    map_init(&cg->patterns_by_text, s->mem, s->groups.seed);
    map_init(&cg->owned_by_topic, s->mem, s->groups.seed);
    timer_init(&cg->resolve, consumers_resolve_fired);
    g->consumers = cg;
    return cg;
}

void consumers_free(struct group *g)
{
    struct consumer_group *cg = g->consumers;
    if (cg == NULL)
        return;
    consumers_resolve_end(cg);
    LIST_EACH(l, &cg->members)
    consumer_drop(container_of(l, struct consumer, link));
    LIST_EACH(l, &cg->patterns)
    {
        struct consumer_pattern *p = container_of(l, struct consumer_pattern, link);
        pattern_unresolve(cg, p);
        pattern_free_if_unused(cg, p);
    }
    assert(cg->count == 0 && cg->classic_count == 0);
    assert(list_empty(&cg->topics) && list_empty(&cg->patterns) && cg->owned_by_topic.count == 0);
    map_destroy(&cg->by_id);
    map_destroy(&cg->by_instance);
    map_destroy(&cg->topics_by_name);
    map_destroy(&cg->patterns_by_text);
    map_destroy(&cg->owned_by_topic);
    mem_free(g->shard->mem, cg, sizeof(*cg));
    g->consumers = NULL;
}

/* Votes: members can only ask for what is configured (consumer_heartbeat.c). */
struct wire_string consumers_assignor(const struct consumer_group *cg)
{
    const struct broker_config *config = cg->group->shard->config;
    uint32_t votes[GROUP_ASSIGNORS_MAX] = {0}, best = 0;
    assert(config->group_consumer_assignors_count > 0);
    LIST_EACH(l, &cg->members)
    {
        const struct consumer *c = container_of(l, struct consumer, link);
        for (uint32_t i = 0; c->assignor.size > 0 && i < config->group_consumer_assignors_count;
             i++)
            votes[i] +=
                wire_string_equal(c->assignor, wire_string_of(config->group_consumer_assignors[i]));
    }
    for (uint32_t i = 1; i < config->group_consumer_assignors_count; i++)
        best = votes[i] > votes[best] ? i : best;
    return wire_string_of(config->group_consumer_assignors[best]);
}
