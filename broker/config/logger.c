/* Broker loggers: Kafka's tools set log levels at run time under logger names; here each name
 * stands for a module of the trace, and several names may stand for the same one.
 *
 *   root                          every module
 *   kafka.network.SocketServer    net        kafka.log.LogManager     log
 *   kafka.request.logger          api        state.change.logger      quorum
 *
 * Invariants:
 *  1. All edits are checked before the first one is applied.
 *  2. TRACE is the finest level there is here (DEBUG), FATAL the coarsest (ERROR).
 *
 * Failure modes: refusals with Kafka's codes. */
#include "broker/config/alter.h"

#include <string.h>

#include "broker/config/value.h"
#include "core/assert.h"
#include "core/core.h"

const struct config_logger config_loggers[] = {
    {"root", TRACE_MAIN},
    {"kafka.log.LogManager", TRACE_LOG},
    {"kafka.network.SocketServer", TRACE_NET},
    {"kafka.request.logger", TRACE_API},
    {"kafka.server.KafkaApis", TRACE_API},
    {"kafka.server.KafkaConfig", TRACE_CONFIG},
    {"org.apache.kafka.controller.QuorumController", TRACE_QUORUM},
    {"state.change.logger", TRACE_QUORUM},
    {"torc.api", TRACE_API},
    {"torc.config", TRACE_CONFIG},
    {"torc.io", TRACE_IO},
    {"torc.log", TRACE_LOG},
    {"torc.main", TRACE_MAIN},
    {"torc.net", TRACE_NET},
    {"torc.quorum", TRACE_QUORUM},
};
const uint32_t config_loggers_count = sizeof(config_loggers) / sizeof(config_loggers[0]);

static const struct config_logger *find_logger(const char *name)
{
    for (uint32_t i = 0; i < config_loggers_count; i++)
        if (strcmp(config_loggers[i].name, name) == 0)
            return &config_loggers[i];
    return NULL;
}

static bool find_level(const char *text, enum trace_level *level)
{
    static const struct {
        const char *name;
        enum trace_level level;
    } levels[] = {{"FATAL", TRACE_ERROR}, {"ERROR", TRACE_ERROR}, {"WARN", TRACE_WARN},
                  {"INFO", TRACE_INFO},   {"DEBUG", TRACE_DEBUG}, {"TRACE", TRACE_DEBUG}};
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if (strcmp(levels[i].name, text) == 0) {
            *level = levels[i].level;
            return true;
        }
    return false;
}

static bool check_edit(const struct config_edit *e, struct config_refusal *refusal)
{
    enum trace_level level;
    if (e->operation == CONFIG_APPEND || e->operation == CONFIG_SUBTRACT)
        return config_refuse(refusal, KE_INVALID_REQUEST,
                             "%s operation is not allowed for the BROKER_LOGGER resource",
                             e->operation == CONFIG_APPEND ? "APPEND" : "SUBTRACT");
    if (e->operation != CONFIG_SET && e->operation != CONFIG_DELETE)
        return config_refuse(refusal, KE_INVALID_REQUEST,
                             "Unknown operation type %d is not allowed for the BROKER_LOGGER "
                             "resource",
                             e->operation);
    if (find_logger(e->name) == NULL)
        return config_refuse(refusal, KE_INVALID_CONFIG, "Logger %.200s does not exist!", e->name);
    if (e->operation == CONFIG_DELETE && strcmp(e->name, "root") == 0)
        return config_refuse(refusal, KE_INVALID_REQUEST,
                             "Removing the log level of the root logger is not allowed");
    if (e->operation == CONFIG_SET && (e->value == NULL || !find_level(e->value, &level)))
        return config_refuse(
            refusal, KE_INVALID_CONFIG,
            "Cannot set the log level of %s to %.100s as it is not a supported log "
            "level. Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN",
            e->name, e->value == NULL ? "null" : e->value);
    return true;
}

bool config_logger_alter(struct trace *trace, const struct config_edit *edits, uint32_t edits_count,
                         bool validate_only, struct config_refusal *refusal)
{
    assert(trace != NULL);
    assert(edits_count == 0 || edits != NULL);
    for (uint32_t i = 0; i < edits_count; i++)
        if (!check_edit(&edits[i], refusal))
            return false;
    for (uint32_t i = 0; i < edits_count && !validate_only; i++) {
        enum trace_level level = trace->level[TRACE_MAIN]; /* what a removed level falls back to */
        const struct config_logger *logger = find_logger(edits[i].name);
        assert(logger != NULL); /* check_edit has found it */
        if (edits[i].operation == CONFIG_SET && !find_level(edits[i].value, &level))
            continue;
        for (uint32_t m = 0; m < TRACE_MODULES; m++)
            if (logger == &config_loggers[0] || logger->module == m)
                trace->level[m] = level;
    }
    return true;
}
