/* struct swarm: what a seed decides beside the run's own options, drawn from a stream of its own:
 * odd but lawful settings of the node, clients of a less regular kind, and which further faults
 * there are. */
#ifndef TESTS_SIM_SWARM_H
#define TESTS_SIM_SWARM_H

#include "io/sim/chance.h"

struct run_options;

struct swarm {
    uint32_t snapshot_bytes;  /* of metadata records between two snapshots; 0: as usual */
    uint32_t session_slots;   /* fetch sessions of a core */
    uint32_t idle_ms;         /* connections; 0: as usual */
    uint32_t connections;     /* of the node; 0: any number */
    uint32_t ring_slots;      /* between two cores; 0: as usual */
    uint32_t memory_mib;      /* of a core */
    uint32_t check_ms;        /* retention; also how long deleted files stay */
    uint32_t producer_ms;     /* producers are forgotten after; 0: as usual */
    uint32_t txn_ms;          /* likewise transactional ids */
    uint32_t cleaner_kib;     /* what the cleaner reads at once */
    uint32_t dedupe_kib;      /* its table */
    uint32_t janitors, rudes; /* clients of these kinds */
    uint32_t retention_bytes; /* of what janitors write; 0: none */
    uint32_t retention_ms;    /* likewise */
    bool cached;              /* one topic acknowledges what only the page cache has */
    bool keeps_sessions;      /* fetchers go on with the session of a connection that is lost */
    bool lingers;             /* harm lasts long, and what is done is little */
    bool floods;              /* much is written by few, and the disk is full now and then */
};

void swarm_draw(struct swarm *w, struct chance *c);
/* What would make something right look wrong, or cannot be together, is as usual. */
void swarm_agree(struct run_options *o);
/* Lines of the node's properties. */
void swarm_properties(const struct swarm *w, char *to, size_t size);

#endif
