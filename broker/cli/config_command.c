/* torc config check, list, explain: what a file means, and what keys there are, all out of the
 * table that the broker itself asks.
 *
 * Failure modes: exit code 1 when the configuration would not start a broker, or the key is
 * unknown. */
#include "broker/cli/command.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "broker/config/config_table.h"
#include "core/core.h"

static const char *const scope_names[SCOPES] = {"broker", "topic", "group", "client-metrics"};
static const char *const severity_names[] = {"error", "warning", "note"};

/* ---- check ----------------------------------------------------------------------------------- */

static void check_json(struct cli *c, const char *file, const struct config *config, bool ok)
{
    cli_json_begin(c);
    cli_json_open(c, NULL, '{');
    cli_json_text(c, "file", file);
    cli_json_boolean(c, "ok", ok);
    cli_json_open(c, "problems", '[');
    for (uint32_t i = 0; i < config->problems_count; i++) {
        const struct config_problem *p = &config->problems[i];
        cli_json_open(c, NULL, '{');
        cli_json_text(c, "severity", severity_names[p->severity]);
        cli_json_text(c, "key", p->key);
        cli_json_integer(c, "line", p->line);
        cli_json_text(c, "text", p->text);
        cli_json_close(c, '}');
    }
    cli_json_close(c, ']');
    cli_json_close(c, '}');
    cli_json_end(c, NULL);
}

static void check_summary(struct cli *c, const char *file, const struct broker_config *b)
{
    char shown[512];
    cli_print(c, "%s: the broker starts with it: node %d", cli_shown(&shown, file), b->node_id);
    for (uint32_t i = 0; i < b->listeners_count; i++)
        cli_print(c, "%s%s://%s%s%s:%u", i == 0 ? ", listens on " : ", ", b->listeners[i].name,
                  strchr(b->listeners[i].host, ':') != NULL ? "[" : "", b->listeners[i].host,
                  strchr(b->listeners[i].host, ':') != NULL ? "]" : "", b->listeners[i].port);
    for (uint32_t i = 0; i < b->log_dirs_count; i++)
        cli_print(c, "%s%s", i == 0 ? ", data in " : ", ", cli_shown(&shown, b->log_dirs[i]));
    cli_print(c, "\n");
}

static void check_text(struct cli *c, const char *file, const struct config *config, bool ok)
{
    uint32_t counts[3] = {0};
    char shown[512];
    for (int severity = CONFIG_ERROR; severity <= CONFIG_NOTE; severity++)
        for (uint32_t i = 0; i < config->problems_count; i++)
            if ((int)config->problems[i].severity == severity) {
                counts[severity]++;
                cli_print(c, "%s: %s\n", severity_names[severity], config->problems[i].text);
            }
    if (ok)
        check_summary(c, file, &config->broker);
    else
        cli_print(c, "%s: the broker does not start with it: errors %u, warnings %u\n",
                  cli_shown(&shown, file), MAX(counts[CONFIG_ERROR], config->errors_count),
                  counts[CONFIG_WARNING]);
}

int command_config_check(struct cli *c)
{
    struct io *io = cli_io(c);
    struct config *config = mem_zalloc(&c->mem, sizeof(*config));
    if (io == NULL || config == NULL)
        return EXIT_FAILED;
    uint32_t overrides_count;
    const char *const *overrides = cli_values(c, "X", &overrides_count);
    const char *file = c->parsed.positionals[0];
    bool ok = config_load(config, &c->mem, io, file, overrides, overrides_count) == 0;
    if (cli_count(c, "json") > 0)
        check_json(c, file, config, ok);
    else
        check_text(c, file, config, ok);
    config_destroy(config);
    mem_free(&c->mem, config, sizeof(*config));
    return ok ? EXIT_OK : EXIT_FAILED;
}

/* ---- one key --------------------------------------------------------------------------------- */

static void bounds_text(const struct config_key *key, char *to, size_t size)
{
    if (key->choices != NULL) {
        size_t used = (size_t)snprintf(to, size, "one of");
        for (size_t i = 0; key->choices[i] != NULL && used < size; i++)
            used += (size_t)snprintf(to + used, size - used, "%s %s", i == 0 ? "" : ",",
                                     key->choices[i]);
    } else if (isfinite(key->min) && isfinite(key->max)) {
        snprintf(to, size, "%.15g to %.15g", key->min, key->max);
    } else if (isfinite(key->min)) {
        snprintf(to, size, "at least %.15g", key->min);
    } else {
        snprintf(to, size, "%s", key->nonempty ? "not empty" : "");
    }
}

static void key_json(struct cli *c, enum config_scope scope, const struct config_key *key)
{
    char bounds[256];
    bounds_text(key, bounds, sizeof(bounds));
    cli_json_open(c, NULL, '{');
    cli_json_text(c, "name", key->name);
    cli_json_text(c, "scope", scope_names[scope]);
    cli_json_text(c, "type", config_type_name(key->type));
    cli_json_text(c, "default", key->default_value);
    cli_json_boolean(c, "required", key->required);
    cli_json_text(c, "importance", config_importance_name(key->importance));
    cli_json_text(c, "bounds", bounds);
    cli_json_text(c, "update_mode", config_mode_name(key->mode));
    cli_json_boolean(c, "sensitive", config_sensitive(key));
    cli_json_open(c, "inherits", '[');
    for (const struct config_from *f = key->from; f != NULL && f->name != NULL; f++)
        cli_json_text(c, NULL, f->name);
    cli_json_close(c, ']');
    cli_json_text(c, "treatment", config_treatment_name(key->treatment));
    cli_json_text(c, "reason", key->reason[0] == '\0' ? NULL : key->reason);
    cli_json_text(c, "documentation", key->documentation);
    cli_json_close(c, '}');
}

