/* Images and deltas: what one core sees after each change. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

#include "broker/quorum/image.h"
#include "broker/quorum/leaf.h"

#define BUDGET (64u << 20)

static struct topic_image topic_view(const char *name, uint8_t id, struct partition_image *parts,
                                     uint32_t count)
{
    struct topic_image t = {
        .name = name,
        .name_size = (uint32_t)strlen(name),
        .partitions = parts,
        .partitions_count = count,
    };
    t.id.bytes[0] = 0xaa;
    t.id.bytes[15] = id;
    return t;
}

/* A delta of one topic change, applied and (but for its new leaf) forgotten. */
static void change_topic(struct mem *mem, struct image *img, const struct topic_image *before,
                         const struct topic_image *after)
{
    struct image_delta *d = delta_make(mem, 1);
    cr_assert(d != NULL);
    delta_changes(d)[0] =
        (struct image_change){.kind = IMAGE_TOPIC, .topic = {.before = before, .after = after}};
    d->changes_count = 1;
    d->offset = img->offset + 1;
    cr_assert_eq(image_apply(img, d), 0);
    delta_retire(mem, d);
}

static const struct topic_image *add_topic(struct mem *mem, struct image *img, const char *name,
                                           uint8_t id)
{
    int32_t replicas[] = {1};
    struct uuid dir = {{7}};
    struct partition_image p = {.leader = 1,
                                .replicas = replicas,
                                .replicas_count = 1,
                                .isr = replicas,
                                .isr_count = 1,
                                .directories = &dir};
    struct topic_image view = topic_view(name, id, &p, 1);
    const struct topic_image *leaf = leaf_topic(mem, &view);
    cr_assert(leaf != NULL);
    change_topic(mem, img, NULL, leaf);
    return leaf;
}

