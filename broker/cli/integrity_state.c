/* The small files of a data directory and of its folders, Kafka's and torc's.
 *
 *   meta.properties                    who the directory belongs to; all directories must agree
 *   *-offset-checkpoint                an offset per partition; lines of lost partitions stay
 *   partition.metadata                 topic id of a folder
 *   leader-epoch-checkpoint            epochs and first offsets, both ascending
 *   <offset>.snapshot                  producers before an offset; has a checksum
 *   quorum-state                       the voter's memory
 *   log-start.torc, log-cleaned.torc   one line of numbers
 *
 * Texts are read strictly: what a program wrote has no blanks, signs or zeros that it would not
 * write again. None of them but the snapshot and log-start.torc has a checksum, so what is looked
 * for is what cannot be, by itself or beside the log: a wrong digit that makes sense is found by
 * neither Kafka nor us.
 *
 * Failure modes: each file's own finding. */
#include "broker/cli/integrity.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/log/checkpoint.h"
#include "broker/log/clean_files.h"
#include "broker/log/path.h"
#include "broker/log/retention.h"
#include "broker/quorum/format.h"
#include "broker/quorum/quorum_state.h"
#include "core/crc32c.h"

#define CHECKPOINT_BYTES_MAX (256u << 20)
#define EPOCHS_BYTES_MAX     (16u << 20)
#define SNAPSHOT_BYTES_MAX   (256u << 20)
#define SMALL_BYTES_MAX      (64u << 10)
#define SNAPSHOT_HEADER      10u
#define SNAPSHOT_ENTRY       46u
#define SNAPSHOT_CRC_FROM    6u
#define WHY_ROOM             256

/* ---- texts ----------------------------------------------------------------------------------- */

/* A number as programs write it, and the byte behind it. */
static bool number_take(const char **at, int64_t max, char behind, int64_t *value)
{
    const char *begin = *at;
    *value = 0;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        int64_t digit = **at - '0';
        if (*value > (max - digit) / 10)
            return false;
        *value = *value * 10 + digit;
    }
    bool plain = *at > begin && (*begin != '0' || *at == begin + 1);
    if (!plain || **at != behind)
        return false;
    (*at)++;
    return true;
}

/* "0\n<count>\n": false if it does not begin so. */
static bool head_take(const char **at, int64_t *count)
{
    int64_t version;
    return number_take(at, INT32_MAX, '\n', &version) && version == 0 &&
           number_take(at, INT32_MAX, '\n', count);
}

bool integrity_numbers(struct integrity *g, const char *folder, const char *name, uint32_t count)
{
    char path[PATH_ROOM + 64], *text;
    size_t size;
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (!integrity_slurp(g, path, SMALL_BYTES_MAX, ABSENT_IS_FINE, ADVICE_CHECKPOINT, &text, &size))
        return false;
    const char *at = text;
    bool good = true;
    for (uint32_t i = 0; i < count && good; i++) {
        int64_t value;
        bool none = strncmp(at, "-1", 2) == 0; /* nothing is known */
        at += none ? 1 : 0;
        good = number_take(&at, INT64_MAX, i + 1 == count ? '\n' : ' ', &value);
    }
    if (!good || at != text + size)
        integrity_damage(g, path, at - text, ADVICE_CHECKPOINT, "it is not %u number%s on a line",
                         count, count == 1 ? "" : "s");
    mem_free(&g->c->mem, text, size + 1);
    return true;
}

void integrity_log_start(struct integrity *g, const char *folder)
{
    char path[PATH_ROOM + 64], *text;
    size_t size;
    int64_t offset;
    (void)snprintf(path, sizeof(path), "%s/" LOG_START_NAME, folder);
    if (!integrity_slurp(g, path, SMALL_BYTES_MAX, ABSENT_IS_FINE, ADVICE_CHECKPOINT, &text, &size))
        return;
    if (!log_start_parse(text, &offset) || strlen(text) != size)
        integrity_damage(g, path, -1, ADVICE_CHECKPOINT, "it is not an offset and its checksum");
    mem_free(&g->c->mem, text, size + 1);
}

/* ---- the directory --------------------------------------------------------------------------- */

