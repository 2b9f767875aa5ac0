/* The features this build serves. metadata.version 25 is Kafka 4.0-IV3, 30 is 4.3-IV0. */
#include "broker/served_features.h"

const struct control_feature features_served[] = {
    {"metadata.version", 7, 30},
};

const uint32_t features_served_count = sizeof(features_served) / sizeof(features_served[0]);
