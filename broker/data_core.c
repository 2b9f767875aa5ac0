/* The life of a data core: made, given the metadata, opened for clients, stopped.
 *
 *   WAITING ─ first delta: logs open, WAL replayed ─▶ REPLAYED ─ MSG_OPEN ─▶ SERVING
 *   (clients from MSG_ACCEPT on) ─ MSG_STOP ─▶ STOPPING (connections end, logs flush) ─▶ STOPPED
 *   (its checkpoints can still be asked for)
 *
 * Invariants
 *  1. Logs exist exactly for the partitions of the image that hash to this core; they follow each
 *     delta before the delta goes home, so when an admin call is answered they are there.
 *  2. A delta goes home only when nothing here uses what it replaces: no flow keeps a leaf.
 *  3. Every letter goes home, also from a core that failed: the control core counts on it.
 *
 * Failure modes: a core that cannot start or replay tells MSG_TROUBLE and the node ends with the
 * reason; a log directory that dies is told likewise and the others go on. */
#include "broker/data_core.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/api/fetch_session.h"
#include "broker/coordinator.h"
#include "broker/node.h"
#include "broker/stat.h"
#include "broker/step.h"

#define METADATA_FOLDER "__cluster_metadata-0"

static const char *const state_names[] = {"waiting", "replayed", "serving", "stopping", "stopped"};
static const int64_t no_clock = 0; /* until the reactor runs */

static const struct state_table states = {
    .name = "data core",
    .names = state_names,
    .states_count = DATA_CORE_STATES,
    .allowed = {[DATA_CORE_WAITING] = 1u << DATA_CORE_REPLAYED | 1u << DATA_CORE_STOPPING,
                [DATA_CORE_REPLAYED] = 1u << DATA_CORE_SERVING | 1u << DATA_CORE_STOPPING,
                [DATA_CORE_SERVING] = 1u << DATA_CORE_STOPPING,
                [DATA_CORE_STOPPING] = 1u << DATA_CORE_STOPPED},
};

struct core_id partition_owner(struct uuid topic_id, int32_t partition, uint32_t cores_count)
{
    uint64_t a, b;
    memcpy(&a, topic_id.bytes, 8);
    memcpy(&b, topic_id.bytes + 8, 8);
    /* Topic ids are random already; consecutive partitions go to consecutive cores, so that few
     * partitions still use all cores. */
    uint64_t h = (a ^ b) % cores_count + (uint32_t)partition;
    return (struct core_id){(uint16_t)(h % cores_count)};
}

/* ---- start ----------------------------------------------------------------------------------- */

static int data_core_listen(struct data_core *c, char *why, size_t why_size);
static void data_core_tell(struct data_core *c, uint32_t dir, int error, const char *text);
static void data_core_accepted(struct op *op);
static void data_core_rested(struct timer *t);

/* Of the sets of descriptors that segments take, one core's share. */
static uint32_t data_core_file_sets(const struct data_core *c)
{
    uint64_t sets = io_descriptors_max(c->io) / DESCRIPTORS_SEGMENTS_SHARE / c->cores_count /
                    DESCRIPTORS_OF_SET;
    return (uint32_t)MIN(MAX(sets, DESCRIPTORS_SETS_MIN), UINT32_MAX);
}

/* Connections that this core may have, so that all cores find descriptors for files. */
static uint32_t data_core_conns_max(const struct data_core *c)
{
    const struct broker_config *b = c->config;
    uint64_t most = io_descriptors_max(c->io);
    uint64_t of_core = (uint64_t)DESCRIPTORS_OF_SET * data_core_file_sets(c) +
                       (uint64_t)b->torc_wal_files * b->log_dirs_count + DESCRIPTORS_OF_CORE;
    uint64_t kept = of_core * c->cores_count + DESCRIPTORS_OF_NODE;
    uint64_t left = most > kept ? (most - kept) / c->cores_count : 0;
    return (uint32_t)MIN(MAX(left, 1), CONNS_MAX); /* one: or nobody could ask what is wrong */
}

