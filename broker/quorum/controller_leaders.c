/* Who leads a partition: at start, by ElectLeaders, and when a reassignment changes its replicas.
 *
 *   in the ISR            -> leader, ISR becomes those of it that are alive
 *   ISR empty, in the ELR -> leader: an eligible replica has all that was acknowledged
 *   both empty, the last  -> leader: nobody else can have more
 *   asked to be unclean   -> leader, ISR = itself, marked as recovering
 *
 * Each change is a PartitionChangeRecord: partition epoch + 1, and leader epoch + 1 when it names a
 * leader, the same one or another.
 *
 * Invariants
 *  1. No leadership without a place in the ISR, ELR or last known list unless it was asked for.
 *  2. Directories of replicas stay where they are when replicas are taken away around them.
 *
 * Failure modes: see controller.c. */
#include "broker/quorum/controller_priv.h"

#include <string.h>

#include "core/assert.h"
#include "proto/gen/alter_partition_reassignments.h"
#include "proto/gen/elect_leaders.h"
#include "proto/gen/list_partition_reassignments.h"
#include "proto/gen/record_topic.h"

#define ELECTION_PREFERRED 0
#define ELECTION_UNCLEAN   1
#define NO_LEADER_CHANGE   (-2)

static bool ids_have(const int32_t *ids, int32_t count, int32_t id)
{
    for (int32_t i = 0; i < count; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

static void change_begin(struct partition_change_record *m, const struct topic_image *t,
                         const struct partition_image *p)
{
    partition_change_record_init(m);
    m->partition_id = p->index;
    m->topic_id = t->id;
    m->isr_count = m->replicas_count = m->removing_replicas_count = m->adding_replicas_count = -1;
    m->directories_count = m->eligible_leader_replicas_count = m->last_known_elr_count = -1;
    m->leader = NO_LEADER_CHANGE;
    m->leader_recovery_state = -1;
}

static void change_add(struct step *s, const struct partition_change_record *m)
{
    record_list_add(&s->records, PARTITION_CHANGE_RECORD_API_KEY,
                    level_partition_version(step_level(s)), m);
}

/* The leadership goes to this broker, which then is the whole ISR. */
static void change_to_self(struct step *s, const struct topic_image *t,
                           const struct partition_image *p, bool unclean)
{
    struct partition_change_record m;
    int32_t self = s->c->broker_id;
    change_begin(&m, t, p);
    m.leader = self;
    if (p->isr_count != 1 || p->isr[0] != self) {
        m.isr = &self;
        m.isr_count = 1;
    }
    if (p->elr_count > 0)
        m.eligible_leader_replicas_count = 0;
    if (p->last_known_elr_count > 0)
        m.last_known_elr_count = 0;
    if (unclean)
        m.leader_recovery_state = 1;
    else if (p->recovery_state != 0)
        m.leader_recovery_state = 0;
    change_add(s, &m);
}

/* ---- start ------------------------------------------------------------------------------------
 */

static bool may_lead(const struct partition_image *p, int32_t id)
{
    if (ids_have(p->isr, p->isr_count, id))
        return true;
    if (p->isr_count > 0)
        return false;
    if (ids_have(p->elr, p->elr_count, id))
        return true;
    return p->elr_count == 0 && p->last_known_elr_count == 1 && p->last_known_elr[0] == id;
}

static void lead(struct step *s, const struct topic_image *t, const struct partition_image *p)
{
    if (may_lead(p, s->c->broker_id)) {
        change_to_self(s, t, p, false);
    } else if (p->leader != PARTITION_LEADER_NONE) { /* led by one that is not there */
        struct partition_change_record m;
        change_begin(&m, t, p);
        m.leader = PARTITION_LEADER_NONE;
        change_add(s, &m);
    }
}

bool controller_lead_all(struct step *s, uint32_t *topic, uint32_t *partition)
{
    const struct image *img = step_image(s);
    record_list_init(&s->records, s->scratch);
    while (*topic < img->topics_count && s->records.count < RECORDS_PER_CALL_MAX &&
           !s->records.failed) {
        const struct topic_image *t = img->topics[*topic];
        if (*partition < t->partitions_count) {
            lead(s, t, &t->partitions[(*partition)++]);
            continue;
        }
        (*topic)++;
        *partition = 0;
    }
    return *topic < img->topics_count;
}

/* ---- ElectLeaders -----------------------------------------------------------------------------
 */

static struct outcome not_needed(struct step *s)
{
    return outcome_error(s, KE_ELECTION_NOT_NEEDED,
                         "Leader election not needed for topic partition.");
}

static struct outcome elect(struct step *s, int8_t type, const struct topic_image *t,
                            const struct partition_image *p)
{
    int32_t self = s->c->broker_id;
    bool active = broker_is_active(image_broker(step_image(s), self));
    if (type == ELECTION_UNCLEAN) {
        if (p->leader != PARTITION_LEADER_NONE)
            return not_needed(s);
        if (!active || !ids_have(p->replicas, p->replicas_count, self))
            return outcome_error(s, KE_ELIGIBLE_LEADERS_NOT_AVAILABLE,
                                 "No replica of the partition is alive.");
        change_to_self(s, t, p, !may_lead(p, self));
        return outcome_none();
    }
    if (p->leader == p->replicas[0])
        return not_needed(s);
    if (p->replicas[0] != self || !active || !may_lead(p, self))
        return outcome_error(s, KE_PREFERRED_LEADER_NOT_AVAILABLE,
                             "The preferred leader was not available.");
    change_to_self(s, t, p, false);
    return outcome_none();
}

static void elected_tell(struct elect_leaders_response_partition_result *r, int32_t partition,
                         struct outcome o)
{
    elect_leaders_response_partition_result_init(r);
    r->partition_id = partition;
    r->error_code = (int16_t)o.error;
    r->error_message = o.message;
}

static struct outcome elect_one(struct step *s, int8_t type, struct wire_string name, int32_t index)
{
    const struct topic_image *t =
        image_topic_by_name(step_image(s), name.data, (uint32_t)name.size);
    const struct partition_image *p = t == NULL ? NULL : topic_partition(t, index);
    if (type != ELECTION_PREFERRED && type != ELECTION_UNCLEAN)
        return outcome_error(s, KE_INVALID_REQUEST, "Unknown election type %d", type);
    if (t == NULL)
        return outcome_error(s, KE_UNKNOWN_TOPIC_OR_PARTITION, "No such topic as %.*s", name.size,
                             name.data);
    if (p == NULL)
        return outcome_error(s, KE_UNKNOWN_TOPIC_OR_PARTITION, "No such partition as %s-%d",
                             t->name, index);
    if (s->records.count >= RECORDS_PER_CALL_MAX)
        return outcome_error(s, KE_POLICY_VIOLATION,
                             "Unable to perform excessively large batch operation.");
    return elect(s, type, t, p);
}

/* All partitions; those that need no election are not mentioned. */
static void elect_all(struct step *s, int8_t type, struct elect_leaders_response *a)
{
    const struct image *img = step_image(s);
    a->replica_election_results =
        step_array(s, (int32_t)img->topics_count, sizeof(*a->replica_election_results));
    for (uint32_t i = 0; i < img->topics_count && !s->arena->failed; i++) {
        const struct topic_image *t = img->topics[i];
        struct elect_leaders_response_replica_election_result *r = &a->replica_election_results[i];
        elect_leaders_response_replica_election_result_init(r);
        r->topic = (struct wire_string){arena_copy(s->arena, t->name, t->name_size),
                                        (int32_t)t->name_size};
        a->replica_election_results_count++;
        for (uint32_t k = 0; k < t->partitions_count; k++) {
            const struct partition_image *p = &t->partitions[k];
            bool settled = type == ELECTION_UNCLEAN ? p->leader != PARTITION_LEADER_NONE
                                                    : p->leader == p->replicas[0];
            if (settled)
                continue;
            if (r->partition_result == NULL)
                r->partition_result =
                    step_array(s, (int32_t)(t->partitions_count - k), sizeof(*r->partition_result));
            if (r->partition_result == NULL)
                return;
            elected_tell(&r->partition_result[r->partition_result_count++], p->index,
                         elect_one(s, type, r->topic, p->index));
        }
    }
}

void step_elect_leaders(struct step *s, const struct elect_leaders_request *q,
                        struct elect_leaders_response *a)
{
    int8_t type = s->version == 0 ? ELECTION_PREFERRED : q->election_type;
    assert(s->records.count == 0);
    if (type != ELECTION_PREFERRED && type != ELECTION_UNCLEAN)
        a->error_code = KE_INVALID_REQUEST;
    else if (q->topic_partitions_count < 0) {
        elect_all(s, type, a);
        return;
    }
    a->replica_election_results =
        step_array(s, MAX(q->topic_partitions_count, 0), sizeof(*a->replica_election_results));
    for (int32_t i = 0; i < q->topic_partitions_count && !s->arena->failed; i++) {
        const struct elect_leaders_request_topic_partitions *from = &q->topic_partitions[i];
        struct elect_leaders_response_replica_election_result *r = &a->replica_election_results[i];
        elect_leaders_response_replica_election_result_init(r);
        a->replica_election_results_count++;
        r->topic = from->topic;
        r->partition_result = step_array(s, from->partitions_count, sizeof(*r->partition_result));
        for (int32_t k = 0; k < from->partitions_count && r->partition_result != NULL; k++)
            elected_tell(&r->partition_result[r->partition_result_count++], from->partitions[k],
                         elect_one(s, type, from->topic, from->partitions[k]));
    }
}

/* ---- reassignments ----------------------------------------------------------------------------
 */

/* Replicas become `ids`, all of which are replicas already. */
static struct outcome replicas_set(struct step *s, const struct topic_image *t,
                                   const struct partition_image *p, int32_t *ids, int32_t count)
{
    struct partition_change_record m;
    change_begin(&m, t, p);
    m.replicas = ids;
    m.replicas_count = count;
    m.isr = arena_array(s->scratch, (size_t)count, sizeof(*m.isr));
    m.directories = arena_array(s->scratch, (size_t)count, sizeof(*m.directories));
    if (m.isr == NULL || m.directories == NULL)
        return outcome_none(); /* the step fails as a whole */
    m.isr_count = 0;
    for (int32_t i = 0; i < count; i++) {
        if (ids_have(p->isr, p->isr_count, ids[i]))
            m.isr[m.isr_count++] = ids[i];
        for (int32_t k = 0; k < p->replicas_count; k++) { /* invariant 2 */
            if (p->replicas[k] == ids[i])
                m.directories[i] = p->directories[k];
        }
    }
    if (m.isr_count == 0)
        return outcome_error(s, KE_INVALID_REPLICA_ASSIGNMENT,
                             "None of the replicas that would be left is in sync.");
    m.directories_count = level_partition_version(step_level(s)) >= 1 ? count : -1;
    m.leader = ids_have(ids, count, p->leader) ? p->leader : m.isr[0];
    if (p->elr_count > 0)
        m.eligible_leader_replicas_count = 0;
    if (p->last_known_elr_count > 0)
        m.last_known_elr_count = 0;
    if (p->removing_count > 0)
        m.removing_replicas_count = 0;
    if (p->adding_count > 0)
        m.adding_replicas_count = 0;
    change_add(s, &m);
    return outcome_none();
}

static struct outcome
reassign(struct step *s, struct wire_string name,
         const struct alter_partition_reassignments_request_reassignable_partition *q,
         bool keep_factor)
{
    const struct topic_image *t =
        image_topic_by_name(step_image(s), name.data, (uint32_t)name.size);
    if (t == NULL)
        return outcome_error(s, KE_UNKNOWN_TOPIC_OR_PARTITION, "Unable to find a topic named %.*s.",
                             name.size, name.data);
    const struct partition_image *p = topic_partition(t, q->partition_index);
    if (p == NULL)
        return outcome_error(s, KE_UNKNOWN_TOPIC_OR_PARTITION, "Unable to find partition %s:%d.",
                             t->name, q->partition_index);
    if (q->replicas_count < 0) {
        if (p->adding_count == 0 && p->removing_count == 0)
            return (struct outcome){KE_NO_REASSIGNMENT_IN_PROGRESS, WIRE_NULL_STRING};
        return outcome_error(s, KE_INVALID_REPLICA_ASSIGNMENT,
                             "The reassignment was begun by a larger cluster: finish it by naming "
                             "the replicas to keep.");
    }
    struct outcome o = assignment_check(s, q->replicas, q->replicas_count, 0);
    if (o.error != KE_NONE)
        return o;
    if (keep_factor && q->replicas_count != p->replicas_count)
        return outcome_error(s, KE_INVALID_REPLICATION_FACTOR,
                             "The replication factor is %d and would become %d.", p->replicas_count,
                             q->replicas_count);
    bool same = q->replicas_count == p->replicas_count;
    for (int32_t i = 0; i < q->replicas_count; i++) {
        if (!ids_have(p->replicas, p->replicas_count, q->replicas[i]))
            return outcome_error(s, KE_INVALID_REPLICA_ASSIGNMENT,
                                 "Broker %d cannot take a replica: it is not alive.",
                                 q->replicas[i]);
        same = same && q->replicas[i] == p->replicas[i];
    }
    if (same && p->adding_count == 0 && p->removing_count == 0)
        return outcome_none(); /* as it is already */
    if (s->records.count >= RECORDS_PER_CALL_MAX)
        return outcome_error(s, KE_POLICY_VIOLATION,
                             "Unable to perform excessively large batch operation.");
    return replicas_set(s, t, p, q->replicas, q->replicas_count);
}

void step_alter_reassignments(struct step *s, const struct alter_partition_reassignments_request *q,
                              struct alter_partition_reassignments_response *a)
{
    bool keep_factor = s->version >= 1 && !q->allow_replication_factor_change;
    assert(s->records.count == 0);
    alter_partition_reassignments_response_init(a);
    a->allow_replication_factor_change = !keep_factor;
    if (q->topics_count > 0)
        a->error_message = WIRE_NULL_STRING;
    a->responses = step_array(s, q->topics_count, sizeof(*a->responses));
    for (int32_t i = 0; i < q->topics_count && a->responses != NULL; i++) {
        const struct alter_partition_reassignments_request_reassignable_topic *from = &q->topics[i];
        struct alter_partition_reassignments_response_reassignable_topic_response *to =
            &a->responses[a->responses_count++];
        alter_partition_reassignments_response_reassignable_topic_response_init(to);
        to->name = from->name;
        to->partitions = step_array(s, from->partitions_count, sizeof(*to->partitions));
        for (int32_t k = 0; k < from->partitions_count && to->partitions != NULL; k++) {
            struct outcome o = reassign(s, from->name, &from->partitions[k], keep_factor);
            to->partitions[k].partition_index = from->partitions[k].partition_index;
            to->partitions[k].error_code = (int16_t)o.error;
            to->partitions[k].error_message = o.message;
            to->partitions_count++;
        }
    }
}

static int32_t *ids_answer(struct step *s, const int32_t *ids, uint16_t count)
{
    return arena_copy(s->arena, ids, count * sizeof(*ids));
}

static bool asked_for(const struct list_partition_reassignments_request *q,
                      const struct topic_image *t, int32_t index)
{
    for (int32_t i = 0; i < q->topics_count; i++) {
        if ((uint32_t)q->topics[i].name.size == t->name_size &&
            memcmp(q->topics[i].name.data, t->name, t->name_size) == 0 &&
            ids_have(q->topics[i].partition_indexes, q->topics[i].partition_indexes_count, index))
            return true;
    }
    return q->topics_count < 0;
}

void step_list_reassignments(struct step *s, const struct list_partition_reassignments_request *q,
                             struct list_partition_reassignments_response *a)
{
    const struct image *img = step_image(s);
    assert(s->records.count == 0);
    a->error_message = WIRE_NULL_STRING;
    a->topics = step_array(s, (int32_t)img->topics_count, sizeof(*a->topics));
    for (uint32_t i = 0; i < img->topics_count && a->topics != NULL; i++) {
        const struct topic_image *t = img->topics[i];
        struct list_partition_reassignments_response_ongoing_topic_reassignment *to =
            &a->topics[a->topics_count];
        for (uint32_t k = 0; k < t->partitions_count; k++) {
            const struct partition_image *p = &t->partitions[k];
            if ((p->adding_count == 0 && p->removing_count == 0) || !asked_for(q, t, p->index))
                continue;
            if (to->partitions == NULL)
                to->partitions =
                    step_array(s, (int32_t)(t->partitions_count - k), sizeof(*to->partitions));
            if (to->partitions == NULL)
                return;
            struct list_partition_reassignments_response_ongoing_partition_reassignment *o =
                &to->partitions[to->partitions_count++];
            o->partition_index = p->index;
            o->replicas = ids_answer(s, p->replicas, p->replicas_count);
            o->replicas_count = p->replicas_count;
            o->adding_replicas = ids_answer(s, p->adding, p->adding_count);
            o->adding_replicas_count = p->adding_count;
            o->removing_replicas = ids_answer(s, p->removing, p->removing_count);
            o->removing_replicas_count = p->removing_count;
        }
        if (to->partitions_count == 0)
            continue;
        to->name = (struct wire_string){arena_copy(s->arena, t->name, t->name_size),
                                        (int32_t)t->name_size};
        a->topics_count++;
    }
}
