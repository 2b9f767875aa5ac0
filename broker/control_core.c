/* The control core: leads the node through its life.
 *
 *   start:  lock log directories ─ format or check them ─ read the metadata ─ register the broker
 *           ─ first delta to all cores (they replay) ─ MSG_OPEN (they serve each other)
 *           ─ MSG_ACCEPT (and clients) ─ unfence ─ ready
 *   run:    admin calls in, deltas out; checkpoints every so often; troubles told by cores
 *   stop:   fence ─ MSG_STOP (cores flush) ─ checkpoints ─ metadata log closed ─ clean-shutdown
 * file
 *
 * Invariants
 *  1. The ready line is printed when a Metadata request would succeed, on every core.
 *  2. `.kafka_cleanshutdown` is deleted right after it was read, and written only when every core
 *     has stopped without error and every checkpoint of that directory is written.
 *  3. A delta is given back to broker/quorum once per core.
 *
 * Failure modes: a core or the metadata log fails: the node ends with exit code 1 and one line that
 * says why. One of several log directories fails, or cannot be read at start: the node goes on
 * without it; the last one ends it. A second TERM or INT ends at once (code 1), leaving what kill
 * -9 would leave. */
#include "broker/control_core.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "broker/api/control_leg.h"
#include "broker/served_features.h"
#include "broker/stat.h"
#include "broker/node.h"
#include "broker/quorum/format.h"
#include "core/lab.h"

#define CONTROL_ARENA_MAX  (256ull << 20) /* what one admin answer may take */
#define CONTROL_CALLS_MAX  FLOWS_MAX      /* one per flow that asks */
#define DELTA_LETTERS_MAX  (1u << 20)     /* cores x deltas in flight; bounded by calls */
#define CONTROL_MEMORY_MIN (64ull << 20)

static const char *const state_names[] = {"starting", "loading", "opening",  "joining",
                                          "running",  "leaving", "stopping", "stopped"};
static const int64_t no_clock = 0; /* until the reactor runs */

static const struct state_table states = {
    .name = "control core",
    .names = state_names,
    .states_count = CONTROL_STATES,
    .allowed = {[CONTROL_STARTING] = 1u << CONTROL_LOADING | 1u << CONTROL_STOPPED,
                [CONTROL_LOADING] = 1u << CONTROL_OPENING | 1u << CONTROL_STOPPED,
                [CONTROL_OPENING] = 1u << CONTROL_JOINING | 1u << CONTROL_STOPPED,
                [CONTROL_JOINING] = 1u << CONTROL_RUNNING | 1u << CONTROL_STOPPED,
                [CONTROL_RUNNING] = 1u << CONTROL_LEAVING | 1u << CONTROL_STOPPED,
                [CONTROL_LEAVING] = 1u << CONTROL_STOPPING | 1u << CONTROL_STOPPED,
                [CONTROL_STOPPING] = 1u << CONTROL_STOPPED},
};

struct control_work {
    struct control_call call;
    struct control_core *core;
    struct control_leg *leg;
    struct arena arena;
};

static void control_core_print(struct control_core *c, const char *text)
{
    c->node->print(c->node->print_context, text, strlen(text));
}

/* The node cannot go on: one line, then the end. */
static void control_core_fail(struct control_core *c, const char *text)
{
    if (c->state.now == CONTROL_STOPPED)
        return;
    trace_line(&c->trace, TRACE_MAIN, TRACE_ERROR, "%s", text);
    c->exit_code = 1;
    state_move(&c->state, &states, CONTROL_STOPPED);
}

/* ---- start ----------------------------------------------------------------------------------- */

static void control_core_signal(struct op *op);
static void control_core_wake(void *context, struct core_id to);
static void control_core_checkpoint_due(struct timer *t);

/* A port that was named must be nobody else's: cores share their ports, so binding alone would not
 * tell. Port 0 is replaced by one that is held until the cores listen. */
