/* GetTelemetrySubscriptions and PushTelemetry (keys 71, 72; KIP-714) as a broker without a receiver
 * answers them: served, but not advertised, so clients do not push; one that asks all the same gets
 * an id and is told to send nothing, and a push is checked and dropped (ClientMetricsManager).
 *
 * The subscription id is a function of the client's id, so that nothing need be remembered. */
#include "broker/api/api.h"
#include "broker/data_core.h"
#include "core/crc32c.h"
#include "proto/gen/get_telemetry_subscriptions.h"
#include "proto/gen/push_telemetry.h"

#define PUSH_INTERVAL_MS 300000

static const int8_t codecs[] = {4, 3, 1, 2}; /* zstd, lz4, gzip, snappy: in order of preference */

static int32_t subscription_id(struct uuid client)
{
    return (int32_t)(crc32c(0, client.bytes, sizeof(client.bytes)) & INT32_MAX);
}

void get_telemetry_subscriptions_start(struct flow *f, struct wire_reader *body)
{
    struct get_telemetry_subscriptions_request request;
    struct get_telemetry_subscriptions_response r;
    if (!FLOW_DECODE(f, get_telemetry_subscriptions, &request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    get_telemetry_subscriptions_response_init(&r);
    r.client_instance_id = request.client_instance_id;
    while (uuid_is_zero(r.client_instance_id))
        io_entropy(f->core->io, r.client_instance_id.bytes, sizeof(r.client_instance_id.bytes));
    r.subscription_id = subscription_id(r.client_instance_id);
    r.accepted_compression_types = (int8_t *)(uintptr_t)codecs; /* encoded, never written */
    r.accepted_compression_types_count = sizeof(codecs);
    r.push_interval_ms = PUSH_INTERVAL_MS;
    r.telemetry_max_bytes = f->core->config->telemetry_max_bytes;
    r.delta_temporality = true;
    FLOW_ANSWER(f, &r, get_telemetry_subscriptions_response);
}

static enum kafka_error push_check(const struct flow *f, const struct push_telemetry_request *r)
{
    if (uuid_is_zero(r->client_instance_id))
        return KE_INVALID_REQUEST;
    if (r->subscription_id != subscription_id(r->client_instance_id))
        return KE_UNKNOWN_SUBSCRIPTION_ID;
    if (r->compression_type < 0 || r->compression_type > 4)
        return KE_UNSUPPORTED_COMPRESSION_TYPE;
    if (r->metrics.size > f->core->config->telemetry_max_bytes)
        return KE_TELEMETRY_TOO_LARGE;
    return KE_NONE;
}

void push_telemetry_start(struct flow *f, struct wire_reader *body)
{
    struct push_telemetry_request request;
    struct push_telemetry_response r;
    if (!FLOW_DECODE(f, push_telemetry, &request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    push_telemetry_response_init(&r);
    r.error_code = (int16_t)push_check(f, &request);
    FLOW_ANSWER(f, &r, push_telemetry_response);
}
