/* Transactions in the simulated world: tellers write records to several partitions of one topic in
 * each transaction, auditors read what is committed. What a teller knows of the end of each of its
 * transactions is held against what auditors see. Each is made from the next one of a row of inputs
 * and commits, with its records, how far in that row it is: as streams applications do. */
#ifndef TESTS_SIM_LEDGER_H
#define TESTS_SIM_LEDGER_H

#include "tests/sim/link.h"

#define LEDGER_TOPIC      "ledger"
#define LEDGER_PARTITIONS 4u
#define LEDGER_TEXT_MAX   256
#define TELLERS_MAX       4u
#define TXNS_MAX          200u /* of one teller */
#define LEDGER_STAMP_SIZE 12

struct run;

/* What is known of a transaction's end. */
enum txn_end {
    TXN_OPEN,        /* nobody has ever asked to commit it, or it was refused: nobody may see it */
    TXN_COMMIT_SENT, /* asked, no answer: all of it may be seen, or nothing */
    TXN_COMMITTED
};

struct ledger_txn {
    uint8_t end;
    uint8_t mask; /* partitions written to */
    uint8_t seen;
    uint8_t walked; /* seen in the last walk */
    uint32_t input; /* what it was made from; its offset is committed with it */
};

struct ledger {
    bool ready; /* the topic is there */
    uint32_t partitions_count;
    struct ledger_txn txns[TELLERS_MAX][TXNS_MAX];
    int64_t stable[LEDGER_PARTITIONS]; /* highest last stable offset seen */
    uint64_t committed, refused, zombies;
};

struct teller {
    struct run *run;
    struct link link;
    struct sim_event act;
    uint32_t index;
    bool verbatim; /* adds partitions itself, and keeps its epoch: clients before transaction v2 */
    char id[16];
    uint32_t timeout_ms;
    enum teller_state {
        TELLER_FIND,
        TELLER_INIT,
        TELLER_LOOK,
        TELLER_BEGIN,
        TELLER_ADD,
        TELLER_PRODUCE,
        TELLER_ADD_OFFSETS,
        TELLER_OFFSETS,
        TELLER_END
    } state;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t sequences[LEDGER_PARTITIONS];
    uint32_t made;                  /* transactions begun */
    struct ledger_txn *txn, *doubt; /* doubt: what became of it the committed offset will tell */
    bool lost;                      /* looks for the coordinators again */
    uint32_t finds;
    uint32_t input; /* the next one: so many are done */
    uint8_t acked;
    uint32_t ends_sent;
    bool commits;
    uint8_t *bytes[LEDGER_PARTITIONS];
    uint32_t sizes[LEDGER_PARTITIONS];
    /* somebody who has lost the name to this teller, and does not know */
    struct link zombie;
    int64_t zombie_id;
    int16_t zombie_epoch;
    int32_t zombie_sequence;
};

struct auditor {
    struct run *run;
    struct link link;
    struct sim_event act;
    bool walks;
    int16_t version;
    uint32_t max_bytes;
    int64_t offsets[LEDGER_PARTITIONS], floors[LEDGER_PARTITIONS];
    bool at_end[LEDGER_PARTITIONS];                 /* everything was stable and read */
    int64_t latest[TELLERS_MAX][LEDGER_PARTITIONS]; /* transaction seen last; -1: none */
};

void teller_start(struct teller *t, struct run *r, uint32_t index);
void teller_stop(struct teller *t);
bool teller_done(const struct teller *t);

void auditor_start(struct auditor *a, struct run *r, bool walks);
void auditor_stop(struct auditor *a);
/* It has read to the ends, and nothing is open there. */
bool auditor_done(const struct auditor *a);

/* One batch for the ledger; frees are the caller's (mem_free with *size). */
uint8_t *ledger_batch(struct run *r, int64_t id, int16_t epoch, int32_t sequence, uint32_t teller,
                      uint32_t txn, bool zombie, uint32_t *size, uint32_t *count);

#endif
