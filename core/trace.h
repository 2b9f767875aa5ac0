/* Text output of a running node, one format for every line:
 *   2026-11-21T13:20:00.123Z INFO  log    core=1 message
 * Level per module, rate limited per call site class (module and level): at most 20 lines a second,
 * then one line that says how many were swallowed. The sink is given by io (stderr or the
 * simulator's log). Client text is escaped by %s through trace_escape. Any core (each has its own).
 */
#ifndef CORE_TRACE_H
#define CORE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum trace_level { TRACE_ERROR, TRACE_WARN, TRACE_INFO, TRACE_DEBUG };

enum trace_module {
    TRACE_MAIN,
    TRACE_IO,
    TRACE_NET,
    TRACE_API,
    TRACE_LOG,
    TRACE_QUORUM,
    TRACE_CONFIG,
    TRACE_MODULES
};

struct trace {
    void (*sink)(void *context, const char *line, size_t size); /* line ends in \n */
    void *context;
    const int64_t *wall_ms; /* the core's sampled wall clock */
    enum trace_level level[TRACE_MODULES];
    struct trace_limit {
        int64_t second;
        uint32_t lines, swallowed;
    } limits[TRACE_MODULES][4];
};

void trace_init(struct trace *t, void (*sink)(void *, const char *, size_t), void *context,
                const int64_t *wall_ms);
void trace_line(struct trace *t, enum trace_module module, enum trace_level level,
                const char *format, ...) __attribute__((format(printf, 4, 5)));
/* "log=debug,net=warn" or "debug"; false names no known module or level. */
bool trace_set_levels(struct trace *t, const char *text);
/* Printable copy of peer bytes: others become \xNN; always terminated, cut to size. Returns to. */
const char *trace_escape(char *to, size_t size, const void *from, size_t from_size);

#endif