static void check_meta(struct integrity *g)
{
    char path[PATH_ROOM], why[WHY_ROOM] = "", *text;
    size_t size;
    struct meta_properties meta;
    path_in_dir(path, g->dir, "meta.properties");
    if (!integrity_slurp(g, path, SMALL_BYTES_MAX, ABSENT_IS_DAMAGE, ADVICE_IDENTITY, &text, &size))
        return;
    int error = meta_properties_parse(&meta, &g->c->mem, text, size, why, sizeof(why));
    mem_free(&g->c->mem, text, size + 1);
    struct uuid cluster;
    if (error != 0) {
        integrity_damage(g, path, -1, ADVICE_IDENTITY, "%s", why);
        return;
    }
    if (!uuid_parse(&cluster, meta.cluster_id, (uint32_t)strlen(meta.cluster_id)))
        integrity_note(g, path, -1, "its cluster.id is not an id that Kafka's tools make");
    const struct broker_image *self =
        g->md == NULL ? NULL : image_broker(&g->md->image, meta.node_id);
    bool listed = false;
    for (uint32_t i = 0; self != NULL && i < self->log_dirs_count; i++)
        listed |= uuid_equal(self->log_dirs[i], meta.directory_id);
    if (g->md != NULL && self == NULL && g->md->image.brokers_count > 0)
        integrity_damage(g, path, -1, ADVICE_IDENTITY,
                         "its node.id is %d, and the metadata knows no such broker", meta.node_id);
    else if (self != NULL && self->log_dirs_count > 0 && !listed)
        integrity_note(g, path, -1,
                       "its directory.id is none of those that the metadata has of this node: it "
                       "could not be read at the last start, or is another's");
    if (g->meta->version != 0 &&
        (g->meta->node_id != meta.node_id || strcmp(g->meta->cluster_id, meta.cluster_id) != 0))
        integrity_damage(g, path, -1, ADVICE_IDENTITY,
                         "it is node %d of cluster %s, another directory node %d of cluster %s",
                         meta.node_id, meta.cluster_id, g->meta->node_id, g->meta->cluster_id);
    *g->meta = meta;
}

/* One line of a checkpoint. */
static bool line_take(const char **at, char *topic, size_t room, int32_t *partition,
                      int64_t *offset)
{
    const char *space = strchr(*at, ' ');
    int64_t number;
    size_t size = space == NULL ? 0 : (size_t)(space - *at);
    if (size == 0 || size >= room)
        return false;
    memcpy(topic, *at, size);
    topic[size] = '\0';
    *at = space + 1;
    if (!number_take(at, INT32_MAX, ' ', &number))
        return false;
    *partition = (int32_t)number;
    return number_take(at, INT64_MAX, '\n', offset);
}

static const char *const checkpoints[INTEGRITY_MARKS] = {
    [MARK_RECOVERY_POINT] = "recovery-point-offset-checkpoint",
    [MARK_LOG_START] = "log-start-offset-checkpoint",
    [MARK_CLEANED] = "cleaner-offset-checkpoint",
    [MARK_HIGH_WATERMARK] = "replication-offset-checkpoint",
};

/* The folder's marks, made if need be; NULL: no memory. */
static struct integrity_marks *marks_take(struct integrity *g, const char *folder)
{
    uint32_t size = (uint32_t)strlen(folder);
    struct integrity_marks *m = map_get(&g->marks, folder, size);
    if (m != NULL)
        return m;
    m = mem_alloc(&g->c->mem, sizeof(*m) + size + 1);
    if (m == NULL)
        return NULL;
    for (uint32_t i = 0; i < INTEGRITY_MARKS; i++)
        m->offsets[i] = NO_OFFSET;
    m->name_size = size;
    memcpy(m->name, folder, size + 1);
    if (map_put(&g->marks, m->name, size, m) == 0)
        return m;
    mem_free(&g->c->mem, m, sizeof(*m) + size + 1);
    return NULL;
}

static const char *mark_take(struct integrity *g, enum integrity_mark which, const char **at)
{
    char topic[FOLDER_NAME_MAX], folder[FOLDER_NAME_MAX + 16];
    int64_t offset;
    int32_t partition, same;
    uint32_t ignored;
    if (!line_take(at, topic, sizeof(topic), &partition, &offset))
        return "a line is not a topic, a partition and an offset";
    (void)snprintf(folder, sizeof(folder), "%s-%d", topic, partition);
    if (!path_parse_folder(folder, &ignored, &same))
        return "a line names no topic";
    struct integrity_marks *m = marks_take(g, folder);
    if (m == NULL)
        return "no memory for it";
    if (m->offsets[which] != NO_OFFSET)
        return "a partition has two lines";
    m->offsets[which] = offset;
    return NULL;
}

