/* struct bench_topic: the topic a load runs on: its id, its partitions and who leads them. */
#ifndef BROKER_BENCH_TOPIC_H
#define BROKER_BENCH_TOPIC_H

#include "broker/bench/client.h"

#define BENCH_NODES_MAX      64u
#define BENCH_PARTITIONS_MAX 200000u
#define BENCH_CONFIGS_MAX    32u
#define OFFSET_LATEST        (-1)
#define OFFSET_EARLIEST      (-2)

struct bench_topic {
    struct mem *mem;
    const char *name;
    struct uuid id;
    uint32_t partitions_count;
    uint8_t *leaders; /* per partition: index into nodes */
    struct io_address nodes[BENCH_NODES_MAX];
    uint32_t nodes_count;
};

/* Makes a topic unless it is there; configs are KEY=VALUE. copies -1: the broker's default. */
NODISCARD bool bench_topic_make(struct bench_client *c, const char *name, uint32_t partitions,
                                int16_t copies, const char *const *configs, uint32_t configs_count);
/* Waits until every partition has a leader. */
NODISCARD bool bench_topic_find(struct bench_topic *t, struct bench_client *c, const char *name);
void bench_topic_free(struct bench_topic *t);
/* Deletes it and waits until it is gone. */
NODISCARD bool bench_topic_delete(struct bench_client *c, const char *name);
/* The offset of each partition: OFFSET_LATEST or OFFSET_EARLIEST. */
NODISCARD bool bench_topic_offsets(const struct bench_topic *t, struct bench_client *c,
                                   int64_t which, int64_t *offsets);

#endif
