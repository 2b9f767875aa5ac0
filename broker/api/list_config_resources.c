/* ListConfigResources (key 74): names of what has, or may have, dynamic configs. Version 0 asks for
 * client metrics only; version 1 for any of topics, brokers, loggers, client metrics and groups,
 * all of them when it names none. */
#include "broker/api/api.h"
#include "broker/data_core.h"
#include "proto/gen/list_config_resources.h"

#include <stdio.h>

static const int8_t all_types[] = {RESOURCE_CLIENT_METRICS, RESOURCE_BROKER_LOGGER, RESOURCE_BROKER,
                                   RESOURCE_TOPIC, RESOURCE_GROUP};

static bool type_known(int8_t type)
{
    for (uint32_t i = 0; i < sizeof(all_types); i++) {
        if (all_types[i] == type)
            return true;
    }
    return false;
}

static bool type_asked(const struct flow *f, const struct list_config_resources_request *r,
                       int8_t type)
{
    if (f->api_version == 0)
        return type == RESOURCE_CLIENT_METRICS;
    for (int32_t i = 0; i < r->resource_types_count; i++) {
        if (r->resource_types[i] == type)
            return true;
    }
    return r->resource_types_count <= 0;
}

static void add(struct list_config_resources_response *r, int8_t type, const char *name,
                uint32_t size)
{
    struct list_config_resources_response_config_resource *out =
        &r->config_resources[r->config_resources_count++];
    out->resource_type = type;
    out->resource_name = (struct wire_string){name, (int32_t)size};
}

static void add_configs(const struct image *image, struct list_config_resources_response *r,
                        enum config_resource_type type)
{
    for (uint32_t i = 0; i < image->configs_count; i++) {
        const struct config_image *c = image->configs[i];
        if (c->type == type)
            add(r, (int8_t)type, c->name, c->name_size);
    }
}

static bool add_brokers(struct flow *f, struct list_config_resources_response *r, int8_t type)
{
    const struct image *image = &f->core->image;
    for (uint32_t i = 0; i < image->brokers_count; i++) {
        char *id = arena_alloc(&f->arena, 16);
        if (id == NULL)
            return false;
        int size = snprintf(id, 16, "%d", image->brokers[i]->id);
        add(r, type, id, (uint32_t)size);
    }
    return true;
}

static bool add_type(struct flow *f, struct list_config_resources_response *r, int8_t type)
{
    const struct image *image = &f->core->image;
    switch (type) {
    case RESOURCE_TOPIC:
        for (uint32_t i = 0; i < image->topics_count; i++)
            add(r, type, image->topics[i]->name, image->topics[i]->name_size);
        return true;
    case RESOURCE_BROKER:
    case RESOURCE_BROKER_LOGGER:
        return add_brokers(f, r, type);
    default:
        add_configs(image, r, (enum config_resource_type)type);
        return true;
    }
}

void list_config_resources_start(struct flow *f, struct wire_reader *body)
{
    struct list_config_resources_request request;
    struct list_config_resources_response r;
    const struct image *image = &f->core->image;
    if (!FLOW_DECODE(f, list_config_resources, &request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    list_config_resources_response_init(&r);
    for (int32_t i = 0; f->api_version > 0 && i < request.resource_types_count; i++) {
        if (!type_known(request.resource_types[i]))
            r.error_code = KE_UNSUPPORTED_VERSION;
    }
    size_t room =
        (size_t)image->topics_count + 2 * (size_t)image->brokers_count + image->configs_count;
    r.config_resources = arena_array(&f->arena, room, sizeof(*r.config_resources));
    bool made = r.config_resources != NULL;
    for (uint32_t i = 0; made && r.error_code == KE_NONE && i < sizeof(all_types); i++) {
        if (type_asked(f, &request, all_types[i]))
            made = add_type(f, &r, all_types[i]);
    }
    if (made)
        FLOW_ANSWER(f, &r, list_config_resources_response);
    else
        flow_refuse(f, "no memory");
}
