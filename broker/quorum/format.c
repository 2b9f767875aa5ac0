/* Formatting log directories, and checking at start that they are ours.
 *
 *   dir/meta.properties         version=1, cluster.id, node.id, directory.id
 *   dir/bootstrap.checkpoint    SnapshotHeader | FeatureLevel records | SnapshotFooter
 *   metadata dir/__cluster_metadata-0/000...0-0000000000.checkpoint
 *                               SnapshotHeader, KRaftVersion 1, KRaftVoters | SnapshotFooter
 *
 * The bootstrap records are what the first leader of an empty log writes into it. The checkpoint at
 * offset 0 is only there when voters are kept in the log (kraft.version 1), not when
 * controller.quorum.voters names them.
 *
 * meta.properties is written last and atomically, so a directory is either formatted or, after a
 * crash, still without it and formatted again.
 *
 * Invariants
 *  1. No directory that holds anything is ever formatted: a forgotten mount must not become a new,
 *     empty cluster beside the old one.
 *  2. All directories of a node carry the same cluster.id and node.id, and different directory ids.
 *  3. Metadata is never begun anew beside directories that have data, or may have some.
 *
 * Failure modes: each refusal is a sentence that names the directory and the remedy. */
#include "broker/quorum/format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/quorum/levels.h"
#include "broker/quorum/metalog.h"
#include "broker/quorum/records.h"
#include "broker/quorum/voter.h"
#include "core/assert.h"
#include "core/properties.h"
#include "proto/gen/record_cluster.h"
#include "proto/gen/record_quorum.h"

#define META_FILE           "meta.properties"
#define META_BYTES_MAX      65536u
#define META_TEXT_MAX       1024u /* each byte of the cluster.id may take 6 */
#define FORMAT_ARENA_BYTES  (1u << 20)
#define FORMAT_FEATURES_MAX 32u
#define PATH_DEPTH_MAX      64u
#define ID_TRIES_MAX        1000u

/* What Kafka 4.3 finalizes in a new cluster, in the order it writes them. */
static const struct format_feature default_features[] = {
    {FEATURE_ELR, 1},       {"group.version", 1},       {"share.version", 1},
    {"streams.version", 1}, {"transaction.version", 2},
};
#define DEFAULT_FEATURES_COUNT (sizeof(default_features) / sizeof(default_features[0]))

/* ---- meta.properties --------------------------------------------------------------------------
 */

static bool number_parse(const char *text, int32_t *number)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < INT32_MIN || value > INT32_MAX)
        return false;
    *number = (int32_t)value;
    return true;
}

static int meta_fill(struct meta_properties *meta, const struct properties *p, char *why,
                     size_t why_size)
{
    const char *version = properties_get(p, "version");
    const char *cluster = properties_get(p, "cluster.id");
    const char *node = properties_get(p, "node.id");
    const char *directory = properties_get(p, "directory.id");
    *meta = (struct meta_properties){.node_id = -1};
    if (version == NULL || !number_parse(version, &meta->version)) {
        snprintf(why, why_size, "it has no version");
        return -EBADMSG;
    }
    if (meta->version != 1) {
        snprintf(why, why_size,
                 "its version is %d: only version 1, of KRaft clusters, can be opened",
                 meta->version);
        return -EBADMSG;
    }
    if (cluster == NULL || cluster[0] == '\0' || strlen(cluster) >= CLUSTER_ID_SIZE) {
        snprintf(why, why_size, "it has no cluster.id");
        return -EBADMSG;
    }
    memcpy(meta->cluster_id, cluster, strlen(cluster) + 1);
    if (node == NULL || !number_parse(node, &meta->node_id) || meta->node_id < 0) {
        snprintf(why, why_size, "it has no node.id");
        return -EBADMSG;
    }
    if (directory != NULL &&
        !uuid_parse(&meta->directory_id, directory, (uint32_t)strlen(directory))) {
        snprintf(why, why_size, "its directory.id is no id");
        return -EBADMSG;
    }
    return 0;
}

