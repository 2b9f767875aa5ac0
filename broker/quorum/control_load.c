/* How the control core comes to its metadata and becomes leader.
 *
 *   snapshot, log --> replay --> md           (metalog_open: torn tail cut, rot refused)
 *   checks: known levels, one voter and it is us, nobody's newer epoch
 *   quorum-state: leader = us, epoch + 1      (before anything of that epoch is written)
 *   one append: LeaderChange [KRaftVersion, KRaftVoters]
 *               [bootstrap records, when the log is empty | AbortTransaction, when one is open]
 *               RegisterController, RegisterBroker (fenced)
 *               a new leadership for every partition that is ours
 *
 * A sole voter needs no election: whatever epoch was before, it is the majority of the next one.
 *
 * Invariants
 *  1. The new epoch is above every epoch in the log, in snapshots and in quorum-state.
 *  2. quorum-state is durable before the first record of its epoch is.
 *  3. Nothing is written before every check has passed: a directory that is refused is untouched
 *     (but for its torn tail).
 *
 * Failure modes: all of them are sentences, with -EINVAL for a directory that is not for us, and
 * -EBADMSG for one that is damaged. */
#include "broker/quorum/control_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/quorum/leaf.h"
#include "broker/quorum/levels.h"
#include "broker/quorum/quorum_state.h"
#include "broker/quorum/voter.h"
#include "core/assert.h"
#include "proto/gen/record_cluster.h"
#include "proto/record.h"

#define LOAD_ARENA_BYTES      (1ull << 40) /* the core's budget is the real bound */
#define BOOTSTRAP_FILE        "bootstrap.checkpoint"
#define BOOTSTRAP_BYTES_MAX   (16u << 20)
#define BOOTSTRAP_RECORDS_MAX 4096u

struct loading {
    struct control *c;
    struct replay replay;
    int64_t last_offset;
    int32_t last_epoch;
    uint64_t log_bytes; /* of records behind the snapshot */
};

/* ---- replay -----------------------------------------------------------------------------------
 */

/* What the drafts have come to becomes part of md; nobody else has an image yet. */
static int loading_flush(struct loading *l)
{
    struct metadata *md = &l->c->md;
    struct image_delta *delta;
    bool in_transaction = l->replay.in_transaction;
    int result = replay_finish(&l->replay, l->last_offset, l->last_epoch, &delta);
    if (result != 0)
        return result;
    result = metadata_apply(md, delta);
    if (result != 0)
        delta_discard(md->mem, delta);
    else
        delta_retire(md->mem, delta);
    replay_init(&l->replay, md, LOAD_ARENA_BYTES);
    assert(md->open_transaction == in_transaction);
    return result;
}

static int loading_batch(void *context, enum metalog_source source, const uint8_t *batch,
                         const struct batch_header *h)
{
    struct loading *l = context;
    struct metadata *md = &l->c->md;
    struct record_iter it;
    struct record record;
    int result = 0;
    if (batch_has(h, BATCH_CONTROL)) {
        result = metadata_control(md, batch, h);
    } else {
        record_iter_init(&it, batch + BATCH_HEADER_SIZE, h->size - BATCH_HEADER_SIZE,
                         h->record_count);
        while (result == 0 && record_next(&it, &record))
            result = replay_record(&l->replay,
                                   (struct record_value){record.value.data, record.value.size});
        if (result == 0 && it.malformed)
            result = -EBADMSG;
    }
    if (source == METALOG_LOG) {
        l->last_offset = batch_last_offset(h);
        l->last_epoch = h->leader_epoch;
        l->log_bytes += h->size;
    }
    md->last_timestamp_ms = MAX(md->last_timestamp_ms, h->max_timestamp);
    if (result == 0 && replay_is_large(&l->replay))
        result = loading_flush(l);
    return result;
}