static int data_core_make(struct data_core *c, char *why, size_t why_size)
{
    struct io_config config = {
        .world = c->node->world, .core = c->id, .mem = &c->mem, .trace = &c->trace};
    int error = io_start(&c->io, &config, why, why_size);
    if (error != 0)
        return error;
    c->trace.wall_ms = io_wall_pointer(c->io);
    board_init(&c->board, c->id, c->io);
    c->mail.board = &c->board;
    wheel_init(&c->wheel, io_now_ns(c->io));
    image_init(&c->image, &c->mem, io_random(c->io));
    list_init(&c->room_waiters);
    list_init(&c->parked);
    list_init(&c->txn_holds);
    pool_init(&c->reads, &c->mem, fetch_read_size(), FETCH_READS_MAX);
    flows_init(&c->flows, c);
    c->times = stat_times_make(c);
    c->compress = mem_alloc(&c->mem, sizeof(*c->compress));
    if (c->compress == NULL || conns_init(&c->conns, c) != 0 ||
        fetch_sessions_init(&c->sessions, c) != 0 || coordinators_start(c) != 0) {
        (void)snprintf(why, why_size, "torc.memory is too small for %u cores", c->cores_count);
        return -ENOMEM;
    }
    compress_init(c->compress, &c->mem);
    c->conns.count_max = data_core_conns_max(c);
    return data_core_listen(c, why, why_size);
}

static void data_core_wake_control(void *context, struct core_id to)
{
    struct data_core *c = context;
    if (c->io != NULL) /* else the control core looks by itself while it waits for us */
        io_wake(c->io, to);
}

bool data_core_start(struct data_core *c, struct node *node, struct core_id id)
{
    assert(core_same(core_self(), id));
    c->id = id;
    c->node = node;
    c->config = &node->config->broker;
    c->cores_count = node->cores_count;
    mail_init(&c->mail, &node->post, id);
    trace_init(&c->trace, node->trace, node->trace_context, &no_clock);
    (void)trace_set_levels(&c->trace, c->config->torc_log_level);
    char why[512] = "no memory for what a core needs to start; raise the limit of memory";
    int error = mem_init(&c->mem, node->core_memory_bytes);
    if (error == 0)
        error = data_core_make(c, why, sizeof(why));
    if (error == 0) {
        c->started.home = id;
        c->started.kind = MSG_STARTED;
        mail_send(&c->mail, node->control_id, &c->started);
    } else {
        data_core_tell(c, UINT32_MAX, error, why);
    }
    mail_publish(&c->mail, data_core_wake_control, c);
    return error == 0;
}

/* Binds now, so that a port in use is found before anything else is done; accepts when told to. */
static int data_core_listen(struct data_core *c, char *why, size_t why_size)
{
    for (uint16_t i = 0; i < c->config->listeners_count; i++) {
        const struct listener *l = &c->config->listeners[i];
        struct listening *at = &c->listening[i];
        at->core = c;
        at->listener = i;
        at->accept.listener = -1;
        if (l->controller)
            continue;
        struct io_address address = {.port = c->node->ports[i]};
        (void)snprintf(address.host, sizeof(address.host), "%s", l->host);
        uint16_t bound;
        int fd =
            io_listen(c->io, &address, (uint32_t)c->config->socket_listen_backlog_size, &bound);
        if (fd < 0) {
            (void)snprintf(why, why_size,
                           "cannot listen on %s:%u (listener %s): %s; change `listeners`, or stop "
                           "what uses the port",
                           l->host, address.port, l->name, strerror(-fd));
            return fd;
        }
        at->accept.listener = fd;
        op_init(&at->accept.op, data_core_accepted);
        timer_init(&at->rest, data_core_rested);
    }
    return 0;
}

bool data_core_ended(const struct data_core *c)
{
    assert(core_same(core_self(), c->id));
    return bell_ended(&c->mail.post->bells[c->id.index]);
}

void data_core_leave(struct data_core *c)
{
    assert(core_same(core_self(), c->id));
    if (c->io != NULL)
        io_stop(c->io);
    c->io = NULL;
}

void data_core_free(struct data_core *c)
{
    assert(c->io == NULL);
    if (c->mem.impl != NULL) /* else it was never started */
        mem_destroy(&c->mem);
}

bool data_core_stopped(const struct data_core *c)
{
    return c->state.now == DATA_CORE_STOPPED;
}

/* ---- trouble --------------------------------------------------------------------------------- */

static void data_core_tell(struct data_core *c, uint32_t dir, int error, const char *text)
{
    struct trouble *t = &c->troubles[dir == UINT32_MAX ? LOG_DIRS_MAX : dir];
    if (t->told)
        return;
    t->told = true;
    t->dir = dir;
    t->error = error;
    (void)snprintf(t->text, sizeof(t->text), "%s", text);
    t->msg.home = c->id;
    t->msg.kind = MSG_TROUBLE;
    mail_send(&c->mail, c->node->control_id, &t->msg);
}

