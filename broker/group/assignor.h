/* Ways to spread partitions over the members of a consumer group, as Kafka's server-side assignors
 * do it: with the same members, topics and former assignment the result is the same. Pure.
 *
 *   uniform  everybody gets as many as everybody else, give or take one; who has something keeps
 *            it as far as that allows. Members that subscribe to different topics are balanced as
 *            well as their subscriptions allow.
 *   range    of each topic everybody gets a range, in the order of the members' names: the same
 *            numbers of topics with as many partitions go to the same member. */
#ifndef BROKER_GROUP_ASSIGNOR_H
#define BROKER_GROUP_ASSIGNOR_H

#include "core/arena.h"
#include "core/uuid.h"
#include "proto/wire.h"

#define ASSIGNOR_NOBODY UINT32_MAX

struct assignor_topic {
    struct uuid id;
    uint32_t partitions_count;
    uint32_t *owners; /* by partition: index of the member that has it, then that gets it; or
                         ASSIGNOR_NOBODY. Former owners that are gone or do not subscribe any more
                         are NOBODY already. */
};

struct assignor_member {
    struct wire_string id, instance_id; /* null: dynamic */
    uint32_t *topics; /* indexes of what it subscribes to, ascending; of alike members all the same
                         and may be shared */
    uint32_t topics_count;
};

struct assignor_input {
    struct assignor_topic *topics;   /* in any order */
    struct assignor_member *members; /* in any order */
    uint32_t topics_count, members_count;
    bool alike; /* all members subscribe to all topics */
    struct arena *arena;
};

/* Fills the owners in. false: no memory. */
NODISCARD bool assign_uniform(struct assignor_input *in);
NODISCARD bool assign_range(struct assignor_input *in);
/* assignor_uneven.c: uniform, of members that are not alike. members_order: indexes of members in
 * the order in which Kafka looks at them. */
NODISCARD bool assign_uneven(struct assignor_input *in, const uint32_t *members_order);

/* Indexes 0..count-1 in the order in which a Java HashMap with these hash codes as keys is walked,
 * when it was made for `sized` entries (0: by putting one after another). */
NODISCARD bool assignor_java_order(struct arena *arena, const int32_t *hashes, uint32_t count,
                                   uint32_t sized, uint32_t *order);
int32_t assignor_java_hash(struct wire_string s);
int32_t assignor_java_hash_uuid(struct uuid id);
/* As Java compares Uuids: two signed numbers. */
int assignor_uuid_order(struct uuid a, struct uuid b);

#endif