int meta_properties_parse(struct meta_properties *meta, struct mem *mem, const char *text,
                          size_t size, char *why, size_t why_size)
{
    assert(text != NULL);
    struct arena arena;
    struct properties p;
    uint32_t line = 0;
    arena_init(&arena, mem, FORMAT_ARENA_BYTES);
    int result = properties_parse(&p, &arena, text, size, &line);
    if (result == -EINVAL) {
        snprintf(why, why_size, "its line %u is no property", line);
        result = -EBADMSG;
    } else if (result != 0) {
        snprintf(why, why_size, "it cannot be read: error %d", -result);
    } else {
        result = meta_fill(meta, &p, why, why_size);
    }
    arena_release(&arena);
    return result;
}

/* A value as it stands in a properties file, so that reading gives it back: what is not plain
 * becomes \uXXXX. */
static void value_print(const char *value, char to[6 * CLUSTER_ID_SIZE])
{
    for (const unsigned char *at = (const unsigned char *)value; *at != '\0';) {
        if (*at > ' ' && *at < 0x7f && *at != '\\') {
            *to++ = (char)*at++;
            continue;
        }
        uint32_t more = *at < 0xc0 ? 0 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : 3;
        uint32_t code = more == 0 ? *at : *at & (0x3fu >> more);
        for (at++; more > 0; more--)
            code = code << 6 | (*at++ & 0x3fu);
        if (code >= 0x10000) {
            to += sprintf(to, "\\u%04x", (0xd800u + ((code - 0x10000) >> 10)) & 0xffffu);
            code = 0xdc00 + (code & 0x3ff);
        }
        to += sprintf(to, "\\u%04x", code & 0xffffu);
    }
    *to = '\0';
}

size_t meta_properties_print(const struct meta_properties *meta, char *text, size_t room)
{
    assert(meta->version == 1 && meta->cluster_id[0] != '\0');
    char directory[UUID_TEXT_SIZE], cluster[6 * CLUSTER_ID_SIZE];
    value_print(meta->cluster_id, cluster);
    int n = snprintf(text, room, "node.id=%d\ndirectory.id=%s\nversion=1\ncluster.id=%s\n",
                     meta->node_id, uuid_text(meta->directory_id, directory), cluster);
    assert(n > 0 && (size_t)n < room);
    return (size_t)n;
}

struct uuid format_random_id(struct io *io)
{
    for (uint32_t i = 0; i < ID_TRIES_MAX; i++) {
        struct uuid id;
        char text[UUID_TEXT_SIZE];
        io_entropy(io, id.bytes, sizeof(id.bytes));
        id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0f) | 0x40); /* RFC 4122: random */
        id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
        if (uuid_text(id, text)[0] != '-')
            return id;
    }
    assert(io == NULL); /* entropy that repeats itself a thousand times is none */
    return (struct uuid){{0}};
}

/* ---- what goes into the checkpoints ------------------------------------------------------------
 */

static void bootstrap_records(const struct format_options *o, struct record_list *to)
{
    struct feature_level_record m;
    feature_level_record_init(&m);
    m.name = wire_string_of(FEATURE_METADATA_VERSION);
    m.feature_level = o->metadata_level != 0 ? o->metadata_level : METADATA_4_3_IV0;
    record_list_add(to, FEATURE_LEVEL_RECORD_API_KEY, 0, &m);
    for (size_t i = 0; i < DEFAULT_FEATURES_COUNT; i++) {
        m.name = wire_string_of(default_features[i].name);
        m.feature_level = default_features[i].level;
        for (uint32_t k = 0; k < o->features_count; k++) {
            if (strcmp(o->features[k].name, default_features[i].name) == 0)
                m.feature_level = o->features[k].level;
        }
        if (m.feature_level > 0)
            record_list_add(to, FEATURE_LEVEL_RECORD_API_KEY, 0, &m);
    }
}

