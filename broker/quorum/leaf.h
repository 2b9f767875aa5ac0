/* The immutable leaves of images: made from drafts, freed when no core has them. Control core only.
 */
#ifndef BROKER_QUORUM_LEAF_H
#define BROKER_QUORUM_LEAF_H

#include "broker/quorum/image.h"

/* Deep copies in one memory block each, whatever the pointers in `from` point into; block_size is
 * set. NULL: over budget. */
NODISCARD const struct topic_image *leaf_topic(struct mem *mem, const struct topic_image *from);
NODISCARD const struct broker_image *leaf_broker(struct mem *mem, const struct broker_image *from);
NODISCARD const struct config_image *leaf_config(struct mem *mem, const struct config_image *from);
NODISCARD const struct features_image *leaf_features(struct mem *mem,
                                                     const struct features_image *from);

/* A delta with room for so many changes, none of them set. NULL: over budget. */
NODISCARD struct image_delta *delta_make(struct mem *mem, uint32_t changes_max);
/* Its changes, while it is being made. */
struct image_change *delta_changes(struct image_delta *delta);
/* Frees the delta and what it replaces: every core has moved on. */
void delta_retire(struct mem *mem, struct image_delta *delta);
/* Frees the delta and what it would have brought: nobody has seen it. */
void delta_discard(struct mem *mem, struct image_delta *delta);
/* Frees all leaves that an image holds. */
void image_free_leaves(struct image *img, struct mem *mem);
/* Everything that is in an image, as additions to an empty one. NULL: over budget. */
NODISCARD struct image_delta *delta_full(struct mem *mem, const struct image *img);

#endif
