/* The simulator: machines, disks, a network and time, all from one seed, in one thread. It is the
 * other body of io.h, so the broker runs on it unchanged; this header is for those who set up a
 * world and do harm to it (tests/sim, tests/io).
 *
 *   struct sim          the world: virtual time, the event heap, the streams of chance
 *   struct sim_machine  a computer: a disk that outlives power cuts, an address, cores
 *   struct sim_client   one end of a connection that no machine holds: a workload's
 *
 * Each core of a machine runs on a fiber. It is left inside io_poll (waiting) and inside every
 * "at once" call (which takes virtual time, like all I/O), and any of these points may be its last.
 *
 * A caller that is on no fiber may use a struct io too (a test as a straight line): io_poll then
 * runs the world until something is there.
 *
 * All functions here: from outside the cores, unless said otherwise. */
#ifndef IO_SIM_SIM_H
#define IO_SIM_SIM_H

#include "io/io.h"
#include "io/sim/chance.h"

struct sim;
struct sim_machine;
struct sim_client;

/* ---- the world ------------------------------------------------------------------------------- */

enum sim_stream { SIM_NET, SIM_SCHEDULER, SIM_FAULTS, SIM_WORKLOAD, SIM_STREAMS };

/* What the seed decides about a world once (swarm): sim_make draws it, tests may set it before the
 * first boot. Durations are means. */
struct sim_style {
    uint64_t turn_ns; /* what one turn of a core takes at least */
    uint64_t wake_ns; /* from a completion or a wake to the core running */
    uint64_t call_ns; /* an "at once" call */
    uint64_t read_ns, write_ns, sync_ns;
    uint64_t net_ns;             /* one way */
    uint32_t segment_max;        /* bytes that arrive together */
    uint32_t segment_one;        /* one in so many arrivals is of a single byte; 0: none */
    uint32_t pipe_bytes;         /* what a connection holds in one direction before a send waits */
    uint32_t recv_buffers_count; /* instead of io_config's; 0: as configured */
    uint32_t recv_buffer_size;
    uint32_t writeback_one_in; /* a write makes the kernel write back some dirty page; 0: never */
    bool shuffle;              /* completions in random order, and not all of them at once */
    bool direct;               /* the file system can do IO_DIRECT */
    bool lies;                 /* the device says that it has synced, and has not: for canaries */
    bool ordered_names; /* a cut keeps a prefix of name changes (a journal), not any subset */
};

/* Everything is allocated from mem, which must be large enough for all disks: running out is not
 * survived. */
struct sim *sim_make(struct mem *mem, uint64_t seed);
/* The same; every draw of this world goes by the tape (may be NULL), which outlives it. */
struct sim *sim_make_taped(struct mem *mem, uint64_t seed, struct chance_tape *tape);
void sim_free(struct sim *s);
struct sim_style *sim_style(struct sim *s);
struct chance *sim_chance(struct sim *s, enum sim_stream stream);
uint64_t sim_now_ns(const struct sim *s);
/* Rolling hash over all that happened: time, core, kind, bytes. Equal seeds give equal digests. */
uint64_t sim_digest(const struct sim *s);
uint64_t sim_events(const struct sim *s);
/* For workloads: what they did becomes part of the digest. */
void sim_note(struct sim *s, uint32_t core, uint32_t kind, uint64_t payload);

/* Something that will happen. Embedded in its owner; zeroed before first use. */
struct sim_event {
    uint64_t at_ns, sequence;
    void (*fire)(struct sim_event *e);
    uint32_t place; /* in the heap, from 1; 0: not planned */
};
/* Plans it, or moves it. A time in the past is now. */
void sim_plan(struct sim *s, struct sim_event *e, uint64_t at_ns, void (*fire)(struct sim_event *));
void sim_unplan(struct sim *s, struct sim_event *e); /* nothing happens if it is not planned */
/* Fires the next event; false: nothing will ever happen again. */
bool sim_step(struct sim *s);
/* Steps until over(context) holds (true), or until_ns has come or nothing is left (false). */
bool sim_run(struct sim *s, uint64_t until_ns, bool (*over)(void *context), void *context);

