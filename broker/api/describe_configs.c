/* DescribeConfigs (key 32): every config of a resource, with its value, where that comes from, and
 * what it would be otherwise. The tables and the precedence are broker/config's; here are the
 * resources: which ones there are, and what is wrong with those that are not (ConfigHelper). */
#include "broker/api/api.h"
#include "broker/api/names.h"
#include "broker/config/describe.h"
#include "broker/data_core.h"
#include "broker/node.h"
#include "proto/gen/describe_configs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIGS_STEP 64

struct describe {
    struct flow *flow;
    const struct describe_configs_request *request;
    const struct describe_configs_request_describe_configs_resource *asked;
    struct describe_configs_response_describe_configs_result *out;
    int32_t room;
    bool failed; /* no memory */
};

/* ---- one config ------------------------------------------------------------------------------ */

static struct wire_string kept(struct describe *d, const char *text)
{
    if (text == NULL)
        return WIRE_NULL_STRING;
    size_t size = strlen(text);
    char *copy = arena_copy(&d->flow->arena, text, size);
    d->failed |= copy == NULL;
    return (struct wire_string){copy, copy != NULL ? (int32_t)size : -1};
}

static bool wanted(const struct describe *d, const char *name)
{
    if (d->asked->configuration_keys_count <= 0) /* null, or an empty list: all */
        return true;
    for (int32_t i = 0; i < d->asked->configuration_keys_count; i++) {
        if (wire_string_equal(d->asked->configuration_keys[i], wire_string_of(name)))
            return true;
    }
    return false;
}

static void tell_synonyms(struct describe *d, const struct config_description *c,
                          struct describe_configs_response_describe_configs_resource_result *out)
{
    out->synonyms = arena_array(&d->flow->arena, c->synonyms_count, sizeof(*out->synonyms));
    if (out->synonyms == NULL) {
        d->failed = true;
        return;
    }
    out->synonyms_count = (int32_t)c->synonyms_count;
    for (uint32_t i = 0; i < c->synonyms_count; i++) {
        out->synonyms[i].name = kept(d, c->synonyms[i].name);
        out->synonyms[i].value = kept(d, c->synonyms[i].value);
        out->synonyms[i].source = (int8_t)c->synonyms[i].source;
    }
}

static bool grow(struct describe *d)
{
    struct describe_configs_response_describe_configs_result *r = d->out;
    int32_t room = d->room == 0 ? CONFIGS_STEP : d->room * 2;
    struct describe_configs_response_describe_configs_resource_result *grown =
        arena_array(&d->flow->arena, (size_t)room, sizeof(*grown));
    if (grown == NULL)
        return false;
    if (r->configs_count > 0)
        memcpy(grown, r->configs, (size_t)r->configs_count * sizeof(*grown));
    r->configs = grown;
    d->room = room;
    return true;
}

static bool tell(void *context, const struct config_description *c)
{
    struct describe *d = context;
    if (!wanted(d, c->name))
        return true;
    if (d->out->configs_count == d->room && !grow(d)) {
        d->failed = true;
        return false;
    }
    struct describe_configs_response_describe_configs_resource_result *out =
        &d->out->configs[d->out->configs_count++];
    describe_configs_response_describe_configs_resource_result_init(out);
    out->name = kept(d, c->name);
    out->value = c->sensitive ? WIRE_NULL_STRING : kept(d, c->value);
    out->read_only = c->read_only;
    out->config_source = (int8_t)c->source;
    out->is_sensitive = c->sensitive;
    out->config_type = (int8_t)c->type;
    out->documentation =
        d->request->include_documentation ? kept(d, c->documentation) : WIRE_NULL_STRING;
    if (d->request->include_synonyms)
        tell_synonyms(d, c, out);
    return !d->failed;
}

/* ---- resources ------------------------------------------------------------------------------- */

static struct config_overrides overrides_of(const struct config_image *c)
{
    return c == NULL ? (struct config_overrides){0} : c->set;
}

static void layers_of(const struct data_core *core, struct config_layers *l)
{
    char id[16];
    int size = snprintf(id, sizeof(id), "%d", core->config->node_id);
    l->node = core->node->config;
    l->broker = overrides_of(image_config(&core->image, RESOURCE_BROKER, id, (uint32_t)size));
    l->cluster = overrides_of(image_config(&core->image, RESOURCE_BROKER, "", 0));
}

