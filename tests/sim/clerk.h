/* struct clerk: an administrator who uses every request there is, each in a version drawn anew, on
 * a few topics ("desks") of its own, and knows what each answer must be. */
#ifndef TESTS_SIM_CLERK_H
#define TESTS_SIM_CLERK_H

#include "core/arena.h"
#include "proto/error.h"
#include "proto/gen/api.h"
#include "tests/sim/link.h"

#include <string.h>

#define DESKS           3u
#define DESK_PARTITIONS 6

struct run;
struct clerk;

/* What is known of one topic. */
struct desk {
    char name[32];
    uint32_t index, generation; /* generation: a part of its name */
    bool there;
    struct uuid id; /* zero: not told yet */
    int32_t partitions;
    int64_t start[DESK_PARTITIONS], end[DESK_PARTITIONS];
    int64_t committed[DESK_PARTITIONS]; /* by the group of the same name; -1: nothing */
    uint32_t bytes_max;                 /* max.message.bytes; 0: not set */
    bool trims;                         /* its records go by themselves, when they are old */
    enum desk_group { GROUP_NONE, GROUP_THERE, GROUP_MAYBE } group;
    uint64_t changed_ns; /* made, deleted, or grown */
};

/* One request: ask() encodes it for clerk.version, told() holds the answer against the desk. */
struct errand {
    int16_t key;
    bool changes; /* its desk: without an answer nobody knows what the desk is */
    void (*ask)(struct clerk *c);
    void (*told)(struct clerk *c, struct wire_reader *body, struct arena *arena);
};

struct clerk {
    struct run *run;
    struct link link;
    struct sim_event act;
    struct desk desks[DESKS];
    const struct errand *errand; /* under way; NULL: none */
    struct desk *desk;
    int16_t version;
    uint32_t twist;    /* which kind of this request */
    int32_t partition; /* of the desk, or 0 */
    int64_t number;    /* what was asked for: a count, an offset */
    bool ready;        /* the broker was, when it was asked */
    uint32_t left, forsaken;
    uint64_t done, excused;
};

/* Of clerk_topics.c, clerk_logs.c, clerk_groups.c: `count` of them. */
const struct errand *clerk_topics(uint32_t *count);
const struct errand *clerk_logs(uint32_t *count);
const struct errand *clerk_groups(uint32_t *count);

void clerk_start(struct clerk *c, struct run *r);
void clerk_stop(struct clerk *c);
/* After a restart: a few more. */
void clerk_again(struct clerk *c);
bool clerk_done(const struct clerk *c);

/* For errands. The error of the answer: true if it is the one that it must be. Otherwise it is
 * excused (a retriable one, a disk that fails, metadata on its way), or a failure of the run. */
bool clerk_expect(struct clerk *c, int16_t error, int16_t wanted);
/* A fact about the answer; false: it fails the run. */
bool clerk_check(struct clerk *c, bool holds, const char *what);
/* The wanted error of a request for the desk's partition. */
int16_t clerk_wanted(const struct clerk *c);
/* Metadata may still be on its way to the core that answers. */
bool clerk_lags(const struct clerk *c);
/* The broker was ready when it was asked, and nothing has been done to it since. */
bool clerk_serves(const struct clerk *c);
/* The answer cannot be decoded. */
void clerk_unreadable(struct clerk *c);
uint64_t clerk_below(struct clerk *c, uint64_t n);
/* Its topic was deleted. The next one has the same name, if no group has ever read this one: when
 * the offsets of a topic go with it is the coordinator's business. */
void desk_close(struct desk *d);

static inline struct wire_string clerk_text(const char *s)
{
    return (struct wire_string){s, (int32_t)strlen(s)};
}

static inline bool clerk_is(struct wire_string s, const char *text)
{
    return s.size == (int32_t)strlen(text) && memcmp(s.data, text, (size_t)s.size) == 0;
}

static inline bool clerk_has_id(const struct desk *d)
{
    static const struct uuid none;
    return memcmp(&d->id, &none, sizeof(none)) != 0;
}

/* Sends m, a `name`_request, as the errand under way. */
#define CLERK_ASK(c, m, name)                                                                      \
    LINK_ASK(&(c)->link, &(m), name, (c)->errand->key, (c)->version, 0, true)
/* Decodes into m, or ends the errand. */
#define CLERK_TOLD(c, m, name)                                                                     \
    struct name##_response m;                                                                      \
    if (name##_response_decode(&m, body, (c)->version, arena) != 0) {                              \
        clerk_unreadable(c);                                                                       \
        return;                                                                                    \
    }

#endif