static int metadata_load(struct control *c, char *why, size_t why_size)
{
    const struct broker_config *b = &c->config.node->broker;
    struct metalog_options options = {
        .io = c->config.io,
        .mem = c->config.mem,
        .trace = c->config.trace,
        .log_dir = b->metadata_log_dir,
        .segment_bytes = b->metadata_log_segment_bytes,
        .segment_ms = b->metadata_log_segment_ms,
        .retention_bytes = b->metadata_max_retention_bytes,
        .retention_ms = b->metadata_max_retention_ms,
    };
    struct loading l = {.c = c, .last_offset = -1};
    struct metalog_reader reader = {&l, loading_batch};
    replay_init(&l.replay, &c->md, LOAD_ARENA_BYTES);
    int result = metalog_open(&c->log, &options, &reader, why, why_size);
    if (result == 0) {
        l.last_offset = metalog_end_offset(c->log) - 1;
        result = loading_flush(&l);
    }
    if (result == -EBADMSG && l.replay.why[0] != '\0')
        snprintf(why, why_size, "metadata near offset %lld: %s", (long long)l.last_offset + 1,
                 l.replay.why);
    else if (result != 0 && why[0] == '\0')
        snprintf(why, why_size, "cannot load the metadata: error %d", -result);
    replay_drop(&l.replay);
    c->bytes_since_snapshot = l.log_bytes;
    return result;
}

/* ---- checks -----------------------------------------------------------------------------------
 */

static int levels_check(struct control *c, char *why, size_t why_size)
{
    const struct features_image *f = c->md.image.features;
    int16_t level = image_feature(&c->md.image, FEATURE_METADATA_VERSION);
    if (f == NULL)
        return 0; /* a new cluster */
    if (level < METADATA_3_3_IV3 || level > METADATA_4_3_IV0) {
        snprintf(why, why_size, "metadata.version %d is finalized here; this broker knows %d to %d",
                 level, METADATA_3_3_IV3, METADATA_4_3_IV0);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < f->features_count; i++) {
        const char *name = f->features[i].name;
        bool known = strcmp(name, FEATURE_METADATA_VERSION) == 0 || strcmp(name, FEATURE_ELR) == 0;
        for (uint32_t k = 0; k < c->config.served_count; k++)
            known = known || (strcmp(c->config.served[k].name, name) == 0 &&
                              c->config.served[k].min <= f->features[i].level &&
                              c->config.served[k].max >= f->features[i].level);
        if (!known)
            trace_line(c->config.trace, TRACE_QUORUM, TRACE_INFO,
                       "%s %d is finalized here, but not served by this broker", name,
                       f->features[i].level);
    }
    return 0;
}

/* This node is the one voter, by the log or by the configuration. */
static int voters_check(struct control *c, char *why, size_t why_size)
{
    const struct broker_config *b = &c->config.node->broker;
    struct arena arena;
    struct voters_record voters;
    if (c->md.kraft_version == 0 || c->md.voters == NULL) {
        if (b->voters_count == 0 || (b->voters_count == 1 && b->voters[0].id == b->node_id))
            return 0;
        snprintf(why, why_size,
                 "controller.quorum.voters names other nodes than this one (%d): a quorum of "
                 "several voters is not supported",
                 b->node_id);
        return -EINVAL;
    }
    struct wire_reader in;
    arena_init(&arena, c->config.mem, BOOTSTRAP_BYTES_MAX);
    wire_reader_init(&in, c->md.voters, c->md.voters_size);
    int result = voters_record_decode(&voters, &in, 0, &arena);
    bool alone = result == 0 && voters.voters_count == 1 && voters.voters[0].voter_id == b->node_id;
    if (!alone)
        snprintf(why, why_size,
                 "the voters in the metadata log are not this node (%d) alone: a quorum of "
                 "several voters is not supported",
                 b->node_id);
    arena_release(&arena);
    return alone ? 0 : -EINVAL;
}

/* ---- the new epoch ----------------------------------------------------------------------------
 */

