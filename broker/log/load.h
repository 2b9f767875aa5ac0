/* Bringing a log's files into memory; see load.c. */
#ifndef BROKER_LOG_LOAD_H
#define BROKER_LOG_LOAD_H

#include "broker/log/log_priv.h"

/* What its folder holds becomes the log's state (empty: the folder is new). 0 or -errno. */
NODISCARD int log_load(struct log *l, bool empty);

#endif
