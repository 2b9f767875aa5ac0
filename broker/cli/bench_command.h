/* The commands of `torc bench` for the table of commands. Same-folder use. */
#ifndef BROKER_CLI_BENCH_COMMAND_H
#define BROKER_CLI_BENCH_COMMAND_H

#include "broker/cli/command.h"

extern const struct option bench_produce_options[], bench_consume_options[], bench_e2e_options[],
    bench_catch_up_options[], bench_connections_options[];
extern const char bench_description[];

int command_bench_produce(struct cli *c);
int command_bench_consume(struct cli *c);
int command_bench_e2e(struct cli *c);
int command_bench_catch_up(struct cli *c);
int command_bench_connections(struct cli *c);

#endif
