/* A node's metadata on real files: configuration, formatted directories, a control, and the images
 * of two cores that return each delta a turn after they got it. A test is a straight line: start,
 * ask, look. */
#ifndef TESTS_BROKER_QUORUM_RIG_H
#define TESTS_BROKER_QUORUM_RIG_H

#include "tests/io/rig.h"

#include "broker/quorum/control.h"
#include "broker/quorum/format.h"

#define QUORUM_CORES      2
#define QUORUM_DELTAS_MAX 1024

struct quorum_rig {
    struct rig io;
    struct wheel wheel;
    struct trace trace;
    struct mem mem; /* of the control */
    struct config config;
    struct node_identity identity;
    struct control *control;
    struct image images[QUORUM_CORES];
    const struct image_delta *away[QUORUM_DELTAS_MAX]; /* not yet returned */
    uint32_t away_count;
    bool hold; /* keeps deltas away */
    bool loaded;
    int failed;
    char properties[1024], text[512], why[512];
    char said[1024]; /* the last line of text output */
};

/* Directories: "" is the rig's own folder, "a,b" are a and b in it. properties are added. */
void quorum_begin(struct quorum_rig *q, const char *dirs, const char *properties);
/* Control up to the first image being applied and the broker unfenced; false: q->why says. */
bool quorum_start(struct quorum_rig *q);
/* Clean; then it may be started again. */
void quorum_stop(struct quorum_rig *q);
/* As if the process had been killed. */
void quorum_kill(struct quorum_rig *q);
/* Removes the files and checks that all memory is back. */
void quorum_end(struct quorum_rig *q);
/* One turn. */
void quorum_turn(struct quorum_rig *q);

#define RIG_UNTIL_TURN(q, condition)                                                               \
    do {                                                                                           \
        uint64_t limit_ = io_clock_ns((q)->io.io) + RIG_LIMIT_NS;                                  \
        while (!(condition)) {                                                                     \
            quorum_turn(q);                                                                        \
            cr_assert(io_now_ns((q)->io.io) < limit_, "in time: %s", #condition);                  \
        }                                                                                          \
    } while (0)

/* Path of a file below the rig's folder, in q->text. */
const char *quorum_path(struct quorum_rig *q, const char *name);

/* One call to its end. The answer's arena is given back by quorum_forget. */
struct quorum_call {
    struct control_call call;
    struct arena arena;
    bool done;
};
enum kafka_error quorum_ask(struct quorum_rig *q, struct quorum_call *c, int16_t api_key,
                            int16_t version, const void *request, void *response);
void quorum_called(struct control_call *call); /* `done` of a quorum_call */
void quorum_left(struct op *op);               /* `done` of a leave: it went well */
void quorum_forget(struct quorum_call *c);

/* Creates a topic with so many partitions; the error code of its result. */
enum kafka_error quorum_create_topic(struct quorum_rig *q, const char *name, int32_t partitions);

/* Both say the same, leaf by leaf; the first difference in why. */
bool images_equal(const struct image *a, const struct image *b, char *why, size_t why_size);

#endif