static int control_core_hold_port(struct control_core *c, uint32_t i, char *why, size_t why_size)
{
    const struct listener *l = &c->node->config->broker.listeners[i];
    struct io_address address = {.port = l->port};
    (void)snprintf(address.host, sizeof(address.host), "%s", l->host);
    if (l->port != 0) {
        int error = io_port_free(c->io, &address);
        if (error != -EADDRINUSE)
            return 0; /* other reasons are found by listening */
        (void)snprintf(why, why_size,
                       "cannot listen on %.64s:%u (listener %s): %s; change `listeners`, or "
                       "stop what uses the port",
                       address.host, address.port, l->name, strerror(-error));
        return error;
    }
    c->probes[i] = io_listen(c->io, &address, 1, &c->node->ports[i]);
    if (c->probes[i] < 0)
        (void)snprintf(why, why_size, "cannot listen on %s: %s", address.host,
                       strerror(-c->probes[i]));
    return MIN(c->probes[i], 0);
}

static int control_core_hold_ports(struct control_core *c, char *why, size_t why_size)
{
    const struct broker_config *b = &c->node->config->broker;
    int error = 0;
    for (uint32_t i = 0; error == 0 && i < b->listeners_count; i++) {
        c->node->ports[i] = b->listeners[i].port;
        if (!b->listeners[i].controller)
            error = control_core_hold_port(c, i, why, why_size);
    }
    return error;
}

int control_core_start(struct control_core *c, struct node *node, char *why, size_t why_size)
{
    c->node = node;
    c->id = node->control_id;
    assert(core_same(core_self(), c->id));
    for (uint32_t i = 0; i < LOG_DIRS_MAX; i++)
        c->locks[i] = -1;
    for (uint32_t i = 0; i < LISTENERS_MAX; i++)
        c->probes[i] = -1;
    if (mem_init(&c->mem, MAX(node->core_memory_bytes, CONTROL_MEMORY_MIN)) != 0)
        return -ENOMEM;
    trace_init(&c->trace, node->trace, node->trace_context, &no_clock);
    (void)trace_set_levels(&c->trace, node->config->broker.torc_log_level);
    struct io_config config = {
        .world = node->world, .core = c->id, .mem = &c->mem, .trace = &c->trace};
    int error = io_start(&c->io, &config, why, why_size);
    if (error != 0)
        return error;
    c->trace.wall_ms = io_wall_pointer(c->io);
    c->started_ns = io_now_ns(c->io);
    wheel_init(&c->wheel, io_now_ns(c->io));
    pool_init(&c->letters, &c->mem, sizeof(struct delta_letter), DELTA_LETTERS_MAX);
    pool_init(&c->calls, &c->mem, sizeof(struct control_work), CONTROL_CALLS_MAX);
    timer_init(&c->checkpoint_timer, control_core_checkpoint_due);
    error = post_init(&node->post, &c->mem, node->cores_count + 1, node->ring_slots);
    if (error != 0)
        return error;
    mail_init(&c->mail, &node->post, c->id);
    board_init(&c->board, c->id, c->io);
    c->mail.board = &c->board;
    c->checkpoints = mem_zalloc(&c->mem, node->cores_count * sizeof(*c->checkpoints));
    if (c->checkpoints == NULL)
        return -ENOMEM;
    op_init(&c->signals, control_core_signal);
    io_signals(c->io, &c->signals);
    c->awaited = node->cores_count;
    return control_core_hold_ports(c, why, why_size);
}

static int control_core_lock(struct control_core *c, uint32_t dir, char *why, size_t why_size)
{
    const char *path = c->node->config->broker.log_dirs[dir];
    char lock[4096];
    int error = io_mkdirs(c->io, path);
    if (error != 0 && error != -EEXIST) {
        (void)snprintf(why, why_size, "cannot make the log directory %s: %s", path,
                       strerror(-error));
        return error;
    }
    (void)snprintf(lock, sizeof(lock), "%s/.lock", path);
    c->locks[dir] = io_lock(c->io, lock);
    if (c->locks[dir] >= 0)
        return 0;
    if (c->locks[dir] == -EAGAIN)
        (void)snprintf(why, why_size,
                       "the log directory %s is used by another broker (its .lock is held); stop "
                       "that one, or choose another log.dirs",
                       path);
    else
        (void)snprintf(why, why_size, "cannot lock %.200s/.lock: %s", path,
                       strerror(-c->locks[dir]));
    return c->locks[dir];
}

