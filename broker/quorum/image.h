/* struct image: the cluster's metadata as one core sees it. Its leaves (topics, brokers, configs,
 * features) are immutable, made and freed by the control core, and shared by all cores; an image is
 * only the tables of one core over those leaves. The control core turns committed metadata records
 * into a struct image_delta and lends it to every core; image_apply swaps the leaves in that core's
 * tables. The order of deltas is the order of the metadata log.
 *
 *   records -> control core -> new leaves + delta --lent by ring--> core 0 .. n: image_apply
 *                                  ^--------- every core has returned it: old leaves are freed
 *
 * A leaf found through an image stays valid until this core returns the delta that replaces or
 * removes it, so: whoever waits looks the leaf up again afterwards, or holds the delta back.
 * Strings are terminated, and their size is beside them. */
#ifndef BROKER_QUORUM_IMAGE_H
#define BROKER_QUORUM_IMAGE_H

#include "broker/config/describe.h"
#include "core/core.h"
#include "core/list.h"
#include "core/map.h"
#include "core/mem.h"
#include "core/uuid.h"

#define PARTITION_LEADER_NONE (-1)

/* What was set on one resource. */
struct config_image {
    enum config_resource_type type; /* of brokers, the one named "" is the default of all */
    const char *name;               /* topic, broker id as text or "", group, subscription */
    uint32_t name_size;
    struct config_overrides set; /* sorted by name; never empty but for a topic's */
    uint32_t block_size;         /* of the leaf's one memory block */
};

/* The entry's value, or NULL. config may be NULL. */
const char *config_image_get(const struct config_image *config, const char *name);

struct partition_image {
    int32_t index;
    int32_t leader; /* broker id or PARTITION_LEADER_NONE */
    int32_t leader_epoch, partition_epoch;
    int8_t recovery_state; /* 1: was elected uncleanly */
    uint16_t replicas_count, isr_count, elr_count, last_known_elr_count;
    uint16_t removing_count, adding_count;
    const int32_t *replicas, *isr, *elr, *last_known_elr, *removing, *adding;
    const struct uuid *directories; /* replicas_count: directory.id of each replica's log dir */
};

struct topic_image {
    struct uuid id;
    const char *name;
    uint32_t name_size;
    uint32_t partitions_count;
    const struct partition_image *partitions; /* partitions[i].index == i */
    struct config_image overrides;            /* what was set on this topic */
    struct topic_config config;               /* defaults, brokers' dynamic ones, overrides */
    bool internal;                            /* __consumer_offsets and the like */
    uint32_t block_size;
};

struct endpoint_image {
    const char *listener, *host;
    uint16_t port;
    int16_t security_protocol; /* 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL */
};

struct feature_range {
    const char *name;
    int16_t min, max;
};

struct broker_image {
    int32_t id;
    int64_t epoch;
    struct uuid incarnation;
    const struct endpoint_image *endpoints;
    uint32_t endpoints_count;
    const struct feature_range *features; /* what it supports */
    uint32_t features_count;
    const struct uuid *log_dirs; /* sorted */
    const struct uuid *cordoned_log_dirs;
    uint32_t log_dirs_count, cordoned_log_dirs_count;
    const char *rack; /* NULL: none */
    bool fenced, in_controlled_shutdown;
    uint32_t block_size;
};

struct feature_level {
    const char *name;
    uint32_t name_size;
    int16_t level; /* > 0 */
};

/* All finalized features but kraft.version, sorted by name; replaced as a whole. The epoch that
 * ApiVersions tells with them is the image's offset. */
struct features_image {
    const struct feature_level *features;
    uint32_t features_count;
    uint32_t block_size;
};

/* ---- changes --------------------------------------------------------------------------------- */

enum image_change_kind { IMAGE_TOPIC, IMAGE_BROKER, IMAGE_CONFIG, IMAGE_FEATURES };

/* before NULL: added. after NULL: removed. Both: changed (same topic id, broker id, resource). */
struct image_change {
    enum image_change_kind kind;
    union {
        struct {
            const struct topic_image *before, *after;
        } topic;
        struct {
            const struct broker_image *before, *after;
        } broker;
        struct {
            const struct config_image *before, *after; /* never of type topic: see overrides */
        } config;
        struct {
            const struct features_image *before, *after;
        } features;
    };
};

/* Each leaf appears at most once as `before` and once as `after`. A topic that was deleted and
 * created again under its name is a removal followed by an addition (two ids). */
struct image_delta {
    int64_t offset; /* metadata offset after which this holds: that of the last record in it */
    int32_t epoch;  /* of the metadata leader */
    bool full;      /* the first one: everything is an addition, to an empty image */
    const struct image_change *changes; /* removals come before additions */
    uint32_t changes_count;
    /* control core only */
    struct list link;
    uint64_t holders[(CORES_MAX + 63) / 64]; /* cores that have not returned it */
    uint32_t changes_size;
};

/* ---- one core's tables ----------------------------------------------------------------------- */

struct image {
    struct mem *mem;
    int64_t offset; /* of the last delta applied; -1: none yet */
    int32_t epoch;
    struct map topics_by_name, topics_by_id;
    const struct topic_image **topics; /* sorted by name */
    uint32_t topics_count, topics_size;
    uint64_t partitions_count;           /* of all topics */
    const struct broker_image **brokers; /* sorted by id */
    uint32_t brokers_count, brokers_size;
    const struct config_image **configs; /* sorted by type, name */
    uint32_t configs_count, configs_size;
    const struct features_image *features; /* NULL before the first delta */
};

void image_init(struct image *img, struct mem *mem, uint64_t seed);
void image_destroy(struct image *img); /* the tables; leaves belong to the control core */
/* 0, or -ENOMEM: then the image is as it was. */
NODISCARD int image_apply(struct image *img, const struct image_delta *delta);

const struct topic_image *image_topic_by_name(const struct image *img, const char *name,
                                              uint32_t name_size);
const struct topic_image *image_topic_by_id(const struct image *img, struct uuid id);
/* Index into img->topics of the first topic whose name is >= name: where a page begins. */
uint32_t image_topic_lower_bound(const struct image *img, const char *name, uint32_t name_size);
/* NULL if the topic has no such partition. */
const struct partition_image *topic_partition(const struct topic_image *topic, int32_t partition);
const struct broker_image *image_broker(const struct image *img, int32_t id);
/* The broker's endpoint on a listener, or NULL. */
const struct endpoint_image *broker_endpoint(const struct broker_image *broker,
                                             const char *listener);
/* NULL when nothing is set there. Topics too (their overrides). */
const struct config_image *image_config(const struct image *img, enum config_resource_type type,
                                        const char *name, uint32_t name_size);
/* Finalized level of a feature, 0 if it is not finalized. */
int16_t image_feature(const struct image *img, const char *name);

#endif
