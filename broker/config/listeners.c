/* Where the node listens and what it tells clients to connect to.
 *
 *   listeners             PLAINTEXT://10.0.0.5:9092,CONTROLLER://:9093
 *   protocol map          name ─▶ security protocol, of which only PLAINTEXT is served
 *   controller names      which of them are not for clients
 *   advertised.listeners  per name: what Metadata says instead of the address listened on
 *
 * Invariants:
 *  1. Names in broker.listeners are upper case and distinct; ports are distinct but for 0.
 *  2. A listener that is not a controller's has an address that clients can use, or an error is
 * told.
 *  3. inter_broker_listener is -1 or the index of a listener that is not a controller's.
 *
 * Failure modes: every mistake is a complaint about its key; the list built so far stays usable, so
 * one run tells all mistakes. */
#include "broker/config/load.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/assert.h"
#include "core/core.h"

#define EXAMPLE "as in PLAINTEXT://127.0.0.1:9092"

struct endpoint {
    char name[LISTENER_NAME_MAX], host[HOST_MAX];
    uint16_t port;
};

static bool copy_upper(char *to, size_t to_size, const char *from, size_t size)
{
    if (size == 0 || size >= to_size)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (!isalnum((unsigned char)from[i]) && strchr("_-.", from[i]) == NULL)
            return false;
        to[i] = (char)toupper((unsigned char)from[i]);
    }
    to[size] = '\0';
    return true;
}

static bool is_ipv4(const char *host)
{
    uint32_t parts = 0;
    const char *at = host;
    while (parts < 4) {
        uint32_t value = 0, digits = 0;
        for (; isdigit((unsigned char)*at) && digits < 4; at++, digits++)
            value = value * 10 + (uint32_t)(*at - '0');
        if (digits == 0 || digits > 3 || value > 255)
            return false;
        parts++;
        if (*at != '.')
            break;
        at++;
    }
    return parts == 4 && *at == '\0';
}

/* Groups of hex digits and one "::" at most; an IPv4 tail and a zone are allowed. What is left is
 * for the kernel to judge. */
static bool is_ipv6(const char *host)
{
    uint32_t colons = 0, digits = 0;
    for (const char *at = host; *at != '\0' && *at != '%'; at++) {
        if (*at == ':') {
            colons++;
            digits = 0;
        } else if (*at == '.') {
            if (colons < 2)
                return false;
        } else if (!isxdigit((unsigned char)*at) || ++digits > 4) {
            return false;
        }
    }
    return colons >= 2 && colons <= 8;
}

bool config_is_numeric_host(const char *host)
{
    assert(host != NULL);
    return is_ipv4(host) || is_ipv6(host);
}

bool config_parse_address(const char *text, uint32_t size, char *host, uint16_t *port)
{
    const char *end = text + size, *host_end, *colon;
    if (size > 0 && text[0] == '[') {
        text++;
        host_end = memchr(text, ']', (size_t)(end - text));
        colon = host_end == NULL ? NULL : host_end + 1;
    } else {
        colon = memrchr(text, ':', size);
        host_end = colon;
    }
    int64_t number;
    if (colon == NULL || colon >= end || *colon != ':' || host_end - text >= HOST_MAX ||
        !config_parse_integer(colon + 1, (uint32_t)(end - colon - 1), &number))
        return false;
    for (const char *at = text; at < host_end; at++)
        if (!isalnum((unsigned char)*at) && strchr("-._:%", *at) == NULL)
            return false;
    if (number < 0 || number > UINT16_MAX)
        return false;
    memcpy(host, text, (size_t)(host_end - text));
    host[host_end - text] = '\0';
    *port = (uint16_t)number;
    return true;
}

static bool parse_endpoint(const struct config_item *item, struct endpoint *e)
{
    const char *mark = memmem(item->text, item->size, "://", 3);
    if (mark == NULL)
        return false;
    uint32_t name_size = (uint32_t)(mark - item->text);
    return copy_upper(e->name, sizeof(e->name), item->text, name_size) &&
           config_parse_address(mark + 3, item->size - name_size - 3, e->host, &e->port);
}