/* As Kafka: without a directory that cannot be read, if others can, and that of the metadata. (One
 * that another broker holds is a mistake, and memory or descriptors will be there again.) */
static bool control_core_starts_without(struct control_core *c, uint32_t dir, int error,
                                        const char *why)
{
    const struct broker_config *b = &c->node->config->broker;
    uint32_t failed = c->dirs_failed | 1u << dir;
    if (error == -EAGAIN || log_error_passes(error) || failed == (1u << b->log_dirs_count) - 1 ||
        strcmp(b->log_dirs[dir], b->metadata_log_dir) == 0)
        return false;
    SOMETIMES("a node starts without a directory that cannot be read");
    trace_line(&c->trace, TRACE_MAIN, TRACE_ERROR,
               "%s; what is in %s is offline until it can be read at a restart", why,
               b->log_dirs[dir]);
    c->dirs_failed = c->node->identity.dirs_failed = failed;
    return true;
}

/* Invariant 2: read, and gone. */
static int control_core_clean_start(struct control_core *c, char *why, size_t why_size)
{
    const struct broker_config *b = &c->node->config->broker;
    c->node->clean_start = true;
    for (uint32_t i = 0; i < b->log_dirs_count; i++) {
        char path[4096];
        if ((c->dirs_failed & 1u << i) != 0)
            continue;
        (void)snprintf(path, sizeof(path), "%s/.kafka_cleanshutdown", b->log_dirs[i]);
        int error = io_unlink(c->io, path);
        if (error == -ENOENT)
            c->node->clean_start = false;
        else if (error == 0)
            error = io_sync_directory(c->io, b->log_dirs[i]);
        if (error == 0 || error == -ENOENT)
            continue;
        (void)snprintf(why, why_size, "cannot remove %.200s: %s", path, strerror(-error));
        if (!control_core_starts_without(c, i, error, why))
            return error;
    }
    return 0;
}

static void control_core_publish(void *context, const struct image_delta *delta);
static void control_core_loaded(void *context);
static void control_core_metadata_failed(void *context, int error);

static int control_core_load(struct control_core *c, char *why, size_t why_size)
{
    const struct broker_config *b = &c->node->config->broker;
    for (uint32_t i = 0; i < b->log_dirs_count; i++) {
        int error = control_core_lock(c, i, why, why_size);
        if (error == 0)
            error = format_look(c->io, &c->mem, b->log_dirs[i], why, why_size);
        if (error != 0 && !control_core_starts_without(c, i, error, why))
            return error;
    }
    struct node_identity *identity = &c->node->identity;
    int error = format_open(c->io, &c->mem, c->node->config, identity, why, why_size);
    if (error != 0)
        return error;
    if (identity->formatted_now)
        trace_line(&c->trace, TRACE_MAIN, TRACE_INFO,
                   "formatted new log directories, cluster id %s", identity->cluster_id);
    error = control_core_clean_start(c, why, why_size);
    if (error != 0)
        return error;
    struct control_config config = {
        .io = c->io,
        .mem = &c->mem,
        .wheel = &c->wheel,
        .trace = &c->trace,
        .node = c->node->config,
        .cluster_id = identity->cluster_id,
        .dir_ids = identity->dir_ids,
        .dirs_count = b->log_dirs_count,
        .dirs_failed = c->dirs_failed,
        .cores_count = c->node->cores_count,
        .served = features_served,
        .served_count = features_served_count,
        .publish = control_core_publish,
        .loaded = control_core_loaded,
        .failed = control_core_metadata_failed,
        .context = c,
    };
    memcpy(config.ports, c->node->ports, sizeof(config.ports));
    return control_start(&c->control, &config, why, why_size);
}

static void control_core_core_started(struct control_core *c)
{
    char why[512];
    if (--c->awaited > 0 || c->state.now != CONTROL_STARTING)
        return;
    state_move(&c->state, &states, CONTROL_LOADING);
    if (control_core_load(c, why, sizeof(why)) != 0)
        control_core_fail(c, why);
}

/* ---- letters to all cores -------------------------------------------------------------------- */