static void checkpoint_read(struct integrity *g, enum integrity_mark which)
{
    char path[PATH_ROOM], *text;
    size_t size;
    int64_t count = 0;
    path_in_dir(path, g->dir, checkpoints[which]);
    if (!integrity_slurp(g, path, CHECKPOINT_BYTES_MAX, ABSENT_IS_FINE, ADVICE_CHECKPOINT, &text,
                         &size))
        return;
    const char *at = text;
    const char *wrong = head_take(&at, &count) ? NULL : "it does not begin with 0 and a count";
    for (int64_t i = 0; wrong == NULL && i < count; i++)
        wrong = mark_take(g, which, &at);
    if (wrong == NULL && at != text + size)
        wrong = "it has more lines than it says";
    if (wrong != NULL)
        integrity_damage(g, path, at - text, ADVICE_CHECKPOINT, "%s", wrong);
    mem_free(&g->c->mem, text, size + 1);
}

void integrity_root(struct integrity *g)
{
    check_meta(g);
    for (uint32_t i = 0; i < INTEGRITY_MARKS; i++)
        checkpoint_read(g, (enum integrity_mark)i);
}

const char *integrity_mark_name(enum integrity_mark which)
{
    return checkpoints[which];
}

int64_t integrity_mark(const struct integrity *g, const char *folder, enum integrity_mark which)
{
    const struct integrity_marks *m = map_get(&g->marks, folder, (uint32_t)strlen(folder));
    return m == NULL ? NO_OFFSET : m->offsets[which];
}

void integrity_marks_free(struct integrity *g)
{
    uint32_t at = 0;
    struct integrity_marks *m;
    while ((m = map_next(&g->marks, &at)) != NULL)
        mem_free(&g->c->mem, m, sizeof(*m) + m->name_size + 1);
    map_destroy(&g->marks);
    map_init(&g->marks, &g->c->mem, 0);
}

/* ---- a folder -------------------------------------------------------------------------------- */

void integrity_epochs_free(struct integrity *g, struct integrity_epochs *es)
{
    mem_free(&g->c->mem, es->entries, es->room * sizeof(*es->entries));
    *es = (struct integrity_epochs){0};
}

int32_t integrity_epoch_at(const struct integrity_epochs *es, int64_t offset)
{
    for (uint32_t i = es->count; i > 0; i--)
        if (es->entries[i - 1].start <= offset)
            return es->entries[i - 1].epoch;
    return -1;
}

static const char *epochs_parse(struct integrity_epochs *es, const char **at, int64_t count)
{
    int64_t epoch, start;
    for (int64_t i = 0; i < count; i++) {
        if (!number_take(at, INT32_MAX, ' ', &epoch) || !number_take(at, INT64_MAX, '\n', &start))
            return "it is no list of epochs and offsets";
        const struct integrity_epoch *before = i == 0 ? NULL : &es->entries[i - 1];
        if (before != NULL && (epoch <= before->epoch || start <= before->start))
            return "its epochs and offsets do not ascend";
        es->entries[es->count++] = (struct integrity_epoch){(int32_t)epoch, start};
    }
    return **at == '\0' ? NULL : "something follows its last line";
}

void integrity_epochs_read(struct integrity *g, const char *folder, struct integrity_epochs *es)
{
    char path[PATH_ROOM + 64], *text;
    size_t size;
    int64_t count = 0;
    *es = (struct integrity_epochs){0};
    (void)snprintf(path, sizeof(path), "%s/leader-epoch-checkpoint", folder);
    if (!integrity_slurp(g, path, EPOCHS_BYTES_MAX, ABSENT_IS_FINE, ADVICE_DERIVED, &text, &size))
        return;
    const char *at = text, *wrong = "it is no list of epochs and offsets";
    if (head_take(&at, &count) && count <= (int64_t)(size / 4)) {
        es->room = (uint32_t)count;
        es->entries = count == 0 ? NULL : mem_alloc(&g->c->mem, es->room * sizeof(*es->entries));
        wrong = count > 0 && es->entries == NULL ? "no memory for it" : NULL;
        es->room = es->entries == NULL ? 0 : es->room;
    }
    if (wrong == NULL)
        wrong = epochs_parse(es, &at, count);
    if (wrong == NULL && at != text + size)
        wrong = "something follows its last line";
    if (wrong != NULL) {
        integrity_damage(g, path, at - text, ADVICE_DERIVED, "%s", wrong);
        integrity_epochs_free(g, es);
    }
    mem_free(&g->c->mem, text, size + 1);
}

bool integrity_topic_id(struct integrity *g, const char *folder, struct uuid *id)
{
    static const char head[] = "version: 0\ntopic_id: ";
    char path[PATH_ROOM + 64], *text;
    size_t size;
    (void)snprintf(path, sizeof(path), "%s/partition.metadata", folder);
    if (!integrity_slurp(g, path, SMALL_BYTES_MAX, ABSENT_IS_DAMAGE, ADVICE_IDENTITY, &text, &size))
        return false;
    size_t whole = sizeof(head) - 1 + UUID_TEXT_SIZE - 1;
    bool good = size >= whole && strncmp(text, head, sizeof(head) - 1) == 0 &&
                uuid_parse(id, text + sizeof(head) - 1, UUID_TEXT_SIZE - 1) &&
                (size == whole || (size == whole + 1 && text[whole] == '\n'));
    mem_free(&g->c->mem, text, size + 1);
    if (!good)
        integrity_damage(g, path, -1, ADVICE_IDENTITY, "it is not a version and a topic id");
    return good;
}