static void bootstrap_build(struct batch_buffer *to, const struct format_options *o, int64_t now)
{
    struct arena arena;
    struct record_list list;
    arena_init(&arena, to->mem, FORMAT_ARENA_BYTES);
    record_list_init(&list, &arena);
    bootstrap_records(o, &list);
    struct snapshot_header_record header;
    struct snapshot_footer_record footer;
    snapshot_header_record_init(&header);
    snapshot_footer_record_init(&footer);
    struct control_record first = {BATCH_CONTROL_SNAPSHOT_HEADER, &header, 0};
    struct control_record last = {BATCH_CONTROL_SNAPSHOT_FOOTER, &footer, 0};
    batch_buffer_add_controls(to, 0, 0, now, &first, 1);
    if (list.failed)
        to->failed = true;
    else
        batch_buffer_add_records(to, 1, 0, now, list.items, list.count);
    batch_buffer_add_controls(to, 1 + list.count, 0, now, &last, 1);
    arena_release(&arena);
}

static void voters_build(struct batch_buffer *to, const struct config *node, struct uuid directory,
                         int64_t now)
{
    struct voters_record_endpoint endpoint;
    struct voters_record_voter voter;
    voter_of(node, directory, &endpoint, &voter);
    struct voters_record voters;
    voters_record_init(&voters);
    voters.voters = &voter;
    voters.voters_count = 1;
    struct kraft_version_record version;
    kraft_version_record_init(&version);
    version.kraft_version = 1;
    struct snapshot_header_record header;
    struct snapshot_footer_record footer;
    snapshot_header_record_init(&header);
    snapshot_footer_record_init(&footer);
    header.last_contained_log_timestamp = now;
    struct control_record first[] = {
        {BATCH_CONTROL_SNAPSHOT_HEADER, &header, 0},
        {BATCH_CONTROL_KRAFT_VERSION, &version, 0},
        {BATCH_CONTROL_KRAFT_VOTERS, &voters, 0},
    };
    struct control_record last = {BATCH_CONTROL_SNAPSHOT_FOOTER, &footer, 0};
    batch_buffer_add_controls(to, 0, 0, now, first, 3);
    batch_buffer_add_controls(to, 3, 0, now, &last, 1);
}

/* ---- directories ------------------------------------------------------------------------------
 */

static int path_join(char *to, size_t room, const char *dir, const char *name)
{
    int n = snprintf(to, room, "%s/%s", dir, name);
    return n > 0 && (size_t)n < room ? 0 : -ENAMETOOLONG;
}

/* The directory and those above it, as far as they are missing. */
static int directory_make(struct io *io, const char *dir)
{
    char path[METALOG_PATH_MAX];
    size_t size = strlen(dir);
    if (size == 0 || size >= sizeof(path))
        return -ENAMETOOLONG;
    uint32_t depth = 0;
    for (size_t i = 1; i <= size && depth < PATH_DEPTH_MAX; i++) {
        if (dir[i] != '/' && dir[i] != '\0')
            continue;
        memcpy(path, dir, i);
        path[i] = '\0';
        depth++;
        struct io_stat stat;
        if (io_stat(io, path, &stat) == 0)
            continue;
        int result = io_mkdir(io, path);
        if (result != 0 && result != -EEXIST)
            return result;
    }
    return depth < PATH_DEPTH_MAX ? 0 : -ENAMETOOLONG;
}

static int checkpoint_write(struct io *io, const char *dir, const char *name,
                            struct batch_buffer *bytes)
{
    char path[METALOG_PATH_MAX];
    int result = bytes->failed ? -ENOMEM : path_join(path, sizeof(path), dir, name);
    if (result == 0)
        result = io_replace(io, path, bytes->data, bytes->size);
    batch_buffer_release(bytes);
    return result;
}

static int voters_write(struct io *io, struct mem *mem, const struct config *node,
                        struct uuid directory)
{
    char folder[METALOG_PATH_MAX];
    struct batch_buffer b;
    int result = path_join(folder, sizeof(folder), node->broker.metadata_log_dir, METALOG_FOLDER);
    if (result != 0)
        return result;
    result = io_mkdir(io, folder);
    if (result != 0 && result != -EEXIST)
        return result;
    batch_buffer_init(&b, mem);
    voters_build(&b, node, directory, io_wall_ms(io));
    return checkpoint_write(io, folder, "00000000000000000000-0000000000.checkpoint", &b);
}

