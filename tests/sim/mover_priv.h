/* What the files of a mover share: who it is, and the steps from one request to the next. */
#ifndef TESTS_SIM_MOVER_PRIV_H
#define TESTS_SIM_MOVER_PRIV_H

#include "proto/error.h"
#include "proto/gen/api.h"
#include "proto/gen/consumer_group_heartbeat.h"
#include "proto/gen/join_group.h"
#include "proto/gen/leave_group.h"
#include "proto/gen/offset_commit.h"
#include "proto/gen/offset_fetch.h"
#include "proto/gen/sync_group.h"
#include "tests/sim/run.h"

#include <string.h>

#define MOVER_PAUSE_NS (50 * NS_PER_MS)
#define MOVER_ERAS     3u

struct mover_versions { /* old and new ones */
    int16_t join, sync, heartbeat, leave, beat, commit;
};

/* ---- mover.c ---- */
struct wire_string mover_text(const char *s);
struct wire_string mover_instance(const struct mover *m);
const struct mover_versions *mover_versions(const struct mover *m);
void mover_later(struct mover *m, uint64_t mean_ns);
void mover_move(struct mover *m, enum mover_state state, uint64_t after_ns);
/* What an error means for a member; KE_NONE: nothing. True: it goes on elsewhere. */
bool mover_error(struct mover *m, const char *what, int16_t error);
/* It has these cells from now on; fresh ones are to be looked at. clean: what was answered says
 * that it is a member and owes nothing, so nobody can put it out before a time-out. */
void mover_owns(struct mover *m, uint64_t cells, bool clean);
/* It gives up what it should not have, and remembers it if somebody else may get it. */
void mover_gives_up(struct mover *m, uint64_t cells, bool remember);
/* It is no member any more, and gives up everything; anew: under another name the next time. */
void mover_forget(struct mover *m, bool anew);
/* Its epoch is `epoch` now; joined: it was none before. */
void mover_epoch(struct mover *m, int32_t epoch, bool joined);
uint32_t mover_subscribed(const struct mover *m);

/* ---- mover_consumer.c: ConsumerGroupHeartbeat ---- */
void mover_beat(struct mover *m);
/* epoch: -1 or -2. */
void mover_beat_leave(struct mover *m, int32_t epoch);
void mover_beaten(struct mover *m, const struct consumer_group_heartbeat_response *a);

/* ---- mover_classic.c: JoinGroup, SyncGroup, Heartbeat, LeaveGroup ---- */
void mover_join(struct mover *m);
void mover_sync(struct mover *m);
void mover_heartbeat(struct mover *m);
void mover_leave(struct mover *m);
void mover_joined(struct mover *m, const struct join_group_response *a, struct arena *arena);
void mover_synced(struct mover *m, const struct sync_group_response *a, struct arena *arena);

/* ---- mover_offset.c: OffsetCommit, OffsetFetch ---- */
enum mover_commit {
    MOVER_COMMITS,      /* what it has */
    MOVER_COMMITS_LATE, /* what it had, as who it was */
    MOVER_COMMITS_AHEAD /* in an epoch that has not come */
};
/* Whether what it had is with somebody else by now, so that it may try to commit it. */
bool mover_is_late(const struct mover *m);
void mover_commit(struct mover *m, enum mover_commit how);
void mover_look(struct mover *m);
void mover_committed(struct mover *m, const struct offset_commit_response *a, uint64_t tag);
void mover_looked(struct mover *m, const struct offset_fetch_response *a);

#endif
