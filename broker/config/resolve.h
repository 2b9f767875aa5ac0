/* Which of the layers speaks for a key. Same-folder use. */
#ifndef BROKER_CONFIG_RESOLVE_H
#define BROKER_CONFIG_RESOLVE_H

#include "broker/config/value.h"

/* The value of name in these overrides, or NULL. */
const char *config_override(struct config_overrides o, const char *name);
/* What one layer (SOURCE_DYNAMIC_BROKER to SOURCE_DEFAULT) says of a broker key, or NULL. */
const char *config_layer(const struct config_layers *l, enum config_source source,
                         const char *name);
/* The text in force for a broker key, NULL for null. `name` may have a listener's prefix. */
const char *config_effective(const struct config_layers *l, const struct config_key *key,
                             const char *name);
/* What a topic or group has that does not override key: from its broker keys, or its own default.
 * scratch holds a number that had to change its unit. */
const char *config_inherited(const struct config_layers *l, const struct config_key *key,
                             char scratch[32]);
/* Sets the topic field of a parsed value. */
void config_topic_store(struct topic_config *config, const struct config_key *key,
                        const struct config_value *v);

#endif
