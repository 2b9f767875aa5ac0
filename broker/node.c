/* A node on real threads: the control core on the first thread, each data core on its own, pinned
 * when there is a CPU for it. The simulator runs the same cores without this file's threads.
 *
 * Start and end: the control core is made first (mail, ports), then the data cores, then the
 * metadata is loaded; everything else is letters. The end is the same backwards: data threads are
 * told by `ending` and a wake, joined, and freed before the control core, whose memory they read.
 *
 * Failure modes: whatever fails before the ready line is one sentence on stderr and exit code 1. */
#include "broker/node.h"

#include <stdio.h>
#include <string.h>

#include "broker/step.h"

/* Memory that is not a data core's: mail, metadata leaves, decoded admin answers. */
#define NODE_OVERHEAD_BYTES (16ull << 20)

struct node_thread {
    struct node *node;
    struct core_id id;
    struct io_thread *thread;
};

static void node_stderr(void *context, const char *line, size_t size)
{
    (void)context;
    io_print(2, line, size);
}

static void node_stdout(void *context, const char *text, size_t size)
{
    (void)context;
    io_print(1, text, size);
}

struct node *node_make(const struct config *config, struct io_world *world, struct mem *mem,
                       uint32_t cores_count)
{
    struct node *n = mem_zalloc(mem, sizeof(*n) + cores_count * sizeof(n->cores[0]));
    if (n == NULL)
        return NULL;
    n->mem = mem;
    n->config = config;
    n->world = world;
    n->cores_count = cores_count;
    n->control_id = (struct core_id){(uint16_t)cores_count};
    n->core_memory_bytes = config_memory(&config->broker, io_memory_bytes()) / (cores_count + 1);
    n->ring_slots = RING_SLOTS;
    n->trace = node_stderr;
    n->print = node_stdout;
    n->control = mem_zalloc(mem, sizeof(*n->control));
    for (uint32_t i = 0; i < cores_count; i++) {
        n->cores[i] = mem_zalloc(mem, sizeof(*n->cores[i]));
        if (n->cores[i] == NULL)
            return NULL;
    }
    return n->control != NULL ? n : NULL;
}

void node_free(struct node *n)
{
    for (uint32_t i = 0; i < n->cores_count; i++)
        data_core_free(n->cores[i]);
    core_enter(n->control_id);
    control_core_free(n->control);
    core_leave();
}

static void node_data_thread(void *argument)
{
    struct node_thread *t = argument;
    struct data_core *c = t->node->cores[t->id.index];
    core_enter(t->id);
    if (data_core_start(c, t->node, t->id)) {
        while (!data_core_ended(c))
            data_core_turn(c, UINT64_MAX);
    }
    data_core_leave(c);
    core_leave();
}

/* Data cores take the first CPUs, one each, while there are as many; else the kernel places them.
 */
static int node_start_threads(struct node *n, struct node_thread *threads)
{
    bool pin = n->cores_count <= io_cpus_count();
    for (uint16_t i = 0; i < n->cores_count; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "torc-%u", i);
        threads[i] = (struct node_thread){.node = n, .id = {i}};
        int error = io_thread_start(&threads[i].thread, node_data_thread, &threads[i],
                                    pin ? (int)i : -1, name);
        if (error != 0)
            return error;
    }
    return 0;
}

static int node_turns(struct node *n, struct node_thread *threads, char *why, size_t why_size)
{
    core_enter(n->control_id);
    int error = control_core_start(n->control, n, why, why_size);
    if (error == 0) {
        error = node_start_threads(n, threads);
        if (error != 0)
            (void)snprintf(why, why_size, "cannot start a thread: %s", strerror(-error));
    }
    while (error == 0 && !control_core_stopped(n->control))
        control_core_turn(n->control, UINT64_MAX);
    if (n->control->io != NULL)
        control_core_end(n->control);
    for (uint32_t i = 0; i < n->cores_count; i++) {
        if (threads[i].thread != NULL)
            io_thread_join(threads[i].thread);
    }
    core_leave();
    return error;
}

int node_run(const struct config *config)
{
    char why[512] = "no memory to start; raise the limit of memory (ulimit -v, cgroup)";
    struct mem mem;
    struct io_world *world = NULL;
    struct node_thread threads[CORES_MAX] = {0};
    uint32_t cores_count = config_data_cores(&config->broker, io_cpus_count());
    int exit_code = 1;
    if (mem_init(&mem, NODE_OVERHEAD_BYTES) != 0)
        return 1;
    int error = io_world_start(&world, cores_count + 1, why, sizeof(why));
    if (error == 0) {
        struct node *n = node_make(config, world, &mem, cores_count);
        error = n == NULL ? -1 : node_turns(n, threads, why, sizeof(why));
        if (error == 0)
            exit_code = n->control->exit_code;
        if (n != NULL)
            node_free(n);
    }
    if (error != 0) {
        char line[600];
        int size = snprintf(line, sizeof(line), "torc: %s\n", why);
        io_print(2, line, (size_t)size);
    }
    if (world != NULL)
        io_world_stop(world);
    mem_destroy(&mem);
    return exit_code;
}
