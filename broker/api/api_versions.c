/* ApiVersions (key 18): what is served, and which features are on. It is the first request of every
 * modern client, so it is answered whatever its version: an unknown one gets a version 0 answer
 * with UNSUPPORTED_VERSION and the range of this api alone (KafkaApis, ApiVersionsRequest). */
#include "broker/api/api.h"
#include "broker/data_core.h"
#include "broker/served_features.h"
#include "proto/gen/api.h"
#include "proto/gen/api_versions.h"

/* KIP-511: letters and digits, with . and - inside. */
static bool software_valid(struct wire_string s)
{
    for (int32_t i = 0; i < s.size; i++) {
        char ch = s.data[i];
        bool alnum =
            (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9');
        bool inside = i > 0 && i + 1 < s.size && (ch == '.' || ch == '-');
        if (!alnum && !inside)
            return false;
    }
    return s.size > 0;
}

static bool add_keys(struct flow *f, struct api_versions_response *r, bool only_this)
{
    uint32_t count;
    const struct api *table = api_table(&count);
    r->api_keys = arena_array(&f->arena, count, sizeof(*r->api_keys));
    if (r->api_keys == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (table[i].hidden || (only_this && table[i].key != API_API_VERSIONS))
            continue;
        struct api_versions_response_api_version *v = &r->api_keys[r->api_keys_count++];
        api_versions_response_api_version_init(v);
        v->api_key = table[i].key;
        v->min_version = table[i].advertised_min;
        v->max_version = table[i].max;
    }
    return true;
}

/* Versions below 4 cannot say a minimum of 0: their readers refuse it, so those are left out. */
static bool add_supported(struct flow *f, struct api_versions_response *r)
{
    r->supported_features =
        arena_array(&f->arena, features_served_count, sizeof(*r->supported_features));
    if (r->supported_features == NULL)
        return false;
    for (uint32_t i = 0; i < features_served_count; i++) {
        if (features_served[i].min == 0 && f->api_version < 4)
            continue;
        struct api_versions_response_supported_feature_key *k =
            &r->supported_features[r->supported_features_count++];
        api_versions_response_supported_feature_key_init(k);
        k->name = wire_string_of(features_served[i].name);
        k->min_version = features_served[i].min;
        k->max_version = features_served[i].max;
    }
    return true;
}

static bool add_finalized(struct flow *f, struct api_versions_response *r)
{
    const struct features_image *features = f->core->image.features;
    uint32_t count = features != NULL ? features->features_count : 0;
    r->finalized_features_epoch = features != NULL ? f->core->image.offset : -1;
    r->finalized_features = arena_array(&f->arena, count, sizeof(*r->finalized_features));
    if (r->finalized_features == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct api_versions_response_finalized_feature_key *k =
            &r->finalized_features[r->finalized_features_count++];
        api_versions_response_finalized_feature_key_init(k);
        k->name = (struct wire_string){features->features[i].name,
                                       (int32_t)features->features[i].name_size};
        k->max_version_level = features->features[i].level;
        k->min_version_level = features->features[i].level;
    }
    return true;
}

static void answer_unsupported(struct flow *f)
{
    struct api_versions_response r;
    api_versions_response_init(&r);
    r.error_code = KE_UNSUPPORTED_VERSION;
    f->api_version = 0; /* the one answer that every client can read */
    if (add_keys(f, &r, true))
        FLOW_ANSWER(f, &r, api_versions_response);
    else
        flow_refuse(f, "no memory");
}

void api_versions_start(struct flow *f, struct wire_reader *body)
{
    struct api_versions_request request;
    struct api_versions_response r;
    if (f->api_version < f->api->min || f->api_version > f->api->max) {
        answer_unsupported(f);
        return;
    }
    if (!FLOW_DECODE(f, api_versions, &request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    api_versions_response_init(&r);
    if (f->api_version >= 3 && (!software_valid(request.client_software_name) ||
                                !software_valid(request.client_software_version)))
        r.error_code = KE_INVALID_REQUEST;
    else if (!add_keys(f, &r, false) || !add_supported(f, &r) || !add_finalized(f, &r)) {
        flow_refuse(f, "no memory");
        return;
    }
    FLOW_ANSWER(f, &r, api_versions_response);
}
