/* What a command is given to work with, and how it speaks. Same-folder use. */
#ifndef BROKER_CLI_COMMAND_H
#define BROKER_CLI_COMMAND_H

#include "broker/cli.h"
#include "broker/cli/option.h"
#include "core/mem.h"
#include "core/trace.h"
#include "io/io.h"

#define EXIT_OK     0
#define EXIT_FAILED 1 /* something was wrong with what was asked about */
#define EXIT_USAGE  2 /* the question itself was wrong */

struct cli {
    const struct command *command;
    struct parsed parsed;
    struct mem mem;
    struct io_world *world; /* NULL until cli_io */
    struct io *io;
    struct trace trace;
    int (*run_broker)(const struct config *config);
    int argc;
    char *const *argv;
    /* stdout is gathered and leaves in pieces */
    char out[16384];
    size_t out_used;
    bool json_comma; /* the next JSON item needs one before it */
};

/* To stdout. Anything that came from files or peers goes through cli_shown first. */
void cli_print(struct cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* To stderr: "torc: sentence". What went before on stdout leaves first. */
void cli_complain(struct cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "torc: sentence", how to get help; EXIT_USAGE. */
NODISCARD int cli_misused(struct cli *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cli_flush(struct cli *c);

/* Printable copy of foreign bytes, good until the fourth next call. */
const char *cli_shown(char (*buffer)[512], const char *text);

/* The reactor for commands that touch files, started on first use; NULL after a complaint. */
struct io *cli_io(struct cli *c);

/* Errors and warnings of a configuration, as complaints. */
void cli_problems(struct cli *c, const struct config *config);

/* Values of an option by its name or letter: how often, and the last one or NULL. */
uint32_t cli_count(const struct cli *c, const char *option);
const char *cli_value(const struct cli *c, const char *option);
const char *const *cli_values(const struct cli *c, const char *option, uint32_t *count);

/* JSON: {"command": ..., "version": ..., "data": ... , "errors": [...]}. Items put their own comma.
 */
void cli_json_begin(struct cli *c);                               /* up to and with "data": */
void cli_json_end(struct cli *c, const char *error);              /* error NULL: none */
void cli_json_open(struct cli *c, const char *key, char bracket); /* key NULL: in a list */
void cli_json_close(struct cli *c, char bracket);
void cli_json_text(struct cli *c, const char *key, const char *value); /* value NULL: null */
void cli_json_integer(struct cli *c, const char *key, int64_t value);
void cli_json_boolean(struct cli *c, const char *key, bool value);

/* What a torc of this machine says of itself, as JSON and as a table behind that line (`torc
 * stat`). 0 or -errno. The reactor runs. */
struct text;
NODISCARD int stat_ask(struct cli *c, uint16_t port, struct text *to);

extern const struct command cli_commands[];
extern const uint32_t cli_commands_count;
const struct command *cli_find(const char *name);
void cli_help(struct cli *c, const struct command *command);
/* The command or family most like these words, or NULL. */
const char *cli_nearest(const char *name);

int command_broker(struct cli *c);
int command_config_check(struct cli *c);
int command_config_list(struct cli *c);
int command_config_explain(struct cli *c);
int command_format(struct cli *c);
int command_help(struct cli *c);
int command_inspect_integrity(struct cli *c);
int command_inspect_metadata(struct cli *c);
int command_inspect_segment(struct cli *c);
int command_inspect_wal(struct cli *c);
int command_stat(struct cli *c);
int command_version(struct cli *c);

#endif
