/* The loop of one data core, as a step function: the thread loops around it, the simulator calls it
 * when it pleases. */
#ifndef BROKER_STEP_H
#define BROKER_STEP_H

#include "broker/data_core.h"

/* One turn. Waits for work at most until wait_until_ns (monotonic; 0: does not wait). */
void data_core_turn(struct data_core *c, uint64_t wait_until_ns);

/* What may arrive: each is in the file that knows the kind (msg.h says who sends what). */
void produce_leg_arrived(struct data_core *core, struct msg *msg);
void produce_leg_home(struct data_core *core, struct msg *msg);
void produce_legs_resume(struct data_core *core);
void fetch_leg_arrived(struct data_core *core, struct msg *msg);
void fetch_leg_home(struct data_core *core, struct msg *msg);
void fetch_free_arrived(struct data_core *core, struct msg *msg);
void fetch_watch_arrived(struct data_core *core, struct msg *msg);
void fetch_recall_arrived(struct data_core *core, struct msg *msg);
void fetch_recall_home(struct data_core *core, struct msg *msg);
void fetch_unpark_all(struct data_core *core);
uint32_t fetch_read_size(void); /* of one read, for data_core.reads */
void parts_leg_arrived(struct data_core *core, struct msg *msg);
void parts_leg_home(struct data_core *core, struct msg *msg);
void parts_free_arrived(struct data_core *core, struct msg *msg);
void parts_free_home(struct data_core *core, struct msg *msg);
void group_leg_arrived(struct data_core *core, struct msg *msg);
void group_leg_home(struct data_core *core, struct msg *msg);
void group_recall_arrived(struct data_core *core, struct msg *msg);
void group_recall_home(struct data_core *core, struct msg *msg);
void group_free_arrived(struct data_core *core, struct msg *msg);
void group_free_home(struct data_core *core, struct msg *msg);
void txn_ask_arrived(struct data_core *core, struct msg *msg);
void txn_ask_home(struct data_core *core, struct msg *msg);
void txn_markers_arrived(struct data_core *core, struct msg *msg);
void txn_markers_home(struct data_core *core, struct msg *msg);
void control_call_home(struct data_core *core, struct msg *msg);
void control_free_home(struct data_core *core, struct msg *msg);

#endif