static void data_core_dir_failed(void *context, uint32_t dir, int error)
{
    struct data_core *c = context;
    char text[512];
    (void)snprintf(text, sizeof(text), "log directory %s failed: %s", c->config->log_dirs[dir],
                   strerror(-error));
    trace_line(&c->trace, TRACE_LOG, TRACE_ERROR, "%s; its partitions are offline until a restart",
               text);
    data_core_tell(c, dir, error, text);
}

void data_core_trouble_home(struct data_core *c, struct msg *msg)
{
    assert(core_same(msg->home, c->id));
}

/* ---- metadata -------------------------------------------------------------------------------- */

/* What is in a directory that nobody knows may be in one that cannot be read: it is not begun anew
 * in another. */
static uint32_t data_core_dir_of(const struct data_core *c, struct uuid id)
{
    const struct node_identity *own = &c->node->identity;
    uint32_t unknown = 0;
    for (uint32_t i = 0; i < c->config->log_dirs_count; i++) {
        if (uuid_equal(own->dir_ids[i], id))
            return i;
        if ((own->dirs_failed & 1u << i) != 0)
            unknown = i;
    }
    return unknown;
}

static void data_core_open_log(struct data_core *c, const struct topic_image *t, uint32_t i)
{
    const struct partition_image *p = &t->partitions[i];
    struct log *l = log_find(c->logs, t->id, p->index);
    if (l != NULL) {
        log_reconfigure(l, &t->config);
        log_set_leader_epoch(l, p->leader_epoch);
        return;
    }
    struct log_identity id = {.topic_id = t->id,
                              .topic = t->name,
                              .partition = p->index,
                              .dir = p->replicas_count > 0 ? data_core_dir_of(c, p->directories[0])
                                                           : 0,
                              .leader_epoch = p->leader_epoch};
    int error = 0;
    if (log_open(c->logs, &id, &t->config, &error) == NULL)
        trace_line(&c->trace, TRACE_LOG, TRACE_ERROR, "cannot open %s-%d: %s", t->name, p->index,
                   strerror(-error));
}

static void data_core_follow_topic(struct data_core *c, const struct topic_image *before,
                                   const struct topic_image *after)
{
    const struct topic_image *t = after != NULL ? after : before;
    assert(t != NULL);
    for (uint32_t i = 0; i < t->partitions_count; i++) {
        const struct partition_image *p = &t->partitions[i];
        if (!core_same(partition_owner(t->id, p->index, c->cores_count), c->id))
            continue;
        if (after != NULL) {
            data_core_open_log(c, after, i);
            continue;
        }
        struct log *l = log_find(c->logs, t->id, p->index);
        if (l != NULL)
            log_delete(l);
    }
}

/* Half of a core's memory is the log's tail, if the configuration asks for so much, and an eighth
 * is for what readers lag behind: see limits.h. */
static uint64_t data_core_cache_bytes(struct data_core *c)
{
    uint64_t most = MAX(c->mem.budget_bytes / CACHE_SHARE, CACHE_BYTES_MIN);
    uint64_t asked = (uint64_t)c->config->torc_cache_bytes;
    if (asked > most && c->id.index == 0)
        trace_line(&c->trace, TRACE_LOG, TRACE_WARN,
                   "torc.cache.bytes is taken as %llu: torc.memory gives a core no more than that",
                   (unsigned long long)most);
    return MIN(asked, most);
}