static void control_core_tell_all(struct control_core *c, uint16_t kind)
{
    c->awaited = c->node->cores_count;
    for (uint16_t i = 0; i < c->node->cores_count; i++) {
        struct plain_letter *letter = &c->plain[i];
        letter->msg.home = c->id;
        letter->msg.kind = kind;
        letter->result = 0;
        letter->dirs_failed = c->dirs_failed;
        mail_send(&c->mail, (struct core_id){i}, &letter->msg);
    }
}

static void control_core_publish(void *context, const struct image_delta *delta)
{
    struct control_core *c = context;
    for (uint16_t i = 0; i < c->node->cores_count; i++) {
        struct delta_letter *letter = pool_acquire(&c->letters);
        if (letter == NULL) {
            control_core_fail(c, "no memory to tell the cores of new metadata; raise torc.memory");
            return;
        }
        letter->msg.trip = NULL;
        letter->msg.home = c->id;
        letter->msg.kind = MSG_IMAGE;
        letter->delta = delta;
        letter->to = (struct core_id){i};
        mail_send(&c->mail, letter->to, &letter->msg);
    }
}

static void control_core_metadata_failed(void *context, int error)
{
    char text[256];
    (void)snprintf(text, sizeof(text), "the metadata log failed: %s", strerror(-error));
    control_core_fail(context, text);
}

static void control_core_loaded(void *context)
{
    struct control_core *c = context;
    if (c->state.now != CONTROL_LOADING)
        return;
    state_move(&c->state, &states, CONTROL_OPENING);
    control_core_tell_all(c, MSG_OPEN);
}

static void control_core_opened(struct control_core *c, struct msg *msg)
{
    int result = container_of(msg, struct plain_letter, msg)->result;
    if (result != 0) {
        control_core_fail(c, "a core could not start to serve");
        return;
    }
    if (--c->awaited > 0 || c->state.now != CONTROL_OPENING)
        return;
    if (msg->kind == MSG_OPEN_HOME) {
        control_core_tell_all(c, MSG_ACCEPT);
        return;
    }
    for (uint32_t i = 0; i < c->node->config->broker.listeners_count; i++) {
        if (c->probes[i] >= 0)
            io_socket_close(c->io, c->probes[i]);
        c->probes[i] = -1;
    }
    state_move(&c->state, &states, CONTROL_JOINING);
    control_ready(c->control);
}

static uint32_t ready_addresses(const struct control_core *c, char *to, size_t size)
{
    const struct broker_config *b = &c->node->config->broker;
    size_t at = 0;
    to[0] = '\0';
    for (uint32_t i = 0; i < b->listeners_count && at < size; i++) {
        const struct listener *l = &b->listeners[i];
        if (l->controller)
            continue;
        at += (size_t)snprintf(to + at, size - at, "%s%s://%s:%u", at > 0 ? "," : "", l->name,
                               l->host[0] != '\0' ? l->host : "0.0.0.0", c->node->ports[i]);
    }
    return (uint32_t)at;
}

static void control_core_ready(struct control_core *c)
{
    char addresses[1024], text[2048];
    state_move(&c->state, &states, CONTROL_RUNNING);
    (void)ready_addresses(c, addresses, sizeof(addresses));
    (void)snprintf(text, sizeof(text), "torc ready in %llu ms  %s  cores %u+1  data %s\n",
                   (unsigned long long)((io_clock_ns(c->io) - c->started_ns) / NS_PER_MS),
                   addresses, c->node->cores_count, c->node->config->broker.log_dirs[0]);
    stat_server_start(c);
    control_core_print(c, text);
    timer_arm(&c->wheel, &c->checkpoint_timer,
              io_now_ns(c->io) +
                  (uint32_t)c->node->config->broker.log_flush_offset_checkpoint_interval_ms *
                      NS_PER_MS);
}

/* Does it let the node itself in? (What the controller has decided, cores may not know yet.) */
static bool control_core_is_unfence(const struct control_core *c, const struct image_delta *delta)
{
    for (uint32_t i = 0; i < delta->changes_count; i++) {
        const struct image_change *change = &delta->changes[i];
        const struct broker_image *b = change->kind == IMAGE_BROKER ? change->broker.after : NULL;
        if (b != NULL && b->id == c->node->config->broker.node_id && !b->fenced)
            return true;
    }
    return false;
}