/* ---- producer snapshots ---------------------------------------------------------------------- */

static uint64_t big_endian(const uint8_t *from, uint32_t size)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < size; i++)
        value = value << 8 | from[i];
    return value;
}

/* NULL, or what is wrong with an entry. */
static const char *entry_wrong(const uint8_t *e, int64_t offset)
{
    int64_t id = (int64_t)big_endian(e, 8), last = (int64_t)big_endian(e + 14, 8);
    int64_t began = (int64_t)big_endian(e + 38, 8);
    if (id < 0)
        return "one of its producers has no id";
    if (last >= offset || began >= offset)
        return "one of its producers has written behind the snapshot's offset";
    return NULL;
}

static const char *snapshot_wrong(const uint8_t *data, size_t size, int64_t offset)
{
    const char *wrong = NULL;
    if (size < SNAPSHOT_HEADER)
        return "it is cut short";
    if (big_endian(data, 2) != 1)
        return "its version is not 1";
    uint64_t count = big_endian(data + 6, 4);
    if (big_endian(data + 2, 4) != crc32c(0, data + SNAPSHOT_CRC_FROM, size - SNAPSHOT_CRC_FROM))
        return "its checksum does not match its bytes";
    if (count > (size - SNAPSHOT_HEADER) / SNAPSHOT_ENTRY)
        return "it has fewer producers than it says";
    for (uint64_t i = 0; i < count && wrong == NULL; i++)
        wrong = entry_wrong(data + SNAPSHOT_HEADER + i * SNAPSHOT_ENTRY, offset);
    return wrong;
}

void integrity_snapshot(struct integrity *g, const char *path, int64_t offset, int64_t end)
{
    char *data;
    size_t size;
    if (!integrity_slurp(g, path, SNAPSHOT_BYTES_MAX, ABSENT_IS_DAMAGE, ADVICE_DERIVED, &data,
                         &size))
        return;
    const char *wrong = snapshot_wrong((const uint8_t *)data, size, offset);
    mem_free(&g->c->mem, data, size + 1);
    if (wrong != NULL)
        integrity_damage(g, path, -1, ADVICE_DERIVED, "%s", wrong);
    else if (offset > end)
        integrity_damage(g, path, -1, ADVICE_DERIVED,
                         "it is of offset %lld, and the log ends at %lld", (long long)offset,
                         (long long)end);
}

void integrity_quorum_state(struct integrity *g, const char *folder, int32_t epoch)
{
    char path[PATH_ROOM + 64], *text;
    size_t size;
    struct quorum_state state;
    (void)snprintf(path, sizeof(path), "%s/" QUORUM_STATE_FILE, folder);
    if (!integrity_slurp(g, path, SMALL_BYTES_MAX, ABSENT_IS_DAMAGE, ADVICE_METADATA, &text, &size))
        return;
    int error = quorum_state_parse(&state, text, size);
    mem_free(&g->c->mem, text, size + 1);
    if (error != 0)
        integrity_damage(g, path, -1, ADVICE_METADATA, "it is no state of a voter");
    else if (state.leader_epoch < epoch)
        integrity_damage(g, path, -1, ADVICE_METADATA,
                         "its epoch is %d, and the metadata log has records of epoch %d",
                         state.leader_epoch, epoch);
}

void integrity_bootstrap(struct integrity *g)
{
    char path[PATH_ROOM];
    struct batches b;
    const uint8_t *batch;
    struct batch_header h;
    uint64_t position;
    path_in_dir(path, g->dir, "bootstrap.checkpoint");
    if (batches_open(&b, g->c, path) != 0)
        return; /* a node that began with a snapshot has none */
    g->files++;
    while (batches_next(&b, &batch, &h, &position))
        if (!batch_crc_matches(batch, h.size))
            integrity_damage(g, path, (int64_t)position, ADVICE_CHECKPOINT,
                             "the checksum of a batch does not match its bytes");
    if (batches_at(&b) < b.size || b.size == 0)
        integrity_damage(g, path, (int64_t)batches_at(&b), ADVICE_CHECKPOINT,
                         "what stands here is no batch");
    integrity_count(g, b.size);
    batches_close(&b);
}