static int data_core_start_logs(struct data_core *c)
{
    const struct broker_config *b = c->config;
    struct log_core_config config = {
        .io = c->io,
        .mem = &c->mem,
        .wheel = &c->wheel,
        .trace = &c->trace,
        .compress = c->compress,
        .board = &c->board,
        .core = c->id.index,
        .cores_count = (uint16_t)c->cores_count,
        .dirs = b->log_dirs,
        .dir_ids = c->node->identity.dir_ids,
        .dirs_count = b->log_dirs_count,
        .dirs_failed = c->node->identity.dirs_failed,
        .wal_file_bytes = (uint64_t)b->torc_wal_file_bytes,
        .wal_files_count = (uint32_t)b->torc_wal_files,
        .cache_bytes = data_core_cache_bytes(c),
        .files_open_max = data_core_file_sets(c),
        .read_bytes_max = c->mem.budget_bytes / READS_SHARE,
        .disk_read_bytes = (uint64_t)b->torc_disk_read_bytes,
        .clean_start = c->node->clean_start,
        .retention_check_ms = b->log_retention_check_interval_ms,
        .checkpoint_ms = b->log_flush_offset_checkpoint_interval_ms,
        .producer_expiration_ms = b->producer_id_expiration_ms,
        .verify_transactions = b->transaction_partition_verification_enable,
        .cleaner = {.enable = b->log_cleaner_enable,
                    .dedupe_bytes =
                        MIN((uint64_t)b->log_cleaner_dedupe_buffer_size / c->cores_count,
                            c->mem.budget_bytes / READS_SHARE),
                    .io_bytes = (uint32_t)b->log_cleaner_io_buffer_size / c->cores_count,
                    .load_factor = b->log_cleaner_io_buffer_load_factor,
                    .bytes_per_second =
                        b->log_cleaner_io_max_bytes_per_second / (double)c->cores_count,
                    .backoff_ms = b->log_cleaner_backoff_ms},
        .dir_failed = data_core_dir_failed,
        .context = c,
    };
    return log_core_start(&c->logs, &config);
}

static void data_core_first_image(struct data_core *c, const struct image_delta *delta)
{
    int error = data_core_start_logs(c);
    if (error == 0) {
        for (uint32_t i = 0; i < delta->changes_count; i++) {
            if (delta->changes[i].kind == IMAGE_TOPIC)
                data_core_follow_topic(c, NULL, delta->changes[i].topic.after);
        }
        error = log_core_replay(c->logs);
    }
    if (error != 0) {
        char text[512];
        (void)snprintf(text, sizeof(text), "core %u cannot open its logs: %s", c->id.index,
                       strerror(-error));
        data_core_tell(c, UINT32_MAX, error, text);
        return;
    }
    state_move(&c->state, &states, DATA_CORE_REPLAYED);
    /* Told before the delta goes home, and so before any core begins to write: see data_core_open.
     */
    log_core_turn(c->logs);
}

void data_core_image(struct data_core *c, struct msg *msg)
{
    struct delta_letter *letter = container_of(msg, struct delta_letter, msg);
    const struct image_delta *delta = letter->delta;
    if (delta->full) {
        data_core_first_image(c, delta);
    } else if (c->state.now != DATA_CORE_STOPPING && c->logs != NULL) {
        for (uint32_t i = 0; i < delta->changes_count; i++) {
            const struct image_change *change = &delta->changes[i];
            if (change->kind == IMAGE_TOPIC)
                data_core_follow_topic(c, change->topic.before, change->topic.after);
        }
    }
    if (image_apply(&c->image, delta) != 0)
        data_core_tell(c, UINT32_MAX, -ENOMEM, "no memory for the metadata: raise torc.memory");
    else if (c->state.now == DATA_CORE_SERVING)
        coordinators_image(c, delta);
    msg->kind = MSG_IMAGE_HOME;
    mail_send(&c->mail, msg->home, msg);
}

/* A folder that does not belong to this core: is it to be left alone? Folders of partitions in the
 * metadata are their owners'; of the others core 0 takes care, so that one core does. */
static bool data_core_owned_folder(void *context, const char *folder)
{
    const struct data_core *c = context;
    const char *dash = strrchr(folder, '-');
    if (dash == NULL || c->id.index != 0 || strcmp(folder, METADATA_FOLDER) == 0)
        return true;
    const struct topic_image *t = image_topic_by_name(&c->image, folder, (uint32_t)(dash - folder));
    char *end;
    long partition = strtol(dash + 1, &end, 10);
    return t != NULL && *end == '\0' && partition >= 0 && partition < (long)t->partitions_count;
}

/* ---- serve ----------------------------------------------------------------------------------- */

void data_core_open(struct data_core *c, struct msg *msg)
{
    struct plain_letter *letter = container_of(msg, struct plain_letter, msg);
    for (uint32_t i = 0; c->state.now == DATA_CORE_REPLAYED && i < c->config->log_dirs_count; i++) {
        if ((letter->dirs_failed & 1u << i) != 0)
            log_core_lose_dir(c->logs, i);
    }
    letter->result = c->state.now == DATA_CORE_REPLAYED ? log_core_serve(c->logs) : -EIO;
    if (letter->result == 0) {
        log_core_set_aside_strays(c->logs, data_core_owned_folder, c);
        state_move(&c->state, &states, DATA_CORE_SERVING);
        coordinators_image(c, NULL);
    }
    msg->kind = MSG_OPEN_HOME;
    mail_send(&c->mail, msg->home, msg);
}

