/* `torc bench page`: pages of runs that were written as JSON, by whichever program; and the files
 * of the other commands, whose pages are made of the same JSON.
 *
 * Failure modes: a file that cannot be read or written, that is no JSON, or too much of it: one
 * complaint each, and no page. */
#include "broker/cli/bench_page.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/bench/page.h"
#include "broker/cli/bench_command.h"

#define FILE_LIMIT  (64u << 20)
#define ARENA_LIMIT (768ull << 20)

bool bench_file_write(struct cli *c, const char *path, const struct text *t)
{
    int error = t->failed ? -ENOMEM : 0;
    int fd = error != 0 ? error : io_open(c->io, path, IO_WRITE | IO_CREATE | IO_TRUNC);
    if (fd >= 0) {
        int64_t n = io_pwrite(c->io, fd, t->data, t->size, 0);
        error = n < 0 ? (int)n : 0;
        io_close(c->io, fd);
    }
    if (fd >= 0 && error == 0)
        return true;
    cli_complain(c, "%s: %s", path, strerror(fd < 0 ? -fd : -error));
    return false;
}

static const struct json *run_read(struct cli *c, struct arena *arena, const char *name,
                                   const char *text, size_t size)
{
    size_t at = 0;
    const struct json *j = json_parse(arena, text, size, &at);
    if (j == NULL)
        cli_complain(c, arena->failed ? "%s: no memory for it" : "%s: no JSON at byte %zu", name,
                     at);
    return j;
}

static bool runs_write(struct cli *c, struct arena *arena, const char *path,
                       const struct page_run *runs, uint32_t count)
{
    struct text t;
    char title[128];
    const char *said = json_string(runs[0].json, "title");
    (void)snprintf(title, sizeof(title), "%s%.100s", said[0] == '\0' ? "torc " : "",
                   said[0] == '\0' ? json_string(runs[0].json, "command") : said);
    text_init(&t, &c->mem);
    page_html(&t, arena, runs, count, title);
    bool good = bench_file_write(c, path, &t);
    text_free(&t);
    return good;
}

bool bench_page_write(struct cli *c, const char *path, const struct text *json)
{
    struct arena arena;
    arena_init(&arena, &c->mem, ARENA_LIMIT);
    struct page_run run = {.name = ""};
    run.json = run_read(c, &arena, path, json->data == NULL ? "" : json->data, json->size);
    bool good = run.json != NULL && runs_write(c, &arena, path, &run, 1);
    arena_release(&arena);
    return good;
}

int command_bench_page(struct cli *c)
{
    struct page_run runs[PAGE_RUNS_MAX];
    struct arena arena;
    uint32_t count = c->parsed.positionals_count - 1;
    if (cli_io(c) == NULL)
        return EXIT_FAILED;
    arena_init(&arena, &c->mem, ARENA_LIMIT);
    bool good = true;
    for (uint32_t i = 0; i < count && good; i++) {
        const char *path = c->parsed.positionals[i + 1], *slash = strrchr(path, '/');
        char *text;
        size_t size;
        int error = io_slurp(c->io, &c->mem, path, FILE_LIMIT, &text, &size);
        if (error != 0)
            cli_complain(c, "%s: %s", path, strerror(-error));
        good = error == 0;
        if (!good)
            break;
        runs[i].name = slash == NULL ? path : slash + 1;
        runs[i].json = run_read(c, &arena, path, text, size);
        mem_free(&c->mem, text, size + 1);
        good = runs[i].json != NULL;
    }
    good = good && runs_write(c, &arena, c->parsed.positionals[0], runs, count);
    arena_release(&arena);
    return good ? EXIT_OK : EXIT_FAILED;
}
