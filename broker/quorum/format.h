/* Log directories before anything is in them: who they belong to (meta.properties), what a new
 * cluster begins with (bootstrap.checkpoint), and, for a quorum whose voters are in the log, the
 * first voter (the checkpoint at offset 0). `torc format` and a start on empty directories use the
 * same functions; what they write, Kafka's own storage tool could have written. At once, through
 * io.h. */
#ifndef BROKER_QUORUM_FORMAT_H
#define BROKER_QUORUM_FORMAT_H

#include "broker/config/config.h"
#include "core/uuid.h"
#include "io/io.h"

#define CLUSTER_ID_SIZE 128

/* meta.properties of one directory. */
struct meta_properties {
    int32_t version; /* 1; 0 was before KRaft */
    char cluster_id[CLUSTER_ID_SIZE];
    int32_t node_id;
    struct uuid directory_id; /* zero: none is written there */
};

/* 0; -EBADMSG with a sentence in why. */
NODISCARD int meta_properties_parse(struct meta_properties *meta, struct mem *mem, const char *text,
                                    size_t size, char *why, size_t why_size);
/* Size of the text without its terminator. */
size_t meta_properties_print(const struct meta_properties *meta, char *text, size_t room);

/* Who this node is, as all its directories agree. */
struct node_identity {
    char cluster_id[CLUSTER_ID_SIZE];
    int32_t node_id;
    struct uuid dir_ids[LOG_DIRS_MAX]; /* in the order of config.broker.log_dirs */
    uint32_t dirs_failed;              /* bits: cannot be read; such a one may have no id */
    bool formatted_now;                /* the directories were empty */
};

struct format_feature {
    const char *name;
    int16_t level;
};

struct format_options {
    const char *cluster_id; /* NULL: a random one */
    int16_t metadata_level; /* 0: the newest */
    /* Levels in place of the defaults; 0 leaves a feature out. */
    const struct format_feature *features;
    uint32_t features_count;
    bool ignore_formatted; /* directories that belong to this node already are left as they are */
};

/* Can this directory be read, as far as who it belongs to? 0; or -errno with a sentence in why. */
NODISCARD int format_look(struct io *io, struct mem *mem, const char *dir, char *why,
                          size_t why_size);
/* Formats all of the node's directories. -EEXIST when one is formatted already. Voters: those of
 * controller.quorum.voters (then static), else this node alone, in the log. */
NODISCARD int format_node(struct io *io, struct mem *mem, const struct config *node,
                          const struct format_options *options, struct node_identity *identity,
                          char *why, size_t why_size);
/* At start: checks that all directories belong to this node and to one cluster. Empty or absent
 * ones are formatted: all together as a new cluster, or a new one beside others into theirs. Those
 * that identity->dirs_failed names are left alone. -errno with a sentence in why: wrong node, wrong
 * cluster, foreign files without meta.properties. */
NODISCARD int format_open(struct io *io, struct mem *mem, const struct config *node,
                          struct node_identity *identity, char *why, size_t why_size);

/* A random id whose text does not begin with '-': tools would take it for an option. */
struct uuid format_random_id(struct io *io);

#endif
