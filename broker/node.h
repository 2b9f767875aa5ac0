/* struct node: one broker process (or one simulated machine): its configuration, its data cores,
 * its control core, and what they share, which is read-only after start but for the mail. */
#ifndef BROKER_NODE_H
#define BROKER_NODE_H

#include "broker/control_core.h"
#include "broker/data_core.h"
#include "broker/quorum/format.h"

struct node {
    const struct config *config;
    struct io_world *world;
    struct mem *mem; /* of this struct and the cores' structs; start and end only */
    struct post post;
    uint32_t cores_count; /* data cores; the control core's id is cores_count */
    struct core_id control_id;
    uint64_t core_memory_bytes;
    uint32_t ring_slots;           /* RING_SLOTS, but in simulations */
    uint16_t ports[LISTENERS_MAX]; /* bound */
    /* Set by the control core before the first delta goes out, read-only afterwards. */
    struct node_identity identity;
    bool clean_start;
    void (*trace)(void *context, const char *line, size_t size); /* where text output goes */
    void *trace_context;
    void (*print)(void *context, const char *text, size_t size); /* the ready line */
    void *print_context;
    struct control_core *control;
    struct data_core *cores[];
};

/* Memory for cores_count data cores. The world is started by the caller. NULL without memory. */
struct node *node_make(const struct config *config, struct io_world *world, struct mem *mem,
                       uint32_t cores_count);
/* No core runs any more. */
void node_free(struct node *n);
/* Runs the whole broker on real threads until it is stopped or fails; the exit code. */
int node_run(const struct config *config);

#endif
