/* A node on simulated cores.
 *
 *   sim_node_start ─▶ control core's fiber: control_core_start ─▶ a fiber per data core
 *                                           turns until stopped ─▶ control_core_end
 *   sim_node_tend  ─▶ all returned: node_free, sim_halt           (SIGTERM, or it gave up)
 *   died           ─▶ kill or power cut: its memory is dropped as it is
 *
 * Invariants: nothing of one start is seen by the next but the disk and the configuration. What a
 * process leaves open when it ends is closed for it, as a kernel does. */
#include "tests/sim/sim_node.h"

#include <stdio.h>
#include <string.h>

#include "broker/log/log_priv.h"
#include "broker/step.h"

#define CONFIG_MEMORY (8ull << 20)
#define NODE_MEMORY   (16ull << 20)

static void node_trace(void *context, const char *line, size_t size)
{
    struct sim_node *n = context;
    const char *level = memchr(line, ' ', size);
    if (level != NULL && strncmp(level + 1, "ERROR", 5) == 0)
        (void)snprintf(n->last_error, sizeof(n->last_error), "%.*s", (int)size - 1, line);
    if (n->verbose)
        (void)fprintf(stderr, "[%9.6f] %.*s", (double)sim_now_ns(n->sim) / 1e9, (int)size, line);
}

static void node_print(void *context, const char *text, size_t size)
{
    struct sim_node *n = context;
    if (!n->ready)
        n->readies++;
    n->ready = true;
    if (n->verbose)
        (void)fprintf(stderr, "[%9.6f] %.*s", (double)sim_now_ns(n->sim) / 1e9, (int)size, text);
}

static void data_run(void *argument)
{
    struct sim_data_core *d = argument;
    struct node *node = d->node->node;
    struct data_core *c = node->cores[d->id.index];
    if (data_core_start(c, node, d->id)) {
        while (!data_core_ended(c))
            data_core_turn(c, UINT64_MAX);
    }
    data_core_leave(c);
}

static void control_run(void *argument)
{
    struct sim_node *n = argument;
    struct control_core *c = n->node->control;
    n->start_error = control_core_start(c, n->node, n->why, sizeof(n->why));
    for (uint16_t i = 0; n->start_error == 0 && i < n->node->cores_count; i++) {
        n->data[i] = (struct sim_data_core){.node = n, .id = {i}};
        sim_core_start(n->machine, n->data[i].id, data_run, &n->data[i]);
    }
    while (n->start_error == 0 && !control_core_stopped(c))
        control_core_turn(c, UINT64_MAX);
    if (c->io != NULL)
        control_core_end(c);
}

static void node_drop(struct sim_node *n)
{
    if (n->node == NULL)
        return;
    for (uint32_t i = 0; i < n->node->cores_count; i++) {
        if (n->node->cores[i]->mem.impl != NULL)
            mem_destroy(&n->node->cores[i]->mem);
    }
    if (n->node->control->mem.impl != NULL)
        mem_destroy(&n->node->control->mem);
    mem_destroy(&n->mem);
    n->node = NULL;
    n->ready = false;
}

static void node_died(void *context)
{
    node_drop(context);
}

bool sim_node_make(struct sim_node *n, struct sim *s, struct sim_machine *m, const char *properties,
                   bool verbose)
{
    *n = (struct sim_node){.sim = s, .machine = m, .verbose = verbose, .cores_count = 1};
    int error = mem_init(&n->config_mem, CONFIG_MEMORY);
    assert(error == 0);
    error = config_parse(&n->config, &n->config_mem, "sim.properties", properties,
                         strlen(properties), NULL, 0);
    if (error != 0)
        (void)snprintf(n->why, sizeof(n->why), "%s",
                       n->config.problems_count > 0 ? n->config.problems[0].text : "no reason");
    return error == 0;
}

void sim_node_free(struct sim_node *n)
{
    assert(!sim_up(n->machine) && n->node == NULL);
    config_destroy(&n->config);
    mem_destroy(&n->config_mem);
}

void sim_node_start(struct sim_node *n)
{
    assert(n->node == NULL);
    struct sim_life life = {.died = node_died, .context = n};
    struct io_world *world = sim_boot(n->machine, n->cores_count + 1, &life);
    int error = mem_init(&n->mem, NODE_MEMORY);
    assert(error == 0);
    n->node = node_make(&n->config, world, &n->mem, n->cores_count);
    assert(n->node != NULL);
    if (n->ring_slots > 0)
        n->node->ring_slots = n->ring_slots;
    n->node->trace = node_trace;
    n->node->trace_context = n;
    n->node->print = node_print;
    n->node->print_context = n;
    n->starts++;
    n->last_error[0] = 0;
    n->why[0] = 0;
    sim_core_start(n->machine, n->node->control_id, control_run, n);
}