/* ---- machines -------------------------------------------------------------------------------- */

/* host: numeric IPv4. An empty disk. */
struct sim_machine *sim_machine_make(struct sim *s, const char *host);
/* What runs on a machine hears of its end. */
struct sim_life {
    /* The machine died: nothing of it runs any more, its I/O is over, its memory may be dropped. */
    void (*died)(void *context);
    void *context;
};
/* A process of cores_count cores starts; none runs yet. The machine is down. */
struct io_world *sim_boot(struct sim_machine *m, uint32_t cores_count, const struct sim_life *life);
struct io_world *sim_world(struct sim_machine *m);
/* Core `id` begins to run run(argument), on a fiber, entered. Also from a core of the machine. */
void sim_core_start(struct sim_machine *m, struct core_id id, void (*run)(void *argument),
                    void *argument);
/* Booted, and neither dead nor ended. */
bool sim_up(const struct sim_machine *m);
/* All cores that were started have returned. */
bool sim_idle(const struct sim_machine *m);
/* The process ends in order: all its cores have returned and all io is stopped. */
void sim_halt(struct sim_machine *m);
/* The process is killed at any point: its page cache stays, its connections end. */
void sim_kill(struct sim_machine *m);
/* The power goes: what was not synced is kept, lost or torn, each for itself. */
void sim_power_cut(struct sim_machine *m);
/* The process gets a signal, if it asked for signals. */
void sim_signal(struct sim_machine *m, int number);

/* ---- harm ------------------------------------------------------------------------------------ */

enum sim_disk_call {
    SIM_DISK_READ = 1,
    SIM_DISK_WRITE = 2,
    SIM_DISK_SYNC = 4,
    SIM_DISK_NAME =
        8, /* open with IO_CREATE, mkdir, rmdir, rename, unlink, truncate, allocate, punch */
    SIM_DISK_LOOK = 16, /* open of what is there, stat, list */
    SIM_DISK_ALL = 31
};
/* A folder, made if it is not there, with all that will be made in it: a disk of its own as far as
 * failures go, numbered 1 to 31. What is nowhere else is on volume 0. */
void sim_disk_volume(struct sim_machine *m, const char *path, uint32_t volume);
/* Whether there is something of this name on this volume. */
bool sim_disk_holds(struct sim_machine *m, const char *path, uint32_t volume);
/* The n-th such call from now (0: the next) and `times - 1` after it fail with -error. A failed
 * sync loses what it should have kept: later syncs do not bring it back (Linux). */
void sim_disk_fail(struct sim_machine *m, uint32_t calls, uint64_t n, uint32_t times, int error);
/* The same for these volumes only (bits), instead of what was asked for before. */
void sim_disk_fail_on(struct sim_machine *m, uint32_t volumes, uint32_t calls, uint64_t n,
                      uint32_t times, int error);
/* From the n-th of all calls on, counted from the first boot, the disk has no room. */
void sim_disk_full_at(struct sim_machine *m, uint64_t n);
/* How many calls there were, and where the latest failure was: "CALL NAME", "" for none. */
uint64_t sim_disk_calls(const struct sim_machine *m);
const char *sim_disk_failed(const struct sim_machine *m);
/* The call that core is inside of and that takes it time, NULL: none. */
const char *sim_core_call(const struct sim_machine *m, struct core_id core);
/* Which calls have failed: where each returns to, with which error, and how often. */
#define SIM_REFUSED_MAX 128u /* more are not told */
struct sim_refusal {
    const void *from;
    int error;
    uint32_t times;
};
uint32_t sim_disk_refusals(const struct sim_machine *m, const struct sim_refusal **list);
/* Failures are still to come. */
bool sim_disk_failing(const struct sim_machine *m);
/* Everything on this disk takes so many times as long. */
void sim_disk_slow(struct sim_machine *m, uint32_t factor);
/* Nothing completes before then. */
void sim_disk_freeze(struct sim_machine *m, uint64_t until_ns);
/* Bytes of file content it can hold. */
void sim_disk_capacity(struct sim_machine *m, uint64_t bytes);
uint64_t sim_disk_used(const struct sim_machine *m);
/* As soon as somebody asks for room ahead (io_allocate) there is a little less than that. */
void sim_disk_full_at_allocation(struct sim_machine *m, bool on);
/* One bit of what the disk holds of a file turns, in cache and below. False: there is none. */
bool sim_disk_rot(struct sim_machine *m, const char *path, uint64_t offset);
/* The earliest time that a core of the machine goes by now. A core in the middle of a turn goes
 * by the clock it sampled when the turn began, also for what another core hands it meanwhile. */
