/* The program's face: subcommands, options, --help, exit codes (0 ok, 1 failed, 2 usage). Every
 * command but the broker lives behind cli_main; broker/main.c is only main(). */
#ifndef BROKER_CLI_H
#define BROKER_CLI_H

#include "broker/config/config.h"

/* Parses argv and runs the command; the result is the exit code. For `torc broker [FILE] [-X
 * key=value]...` and `torc FILE.properties` the configuration is loaded and its warnings printed;
 * then run_broker(config) runs outside any core and with no io open, and its result is the exit
 * code. A configuration with errors is told and never reaches run_broker. */
NODISCARD int cli_main(int argc, char **argv, int (*run_broker)(const struct config *config));

#endif
