/* How commands speak: text on stdout gathered into pieces, complaints on stderr, and JSON with one
 * envelope for all of them.
 *
 *   {"command":"config check","version":"0.1.0","data":{...},"errors":["..."]}
 *
 * Invariants:
 *  1. Nothing on stdout comes after a complaint that was made later: a complaint flushes first.
 *  2. A JSON answer is always whole: cli_json_end closes what cli_json_begin opened.
 *
 * Failure modes: none; printing never fails. */
#include "broker/cli/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "broker/cli/version.h"
#include "core/core.h"
#include "core/trace.h"

#define LINE_ROOM 4096

void cli_flush(struct cli *c)
{
    assert(c->out_used <= sizeof(c->out));
    if (c->out_used > 0)
        io_print(1, c->out, c->out_used);
    c->out_used = 0;
}

static void put(struct cli *c, const char *text, size_t size)
{
    assert(text != NULL);
    for (size_t at = 0; at < size;) {
        if (c->out_used == sizeof(c->out))
            cli_flush(c);
        size_t piece = MIN(size - at, sizeof(c->out) - c->out_used);
        memcpy(c->out + c->out_used, text + at, piece);
        c->out_used += piece;
        at += piece;
    }
}

void cli_print(struct cli *c, const char *format, ...)
{
    char line[LINE_ROOM];
    va_list arguments;
    assert(format != NULL);
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    assert(size >= 0);
    put(c, line, MIN((size_t)size, sizeof(line) - 1));
}

static void __attribute__((format(printf, 2, 0)))
complain(struct cli *c, const char *format, va_list arguments)
{
    char line[LINE_ROOM];
    cli_flush(c);
    size_t used = (size_t)snprintf(line, sizeof(line), "torc: ");
    int size = vsnprintf(line + used, sizeof(line) - used - 1, format, arguments);
    assert(size >= 0);
    used = MIN(used + (size_t)size, sizeof(line) - 2);
    line[used++] = '\n';
    io_print(2, line, used);
}

void cli_complain(struct cli *c, const char *format, ...)
{
    va_list arguments;
    assert(format != NULL);
    va_start(arguments, format);
    complain(c, format, arguments);
    va_end(arguments);
}

int cli_misused(struct cli *c, const char *format, ...)
{
    va_list arguments;
    assert(format != NULL);
    va_start(arguments, format);
    complain(c, format, arguments);
    va_end(arguments);
    char line[160];
    int size = snprintf(line, sizeof(line), "      `torc help%s%s` tells more\n",
                        c->command == NULL ? "" : " ", c->command == NULL ? "" : c->command->name);
    io_print(2, line, MIN((size_t)size, sizeof(line) - 1));
    return EXIT_USAGE;
}

const char *cli_shown(char (*buffer)[512], const char *text)
{
    assert(buffer != NULL && text != NULL);
    return trace_escape(*buffer, sizeof(*buffer), text, strlen(text));
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void put_string(struct cli *c, const char *text)
{
    put(c, "\"", 1);
    for (const char *at = text; *at != '\0'; at++) {
        char escaped[8];
        unsigned char byte = (unsigned char)*at;
        if (byte == '"' || byte == '\\') {
            escaped[0] = '\\';
            escaped[1] = *at;
            put(c, escaped, 2);
        } else if (byte < ' ' || byte == 0x7f) {
            snprintf(escaped, sizeof(escaped), "\\u%04x", byte);
            put(c, escaped, 6);
        } else {
            put(c, at, 1);
        }
    }
    put(c, "\"", 1);
}

/* The comma and the key before a value. */
static void lead(struct cli *c, const char *key)
{
    if (c->json_comma)
        put(c, ",", 1);
    if (key != NULL) {
        put_string(c, key);
        put(c, ":", 1);
    }
    c->json_comma = true;
}

void cli_json_open(struct cli *c, const char *key, char bracket)
{
    assert(bracket == '{' || bracket == '[');
    lead(c, key);
    put(c, &bracket, 1);
    c->json_comma = false;
}

void cli_json_close(struct cli *c, char bracket)
{
    assert(bracket == '}' || bracket == ']');
    put(c, &bracket, 1);
    c->json_comma = true;
}

void cli_json_text(struct cli *c, const char *key, const char *value)
{
    lead(c, key);
    if (value == NULL)
        put(c, "null", 4);
    else
        put_string(c, value);
}

void cli_json_integer(struct cli *c, const char *key, int64_t value)
{
    lead(c, key);
    cli_print(c, "%lld", (long long)value);
}

void cli_json_boolean(struct cli *c, const char *key, bool value)
{
    lead(c, key);
    cli_print(c, "%s", value ? "true" : "false");
}

void cli_json_begin(struct cli *c)
{
    assert(c->command != NULL);
    c->json_comma = false;
    put(c, "{", 1);
    cli_json_text(c, "command", c->command->name);
    cli_json_text(c, "version", TORC_VERSION);
    put(c, ",\"data\":", 8);
    c->json_comma = false;
}

void cli_json_end(struct cli *c, const char *error)
{
    c->json_comma = true;
    cli_json_open(c, "errors", '[');
    if (error != NULL)
        cli_json_text(c, NULL, error);
    cli_json_close(c, ']');
    put(c, "}\n", 2);
}
