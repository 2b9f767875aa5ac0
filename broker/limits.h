/* Every bound of the broker that is not a configuration key, with its reason. A queue, table or
 * loop without a line here (or a Kafka key) is a defect. */
#ifndef BROKER_LIMITS_H
#define BROKER_LIMITS_H

#include "core/core.h"

/* Requests of one connection that may be under way at once. Java pipelines 5, librdkafka as many as
 * its queue holds; beyond this we stop reading, and the socket buffer holds the rest. */
#define CONN_FLOWS_MAX 32u
/* Bytes of requests one connection may have under way before we stop reading it. One request may be
 * larger (socket.request.max.bytes); then it is alone. */
#define CONN_BYTES_MAX (8u << 20)
/* First piece of memory for a frame that spans receive buffers; it then grows fourfold with what
 * has really arrived, so a declared length alone costs nothing. */
#define FRAME_FIRST_BYTES (64u << 10)
/* Frames up to this size are copied out of the receive buffer, which goes back to the kernel. */
#define FRAME_COPY_MAX 4096u
/* With fewer receive buffers left than this, larger frames are copied out too. */
#define RECV_BUFFERS_LOW 4u

/* Flows: CONN_FLOWS_MAX x busy connections; ten thousand idle connections hold one fetch each. */
#define FLOWS_MAX 65536u
/* Connections of one core (max.connections bounds the node). */
#define CONNS_MAX 50000u
/* Memory one request may decode into or answer from, beyond its frame. */
#define FLOW_ARENA_MAX (256ull << 20)

/* Reads of partitions that are under way or lent to an answer, of one core; a fetch beyond that
 * gets nothing for the partition and asks again. */
#define FETCH_READS_MAX 16384u

/* How a core's memory is shared out. The log's tail may have half of it; frames that are being
 * assembled or worked on a quarter; what readers behind the tail are being sent an eighth (and as
 * much again for copies of the tail, where readers would hold too much of it). The rest is for
 * requests, the metadata, producers, groups and sessions. */
#define CACHE_SHARE     2u
#define FRAMES_SHARE    4u
#define READS_SHARE     8u
#define CACHE_BYTES_MIN (2ull << 20)
/* A request may take this part of what is free when it comes, but always FLOW_ARENA_MIN. */
#define FLOW_ARENA_SHARE 2u
#define FLOW_ARENA_MIN   (256ull << 10)

/* Answers that may wait in one connection before its next request is started (not produce). */
#define CONN_UNSENT_MAX (64u << 10)
/* An answer with so much to encode is long, and the next request of that connection comes after all
 * others; of such requests a turn starts no more once answers of so many bytes were encoded, nor
 * looks at more such connections. */
#define CONN_HEAVY_BYTES (16u << 10)
#define TURN_HEAVY_BYTES (128u << 10)
#define TURN_HEAVY_MAX   64u
/* A peer that takes nothing of an answer, so long, is gone; and so is one that is so slow with a
 * frame or an answer while memory is scarce. */
#define SEND_STALL_NS   (60 * NS_PER_S)
#define SCARCE_STALL_NS (3 * NS_PER_S)
#define SCARCE_NS       (2 * NS_PER_S) /* how long it counts as scarce after it was found so */

/* One sendmsg: UIO_MAXIOV of Linux is 1024. */
#define SEND_IOV_MAX   512u
#define SEND_BYTES_MAX (1u << 20)
/* Senders at work on one core: one per connection that has something to say, not per connection. */
#define OUTGOING_MAX CONNS_MAX

/* One turn of a core: letters, completions and timers handled before the others get their share. */
#define TURN_LETTERS_MAX     256u
#define TURN_COMPLETIONS_MAX 256u
#define TURN_TIMERS_MAX      256u
/* Slots of each ring between two cores; more wait in the sender's outbox. */
#define RING_SLOTS 1024u
/* How long accept rests after the process ran out of descriptors or memory. */
#define ACCEPT_REST_NS (100 * NS_PER_MS)
/* How often it is told, at most. */
#define ACCEPT_QUIET_NS (10 * NS_PER_S)

/* Descriptors. A node that has given all of them to clients cannot go on in its logs, so a core
 * takes connections only as long as there is left what all cores may need for files: sets of four
 * for segments, of which an idle one is closed for the next (a quarter of what there is, at least
 * as many as the smallest node needs), the WAL's, and these. */
#define DESCRIPTORS_SEGMENTS_SHARE 4u
#define DESCRIPTORS_OF_SET         5u /* the files of a segment, its .log twice */
#define DESCRIPTORS_SETS_MIN       8u
#define DESCRIPTORS_OF_CORE        32u /* its ring, listeners, and what is open for a moment */
#define DESCRIPTORS_OF_NODE        32u /* the metadata log, locks, torc stat, standard ones */
/* How often a core looks for connections that have been idle for too long. */
#define IDLE_SWEEP_NS (500 * NS_PER_MS)

/* With less free space in a log directory than the first, beside what memory still has for its
 * segments, no records of clients are taken and no partitions made; with more than the second, they
 * are again. What is left is for what must go on: commits, markers, metadata. It is a WAL file of
 * the default size, without which those could not go on, and the reserve of the metadata log, and
 * some. Nothing is lost when it is not enough: who meets the end of the space waits or refuses
 * (dir.c). On a small file system they are shares. */
#define SPACE_LOW_BYTES  (48ull << 20)
#define SPACE_BACK_BYTES (56ull << 20)
static inline uint64_t space_low(uint64_t total)
{
    return MIN(SPACE_LOW_BYTES, total / 50);
}
static inline uint64_t space_back(uint64_t total)
{
    return MIN(SPACE_BACK_BYTES, total / 40);
}

_Static_assert(FRAME_COPY_MAX < FRAME_FIRST_BYTES, "small frames are copied, large ones grow");
_Static_assert(CONN_FLOWS_MAX >= 5, "Java keeps five requests in flight");
_Static_assert(SEND_IOV_MAX <= 1024, "UIO_MAXIOV");

#endif