static void control_core_delta_home(struct control_core *c, struct msg *msg)
{
    struct delta_letter *letter = container_of(msg, struct delta_letter, msg);
    const struct image_delta *delta = letter->delta;
    struct core_id from = letter->to;
    pool_release(&c->letters, letter);
    bool unfence = c->state.now == CONTROL_JOINING && control_core_is_unfence(c, delta);
    control_delta_applied(c->control, delta, from);
    if (unfence && ++c->cores_joined == c->node->cores_count)
        control_core_ready(c);
}

/* ---- admin calls ----------------------------------------------------------------------------- */

static void control_core_called(struct control_call *call)
{
    struct control_work *w = container_of(call, struct control_work, call);
    /* With an error there is no answer, and one of zeros would say that all went well. */
    w->leg->response = call->error == KE_NONE ? call->response : NULL;
    w->leg->msg.kind = MSG_CONTROL_HOME;
    mail_send(&w->core->mail, w->leg->msg.home, &w->leg->msg);
}

static void control_core_call(struct control_core *c, struct msg *msg)
{
    struct control_leg *leg = container_of(msg, struct control_leg, msg);
    struct control_work *w = pool_acquire(&c->calls);
    leg->work = w;
    leg->response = NULL;
    if (w != NULL) {
        memset(w, 0, sizeof(*w));
        w->core = c;
        w->leg = leg;
        arena_init(&w->arena, &c->mem, CONTROL_ARENA_MAX);
        w->call.response = arena_array(&w->arena, 1, leg->response_size);
    }
    if (w == NULL || w->call.response == NULL) {
        leg->msg.kind = MSG_CONTROL_HOME;
        mail_send(&c->mail, leg->msg.home, &leg->msg);
        return;
    }
    w->call.api_key = leg->api_key;
    w->call.version = leg->api_version;
    w->call.request = leg->request;
    w->call.arena = &w->arena;
    w->call.done = control_core_called;
    trip_move(leg->msg.trip, &c->board, TRIP_HELD);
    control_submit(c->control, &w->call);
}

static void control_core_call_free(struct control_core *c, struct msg *msg)
{
    struct control_leg *leg = container_of(msg, struct control_leg, msg);
    if (leg->work != NULL) {
        arena_release(&leg->work->arena);
        pool_release(&c->calls, leg->work);
    }
    leg->msg.kind = MSG_CONTROL_FREE_HOME;
    mail_send(&c->mail, leg->msg.home, &leg->msg);
}

/* ---- troubles -------------------------------------------------------------------------------- */