static int state_path(const struct control *c, char *path, size_t room)
{
    int n = snprintf(path, room, "%s/%s/%s", c->config.node->broker.metadata_log_dir,
                     METALOG_FOLDER, QUORUM_STATE_FILE);
    return n > 0 && (size_t)n < room ? 0 : -ENAMETOOLONG;
}

static int state_read(struct control *c, struct quorum_state *state, char *why, size_t why_size)
{
    char path[METALOG_PATH_MAX], *text;
    size_t size;
    *state = (struct quorum_state){.leader_id = -1, .leader_epoch = 0, .voted_id = -1};
    int result = state_path(c, path, sizeof(path));
    if (result == 0)
        result = io_slurp(c->config.io, c->config.mem, path, QUORUM_STATE_TEXT_MAX, &text, &size);
    if (result == -ENOENT)
        return 0;
    if (result == 0) {
        result = quorum_state_parse(state, text, size);
        mem_free(c->config.mem, text, size + 1);
    }
    if (result != 0)
        snprintf(why, why_size, "%.300s cannot be read: error %d", path, -result);
    return result;
}

static int epoch_begin(struct control *c, char *why, size_t why_size)
{
    struct quorum_state state;
    char path[METALOG_PATH_MAX], text[QUORUM_STATE_TEXT_MAX];
    int result = state_read(c, &state, why, why_size);
    if (result != 0)
        return result;
    int32_t epoch = MAX(state.leader_epoch, metalog_last_epoch(c->log));
    if (epoch == INT32_MAX) {
        snprintf(why, why_size, "the metadata quorum has run out of epochs");
        return -EINVAL;
    }
    c->leader_epoch = epoch + 1; /* invariant 1 */
    int32_t id = c->config.node->broker.node_id;
    state = (struct quorum_state){
        .version = c->md.kraft_version > 0,
        .leader_id = id,
        .leader_epoch = c->leader_epoch,
        .voted_id = -1,
        .voters = {id},
        .voters_count = 1,
    };
    size_t size = quorum_state_print(&state, text, sizeof(text));
    result = state_path(c, path, sizeof(path));
    if (result == 0)
        result = io_replace(c->config.io, path, text, size); /* invariant 2 */
    if (result != 0)
        snprintf(why, why_size, "%.300s cannot be written: %s", path, strerror(-result));
    return result;
}

static uint32_t metadata_dir(const struct control *c)
{
    const struct broker_config *b = &c->config.node->broker;
    for (uint32_t i = 0; i < b->log_dirs_count; i++) {
        if (strcmp(b->log_dirs[i], b->metadata_log_dir) == 0)
            return i;
    }
    return 0;
}

/* The leader's first words. Voters are said again when the log has none yet, or other endpoints. */
static int leader_change(struct control *c)
{
    int32_t id = c->config.node->broker.node_id;
    bool dynamic = c->md.kraft_version > 0;
    struct leader_change_message_voter self = {.voter_id = id};
    struct leader_change_message change;
    leader_change_message_init(&change);
    change.leader_id = id;
    change.voters = change.granting_voters = &self;
    change.voters_count = change.granting_voters_count = 1;
    struct kraft_version_record version;
    kraft_version_record_init(&version);
    version.kraft_version = c->md.kraft_version;
    struct voters_record voters;
    struct voters_record_endpoint endpoint;
    struct voters_record_voter voter;
    voters_record_init(&voters);
    voter_of(c->config.node, c->config.dir_ids[metadata_dir(c)], &endpoint, &voter);
    voters.voters = &voter;
    voters.voters_count = 1;
    struct wire_writer w = {0};
    voters_record_encode(&voters, &w, 0);
    uint64_t size = w.position;
    uint8_t *value = mem_alloc(c->config.mem, size);
    if (value == NULL)
        return -ENOMEM;
    wire_writer_init(&w, value, size);
    voters_record_encode(&voters, &w, 0);
    bool say = dynamic && (c->next_offset == 0 || c->md.voters_size != size ||
                           memcmp(c->md.voters, value, size) != 0);
    struct control_record controls[] = {
        {BATCH_CONTROL_LEADER_CHANGE, &change, 0},
        {BATCH_CONTROL_KRAFT_VERSION, &version, 0},
        {BATCH_CONTROL_KRAFT_VOTERS, &voters, 0},
    };
    uint32_t count = say ? 3 : 1;
    batch_buffer_add_controls(&c->group, c->next_offset, c->leader_epoch, io_wall_ms(c->config.io),
                              controls, count);
    if (c->group.failed || !say) {
        mem_free(c->config.mem, value, size);
    } else {
        mem_free(c->config.mem, c->md.voters, c->md.voters_size);
        c->md.voters = value;
        c->md.voters_size = (uint32_t)size;
    }
    c->next_offset += count;
    return c->group.failed ? -ENOMEM : 0;
}

