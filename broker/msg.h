/* The catalogue of cross-core messages: what one core may ask of another, and nothing else. Each
 * message is embedded in an object of its home core, is lent to the other core, and comes back
 * under the kind with _HOME. Letters to oneself take the same way.
 *
 *   kind             home -> owner -> home                         outstanding per pair
 *   MSG_PRODUCE      data -> data: one produce_leg                 flows
 *   MSG_FETCH        data -> data: read; the pieces stay lent      flows
 *   MSG_FETCH_FREE   data -> data: the same leg gives pieces back  flows
 *   MSG_WATCH        data -> data: parked until a partition grows  flows
 *   MSG_RECALL       data -> data: asks for a parked watch         flows
 *   MSG_PARTS        data -> data: lookups and admin by partition  flows
 *   MSG_PARTS_FREE   data -> data: what the owner made is not needed flows
 *   MSG_GROUP        data -> data: asks coordinators; may be held  flows
 *   MSG_GROUP_RECALL data -> data: who asked is gone, let it go    flows
 *   MSG_GROUP_FREE   data -> data: what the owner made is not needed flows
 *   MSG_TXN          data -> data: asks a transaction's coordinator flows
 *   MSG_MARKERS      data -> data: ends a transaction in partitions transactions that end, flows
 *   MSG_CONTROL      data -> control: one admin call               flows
 *   MSG_CONTROL_FREE data -> control: its answer has been encoded  flows
 *   MSG_STARTED      data -> control: this core's reactor runs     1
 *   MSG_IMAGE        control -> data: one metadata delta           deltas in flight
 *   MSG_OPEN         control -> data: serve the other cores        1
 *   MSG_ACCEPT       control -> data: all do; accept connections   1
 *   MSG_CHECKPOINT   control -> data: tell your checkpoints        1
 *   MSG_STAT         control -> data: add what you have counted    1
 *   MSG_STOP         control -> data: clean shutdown               1
 *   MSG_TROUBLE      data -> control: a directory or a core died   log directories + 1
 */
#ifndef BROKER_MSG_H
#define BROKER_MSG_H

enum msg_kind {
    MSG_PRODUCE = 1,
    MSG_PRODUCE_HOME,
    MSG_FETCH,
    MSG_FETCH_FREE,
    MSG_WATCH,
    MSG_FETCH_HOME, /* of the three above */
    MSG_RECALL,
    MSG_RECALL_HOME,
    MSG_PARTS,
    MSG_PARTS_HOME,
    MSG_PARTS_FREE,
    MSG_PARTS_FREE_HOME,
    MSG_GROUP,
    MSG_GROUP_HOME,
    MSG_GROUP_RECALL,
    MSG_GROUP_RECALL_HOME,
    MSG_GROUP_FREE,
    MSG_GROUP_FREE_HOME,
    MSG_TXN,
    MSG_TXN_HOME,
    MSG_MARKERS,
    MSG_MARKERS_HOME,
    MSG_CONTROL,
    MSG_CONTROL_HOME,
    MSG_CONTROL_FREE,
    MSG_CONTROL_FREE_HOME,
    MSG_STARTED, /* stays at the control core */
    MSG_IMAGE,
    MSG_IMAGE_HOME,
    MSG_OPEN,
    MSG_OPEN_HOME,
    MSG_ACCEPT,
    MSG_ACCEPT_HOME,
    MSG_CHECKPOINT,
    MSG_CHECKPOINT_HOME,
    MSG_STAT,
    MSG_STAT_HOME,
    MSG_STOP,
    MSG_STOP_HOME,
    MSG_TROUBLE,
    MSG_TROUBLE_HOME,
};

#endif
