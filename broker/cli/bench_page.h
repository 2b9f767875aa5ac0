/* Files of `torc bench`: what was measured as JSON, and pages made of it. Same-folder use. */
#ifndef BROKER_CLI_BENCH_PAGE_H
#define BROKER_CLI_BENCH_PAGE_H

#include "broker/bench/text.h"
#include "broker/cli/command.h"

/* false: complained about. */
NODISCARD bool bench_file_write(struct cli *c, const char *path, const struct text *t);
/* A page of one run, as its JSON says it. */
NODISCARD bool bench_page_write(struct cli *c, const char *path, const struct text *json);

#endif