Test(quorum_image, finds_topics_by_name_and_by_id_and_keeps_them_in_name_order)
{
    struct mem mem;
    struct image img;
    cr_assert_eq(mem_init(&mem, BUDGET), 0);
    image_init(&img, &mem, 1);
    const struct topic_image *b = add_topic(&mem, &img, "b", 2);
    const struct topic_image *a = add_topic(&mem, &img, "a", 1);
    const struct topic_image *ab = add_topic(&mem, &img, "ab", 3);
    cr_assert_eq(image_topic_by_name(&img, "ab", 2), ab);
    cr_assert_eq(image_topic_by_name(&img, "abc", 2), ab);
    cr_assert(image_topic_by_name(&img, "abc", 3) == NULL);
    cr_assert_eq(image_topic_by_id(&img, b->id), b);
    cr_assert_eq(img.topics[0], a);
    cr_assert_eq(img.topics[1], ab);
    cr_assert_eq(img.topics[2], b);
    cr_assert_eq(image_topic_lower_bound(&img, "aa", 2), 1);
    cr_assert_eq(image_topic_lower_bound(&img, "", 0), 0);
    cr_assert_eq(image_topic_lower_bound(&img, "c", 1), 3);
    cr_assert_eq(img.partitions_count, 3);
    image_free_leaves(&img, &mem);
    image_destroy(&img);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

Test(quorum_image, a_name_can_move_to_a_new_id_within_one_delta)
{
    struct mem mem;
    struct image img;
    cr_assert_eq(mem_init(&mem, BUDGET), 0);
    image_init(&img, &mem, 1);
    const struct topic_image *old = add_topic(&mem, &img, "t", 1);
    struct uuid old_id = old->id;
    struct topic_image view = topic_view("t", 9, NULL, 0);
    const struct topic_image *new = leaf_topic(&mem, &view);
    struct image_delta *d = delta_make(&mem, 2);
    struct image_change *to = delta_changes(d);
    to[0] = (struct image_change){.kind = IMAGE_TOPIC, .topic = {.before = old}};
    to[1] = (struct image_change){.kind = IMAGE_TOPIC, .topic = {.after = new}};
    d->changes_count = 2;
    d->offset = img.offset + 1;
    cr_assert_eq(image_apply(&img, d), 0);
    delta_retire(&mem, d);
    cr_assert_eq(image_topic_by_name(&img, "t", 1), new);
    cr_assert(image_topic_by_id(&img, old_id) == NULL);
    cr_assert_eq(image_topic_by_id(&img, new->id), new);
    cr_assert_eq(img.topics_count, 1);
    cr_assert_eq(img.partitions_count, 0);
    image_free_leaves(&img, &mem);
    image_destroy(&img);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

Test(quorum_image, a_leaf_owns_all_it_points_to)
{
    struct mem mem;
    cr_assert_eq(mem_init(&mem, BUDGET), 0);
    int32_t replicas[] = {3, 4};
    struct uuid dirs[] = {{{1}}, {{2}}};
    struct partition_image p = {.leader = 3,
                                .replicas = replicas,
                                .replicas_count = 2,
                                .isr = replicas,
                                .isr_count = 1,
                                .directories = dirs};
    char name[] = "topic", key[] = "retention.ms", value[] = "5";
    struct config_entry entry = {key, value};
    struct topic_image view = topic_view(name, 1, &p, 1);
    view.overrides.set = (struct config_overrides){&entry, 1};
    const struct topic_image *leaf = leaf_topic(&mem, &view);
    cr_assert(leaf != NULL);
    memset(name, 'x', 5);
    memset(key, 'x', 3);
    value[0] = 'x';
    replicas[0] = dirs[1].bytes[0] = 99;
    p.leader = 5;
    cr_assert_str_eq(leaf->name, "topic");
    cr_assert_str_eq(config_image_get(&leaf->overrides, "retention.ms"), "5");
    const struct partition_image *got = topic_partition(leaf, 0);
    cr_assert(got != NULL && got->leader == 3 && got->replicas[0] == 3 && got->isr[0] == 3);
    cr_assert_eq(got->directories[1].bytes[0], 2);
    cr_assert(topic_partition(leaf, 1) == NULL);
    cr_assert(topic_partition(leaf, -1) == NULL);
    struct image_delta *d = delta_make(&mem, 1);
    delta_changes(d)[0] =
        (struct image_change){.kind = IMAGE_TOPIC, .topic = {.before = NULL, .after = leaf}};
    d->changes_count = 1;
    delta_discard(&mem, d);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

Test(quorum_image, configs_are_found_by_type_and_name)
{
    struct mem mem;
    struct image img;
    cr_assert_eq(mem_init(&mem, BUDGET), 0);
    image_init(&img, &mem, 1);
    struct config_entry entry = {"k", "v"};
    struct config_image views[] = {
        {.type = RESOURCE_GROUP, .name = "g", .name_size = 1, .set = {&entry, 1}},
        {.type = RESOURCE_BROKER, .name = "", .name_size = 0, .set = {&entry, 1}},
        {.type = RESOURCE_BROKER, .name = "1", .name_size = 1, .set = {&entry, 1}},
    };
    struct image_delta *d = delta_make(&mem, 3);
    for (int i = 0; i < 3; i++)
        delta_changes(d)[i] = (struct image_change){
            .kind = IMAGE_CONFIG, .config = {.after = leaf_config(&mem, &views[i])}};
    d->changes_count = 3;
    d->offset = 0;
    cr_assert_eq(image_apply(&img, d), 0);
    delta_retire(&mem, d);
    cr_assert_eq(image_config(&img, RESOURCE_BROKER, "", 0)->name_size, 0);
    cr_assert_str_eq(image_config(&img, RESOURCE_BROKER, "1", 1)->name, "1");
    cr_assert_str_eq(config_image_get(image_config(&img, RESOURCE_GROUP, "g", 1), "k"), "v");
    cr_assert(image_config(&img, RESOURCE_GROUP, "", 0) == NULL);
    cr_assert(config_image_get(NULL, "k") == NULL);
    image_free_leaves(&img, &mem);
    image_destroy(&img);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

Test(quorum_image, without_memory_the_image_stays_as_it_was)
{
    struct mem mem, small;
    struct image img;
    cr_assert_eq(mem_init(&mem, BUDGET), 0);
    cr_assert_eq(mem_init(&small, 64), 0); /* no table fits */
    image_init(&img, &small, 1);
    struct topic_image view = topic_view("t", 1, NULL, 0);
    struct image_delta *d = delta_make(&mem, 1);
    delta_changes(d)[0] =
        (struct image_change){.kind = IMAGE_TOPIC, .topic = {.after = leaf_topic(&mem, &view)}};
    d->changes_count = 1;
    d->offset = 5;
    cr_assert_eq(image_apply(&img, d), -ENOMEM);
    cr_assert_eq(img.offset, -1);
    cr_assert_eq(img.topics_count, 0);
    delta_discard(&mem, d);
    image_destroy(&img);
    cr_assert_eq(mem.used_bytes, 0);
    cr_assert_eq(small.used_bytes, 0);
    mem_destroy(&mem);
    mem_destroy(&small);
}

Test(quorum_image, a_change_of_what_is_not_there_is_a_bug, .signal = SIGABRT)
{
    struct mem mem;
    struct image img;
    cr_assert_eq(mem_init(&mem, BUDGET), 0);
    image_init(&img, &mem, 1);
    struct topic_image view = topic_view("t", 1, NULL, 0);
    const struct topic_image *never_added = leaf_topic(&mem, &view);
    change_topic(&mem, &img, never_added, NULL);
}