static int meta_write(struct io *io, const char *dir, const struct meta_properties *meta)
{
    char path[METALOG_PATH_MAX], text[META_TEXT_MAX];
    int result = path_join(path, sizeof(path), dir, META_FILE);
    if (result != 0)
        return result;
    size_t size = meta_properties_print(meta, text, sizeof(text));
    return io_replace(io, path, text, size);
}

/* One directory. */
static int dir_format(struct io *io, struct mem *mem, const struct config *node, const char *dir,
                      const struct format_options *options, const struct meta_properties *meta)
{
    struct batch_buffer b;
    batch_buffer_init(&b, mem);
    bootstrap_build(&b, options, io_wall_ms(io));
    int result = checkpoint_write(io, dir, "bootstrap.checkpoint", &b);
    bool holds_metadata = strcmp(dir, node->broker.metadata_log_dir) == 0;
    if (result == 0 && holds_metadata && node->broker.voters_count == 0)
        result = voters_write(io, mem, node, meta->directory_id);
    return result == 0 ? meta_write(io, dir, meta) : result;
}

enum dir_kind { DIR_FORMATTED, DIR_EMPTY, DIR_FOREIGN, DIR_UNREADABLE };

static bool foreign_visit(void *context, const char *name, bool is_directory)
{
    bool *foreign = context;
    (void)is_directory;
    /* What a file system, a lock or a formatting that was interrupted leaves behind. */
    if (strcmp(name, ".lock") == 0 || strcmp(name, "lost+found") == 0 ||
        strcmp(name, META_FILE ".tmp") == 0 || strncmp(name, "bootstrap.checkpoint", 20) == 0 ||
        strcmp(name, METALOG_FOLDER) == 0)
        return true;
    *foreign = true;
    return false;
}

/* A metadata folder without meta.properties beside it may hold the checkpoint at 0, no log. */
static bool log_visit(void *context, const char *name, bool is_directory)
{
    bool *foreign = context;
    size_t size = strlen(name);
    (void)is_directory;
    if (size > 4 && strcmp(name + size - 4, ".log") == 0)
        *foreign = true;
    return !*foreign;
}

static int dir_look(struct io *io, struct mem *mem, const char *dir, enum dir_kind *kind,
                    struct meta_properties *meta, char *why, size_t why_size)
{
    char path[METALOG_PATH_MAX], reason[256] = "";
    char *text;
    size_t size;
    int result = directory_make(io, dir);
    if (result == 0)
        result = path_join(path, sizeof(path), dir, META_FILE);
    if (result != 0) {
        snprintf(why, why_size, "log directory %.200s cannot be made: error %d", dir, -result);
        return result;
    }
    result = io_slurp(io, mem, path, META_BYTES_MAX, &text, &size);
    if (result == 0) {
        result = meta_properties_parse(meta, mem, text, size, reason, sizeof(reason));
        mem_free(mem, text, size + 1);
        *kind = DIR_FORMATTED;
        if (result != 0)
            snprintf(why, why_size, "%.200s is damaged: %.200s", path, reason);
        return result;
    }
    bool foreign = false;
    if (result == -ENOENT)
        result = io_list(io, dir, foreign_visit, &foreign);
    if (result == 0 && path_join(path, sizeof(path), dir, METALOG_FOLDER) == 0) {
        result = io_list(io, path, log_visit, &foreign);
        if (result == -ENOENT)
            result = 0;
    }
    *kind = foreign ? DIR_FOREIGN : DIR_EMPTY;
    if (result != 0)
        snprintf(why, why_size, "log directory %.200s cannot be read: error %d", dir, -result);
    return result;
}

int format_look(struct io *io, struct mem *mem, const char *dir, char *why, size_t why_size)
{
    enum dir_kind kind;
    struct meta_properties meta;
    return dir_look(io, mem, dir, &kind, &meta, why, why_size);
}

/* ---- all directories of a node -----------------------------------------------------------------
 */