/* ---- the first records ------------------------------------------------------------------------
 */

/* Data records of bootstrap.checkpoint; values point into text. */
static int bootstrap_values(const char *text, size_t size, struct record_value *values,
                            uint32_t *count)
{
    struct batch_iter it;
    const uint8_t *batch;
    struct batch_header h;
    batch_iter_init(&it, (const uint8_t *)text, size);
    *count = 0;
    while (batch_next(&it, &batch, &h)) {
        struct record_iter records;
        struct record record;
        if (!batch_crc_matches(batch, h.size) || batch_codec(&h) != CODEC_NONE)
            return -EBADMSG;
        if (batch_has(&h, BATCH_CONTROL))
            continue;
        record_iter_init(&records, batch + BATCH_HEADER_SIZE, h.size - BATCH_HEADER_SIZE,
                         h.record_count);
        while (record_next(&records, &record)) {
            if (*count == BOOTSTRAP_RECORDS_MAX || record.value.data == NULL)
                return -EBADMSG;
            values[(*count)++] = (struct record_value){record.value.data, record.value.size};
        }
        if (records.malformed)
            return -EBADMSG;
    }
    return it.stopped == BATCH_WHOLE && *count > 0 ? 0 : -EBADMSG;
}

static int bootstrap(struct control *c, struct step *s, char *why, size_t why_size)
{
    char path[METALOG_PATH_MAX], *text = NULL;
    size_t size = 0;
    uint32_t count = 0;
    struct record_value *values = arena_array(s->scratch, BOOTSTRAP_RECORDS_MAX, sizeof(*values));
    int n =
        snprintf(path, sizeof(path), "%s/" BOOTSTRAP_FILE, c->config.node->broker.metadata_log_dir);
    int result = n > 0 && (size_t)n < sizeof(path) ? 0 : -ENAMETOOLONG;
    if (result == 0 && values == NULL)
        result = -ENOMEM;
    if (result == 0)
        result = io_slurp(c->config.io, c->config.mem, path, BOOTSTRAP_BYTES_MAX, &text, &size);
    if (result == 0)
        result = bootstrap_values(text, size, values, &count);
    if (result == 0) {
        controller_bootstrap(s, values, count);
        result = s->records.failed ? -ENOMEM : control_commit(c, &s->records, NULL);
    }
    if (text != NULL)
        mem_free(c->config.mem, text, size + 1);
    if (result != 0)
        snprintf(why, why_size, "a new cluster cannot begin from %.300s: error %d", path, -result);
    return result;
}

static int abort_transaction(struct control *c, struct step *s)
{
    struct abort_transaction_record m;
    abort_transaction_record_init(&m);
    m.reason = wire_string_of("a new leader");
    record_list_init(&s->records, s->scratch);
    record_list_add(&s->records, ABORT_TRANSACTION_RECORD_API_KEY, 0, &m);
    if (s->records.failed)
        return -ENOMEM;
    /* md has dropped what the transaction held; there is nothing to replay this against. */
    batch_buffer_add_records(&c->group, c->next_offset, c->leader_epoch, io_wall_ms(c->config.io),
                             s->records.items, s->records.count);
    c->next_offset += s->records.count;
    c->md.open_transaction = false;
    return c->group.failed ? -ENOMEM : 0;
}