static void refuse(struct describe *d, enum kafka_error error, const char *message)
{
    d->out->error_code = (int16_t)error;
    d->out->error_message = kept(d, message);
}

static bool find_topic(struct describe *d, struct config_resource *r)
{
    struct wire_string name = d->asked->resource_name;
    if (!topic_name_valid(name)) {
        refuse(d, KE_INVALID_TOPIC_EXCEPTION, "Topic name is invalid: 1 to 249 of [a-zA-Z0-9._-]");
        return false;
    }
    const struct topic_image *t =
        image_topic_by_name(&d->flow->core->image, name.data, (uint32_t)name.size);
    if (t == NULL) {
        refuse(d, KE_UNKNOWN_TOPIC_OR_PARTITION, "");
        return false;
    }
    r->own = t->overrides.set;
    return true;
}

static bool find_broker(struct describe *d, bool empty_allowed)
{
    char text[320], name[256], *end = NULL;
    struct wire_string asked = d->asked->resource_name;
    int32_t own = d->flow->core->config->node_id;
    if (asked.size == 0 && empty_allowed)
        return true;
    trace_escape(name, sizeof(name), asked.data, (size_t)asked.size);
    long id = strtol(name, &end, 10);
    if (asked.size == 0 || *end != '\0')
        (void)snprintf(text, sizeof(text), "Broker id must be an integer, but it is: %s", name);
    else if (id != own)
        (void)snprintf(text, sizeof(text), "Unexpected broker id, expected %d%s, but received %s",
                       own, empty_allowed ? " or empty string" : "", name);
    else
        return true;
    refuse(d, KE_INVALID_REQUEST, text);
    return false;
}

static bool find_named(struct describe *d, struct config_resource *r,
                       enum config_resource_type type, const char *empty)
{
    struct wire_string name = d->asked->resource_name;
    if (name.size <= 0) {
        refuse(d, KE_INVALID_REQUEST, empty);
        return false;
    }
    r->own =
        overrides_of(image_config(&d->flow->core->image, type, name.data, (uint32_t)name.size));
    return true;
}

static bool find_resource(struct describe *d, struct config_resource *r)
{
    r->type = (enum config_resource_type)d->asked->resource_type;
    switch (d->asked->resource_type) {
    case RESOURCE_TOPIC:
        return find_topic(d, r);
    case RESOURCE_BROKER:
        r->cluster_default = d->asked->resource_name.size == 0;
        return find_broker(d, true);
    case RESOURCE_BROKER_LOGGER:
        r->trace = &d->flow->core->trace;
        return find_broker(d, false);
    case RESOURCE_CLIENT_METRICS:
        return find_named(d, r, RESOURCE_CLIENT_METRICS,
                          "Client metrics subscription name must not be empty");
    case RESOURCE_GROUP:
        return find_named(d, r, RESOURCE_GROUP, "Group name must not be empty");
    default:
        refuse(d, KE_INVALID_REQUEST, "Unsupported resource type");
        return false;
    }
}

static bool describe_one(struct flow *f, const struct describe_configs_request *request,
                         const struct describe_configs_request_describe_configs_resource *asked,
                         struct describe_configs_response_describe_configs_result *out)
{
    struct describe d = {.flow = f, .request = request, .asked = asked, .out = out};
    struct config_resource resource = {0};
    struct config_layers layers;
    describe_configs_response_describe_configs_result_init(out);
    out->resource_type = asked->resource_type;
    out->resource_name = asked->resource_name;
    layers_of(f->core, &layers);
    if (find_resource(&d, &resource)) {
        out->error_message = wire_string_of(""); /* not null, as Kafka */
        config_describe(&layers, &resource, tell, &d);
    }
    return !d.failed;
}

void describe_configs_start(struct flow *f, struct wire_reader *body)
{
    struct describe_configs_request request;
    struct describe_configs_response r;
    if (!FLOW_DECODE(f, describe_configs, &request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    describe_configs_response_init(&r);
    r.results_count = MAX(request.resources_count, 0);
    r.results = arena_array(&f->arena, (size_t)r.results_count, sizeof(*r.results));
    bool made = r.results != NULL;
    for (int32_t i = 0; made && i < r.results_count; i++)
        made = describe_one(f, &request, &request.resources[i], &r.results[i]);
    if (made)
        FLOW_ANSWER(f, &r, describe_configs_response);
    else
        flow_refuse(f, "no memory");
}
