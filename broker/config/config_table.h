/* Every configuration key there is: Kafka 4.3's and torc's own, as data. The rows are generated at
 * build time by tools/configgen from the *.table files of this folder, which say the facts once, in
 * a form that people read. Rows of one scope are in name order. */
#ifndef BROKER_CONFIG_CONFIG_TABLE_H
#define BROKER_CONFIG_CONFIG_TABLE_H

#include "broker/config/describe.h"

enum config_scope { SCOPE_BROKER, SCOPE_TOPIC, SCOPE_GROUP, SCOPE_CLIENT_METRICS, SCOPES };

enum config_importance { IMPORTANCE_HIGH, IMPORTANCE_MEDIUM, IMPORTANCE_LOW };

/* Who may change it while the broker runs. */
enum config_mode { MODE_READ_ONLY, MODE_PER_BROKER, MODE_CLUSTER_WIDE };

enum config_treatment {
    TREATMENT_USED,
    TREATMENT_ACCEPTED, /* has no effect here; `reason` says why */
    TREATMENT_REFUSED,  /* any value but the default is refused; `reason` says why and what to do */
    TREATMENT_IGNORED   /* of a key that is gone: a warning; `reason` says what to say instead */
};

enum config_check { /* beyond type, range and choices */
                    CHECK_NONE,
                    CHECK_GZIP_LEVEL,
                    CHECK_THROTTLED_REPLICAS,
                    CHECK_AUTO_OFFSET_RESET
};

/* Where a topic's or group's default comes from: a broker key and its unit in the key's own. */
struct config_from {
    const char *name;
    int64_t unit;
};

struct config_key {
    const char *name, *default_value; /* NULL: null */
    const char *documentation, *reason;
    const char *const *choices;     /* NULL-terminated, or NULL: any */
    const struct config_from *from; /* highest precedence first, ends with name NULL; or NULL */
    double min, max;                /* of numbers; infinite where there is no bound */
    uint32_t offset; /* of the field in struct broker_config, or for SCOPE_TOPIC topic_config */
    enum config_type type;
    enum config_importance importance;
    enum config_mode mode;
    enum config_treatment treatment;
    enum config_check check;
    bool has_field;
    bool required; /* has no default, not even null */
    bool internal; /* not listed unless it is given */
    bool unlisted; /* as internal, and not of Kafka's own definition */
    bool nonempty; /* an empty text or list is refused */
    bool choices_any_case;
};

struct config_table {
    const struct config_key *keys;
    uint32_t count;
};

extern const struct config_table config_tables[SCOPES];
/* Keys of other releases; a name that ends in * stands for all that begin so. */
extern const struct config_table config_gone;

/* The row, or NULL. */
const struct config_key *config_find(enum config_scope scope, const char *name);
/* The same for a broker key that may have a "listener.name.x." prefix (and for some keys a SASL
 * mechanism after it). *prefixed says whether it had. */
const struct config_key *config_find_broker(const char *name, bool *prefixed);
const struct config_key *config_find_gone(const char *name);
/* The name most like this one, or NULL when none is near. */
const char *config_nearest(enum config_scope scope, const char *name);
/* All synonyms of a broker key, itself included, highest precedence first; a NULL-terminated list
 * of names, or NULL when it has none but itself. */
const char *const *config_broker_synonyms(const char *name);
bool config_sensitive(const struct config_key *key); /* NULL: unknown keys are sensitive */

const char *config_type_name(enum config_type type);
const char *
config_mode_name(enum config_mode mode); /* as Kafka's: "read-only", "per-broker", ... */
const char *config_importance_name(enum config_importance importance);
const char *config_treatment_name(enum config_treatment treatment);

/* How many single-letter changes make `a` into `b` (a swap of neighbours is one); at most limit+1.
 */
uint32_t config_distance(const char *a, const char *b, uint32_t limit);

#endif