static int registration(struct control *c, struct step *s)
{
    const struct broker_config *b = &c->config.node->broker;
    struct endpoint_image endpoints[LISTENERS_MAX];
    struct broker_registration r = {
        .epoch = c->next_offset,
        .endpoints = endpoints,
        .controller_endpoint = voter_endpoint(c->config.node),
        .rack = b->broker_rack,
    };
    for (uint32_t i = 0; i < b->listeners_count; i++) {
        const struct listener *l = &b->listeners[i];
        if (l->controller)
            continue;
        endpoints[r.endpoints_count++] = (struct endpoint_image){
            .listener = l->name,
            .host = l->advertised_host[0] != '\0' ? l->advertised_host : "localhost",
            .port = l->advertised_port != 0 ? l->advertised_port : c->config.ports[i],
            .security_protocol = (int16_t)l->protocol,
        };
    }
    assert(r.endpoints_count > 0);
    io_entropy(c->config.io, r.incarnation.bytes, sizeof(r.incarnation.bytes));
    io_entropy(c->config.io, r.controller_incarnation.bytes,
               sizeof(r.controller_incarnation.bytes));
    c->incarnation = r.incarnation;
    controller_register(s, &r);
    return s->records.failed ? -ENOMEM : control_commit(c, &s->records, NULL);
}

static int lead_all(struct control *c, struct step *s)
{
    uint32_t topic = 0, partition = 0;
    bool more = true;
    int result = 0;
    while (more && result == 0) { /* each round moves topic or partition on */
        struct controller view = control_view(c);
        s->c = &view;
        more = controller_lead_all(s, &topic, &partition);
        if (s->records.failed)
            result = -ENOMEM;
        else if (s->records.count > 0)
            result = control_commit(c, &s->records, NULL);
        arena_release(s->scratch);
    }
    return result;
}

static int first_records(struct control *c, char *why, size_t why_size)
{
    struct controller view;
    struct arena scratch;
    struct step s = {.c = &view, .scratch = &scratch, .arena = &scratch};
    arena_init(&scratch, c->config.mem, LOAD_ARENA_BYTES);
    c->next_offset = metalog_end_offset(c->log);
    int result = leader_change(c);
    view = control_view(c);
    if (result == 0 && c->md.open_transaction)
        result = abort_transaction(c, &s);
    view = control_view(c);
    if (result == 0 && c->md.image.features == NULL)
        result = bootstrap(c, &s, why, why_size);
    view = control_view(c);
    if (result == 0)
        result = registration(c, &s);
    for (uint32_t i = 0; i < c->md.image.topics_count && result == 0; i++)
        control_count_dirs(c, c->md.image.topics[i], 1);
    if (result == 0)
        result = lead_all(c, &s);
    arena_release(&scratch);
    if (result != 0 && why[0] == '\0')
        snprintf(why, why_size, "cannot lead the metadata: error %d", -result);
    return result;
}

int control_load(struct control *c, char *why, size_t why_size)
{
    assert(c->log == NULL && c->phase == CONTROL_PHASE_LOADING);
    int result = metadata_load(c, why, why_size);
    if (result == 0)
        result = levels_check(c, why, why_size);
    if (result == 0)
        result = voters_check(c, why, why_size);
    if (result == 0)
        result = epoch_begin(c, why, why_size);
    if (result == 0)
        result = first_records(c, why, why_size);
    if (result != 0)
        return result;
    c->snapshot_offset = metalog_latest_snapshot(c->log).offset;
    assert(c->group.size > 0 && c->next_offset > metalog_end_offset(c->log));
    trace_line(c->config.trace, TRACE_QUORUM, TRACE_INFO,
               "metadata of cluster %s: epoch %d, offset %lld, %u topics, %llu partitions",
               c->config.cluster_id, c->leader_epoch, (long long)c->next_offset,
               c->md.image.topics_count, (unsigned long long)c->md.image.partitions_count);
    return 0;
}