static void explain_text(struct cli *c, enum config_scope scope, const struct config_key *key)
{
    char bounds[256];
    bounds_text(key, bounds, sizeof(bounds));
    cli_print(c, "%s  (a key of %s)\n  %s\n\n", key->name,
              scope == SCOPE_BROKER ? "brokers" : scope_names[scope], key->documentation);
    cli_print(c, "  type        %s%s%s\n", config_type_name(key->type),
              bounds[0] == '\0' ? "" : ", ", bounds);
    cli_print(c, "  default     %s\n",
              key->required                   ? "none: it must be said"
              : key->default_value == NULL    ? "none"
              : key->default_value[0] == '\0' ? "empty"
                                              : key->default_value);
    if (scope == SCOPE_BROKER)
        cli_print(c, "  changes     %s\n",
                  key->mode == MODE_READ_ONLY    ? "with a restart"
                  : key->mode == MODE_PER_BROKER ? "at run time, broker by broker"
                                                 : "at run time, for one broker or all");
    else
        cli_print(c, "  changes     at run time\n");
    for (const struct config_from *f = key->from; f != NULL && f->name != NULL; f++)
        cli_print(c, "  %-11s %s%s\n", f == key->from ? "inherits" : "", f->name,
                  f->unit == 1 ? "" : ", in its unit");
    if (config_sensitive(key))
        cli_print(c, "  secret      its value is never shown\n");
    cli_print(c, "  in torc     %s%s%s\n", config_treatment_name(key->treatment),
              key->reason[0] == '\0' ? "" : ": ", key->reason);
}

static int explain_unknown(struct cli *c, const char *name)
{
    char shown[512];
    const struct config_key *gone = config_find_gone(name);
    cli_shown(&shown, name);
    if (gone != NULL) {
        cli_print(c, "%s  (of another release)\n  in torc     %s: %s\n", shown,
                  config_treatment_name(gone->treatment), gone->reason);
        return EXIT_OK;
    }
    const char *nearest = NULL;
    for (int scope = 0; scope < SCOPES && nearest == NULL; scope++)
        nearest = config_nearest((enum config_scope)scope, name);
    if (nearest != NULL)
        cli_complain(c, "no key is called '%s'; did you mean %s?", shown, nearest);
    else
        cli_complain(c, "no key is called '%s'; `torc config list` shows all", shown);
    return EXIT_FAILED;
}

int command_config_explain(struct cli *c)
{
    const char *name = c->parsed.positionals[0];
    bool prefixed, json = cli_count(c, "json") > 0;
    uint32_t found = 0;
    const struct config_key *keys[SCOPES];
    for (int scope = 0; scope < SCOPES; scope++) {
        keys[scope] = scope == SCOPE_BROKER ? config_find_broker(name, &prefixed)
                                            : config_find((enum config_scope)scope, name);
        found += keys[scope] != NULL ? 1 : 0;
    }
    if (found == 0)
        return explain_unknown(c, name);
    if (json) {
        cli_json_begin(c);
        cli_json_open(c, NULL, '[');
    }
    uint32_t shown = 0;
    for (int scope = 0; scope < SCOPES; scope++) {
        if (keys[scope] == NULL)
            continue;
        if (!json && shown++ > 0)
            cli_print(c, "\n");
        if (json)
            key_json(c, (enum config_scope)scope, keys[scope]);
        else
            explain_text(c, (enum config_scope)scope, keys[scope]);
    }
    if (json) {
        cli_json_close(c, ']');
        cli_json_end(c, NULL);
    }
    return EXIT_OK;
}

/* ---- list ------------------------------------------------------------------------------------ */

static bool listed(const struct cli *c, const struct config_key *key, const char *treatment)
{
    if (key->internal && cli_count(c, "all") == 0)
        return false;
    return treatment == NULL || strcmp(config_treatment_name(key->treatment), treatment) == 0;
}

int command_config_list(struct cli *c)
{
    const char *scope_name = cli_value(c, "scope"), *treatment = cli_value(c, "treatment");
    int scope = SCOPE_BROKER;
    bool json = cli_count(c, "json") > 0;
    for (int i = 0; scope_name != NULL && i < SCOPES; i++)
        if (strcmp(scope_names[i], scope_name) == 0) {
            scope = i;
            scope_name = NULL;
        }
    if (scope_name != NULL)
        return cli_misused(c, "config list: --scope is broker, topic, group or client-metrics");
    if (treatment != NULL && strcmp(treatment, "used") != 0 && strcmp(treatment, "accepted") != 0 &&
        strcmp(treatment, "refused") != 0)
        return cli_misused(c, "config list: --treatment is used, accepted or refused");
    if (json) {
        cli_json_begin(c);
        cli_json_open(c, NULL, '[');
    } else {
        cli_print(c, "%-58s %-8s %-12s %-8s %s\n", "KEY", "TYPE", "CHANGES", "IN-TORC", "DEFAULT");
    }
    for (uint32_t i = 0; i < config_tables[scope].count; i++) {
        const struct config_key *key = &config_tables[scope].keys[i];
        if (!listed(c, key, treatment))
            continue;
        if (json)
            key_json(c, (enum config_scope)scope, key);
        else
            cli_print(c, "%-58s %-8s %-12s %-8s %s\n", key->name, config_type_name(key->type),
                      scope == SCOPE_BROKER ? config_mode_name(key->mode) : "run-time",
                      config_treatment_name(key->treatment),
                      key->default_value == NULL ? "-" : key->default_value);
    }
    if (json) {
        cli_json_close(c, ']');
        cli_json_end(c, NULL);
    }
    return EXIT_OK;
}
