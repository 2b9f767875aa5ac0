/* What the files of the controller share. */
#ifndef BROKER_QUORUM_CONTROLLER_PRIV_H
#define BROKER_QUORUM_CONTROLLER_PRIV_H

#include "broker/quorum/control.h"
#include "broker/quorum/controller.h"
#include "broker/quorum/levels.h"
#include "proto/wire.h"

#define STEP_MESSAGE_MAX 768 /* of an error's text; what is longer is cut */

struct create_topics_request;
struct create_topics_response;
struct delete_topics_request;
struct delete_topics_response;
struct create_partitions_request;
struct create_partitions_response;
struct alter_configs_request;
struct alter_configs_response;
struct incremental_alter_configs_request;
struct incremental_alter_configs_response;
struct update_features_request;
struct update_features_response;
struct elect_leaders_request;
struct elect_leaders_response;
struct alter_partition_reassignments_request;
struct alter_partition_reassignments_response;
struct list_partition_reassignments_request;
struct list_partition_reassignments_response;
struct allocate_producer_ids_request;
struct allocate_producer_ids_response;
struct unregister_broker_request;
struct unregister_broker_response;
struct describe_quorum_request;
struct describe_quorum_response;

void step_create_topics(struct step *s, const struct create_topics_request *q,
                        struct create_topics_response *a);
void step_delete_topics(struct step *s, const struct delete_topics_request *q,
                        struct delete_topics_response *a);
void step_create_partitions(struct step *s, const struct create_partitions_request *q,
                            struct create_partitions_response *a);
void step_alter_configs(struct step *s, const struct alter_configs_request *q,
                        struct alter_configs_response *a);
void step_incremental_alter_configs(struct step *s,
                                    const struct incremental_alter_configs_request *q,
                                    struct incremental_alter_configs_response *a);
void step_update_features(struct step *s, const struct update_features_request *q,
                          struct update_features_response *a);
void step_elect_leaders(struct step *s, const struct elect_leaders_request *q,
                        struct elect_leaders_response *a);
void step_alter_reassignments(struct step *s, const struct alter_partition_reassignments_request *q,
                              struct alter_partition_reassignments_response *a);
void step_list_reassignments(struct step *s, const struct list_partition_reassignments_request *q,
                             struct list_partition_reassignments_response *a);
void step_allocate_producer_ids(struct step *s, const struct allocate_producer_ids_request *q,
                                struct allocate_producer_ids_response *a);
void step_unregister_broker(struct step *s, const struct unregister_broker_request *q,
                            struct unregister_broker_response *a);
void step_describe_quorum(struct step *s, const struct describe_quorum_request *q,
                          struct describe_quorum_response *a);

/* What one item of a request comes to. */
struct outcome {
    enum kafka_error error;
    struct wire_string message; /* null with KE_NONE */
};

static inline struct outcome outcome_none(void)
{
    return (struct outcome){KE_NONE, {NULL, -1}};
}
/* The text goes into the answer's arena. */
struct outcome outcome_error(struct step *s, enum kafka_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* count zeroed items in the answer's arena; NULL (and the arena has failed) without memory. */
void *step_array(struct step *s, int32_t count, size_t size);
/* A terminated copy for the time of the step. */
const char *step_text(struct step *s, struct wire_string text);

const struct image *step_image(const struct step *s);
int16_t step_level(const struct step *s); /* metadata.version */
struct config_layers step_layers(const struct step *s);
bool broker_is_active(const struct broker_image *b);
bool elr_is_enabled(const struct step *s);
/* What has to be set, and unset, before eligible leader replicas are switched on. */
void elr_safety_records(struct step *s);
bool feature_supported(const struct controller *c, const char *name, int16_t *min, int16_t *max);

/* Names that were seen, to find those that come twice. Keys outlive it. */
struct seen {
    struct map map;
    struct arena *scratch;
};
void seen_init(struct seen *seen, struct step *s);
void seen_add(struct seen *seen, const void *key, uint32_t key_size);
uint32_t seen_times(const struct seen *seen, const void *key, uint32_t key_size);
void seen_done(struct seen *seen);

/* A list of broker ids as a client gave it: INVALID_REPLICA_ASSIGNMENT unless it names registered
 * brokers, each once. factor: what the length has to be, 0 for any. */
/* May a topic be called so? INVALID_TOPIC_EXCEPTION and why not. */
struct outcome topic_name_check(struct step *s, struct wire_string name);
struct outcome assignment_check(struct step *s, const int32_t *ids, int32_t count, int32_t factor);
/* A PartitionRecord for a new partition. false: none of the brokers is active. */
bool partition_record_add(struct step *s, struct uuid topic_id, int32_t index, const int32_t *ids,
                          int32_t count, uint32_t *dir_loads);
/* Directory loads, to be changed as partitions are placed. NULL: no memory. */
uint32_t *step_dir_loads(struct step *s);
/* Brokers for one new partition, replication factor > 0. */
struct outcome placement(struct step *s, int32_t factor, int32_t *ids);

#endif