bool sim_node_tend(struct sim_node *n, int *exit_code)
{
    if (n->node == NULL || !sim_idle(n->machine))
        return false;
    *exit_code = n->start_error != 0 ? 1 : n->node->control->exit_code;
    if (n->last_error[0] == 0 && n->why[0] != 0)
        (void)snprintf(n->last_error, sizeof(n->last_error), "%s", n->why);
    node_free(n->node);
    sim_halt(n->machine);
    mem_destroy(&n->mem);
    n->node = NULL;
    n->ready = false;
    n->ends++;
    return true;
}

/* ---- what it says of itself ------------------------------------------------------------------ */

static int64_t stages_sum(const struct trip_board *b, uint32_t from, uint32_t to)
{
    int64_t sum = 0;
    for (uint32_t i = from; i < to; i++)
        sum += b->current[i];
    return sum;
}

static int64_t core_legs(const struct data_core *c)
{
    int64_t legs = 0;
    LIST_EACH(l, &c->conns.all)
    {
        LIST_EACH(at, &container_of(l, struct conn, link)->flows)
        legs += container_of(at, struct flow, link)->trip.legs;
    }
    return legs;
}

bool sim_node_adds_up(const struct sim_node *n, char *why, size_t size)
{
    const struct node *node = n->node;
    if (node == NULL || node->control->io == NULL)
        return true;
    int64_t away = 0, legs = stages_sum(&node->control->board, TRIP_HOME_STAGES, TRIP_STAGES);
    for (uint32_t i = 0; i < node->cores_count; i++) {
        const struct data_core *c = node->cores[i];
        if (c->io == NULL)
            return true; /* not started, or has left */
        int64_t flows = 0, stages = stages_sum(&c->board, 0, TRIP_HOME_STAGES);
        LIST_EACH(l, &c->conns.all)
        flows += container_of(l, struct conn, link)->flows_count;
        if (flows != stages) {
            (void)snprintf(why, size, "core %u has %lld requests under way, and %lld in stages", i,
                           (long long)flows, (long long)stages);
            return false;
        }
        away += core_legs(c);
        legs += stages_sum(&c->board, TRIP_HOME_STAGES, TRIP_STAGES);
    }
    if (away != legs)
        (void)snprintf(why, size, "requests wait for %lld legs, and %lld are in stages",
                       (long long)away, (long long)legs);
    return away == legs;
}

/* ---- what it is doing ------------------------------------------------------------------------ */

static void stages_text(const struct stage_table *t, char *to, size_t size)
{
    size_t at = strlen(to);
    for (uint32_t i = 0; i < t->stages_count && at < size; i++) {
        if (t->current[i] > 0)
            at += (size_t)snprintf(to + at, size - at, ", %s %s %llu", t->name, t->names[i],
                                   (unsigned long long)t->current[i]);
    }
}

static void core_look(const struct data_core *c, char *to, size_t size)
{
    static const char *const states[DATA_CORE_STATES] = {"waiting", "replayed", "serving",
                                                         "stopping", "stopped"};
    uint32_t parked = 0, room = 0;
    LIST_EACH(it, &c->parked)
    parked++;
    LIST_EACH(it, &c->room_waiters)
    room++;
    (void)snprintf(to, size,
                   "core %u: %s, turn %llu, %u connections, %u parked, %u wait for room, "
                   "%zu of %zu MiB",
                   c->id.index, states[c->state.now], (unsigned long long)c->turns, c->conns.count,
                   parked, room, c->mem.used_bytes >> 20, c->mem.budget_bytes >> 20);
    for (uint32_t i = 0; i < TRIP_STAGES; i++) {
        size_t at = strlen(to);
        if (c->board.current[i] != 0 && at < size)
            (void)snprintf(to + at, size - at, ", %s %lld", trip_stage_names[i],
                           (long long)c->board.current[i]);
    }
    if (c->logs != NULL)
        stages_text(&c->logs->flush_stages, to, size);
}

void sim_node_look(const struct sim_node *n, void (*line)(void *context, const char *text),
                   void *context)
{
    static const char *const states[CONTROL_STATES] = {
        "starting", "loading", "opening", "joining", "running", "leaving", "stopping", "stopped"};
    char text[512];
    if (n->last_error[0] != 0)
        line(context, n->last_error);
    (void)snprintf(text, sizeof(text), "node: %s, start %u, %s",
                   n->node == NULL ? "down" : states[n->node->control->state.now], n->starts,
                   n->ready ? "ready" : "not ready");
    line(context, text);
    for (uint32_t i = 0; n->node != NULL && i < n->node->cores_count; i++) {
        if (n->node->cores[i]->io == NULL)
            continue; /* not started, or has left */
        core_look(n->node->cores[i], text, sizeof(text));
        line(context, text);
    }
}