static void control_core_trouble(struct control_core *c, struct msg *msg)
{
    SOMETIMES("a core is in trouble");
    struct trouble *t = container_of(msg, struct trouble, msg);
    const struct broker_config *b = &c->node->config->broker;
    if (t->dir == UINT32_MAX) {
        control_core_fail(c, t->text);
    } else {
        c->dirs_failed |= 1u << t->dir;
        if (c->control != NULL)
            control_dir_failed(c->control, t->dir);
        if (c->dirs_failed == (1u << b->log_dirs_count) - 1)
            control_core_fail(c, "all log directories have failed");
    }
    t->msg.kind = MSG_TROUBLE_HOME;
    mail_send(&c->mail, t->msg.home, &t->msg);
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

static void control_core_ask_checkpoints(struct control_core *c, bool give_back)
{
    c->checkpointing = true;
    c->awaited = c->node->cores_count;
    for (uint16_t i = 0; i < c->node->cores_count; i++) {
        struct checkpoint_letter *letter = &c->checkpoints[i];
        letter->msg.home = c->id;
        letter->msg.kind = MSG_CHECKPOINT;
        letter->give_back = give_back;
        mail_send(&c->mail, (struct core_id){i}, &letter->msg);
    }
}

static void control_core_checkpoint_due(struct timer *t)
{
    struct control_core *c = container_of(t, struct control_core, checkpoint_timer);
    if (c->state.now == CONTROL_RUNNING && !c->checkpointing)
        control_core_ask_checkpoints(c, false);
}

/* false: some file could not be written, and this start of the directory will not count as clean.
 */
static bool control_core_write_checkpoints(struct control_core *c)
{
    const struct broker_config *b = &c->node->config->broker;
    bool written = true;
    for (uint32_t d = 0; d < b->log_dirs_count; d++) {
        if ((c->dirs_failed & 1u << d) != 0)
            continue;
        for (uint32_t w = 0; w < LOG_CHECKPOINTS_COUNT; w++) {
            struct log_checkpoint_part parts[CORES_MAX];
            for (uint32_t i = 0; i < c->node->cores_count; i++) {
                parts[i] = c->checkpoints[i].parts[d][w];
                written &= !c->checkpoints[i].failed;
            }
            int error = log_checkpoint_write(c->io, &c->mem, b->log_dirs[d], (enum log_checkpoint)w,
                                             parts, c->node->cores_count);
            if (error != 0) {
                trace_line(&c->trace, TRACE_LOG, TRACE_WARN, "cannot write a checkpoint in %s: %s",
                           b->log_dirs[d], strerror(-error));
                written = false;
            }
        }
    }
    return written;
}

static void control_core_write_clean(struct control_core *c)
{
    const struct broker_config *b = &c->node->config->broker;
    char text[96];
    int size = snprintf(text, sizeof(text), "{\"version\":0,\"brokerEpoch\":%lld}",
                        (long long)control_broker_epoch(c->control));
    for (uint32_t d = 0; d < b->log_dirs_count; d++) {
        char path[4096];
        if ((c->dirs_failed & 1u << d) != 0)
            continue;
        (void)snprintf(path, sizeof(path), "%s/.kafka_cleanshutdown", b->log_dirs[d]);
        int error = io_replace(c->io, path, text, (size_t)size);
        if (error != 0)
            trace_line(&c->trace, TRACE_LOG, TRACE_WARN, "cannot write %s: %s", path,
                       strerror(-error));
    }
}

static void control_core_checkpoint_home(struct control_core *c, struct msg *msg)
{
    bool gave_back = container_of(msg, struct checkpoint_letter, msg)->give_back;
    if (--c->awaited > 0)
        return;
    if (!gave_back) {
        bool written = control_core_write_checkpoints(c);
        if (c->state.now == CONTROL_STOPPING && written && c->exit_code == 0)
            control_core_write_clean(c);
        control_core_ask_checkpoints(c, true);
        return;
    }
    c->checkpointing = false;
    if (c->state.now == CONTROL_STOPPING) {
        state_move(&c->state, &states, CONTROL_STOPPED);
        return;
    }
    timer_arm(&c->wheel, &c->checkpoint_timer,
              io_now_ns(c->io) +
                  (uint32_t)c->node->config->broker.log_flush_offset_checkpoint_interval_ms *
                      NS_PER_MS);
    if (c->stop_asked && c->state.now == CONTROL_RUNNING)
        control_core_stop(c);
}

/* ---- stop ------------------------------------------------------------------------------------ */

static void control_core_left(struct op *op)
{
    struct control_core *c = container_of(op, struct control_core, leave);
    if (c->state.now != CONTROL_LEAVING)
        return;
    state_move(&c->state, &states, CONTROL_STOPPING);
    control_core_tell_all(c, MSG_STOP);
}

void control_core_stop(struct control_core *c)
{
    if (c->state.now != CONTROL_RUNNING) {
        if (c->state.now < CONTROL_RUNNING)
            control_core_fail(c, "stopped before it was ready");
        return;
    }
    c->stop_asked = true;
    if (c->checkpointing)
        return; /* it goes on when the checkpoint is written */
    timer_cancel(&c->wheel, &c->checkpoint_timer);
    state_move(&c->state, &states, CONTROL_LEAVING);
    op_init(&c->leave, control_core_left);
    control_leave(c->control, &c->leave);
}

static void control_core_core_stopped(struct control_core *c, struct msg *msg)
{
    struct plain_letter *letter = container_of(msg, struct plain_letter, msg);
    if (letter->result != 0) {
        trace_line(&c->trace, TRACE_LOG, TRACE_WARN, "a core did not stop cleanly: %s",
                   strerror(-letter->result));
        c->exit_code = 1;
    }
    if (--c->awaited > 0)
        return;
    if (control_stop(c->control) != 0)
        c->exit_code = 1;
    control_core_ask_checkpoints(c, false);
}

static void control_core_signal(struct op *op)
{
    struct control_core *c = container_of(op, struct control_core, signals);
    if (op->result == SIGTERM || op->result == SIGINT) {
        if (c->stop_asked) {
            control_core_fail(c, "stopped at once, by a second signal");
            return;
        }
        c->stop_asked = true;
        control_core_stop(c);
    }
}

bool control_core_stopped(const struct control_core *c)
{
    return c->state.now == CONTROL_STOPPED;
}

void control_core_end(struct control_core *c)
{
    /* Not by letters: those might wait for room in a ring, and there are no more turns in which
     * they would get it. */
    for (uint16_t i = 0; c->mail.post != NULL && i < c->node->cores_count; i++) {
        struct bell *bell = &c->mail.post->bells[i];
        bell_end(bell);
        if (bell_must_wake(bell))
            io_wake(c->io, (struct core_id){i});
    }
    (void)io_poll(c->io, 0, 1); /* with it the wakes leave */
}

void control_core_free(struct control_core *c)
{
    /* A node that gives up may have I/O under way in there: io_stop ends that, and what is left
     * goes with the memory. */
    if (c->control != NULL && c->exit_code == 0)
        control_free(c->control);
    for (uint32_t i = 0; c->io != NULL && i < LOG_DIRS_MAX; i++) {
        if (c->locks[i] >= 0)
            io_close(c->io, c->locks[i]);
    }
    if (c->io != NULL)
        stat_server_stop(c);
    if (c->io != NULL)
        io_stop(c->io);
    if (c->mem.impl != NULL)
        mem_destroy(&c->mem);
}

/* ---- turn ------------------------------------------------------------------------------------ */

static void control_core_deliver(void *context, struct msg *msg)
{
    struct control_core *c = context;
    switch ((enum msg_kind)msg->kind) {
    case MSG_STARTED:
        control_core_core_started(c);
        return;
    case MSG_CONTROL:
        control_core_call(c, msg);
        return;
    case MSG_CONTROL_FREE:
        control_core_call_free(c, msg);
        return;
    case MSG_IMAGE_HOME:
        control_core_delta_home(c, msg);
        return;
    case MSG_OPEN_HOME:
    case MSG_ACCEPT_HOME:
        control_core_opened(c, msg);
        return;
    case MSG_CHECKPOINT_HOME:
        control_core_checkpoint_home(c, msg);
        return;
    case MSG_STAT_HOME:
        stat_home(c, msg);
        return;
    case MSG_STOP_HOME:
        control_core_core_stopped(c, msg);
        return;
    case MSG_TROUBLE:
        control_core_trouble(c, msg);
        return;
    default:
        assert(false); /* a letter that the control core does not get */
    }
}

static void control_core_wake(void *context, struct core_id to)
{
    struct control_core *c = context;
    io_wake(c->io, to);
}

void control_core_turn(struct control_core *c, uint64_t wait_until_ns)
{
    assert(core_same(core_self(), c->id));
    struct bell *bell = &c->mail.post->bells[c->id.index];
    uint64_t until = mail_pending(&c->mail) ? 0 : MIN(wait_until_ns, wheel_next_ns(&c->wheel));
    if (until != 0 && !mail_outbox_empty(&c->mail))
        until = MIN(until, io_now_ns(c->io) + NS_PER_MS);
    if (until != 0 && c->state.now == CONTROL_STARTING) /* a core without reactor cannot wake us */
        until = MIN(until, io_now_ns(c->io) + NS_PER_MS);
    if (until != 0) {
        bell_sleep(bell);
        if (mail_pending(&c->mail))
            until = 0;
    }
    io_poll(c->io, until, TURN_COMPLETIONS_MAX);
    bell_awake(bell);
    mail_drain(&c->mail, TURN_LETTERS_MAX, control_core_deliver, c);
    wheel_run(&c->wheel, io_now_ns(c->io), TURN_TIMERS_MAX);
    mail_publish(&c->mail, control_core_wake, c);
}