uint64_t sim_clock_ns(const struct sim_machine *m);
/* The core does not run before then. */
void sim_core_stall(struct sim_machine *m, struct core_id id, uint64_t until_ns);
/* A random connection of the machine is reset; false: it has none. */
bool sim_net_reset(struct sim_machine *m);
/* No byte moves to or from the machine before then. */
void sim_net_stall(struct sim_machine *m, uint64_t until_ns);
/* Its wall clock is set on or back. */
void sim_wall_jump(struct sim_machine *m, int64_t ms);
void sim_fds_limit(struct sim_machine *m, uint32_t count);
uint32_t sim_fds_open(const struct sim_machine *m);

/* ---- clients --------------------------------------------------------------------------------- */

enum sim_client_state {
    SIM_CLIENT_CONNECTING,
    SIM_CLIENT_OPEN,
    SIM_CLIENT_ENDED,   /* the peer has closed; what it sent before can still be taken */
    SIM_CLIENT_REFUSED, /* nobody listens */
    SIM_CLIENT_RESET,   /* what was sent may or may not have arrived */
};
/* wake(context) runs as an event of its own after each change: a new state, more bytes. */
struct sim_client *sim_client_connect(struct sim *s, struct sim_machine *to, uint16_t port,
                                      void (*wake)(void *context), void *context);
enum sim_client_state sim_client_state(const struct sim_client *c);
/* Takes all of it; bytes sent on a connection that is not open are gone. */
void sim_client_send(struct sim_client *c, const void *bytes, size_t size);
/* What has arrived and is not yet taken: its size, and where it is until the next call. */
size_t sim_client_received(struct sim_client *c, const uint8_t **bytes);
void sim_client_take(struct sim_client *c, size_t size);
/* While it holds, what it has received takes room in the connection: the peer's sends wait. */
void sim_client_hold(struct sim_client *c, bool holds);
/* Closes and forgets it; wake does not run any more. */
void sim_client_close(struct sim_client *c);

/* ---- what was done --------------------------------------------------------------------------- */

enum sim_count {
    SIM_TURNS,
    SIM_CALLS,
    SIM_CUTS,
    SIM_KILLS,
    SIM_DEATHS_IN_CALLS, /* cores that died inside an "at once" call */
    SIM_PAGES_KEPT,
    SIM_PAGES_LOST,
    SIM_PAGES_TORN,
    SIM_SIZES_LOST,
    SIM_SIZES_BETWEEN,
    SIM_NAMES_KEPT,
    SIM_NAMES_LOST,
    SIM_WRITES_CUT,
    SIM_WRITES_TORN,
    SIM_WRITEBACKS,
    SIM_DISK_FAILURES,
    SIM_SEGMENTS,
    SIM_SEGMENTS_OF_ONE,
    SIM_BUFFERS_OUT,
    SIM_SENDS_WAITING,
    SIM_RESETS,
    SIM_REFUSALS,
    SIM_STALLS,
    SIM_COUNTS
};
uint64_t sim_counted(const struct sim *s, enum sim_count what);
const char *sim_count_name(enum sim_count what);
/* For who reads of a failed run, line by line: what each core is doing, what is in flight, and the
 * last things that were done to the disk of each machine. */
void sim_look(struct sim *s, void (*line)(void *context, const char *text), void *context);

#endif
