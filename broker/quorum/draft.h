/* Drafts: working copies of leaves while records are replayed. Same folder only. */
#ifndef BROKER_QUORUM_DRAFT_H
#define BROKER_QUORUM_DRAFT_H

#include "broker/quorum/metadata.h"

struct entries_draft {
    struct config_entry *entries; /* sorted by name */
    uint32_t count, room;
};

struct topic_draft {
    struct list link;
    const struct topic_image *before; /* NULL: new */
    struct topic_image view;          /* id, name, flags; the rest is below */
    struct partition_image *partitions;
    uint32_t partitions_count, partitions_room;
    struct entries_draft configs;
    bool configs_touched;
    bool removed;
};

struct broker_draft {
    struct list link;
    const struct broker_image *before;
    struct broker_image view;
    bool removed;
};

struct config_draft {
    struct list link;
    const struct config_image *before;
    enum config_resource_type type;
    const char *name;
    uint32_t name_size;
    struct entries_draft entries;
};

/* Sets r->why; returns -EBADMSG. */
int replay_refuse(struct replay *r, const char *what);
/* Newest version of a record that we read; -1 for a kind we do not know. */
int16_t record_version_max(int16_t key);

/* A terminated copy; NULL: no memory (r->arena.failed says so, too). */
const char *draft_text(struct replay *r, struct wire_string s);
const struct uuid *draft_no_directories(struct replay *r, uint32_t count);
/* Replaces a list of ids unless the new one is null (count -1). */
void draft_ids(const int32_t **ids, uint16_t *count, const int32_t *to, int32_t to_count);

/* The draft of what a record is about, made at the first touch. 0, -EBADMSG, -ENOMEM. */
NODISCARD int draft_topic(struct replay *r, struct uuid id, struct topic_draft **draft);
NODISCARD int draft_topic_named(struct replay *r, struct wire_string name,
                                struct topic_draft **draft);
NODISCARD int draft_topic_add(struct replay *r, struct uuid id, struct wire_string name);
void draft_topic_remove(struct replay *r, struct topic_draft *d);
NODISCARD int draft_partition(struct replay *r, struct topic_draft *d, int32_t index,
                              struct partition_image **p);
NODISCARD int draft_partition_add(struct replay *r, struct topic_draft *d, int32_t index,
                                  struct partition_image **p);
NODISCARD int draft_broker(struct replay *r, int32_t id, bool make, struct broker_draft **draft);
NODISCARD int draft_config_set(struct replay *r, enum config_resource_type type,
                               struct wire_string resource, struct wire_string name,
                               struct wire_string value);
NODISCARD int draft_feature_set(struct replay *r, struct wire_string name, int16_t level);
NODISCARD int draft_clear_elr(struct replay *r, struct topic_draft *d);
NODISCARD int draft_clear_elr_all(struct replay *r);

#endif
