/* The commands of `torc bench` for the table of commands. Same-folder use. */
#ifndef BROKER_CLI_BENCH_COMMAND_H
#define BROKER_CLI_BENCH_COMMAND_H

#include "broker/bench/floor.h"
#include "broker/bench/series.h"
#include "broker/cli/command.h"

#define EXIT_MISSED 3 /* slower than asked for, or than the other broker */

/* What was asked, read and found possible. */
struct asked {
    struct cli *cli;
    struct bench_options o;
    struct io_address versus;
    int32_t versus_pid;
    uint32_t repeats; /* 0: as many as the question needs */
    double threshold; /* worse by more than this share is a regression */
    bool interrupted, wrong;
    struct op signals;
};

bool asked_has(const struct asked *a, const char *option);
/* A number with k, M or G behind it, as people write rates. */
bool asked_number(const char *text, double *value);
/* What is known of this program, its words and the machine; directory may be NULL. */
void asked_provenance(const struct asked *a, struct provenance *p, const char *directory);
/* And of a broker. */
void asked_broker(const struct asked *a, struct provenance *p, const struct io_address *broker,
                  int32_t pid);
/* The words of the present command into a->o; false: complained about. */
bool asked_read(struct asked *a, enum bench_kind kind);
/* From now on ^C ends the load. a lives as long as the reactor. */
void asked_signals(struct asked *a);
/* Runs the loads and shows what came of them (bench_series.c). The result is the exit code. */
int asked_run(struct asked *a, struct cli *c);

extern const struct option bench_produce_options[], bench_consume_options[], bench_e2e_options[],
    bench_catch_up_options[], bench_connections_options[], bench_floor_options[],
    bench_txn_options[], bench_groups_options[], bench_suite_options[];
extern const char bench_description[];

int command_bench_produce(struct cli *c);
int command_bench_consume(struct cli *c);
int command_bench_e2e(struct cli *c);
int command_bench_catch_up(struct cli *c);
int command_bench_connections(struct cli *c);
int command_bench_floor(struct cli *c);
int command_bench_page(struct cli *c);
int command_bench_suite(struct cli *c);
int command_bench_txn(struct cli *c);
int command_bench_groups(struct cli *c);

#endif
