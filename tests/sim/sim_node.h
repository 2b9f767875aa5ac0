/* struct sim_node: one torc node on a simulated machine, started, stopped, killed and started again
 * on the same disk. What node_run does with threads, done with the simulator's cores. */
#ifndef TESTS_SIM_SIM_NODE_H
#define TESTS_SIM_SIM_NODE_H

#include "broker/node.h"
#include "io/sim/sim.h"

#define SIM_NODE_PORT 9092

struct sim_node {
    struct sim *sim;
    struct sim_machine *machine;
    struct mem config_mem; /* of the configuration: outlives every start */
    struct config config;
    uint32_t ring_slots;  /* 0: as usual */
    uint32_t cores_count; /* data cores of the next start */
    bool verbose;
    /* one start */
    struct mem mem;
    struct node *node;
    struct sim_data_core {
        struct sim_node *node;
        struct core_id id;
    } data[CORES_MAX];
    char why[512];
    int start_error;
    bool ready; /* the ready line was printed */
    uint32_t starts, readies, ends;
    char last_error[512]; /* the last ERROR line of this start */
};

/* properties: the text of a server.properties. False: it is refused (why says so). */
bool sim_node_make(struct sim_node *n, struct sim *s, struct sim_machine *m, const char *properties,
                   bool verbose);
/* The machine is down. */
void sim_node_free(struct sim_node *n);
/* Boots. The machine is down. */
void sim_node_start(struct sim_node *n);
/* Call it often: ends the process when all its cores have returned. True: it has just ended, with
 * *exit_code. */
bool sim_node_tend(struct sim_node *n, int *exit_code);
/* "Where are all requests now" tells the truth: each core's stages add up to the requests that its
 * connections have under way, and the stages of legs to those that the requests wait for. Between
 * turns. */
bool sim_node_adds_up(const struct sim_node *n, char *why, size_t size);
/* What its cores are doing, line by line: for who reads of a failed run. */
void sim_node_look(const struct sim_node *n, void (*line)(void *context, const char *text),
                   void *context);

#endif