/* Not before every core serves: of several batches that a client has under way the first would be
 * refused by a core that does not yet, and a later one taken. */
void data_core_accept(struct data_core *c, struct msg *msg)
{
    for (uint32_t i = 0; i < c->config->listeners_count; i++) {
        if (c->state.now != DATA_CORE_SERVING || c->listening[i].accept.listener < 0)
            continue;
        c->listening[i].open = true;
        io_accept(c->io, &c->listening[i].accept);
    }
    msg->kind = MSG_ACCEPT_HOME;
    mail_send(&c->mail, msg->home, msg);
}

static void data_core_accepted(struct op *op)
{
    struct listening *at = container_of(op, struct listening, accept.op);
    struct data_core *c = at->core;
    if (op->result >= 0 && at->open)
        conn_open(c, op->result, &at->accept.peer, at->listener);
    else if (op->result >= 0)
        io_socket_close(c->io, op->result);
    if (at->accept.more || !at->open)
        return;
    if (io_now_ns(c->io) >= at->quiet_until_ns) {
        at->quiet_until_ns = io_now_ns(c->io) + ACCEPT_QUIET_NS;
        trace_line(&c->trace, TRACE_NET, TRACE_WARN,
                   "new connections wait: %s; raise the limit of open files (ulimit -n, "
                   "LimitNOFILE=) or the memory, or lower max.connections",
                   strerror(-op->result));
    }
    timer_arm(&c->wheel, &at->rest, io_now_ns(c->io) + ACCEPT_REST_NS);
}

static void data_core_rested(struct timer *t)
{
    struct listening *at = container_of(t, struct listening, rest);
    if (at->open && !at->accept.op.armed)
        io_accept(at->core->io, &at->accept);
}

/* ---- checkpoint and stop --------------------------------------------------------------------- */

static void data_core_give_back(struct data_core *c, struct checkpoint_letter *letter)
{
    for (uint32_t d = 0; d < c->config->log_dirs_count; d++) {
        for (uint32_t w = 0; w < LOG_CHECKPOINTS_COUNT; w++)
            log_core_checkpoint_free(c->logs, &letter->parts[d][w]);
    }
}

void data_core_checkpoint(struct data_core *c, struct msg *msg)
{
    struct checkpoint_letter *letter = container_of(msg, struct checkpoint_letter, msg);
    letter->failed = c->logs == NULL;
    if (!letter->failed && letter->give_back)
        data_core_give_back(c, letter);
    for (uint32_t d = 0; !letter->failed && !letter->give_back && d < c->config->log_dirs_count;
         d++) {
        for (uint32_t w = 0; w < LOG_CHECKPOINTS_COUNT; w++) {
            if (log_core_checkpoint(c->logs, d, (enum log_checkpoint)w, &letter->parts[d][w]) != 0)
                letter->failed = true;
        }
    }
    msg->kind = MSG_CHECKPOINT_HOME;
    mail_send(&c->mail, msg->home, msg);
}

static void data_core_logs_stopped(struct op *op)
{
    struct data_core *c = container_of(op, struct data_core, stop_op);
    struct plain_letter *letter = container_of(c->stop_msg, struct plain_letter, msg);
    letter->result = op->result;
    state_move(&c->state, &states, DATA_CORE_STOPPED);
    c->stop_msg->kind = MSG_STOP_HOME;
    mail_send(&c->mail, c->stop_msg->home, c->stop_msg);
}

void data_core_stop(struct data_core *c, struct msg *msg)
{
    c->stop_msg = msg;
    state_move(&c->state, &states, DATA_CORE_STOPPING);
    for (uint32_t i = 0; i < c->config->listeners_count; i++) {
        struct listening *at = &c->listening[i];
        if (!at->open)
            continue;
        at->open = false;
        timer_cancel(&c->wheel, &at->rest);
        if (at->accept.op.armed)
            io_cancel_accept(c->io, &at->accept);
    }
    fetch_unpark_all(c);
    coordinators_stop(c);
    conns_close_all(&c->conns);
    op_init(&c->stop_op, data_core_logs_stopped);
    if (c->logs != NULL)
        log_core_stop(c->logs, &c->stop_op);
    else
        data_core_logs_stopped(&c->stop_op);
}
