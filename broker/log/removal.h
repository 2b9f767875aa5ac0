/* What is to go from a log directory, and its removal beside the core; see removal.c. */
#ifndef BROKER_LOG_REMOVAL_H
#define BROKER_LOG_REMOVAL_H

#include "broker/log/log_priv.h"

struct removal;

enum removal_kind {
    REMOVE_FILE,
    REMOVE_READ_FILE, /* somebody reads it, perhaps till after it has gone */
    REMOVE_FOLDER,    /* with the files in it */
};

/* NULL: no memory. */
struct removal *removal_make(struct log_core *c);
/* Forgets what has not gone (the next start finds it again). Nothing of it is in flight. */
void removal_free(struct removal *r);
/* Goes at due_ns, or when its directory is full. Its name is one that a start removes as well. */
void removal_plan(struct log_core *c, uint32_t dir, const char *path, enum removal_kind kind,
                  uint64_t due_ns);
/* Begins with what is due. */
void removal_tick(struct removal *r);
bool removal_busy(const struct removal *r);

#endif
