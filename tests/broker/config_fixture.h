/* A configuration read from text, with the memory it lives in. */
#ifndef TESTS_BROKER_CONFIG_FIXTURE_H
#define TESTS_BROKER_CONFIG_FIXTURE_H

#include "broker/config/config.h"

#include <string.h>

#define ALONE "process.roles=broker,controller\nnode.id=1\n"

struct fixture {
    struct mem mem;
    struct config config;
    int result;
};

static inline void fixture_read(struct fixture *f, const char *text, const char *const *overrides,
                                uint32_t count)
{
    if (mem_init(&f->mem, 64u << 20) != 0)
        assert_failed("memory", __FILE__, __LINE__);
    f->result =
        config_parse(&f->config, &f->mem, "a.properties", text, strlen(text), overrides, count);
}

/* Everything is given back: the caller asserts that nothing is used. */
static inline uint64_t fixture_end(struct fixture *f)
{
    config_destroy(&f->config);
    uint64_t left = f->mem.used_bytes;
    mem_destroy(&f->mem);
    return left;
}

/* The first problem whose text has this part, or NULL. */
static inline const struct config_problem *fixture_problem(const struct fixture *f,
                                                           const char *part)
{
    for (uint32_t i = 0; i < f->config.problems_count; i++)
        if (strstr(f->config.problems[i].text, part) != NULL)
            return &f->config.problems[i];
    return NULL;
}

#endif
