/* What the groups of a core know of the world: topics, racks and settings, out of the core's image.
 *
 *   broker/group ─ struct group_world ─▶ here ─▶ core->image, core->config
 *
 * Invariants
 *  1. What is told are views into leaves of the image, good until the core applies its next delta;
 *     a step of a group ends before.
 *
 * Failure modes: none: what is not there is not there. */
#include "broker/coordinator.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/data_core.h"

static bool tell(const struct topic_image *t, struct group_topic_facts *to)
{
    if (t == NULL)
        return false;
    *to = (struct group_topic_facts){.id = t->id,
                                     .name = {t->name, (int32_t)t->name_size},
                                     .partitions_count = t->partitions_count,
                                     .topic = t};
    return true;
}

static bool topic_by_name(void *context, struct wire_string name, struct group_topic_facts *to)
{
    const struct data_core *core = context;
    return tell(image_topic_by_name(&core->image, name.data, (uint32_t)MAX(name.size, 0)), to);
}

static bool topic_by_id(void *context, struct uuid id, struct group_topic_facts *to)
{
    const struct data_core *core = context;
    return tell(image_topic_by_id(&core->image, id), to);
}

static bool topic_after(void *context, struct wire_string name, struct group_topic_facts *to)
{
    const struct image *img = &((const struct data_core *)context)->image;
    uint32_t i = name.size < 0 ? 0 : image_topic_lower_bound(img, name.data, (uint32_t)name.size);
    if (name.size >= 0 && i < img->topics_count &&
        img->topics[i]->name_size == (uint32_t)name.size &&
        memcmp(img->topics[i]->name, name.data, (size_t)name.size) == 0)
        i++;
    return i < img->topics_count && tell(img->topics[i], to);
}

static uint32_t racks(void *context, const struct group_topic_facts *t, uint32_t partition,
                      struct wire_string *list, uint32_t max)
{
    const struct image *img = &((const struct data_core *)context)->image;
    const struct partition_image *p = topic_partition(t->topic, (int32_t)partition);
    uint32_t count = 0;
    for (uint32_t i = 0; p != NULL && i < p->replicas_count && count < max; i++) {
        const struct broker_image *b = image_broker(img, p->replicas[i]);
        if (b != NULL && b->rack != NULL)
            list[count++] = wire_string_of(b->rack);
    }
    return count;
}

/* A number that was set on the resource; false: it was not. */
static bool number_set(const struct image *img, enum config_resource_type type,
                       struct wire_string resource, const char *key, int32_t *to)
{
    const char *text = config_image_get(
        image_config(img, type, resource.data, (uint32_t)MAX(resource.size, 0)), key);
    char *end;
    if (text == NULL)
        return false;
    long value = strtol(text, &end, 10);
    if (end == text || value < 0 || value > INT32_MAX)
        return false;
    *to = (int32_t)value;
    return true;
}

static int32_t setting(void *context, struct wire_string group, enum group_setting which)
{
    static const char *const own[GROUP_SETTINGS] = {
        [GROUP_SESSION_TIMEOUT] = "consumer.session.timeout.ms",
        [GROUP_HEARTBEAT_INTERVAL] = "consumer.heartbeat.interval.ms",
        [GROUP_ASSIGNMENT_INTERVAL] = "consumer.assignment.interval.ms"};
    static const char interval[] = "group.consumer.assignment.interval.ms";
    const struct data_core *core = context;
    const struct broker_config *config = core->config;
    char node[16];
    int32_t value;
    assert(which < GROUP_SETTINGS);
    if (number_set(&core->image, RESOURCE_GROUP, group, own[which], &value))
        return value;
    if (which == GROUP_SESSION_TIMEOUT)
        return config->group_consumer_session_timeout_ms;
    if (which == GROUP_HEARTBEAT_INTERVAL)
        return config->group_consumer_heartbeat_interval_ms;
    /* This one changes while brokers run. */
    (void)snprintf(node, sizeof(node), "%d", config->node_id);
    if (number_set(&core->image, RESOURCE_BROKER, wire_string_of(node), interval, &value) ||
        number_set(&core->image, RESOURCE_BROKER, wire_string_of(""), interval, &value))
        return value;
    return config->group_consumer_assignment_interval_ms;
}

static int64_t version(void *context)
{
    return ((const struct data_core *)context)->image.offset;
}

void coordinator_world(struct data_core *core, struct group_world *world)
{
    *world = (struct group_world){.context = core,
                                  .topic_by_name = topic_by_name,
                                  .topic_by_id = topic_by_id,
                                  .topic_after = topic_after,
                                  .racks = racks,
                                  .setting = setting,
                                  .version = version};
}