struct dirs_found {
    enum dir_kind kinds[LOG_DIRS_MAX];
    struct meta_properties metas[LOG_DIRS_MAX];
    uint32_t formatted_count, empty_count, foreign_at;
    bool foreign;
};

static int dirs_look(struct io *io, struct mem *mem, const struct config *node, uint32_t failed,
                     struct dirs_found *f, char *why, size_t why_size)
{
    const struct broker_config *b = &node->broker;
    assert(b->log_dirs_count > 0 && b->log_dirs_count <= LOG_DIRS_MAX);
    *f = (struct dirs_found){0};
    for (uint32_t i = 0; i < b->log_dirs_count; i++) {
        f->kinds[i] = DIR_UNREADABLE;
        if ((failed & 1u << i) != 0)
            continue;
        int result = dir_look(io, mem, b->log_dirs[i], &f->kinds[i], &f->metas[i], why, why_size);
        if (result != 0)
            return result;
        f->formatted_count += f->kinds[i] == DIR_FORMATTED;
        f->empty_count += f->kinds[i] == DIR_EMPTY;
        if (f->kinds[i] == DIR_FOREIGN) {
            f->foreign = true;
            f->foreign_at = i;
        }
    }
    if (!f->foreign)
        return 0;
    snprintf(why, why_size,
             "log directory %.200s has files but no " META_FILE ": is it the right one? "
             "Only an empty directory is formatted",
             b->log_dirs[f->foreign_at]);
    return -ENOTEMPTY; /* invariant 1 */
}

/* Invariant 2, over what is formatted. Fills the identity's cluster and node. */
static int dirs_agree(const struct config *node, const struct dirs_found *f,
                      struct node_identity *identity, char *why, size_t why_size)
{
    const struct broker_config *b = &node->broker;
    const char *first = NULL;
    for (uint32_t i = 0; i < b->log_dirs_count; i++) {
        const struct meta_properties *meta = &f->metas[i];
        if (f->kinds[i] != DIR_FORMATTED)
            continue;
        if (meta->node_id != b->node_id) {
            snprintf(why, why_size,
                     "log directory %.200s belongs to node %d, but node.id is %d here",
                     b->log_dirs[i], meta->node_id, b->node_id);
            return -EINVAL;
        }
        if (first != NULL && strcmp(meta->cluster_id, identity->cluster_id) != 0) {
            snprintf(why, why_size,
                     "log directory %.120s belongs to cluster %.60s, but %.120s to cluster %.60s",
                     b->log_dirs[i], meta->cluster_id, first, identity->cluster_id);
            return -EINVAL;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (f->kinds[k] == DIR_FORMATTED && !uuid_is_zero(meta->directory_id) &&
                uuid_equal(meta->directory_id, f->metas[k].directory_id)) {
                snprintf(why, why_size,
                         "log directories %.200s and %.200s have the same directory.id: one is a "
                         "copy of the other",
                         b->log_dirs[k], b->log_dirs[i]);
                return -EINVAL;
            }
        }
        if (first == NULL)
            memcpy(identity->cluster_id, meta->cluster_id, sizeof(meta->cluster_id));
        first = b->log_dirs[i];
        identity->dir_ids[i] = meta->directory_id;
    }
    return 0;
}

/* Formats what is empty, into identity's cluster, and gives an id to directories of before 3.7. */
static int dirs_complete(struct io *io, struct mem *mem, const struct config *node,
                         const struct dirs_found *f, const struct format_options *options,
                         struct node_identity *identity, char *why, size_t why_size)
{
    const struct broker_config *b = &node->broker;
    assert(identity->cluster_id[0] != '\0');
    for (uint32_t i = 0; i < b->log_dirs_count; i++) {
        bool has_id = !uuid_is_zero(identity->dir_ids[i]);
        if (f->kinds[i] == DIR_UNREADABLE || (f->kinds[i] == DIR_FORMATTED && has_id))
            continue;
        identity->dir_ids[i] = format_random_id(io);
        struct meta_properties meta = {
            .version = 1, .node_id = b->node_id, .directory_id = identity->dir_ids[i]};
        memcpy(meta.cluster_id, identity->cluster_id, sizeof(meta.cluster_id));
        int result = f->kinds[i] == DIR_FORMATTED
                         ? meta_write(io, b->log_dirs[i], &meta)
                         : dir_format(io, mem, node, b->log_dirs[i], options, &meta);
        if (result != 0) {
            snprintf(why, why_size, "log directory %.200s cannot be formatted: error %d",
                     b->log_dirs[i], -result);
            return result;
        }
    }
    return 0;
}

