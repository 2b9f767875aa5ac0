/* The letter of one admin call; see call.h. Shared by its two ends only. */
#ifndef BROKER_API_CONTROL_LEG_H
#define BROKER_API_CONTROL_LEG_H

#include "broker/flow.h"
#include "core/mail.h"

struct control_work; /* control_core.c: the call and its memory */

struct control_leg {
    struct msg msg;
    struct flow *flow; /* home's */
    int16_t api_key, api_version;
    uint32_t response_size;
    const void *request; /* home's memory, lent */
    void *response;      /* control's memory, lent back; NULL: it had none */
    struct control_work *work;
    void (*answer)(struct flow *f, void *response);
};

#endif