static uint32_t parse_endpoints(struct config *c, const char *key, struct endpoint *to)
{
    struct config_value list = config_list(c, key);
    const char *at = list.text;
    struct config_item item;
    uint32_t count = 0;
    while (config_list_next(&list, &at, &item)) {
        if (count == LISTENERS_MAX) {
            config_complain(c, CONFIG_ERROR, key, "more than %d listeners; name fewer",
                            LISTENERS_MAX);
            break;
        }
        if (!parse_endpoint(&item, &to[count])) {
            config_complain(c, CONFIG_ERROR, key, "'%.*s' is not NAME://HOST:PORT, %s",
                            (int)MIN(item.size, 100), item.text, EXAMPLE);
            continue;
        }
        bool twice = false;
        for (uint32_t i = 0; i < count && !twice; i++)
            twice = strcmp(to[i].name, to[count].name) == 0;
        if (twice)
            config_complain(c, CONFIG_ERROR, key,
                            "the name %s is there twice; each listener needs a name of its own",
                            to[count].name);
        else
            count++;
    }
    return count;
}

/* The protocol that the map gives to a name; false when it gives none. */
static bool protocol_of(struct config *c, const char *name, bool controller,
                        enum security_protocol *protocol)
{
    static const char *const names[] = {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"};
    const char *key = "listener.security.protocol.map";
    const char *text = config_text(c, key);
    struct config_value list = {.text = text, .size = (uint32_t)strlen(text)};
    const char *at = list.text;
    struct config_item item;
    while (config_list_next(&list, &at, &item)) {
        const char *colon = memchr(item.text, ':', item.size);
        if (colon == NULL || strlen(name) != (size_t)(colon - item.text) ||
            strncasecmp(item.text, name, strlen(name)) != 0)
            continue;
        struct config_item value = {colon + 1, item.size - (uint32_t)(colon + 1 - item.text)};
        for (uint32_t i = 0; i < 4; i++)
            if (config_item_is(&value, names[i])) {
                *protocol = (enum security_protocol)i;
                return true;
            }
        config_complain(c, CONFIG_ERROR, key, "'%.*s' is no security protocol; say PLAINTEXT",
                        (int)MIN(value.size, 60), value.text);
        return false;
    }
    if (controller && config_given(c, key) == NULL) { /* Kafka's courtesy to short files */
        *protocol = SECURITY_PLAINTEXT;
        return true;
    }
    config_complain(c, CONFIG_ERROR, key,
                    "no security protocol for the listener %s; add %s:PLAINTEXT", name, name);
    return false;
}

static bool is_controller_name(const struct config *c, const char *name)
{
    struct config_value list = config_list(c, "controller.listener.names");
    const char *at = list.text;
    struct config_item item;
    while (config_list_next(&list, &at, &item))
        if (item.size == strlen(name) && strncasecmp(item.text, name, item.size) == 0)
            return true;
    return false;
}

/* Ports must differ, but for the pair of one IPv4 and one IPv6 address. */
static void check_ports(struct config *c, const struct listener *l)
{
    for (const struct listener *o = c->broker.listeners; o < l; o++) {
        bool families =
            (is_ipv4(o->host) && is_ipv6(l->host)) || (is_ipv6(o->host) && is_ipv4(l->host));
        if (l->port != 0 && o->port == l->port && !families)
            config_complain(c, CONFIG_ERROR, "listeners",
                            "%s and %s both want port %u; give each a port of its own", o->name,
                            l->name, l->port);
    }
}

static void add_listener(struct config *c, const struct endpoint *e)
{
    assert(c->broker.listeners_count < LISTENERS_MAX);
    struct listener *l = &c->broker.listeners[c->broker.listeners_count];
    *l = (struct listener){.port = e->port, .controller = is_controller_name(c, e->name)};
    memcpy(l->name, e->name, sizeof(l->name));
    memcpy(l->host, e->host, sizeof(l->host));
    memcpy(l->advertised_host, e->host, sizeof(l->advertised_host));
    l->advertised_port = e->port;
    if (!protocol_of(c, l->name, l->controller, &l->protocol))
        return;
    if (l->protocol != SECURITY_PLAINTEXT) {
        config_complain(c, CONFIG_ERROR, "listeners",
                        "the listener %s wants TLS or a login, and torc serves PLAINTEXT only; "
                        "remove it, or terminate TLS in front of torc",
                        l->name);
        return;
    }
    if (strcmp(l->host, "localhost") == 0)
        strcpy(l->host, "127.0.0.1");
    if (strcmp(l->host, "0.0.0.0") == 0)
        l->advertised_host[0] = '\0';
    if (l->host[0] == '\0')
        memcpy(l->advertised_host, c->host_name, sizeof(l->advertised_host));
    if (l->host[0] != '\0' && !config_is_numeric_host(l->host)) {
        config_complain(c, CONFIG_ERROR, "listeners",
                        "'%s' is not a numeric address; listen on one, or on all addresses with "
                        "%s://:%u, and put the name into advertised.listeners",
                        l->host, l->name, l->port);
        return;
    }
    check_ports(c, l);
    c->broker.listeners_count++;
}

static struct listener *find_listener(struct config *c, const char *name)
{
    for (uint32_t i = 0; i < c->broker.listeners_count; i++)
        if (strcasecmp(c->broker.listeners[i].name, name) == 0)
            return &c->broker.listeners[i];
    return NULL;
}

static void advertise(struct config *c)
{
    const char *key = "advertised.listeners";
    struct endpoint told[LISTENERS_MAX];
    uint32_t count = parse_endpoints(c, key, told);
    for (uint32_t i = 0; i < count; i++) {
        struct listener *l = find_listener(c, told[i].name);
        if (l == NULL) {
            config_complain(c, CONFIG_ERROR, key, "%s is not a name in listeners; add it there",
                            told[i].name);
            continue;
        }
        memcpy(l->advertised_host, told[i].host, sizeof(l->advertised_host));
        if (told[i].host[0] == '\0')
            memcpy(l->advertised_host, c->host_name, sizeof(l->advertised_host));
        l->advertised_port = told[i].port;
        if (strcmp(told[i].host, "0.0.0.0") == 0 || strcmp(told[i].host, "::") == 0)
            config_complain(c, CONFIG_ERROR, key,
                            "clients cannot connect to %s; name an address they can reach",
                            told[i].host);
    }
    for (uint32_t i = 0; i < c->broker.listeners_count; i++) {
        const struct listener *l = &c->broker.listeners[i];
        if (!l->controller && l->advertised_host[0] == '\0')
            config_complain(c, CONFIG_ERROR, "listeners",
                            "%s listens on all addresses, so say in advertised.listeners which one "
                            "clients shall use, as in advertised.listeners=%s://127.0.0.1:%u",
                            l->name, l->name, l->port);
    }
}

static void choose_inter_broker(struct config *c)
{
    const char *key = "inter.broker.listener.name";
    const char *name = config_given(c, key);
    bool named = name != NULL;
    if (named && config_given(c, "security.inter.broker.protocol") != NULL)
        config_complain(c, CONFIG_ERROR, key,
                        "it and security.inter.broker.protocol both choose; remove the latter");
    if (!named)
        name = config_text(c, "security.inter.broker.protocol");
    c->broker.inter_broker_listener = -1;
    if (!(c->broker.process_roles & ROLE_BROKER))
        return;
    const struct listener *l = find_listener(c, name);
    if (l != NULL && !l->controller) {
        c->broker.inter_broker_listener = (int32_t)(l - c->broker.listeners);
        return;
    }
    if (named || c->errors_count == 0)
        config_complain(c, CONFIG_ERROR, named ? key : "listeners",
                        "the listener between brokers would be %s, and there is none of this name "
                        "for brokers; say %s=NAME with a name from listeners",
                        name, key);
}

void config_build_listeners(struct config *c)
{
    struct endpoint endpoints[LISTENERS_MAX];
    assert(c->broker.listeners_count == 0);
    uint32_t count = parse_endpoints(c, "listeners", endpoints);
    for (uint32_t i = 0; i < count; i++)
        add_listener(c, &endpoints[i]);
    struct config_value names = config_list(c, "controller.listener.names");
    const char *at = names.text;
    struct config_item item;
    if (config_list_next(&names, &at, &item) &&
        !copy_upper(c->broker.controller_listener_name, LISTENER_NAME_MAX, item.text, item.size))
        config_complain(c, CONFIG_ERROR, "controller.listener.names",
                        "'%.*s' is no name of a listener", (int)MIN(item.size, 100), item.text);
    advertise(c);
    choose_inter_broker(c);
    assert(c->broker.listeners_count <= LISTENERS_MAX);
}

void config_build_voters(struct config *c)
{
    struct broker_config *b = &c->broker;
    struct config_value list = config_list(c, "controller.quorum.voters");
    const char *at = list.text;
    struct config_item item;
    while (config_list_next(&list, &at, &item)) {
        const char *mark = memchr(item.text, '@', item.size);
        int64_t id = -1;
        uint32_t id_size = mark == NULL ? 0 : (uint32_t)(mark - item.text);
        if (b->voters_count == VOTERS_MAX) {
            config_complain(c, CONFIG_ERROR, "controller.quorum.voters",
                            "more than %d voters; three or five are enough", VOTERS_MAX);
            break;
        }
        struct voter *v = &b->voters[b->voters_count];
        if (mark == NULL || !config_parse_integer(item.text, id_size, &id) || id < 0 ||
            id > INT32_MAX ||
            !config_parse_address(mark + 1, item.size - id_size - 1, v->host, &v->port)) {
            config_complain(c, CONFIG_ERROR, "controller.quorum.voters",
                            "'%.*s' is not ID@HOST:PORT, as in 1@127.0.0.1:9093",
                            (int)MIN(item.size, 100), item.text);
            continue;
        }
        v->id = (int32_t)id;
        b->voters_count++;
    }
    list = config_list(c, "controller.quorum.bootstrap.servers");
    at = list.text;
    while (b->bootstrap_servers_count < VOTERS_MAX && config_list_next(&list, &at, &item)) {
        struct voter *v = &b->bootstrap_servers[b->bootstrap_servers_count];
        if (!config_parse_address(item.text, item.size, v->host, &v->port)) {
            config_complain(c, CONFIG_ERROR, "controller.quorum.bootstrap.servers",
                            "'%.*s' is not HOST:PORT", (int)MIN(item.size, 100), item.text);
            continue;
        }
        v->id = -1;
        b->bootstrap_servers_count++;
    }
}

bool config_parse_ip_overrides(const char *text, struct broker_config *b,
                               struct config_refusal *refusal)
{
    assert(text != NULL);
    assert(b != NULL);
    struct config_value list = {.text = text, .size = (uint32_t)strlen(text)};
    struct ip_override found[IP_OVERRIDES_MAX];
    const char *at = list.text;
    struct config_item item;
    uint32_t count = 0;
    while (config_list_next(&list, &at, &item)) {
        const char *colon = memrchr(item.text, ':', item.size);
        uint32_t host_size = colon == NULL ? 0 : (uint32_t)(colon - item.text);
        int64_t connections;
        if (count == IP_OVERRIDES_MAX || host_size == 0 || host_size >= HOST_MAX ||
            !config_parse_integer(colon + 1, item.size - host_size - 1, &connections) ||
            connections < 0 || connections > INT32_MAX)
            return config_refuse(refusal, KE_INVALID_CONFIG,
                                 "Error parsing configuration property "
                                 "'max.connections.per.ip.overrides': '%.*s' is not HOST:COUNT, or "
                                 "there are more than %d",
                                 (int)MIN(item.size, 100), item.text, IP_OVERRIDES_MAX);
        memcpy(found[count].host, item.text, host_size);
        found[count].host[host_size] = '\0';
        found[count++].connections = (int32_t)connections;
    }
    memcpy(b->ip_overrides, found, count * sizeof(found[0]));
    b->ip_overrides_count = count;
    return true;
}
