/* Between the files that load a configuration: complaints, and the parts that are more than one
 * value. Same-folder use. */
#ifndef BROKER_CONFIG_LOAD_H
#define BROKER_CONFIG_LOAD_H

#include "broker/config/value.h"

/* Adds a problem about key (NULL: none in particular); the place is put before the sentence. Past
 * CONFIG_PROBLEMS_MAX only the counts go on. */
void config_complain(struct config *c, enum config_severity severity, const char *key,
                     const char *format, ...) __attribute__((format(printf, 4, 5)));
/* As given, else the default; NULL for null. */
const char *config_text(const struct config *c, const char *key);
/* The text as a parsed list; an empty one for null. */
struct config_value config_list(const struct config *c, const char *key);
/* A terminated copy in the config's arena, or NULL with a complaint when memory is short. */
const char *config_copy(struct config *c, const char *text, size_t size);

/* listeners, advertised.listeners, listener.security.protocol.map, controller.listener.names,
 * inter.broker.listener.name -> broker.listeners. After process_roles is set. */
void config_build_listeners(struct config *c);
/* controller.quorum.voters and .bootstrap.servers. */
void config_build_voters(struct config *c);
NODISCARD bool config_parse_ip_overrides(const char *text, struct broker_config *b,
                                         struct config_refusal *refusal);
/* Splits HOST:PORT or [HOST]:PORT; false if it is neither. host has HOST_MAX bytes. */
NODISCARD bool config_parse_address(const char *text, uint32_t size, char *host, uint16_t *port);
/* A numeric IPv4 or IPv6 address? */
bool config_is_numeric_host(const char *host);
/* What values mean for each other, and what torc does not serve. */
void config_check(struct config *c);

#endif
