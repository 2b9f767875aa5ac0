/* The features this build serves, sorted. metadata.version 7 is Kafka 3.3-IV3, 30 is 4.3-IV0. */
#include "broker/served_features.h"

const struct control_feature features_served[] = {
    {"eligible.leader.replicas.version", 0, 1},
    {"group.version", 0, 1},
    {"kraft.version", 0, 1},
    {"metadata.version", 7, 30},
    {"transaction.version", 0, 2},
};

const uint32_t features_served_count = sizeof(features_served) / sizeof(features_served[0]);
