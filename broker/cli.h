/* The program's face: subcommands, options, --help, exit codes (0 ok, 1 failed, 2 usage). Every
 * command but the broker lives behind cli_main; broker/main.c is only main(). */
#ifndef BROKER_CLI_H
#define BROKER_CLI_H

#include "broker/config/config.h"

/* Parses argv and runs the command. For `torc broker [FILE] [-X key=value]...`, `torc
 * FILE.properties` and plain `torc` the configuration is loaded and printed problems are none or
 * warnings only; then run_broker(config) runs outside any core, with no io open, and its result is
 * the exit code. */
NODISCARD int cli_main(int argc, char **argv, int (*run_broker)(const struct config *config));

#endif