static int cluster_id_choose(struct io *io, const char *wanted, struct node_identity *identity,
                             char *why, size_t why_size)
{
    if (wanted == NULL) {
        uuid_text(format_random_id(io), identity->cluster_id);
        return 0;
    }
    size_t size = strlen(wanted);
    if (size == 0 || size >= CLUSTER_ID_SIZE || strpbrk(wanted, " \t\r\n\\") != NULL) {
        snprintf(why, why_size, "'%.100s' cannot be a cluster id", wanted);
        return -EINVAL;
    }
    memcpy(identity->cluster_id, wanted, size + 1);
    return 0;
}

int format_node(struct io *io, struct mem *mem, const struct config *node,
                const struct format_options *options, struct node_identity *identity, char *why,
                size_t why_size)
{
    struct dirs_found f;
    *identity = (struct node_identity){.node_id = node->broker.node_id};
    assert(options->features_count <= FORMAT_FEATURES_MAX);
    int result = dirs_look(io, mem, node, 0, &f, why, why_size);
    if (result != 0)
        return result;
    if (f.formatted_count > 0 && !options->ignore_formatted) {
        for (uint32_t i = 0; i < node->broker.log_dirs_count; i++) {
            if (f.kinds[i] == DIR_FORMATTED)
                snprintf(why, why_size, "log directory %.200s is formatted already",
                         node->broker.log_dirs[i]);
        }
        return -EEXIST;
    }
    result = dirs_agree(node, &f, identity, why, why_size);
    if (result == 0 && f.formatted_count == 0)
        result = cluster_id_choose(io, options->cluster_id, identity, why, why_size);
    else if (result == 0 && options->cluster_id != NULL &&
             strcmp(options->cluster_id, identity->cluster_id) != 0) {
        snprintf(why, why_size, "the directories belong to cluster %.100s already",
                 identity->cluster_id);
        result = -EINVAL;
    }
    identity->formatted_now = f.formatted_count == 0;
    return result != 0 ? result
                       : dirs_complete(io, mem, node, &f, options, identity, why, why_size);
}

int format_open(struct io *io, struct mem *mem, const struct config *node,
                struct node_identity *identity, char *why, size_t why_size)
{
    struct dirs_found f;
    struct format_options options = {0};
    uint32_t failed = identity->dirs_failed;
    *identity = (struct node_identity){.node_id = node->broker.node_id, .dirs_failed = failed};
    int result = dirs_look(io, mem, node, failed, &f, why, why_size);
    if (result == 0 && failed != 0 && f.formatted_count == 0) {
        snprintf(why, why_size,
                 "some log directories cannot be read, and the others are empty: a new cluster is "
                 "begun only when all are");
        result = -EINVAL; /* invariant 3 */
    }
    if (result == 0)
        result = dirs_agree(node, &f, identity, why, why_size);
    for (uint32_t i = 0; i < node->broker.log_dirs_count && result == 0; i++) {
        if (f.formatted_count > 0 && f.kinds[i] != DIR_FORMATTED &&
            strcmp(node->broker.log_dirs[i], node->broker.metadata_log_dir) == 0) {
            snprintf(why, why_size,
                     "the metadata directory %.200s is empty, but other log directories have "
                     "data: is it mounted?",
                     node->broker.log_dirs[i]);
            result = -EINVAL; /* invariant 3 */
        }
    }
    if (result == 0 && f.formatted_count == 0)
        result = cluster_id_choose(io, NULL, identity, why, why_size);
    identity->formatted_now = f.formatted_count == 0;
    return result != 0 ? result
                       : dirs_complete(io, mem, node, &f, &options, identity, why, why_size);
}
