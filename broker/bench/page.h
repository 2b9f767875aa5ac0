/* Pages with tables and curves, from the JSON that `torc bench --json` and perf/compare write. */
#ifndef BROKER_BENCH_PAGE_H
#define BROKER_BENCH_PAGE_H

#include "broker/bench/json.h"
#include "broker/bench/text.h"

#define PAGE_RUNS_MAX 16u

struct page_run {
    const char *name; /* told apart by it, where there are several; a file's */
    const struct json *json;
};

/* Loads of the same title lie over each other. The arena holds what the page is made of, until the
 * text is there. */
void page_html(struct text *t, struct arena *arena, const struct page_run *runs, uint32_t count,
               const char *title);

#endif
