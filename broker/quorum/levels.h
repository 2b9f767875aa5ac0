/* metadata.version: its levels, and which version of a record each of them writes. */
#ifndef BROKER_QUORUM_LEVELS_H
#define BROKER_QUORUM_LEVELS_H

#include <stdint.h>

#define FEATURE_METADATA_VERSION "metadata.version"
#define FEATURE_KRAFT_VERSION    "kraft.version"
#define FEATURE_ELR              "eligible.leader.replicas.version"

enum metadata_level {
    METADATA_3_3_IV3 = 7, /* the oldest that is opened */
    METADATA_3_4_IV0 = 8,
    METADATA_3_5_IV1 = 10,
    METADATA_3_5_IV2 = 11, /* SCRAM */
    METADATA_3_6_IV1 = 13, /* metadata transactions */
    METADATA_3_6_IV2 = 14, /* delegation tokens */
    METADATA_3_7_IV0 = 15, /* controllers register */
    METADATA_3_7_IV2 = 17, /* directories of replicas */
    METADATA_4_0_IV1 = 23, /* eligible leader replicas */
    METADATA_4_3_IV0 = 30, /* cordoned directories; the newest that is known here */
};

static inline int16_t level_register_broker_version(int16_t level)
{
    if (level >= METADATA_4_3_IV0)
        return 4;
    if (level >= METADATA_3_7_IV2)
        return 3;
    return level >= METADATA_3_4_IV0 ? 2 : 1;
}

static inline int16_t level_partition_version(int16_t level)
{
    if (level >= METADATA_4_0_IV1)
        return 2;
    return level >= METADATA_3_7_IV2 ? 1 : 0;
}

#endif
