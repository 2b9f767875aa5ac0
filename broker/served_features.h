/* Which features this build serves, and up to which level: what the broker registers and offers in
 * ApiVersions. A feature is raised here when the code behind it is complete. */
#ifndef BROKER_SERVED_FEATURES_H
#define BROKER_SERVED_FEATURES_H

#include "broker/quorum/control.h"

extern const struct control_feature features_served[];
extern const uint32_t features_served_count;

#endif
