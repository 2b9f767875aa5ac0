/* One core's turn in the simulated world: what it waits for, and in which order it hears of it.
 *
 *   io_write, io_recv_start, ... ─▶ sim_op in io->ops ─▶ (time, network, disk) ─▶ io->ready
 *   io_poll ─▶ away: until something is ready, a wake, or until_ns ─▶ clocks ─▶ some of `ready`, in
 *              any order ─▶ op.done
 *
 * Invariants:
 *  1. io_poll is a wait on the fiber of the core: other cores run meanwhile, and the core may never
 *     come back. Off the fibers (a test as a straight line) it runs the world itself.
 *  2. Every poll costs virtual time, so a core that never waits cannot stop the world.
 *  3. Without a completion, a wake or a nudge a poll does not return before until_ns.
 *  4. What becomes ready while `done` functions run is heard of in the next poll.
 *
 * With sim_style.shuffle the order is drawn and sometimes only a part is told, which a real ring
 * may do as well: whoever counts on an order between ops is found. */
#include <string.h>

#include "core/guard.h"
#include "io/sim/sim_priv.h"

#define WALL_START_MS     1795262400000ll /* 2026-11-21T12:00:00Z */
#define READY_FIRST       64u
#define BUFFERS_COUNT     16u
#define BUFFER_SIZE       65536u
#define SOILED            0xdb
#define CPUS              4u
#define MEMORY_BYTES      (2ull << 30)
#define OUTSIDE_EVENT_MAX 100000000u /* of one io_poll off the fibers */

/* ---- ops in flight --------------------------------------------------------------------------- */

struct sim_op *sim_op_start(struct io *io, struct op *op, enum op_kind kind)
{
    assert(core_same(core_self(), io->id));
    assert(!op->armed && op->done != NULL);
    struct sim_op *o = sim_alloc(io->sim, sizeof(*o));
    o->io = io;
    o->op = op;
    o->kind = kind;
    o->from = io->from;
    op->armed = true;
    list_push_back(&io->ops, &o->link);
    return o;
}

void sim_op_ready(struct sim_op *o)
{
    struct io *io = o->io;
    if (o->ready != 0)
        return;
    if (io->ready_count == io->ready_room) {
        uint32_t room = io->ready_room > 0 ? io->ready_room * 2 : READY_FIRST;
        io->ready = sim_grow(io->sim, io->ready, io->ready_room * sizeof(*io->ready),
                             room * sizeof(*io->ready));
        io->ready_room = room;
    }
    io->ready[io->ready_count++] = o;
    o->ready = io->ready_count;
    sim_core_rouse(io->core);
}

/* Keeps the order of the others: without shuffle they are told in the order they came. */
void sim_op_unready(struct sim_op *o)
{
    struct io *io = o->io;
    if (o->ready == 0)
        return;
    assert(io->ready[o->ready - 1] == o);
    for (uint32_t i = o->ready; i < io->ready_count; i++) {
        io->ready[i - 1] = io->ready[i];
        io->ready[i - 1]->ready = i;
    }
    io->ready_count--;
    o->ready = 0;
}

static void op_due(struct sim_event *e)
{
    sim_op_ready(container_of(e, struct sim_op, event));
}

void sim_op_plan(struct sim_op *o, int32_t result, uint64_t at_ns)
{
    o->result = result;
    sim_plan(o->io->sim, &o->event, at_ns, op_due);
}

void sim_op_free(struct sim_op *o)
{
    sim_op_unready(o);
    sim_unplan(o->io->sim, &o->event);
    list_remove(&o->link);
    mem_free(o->io->sim->mem, o, sizeof(*o));
}

/* ---- clocks and chance ----------------------------------------------------------------------- */

static void clocks_sample(struct io *io)
{
    assert(io->sim->now_ns >= io->now_ns);
    io->now_ns = io->sim->now_ns;
    io->wall_ms = WALL_START_MS + (int64_t)(io->now_ns / NS_PER_MS) + io->machine->wall_offset_ms;
}

uint64_t io_now_ns(const struct io *io)
{
    return io->now_ns;
}

int64_t io_wall_ms(const struct io *io)
{
    return io->wall_ms;
}

const uint64_t *io_now_pointer(const struct io *io)
{
    return &io->now_ns;
}

const int64_t *io_wall_pointer(const struct io *io)
{
    return &io->wall_ms;
}

uint64_t io_clock_ns(struct io *io)
{
    return io->sim->now_ns;
}

uint64_t io_random(struct io *io)
{
    return chance_next(&io->random);
}

void io_entropy(struct io *io, void *to, size_t size)
{
    uint8_t *bytes = to;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(chance_next(&io->machine->chance) >> 32);
}

uint32_t io_cpus_count(void)
{
    return CPUS;
}

void io_prefault(struct io *io, void *memory, size_t size)
{
    assert(core_same(core_self(), io->id));
    assert(memory != NULL && size > 0);
}

void io_use_large_pages(void *memory, size_t size)
{
    assert(memory != NULL && size > 0);
}

uint64_t io_memory_bytes(void)
{
    return MEMORY_BYTES;
}

uint64_t io_descriptors_max(const struct io *io)
{
    return io->machine->fds_limit;
}

/* ---- start and stop -------------------------------------------------------------------------- */

int io_world_start(struct io_world **world, uint32_t cores_count, char *why, size_t why_size)
{
    (void)cores_count;
    static const char text[] = "a simulated world is made by sim_boot, from outside";
    *world = NULL;
    assert(why_size >= sizeof(text));
    memcpy(why, text, sizeof(text));
    return -ENOSYS;
}

void io_world_stop(struct io_world *world)
{
    for (uint32_t i = 0; i < world->machine->cores_count; i++)
        assert(world->machine->cores[i].io == NULL); /* io_stop comes first */
}

int io_start(struct io **io, const struct io_config *config, char *why, size_t why_size)
{
    struct sim_machine *m = config->world->machine;
    assert(m->up && core_same(core_self(), config->core));
    assert(config->core.index < m->cores_count);
    struct io *new = mem_zalloc(config->mem, sizeof(*new));
    static const char text[] = "torc.memory is too small for the buffers of a core";
    assert(why_size >= sizeof(text));
    if (new == NULL) {
        memcpy(why, text, sizeof(text));
        return -ENOMEM;
    }
    new->sim = m->sim;
    new->machine = m;
    new->core = &m->cores[config->core.index];
    new->id = config->core;
    new->mem = config->mem;
    new->trace = config->trace;
    chance_init(&new->random, chance_next(&m->chance), config->core.index);
    new->random.tape = m->sim->tape;
    list_init(&new->ops);
    list_init(&new->starving);
    int error = sim_buffers_start(new, config);
    if (error != 0) {
        mem_free(config->mem, new, sizeof(*new));
        memcpy(why, text, sizeof(text));
        return error;
    }
    clocks_sample(new);
    assert(new->core->io == NULL);
    new->core->io = new;
    *io = new;
    return 0;
}

void io_stop(struct io *io)
{
    assert(core_same(core_self(), io->id));
    LIST_EACH(it, &io->ops)
    {
        struct sim_op *o = container_of(it, struct sim_op, link);
        o->op->armed = false;
        if (sim_op_of_file(o))
            sim_file_abandon(o, DEATH_HALT);
        else
            sim_net_forget(o);
        sim_op_free(o);
    }
    sim_buffers_stop(io);
    if (io->ready != NULL)
        mem_free(io->sim->mem, io->ready, io->ready_room * sizeof(*io->ready));
    io->core->io = NULL;
    mem_free(io->mem, io, sizeof(*io));
}

/* ---- wakes ----------------------------------------------------------------------------------- */

void io_wake(struct io *from, struct core_id to)
{
    assert(core_same(core_self(), from->id));
    assert(to.index < from->machine->cores_count);
    struct sim_core *c = &from->machine->cores[to.index];
    if (c->io == NULL)
        return; /* not started, or stopped: it does not sleep */
    c->io->woken = true;
    sim_core_rouse(c);
}

void io_signals(struct io *io, struct op *op)
{
    assert(io->signal == NULL);
    io->signal = sim_op_start(io, op, OP_SIGNAL);
}

void sim_signal(struct sim_machine *m, int number)
{
    assert(m->up);
    for (uint32_t i = 0; i < m->cores_count; i++) {
        struct io *io = m->cores[i].io;
        if (io == NULL || io->signal == NULL)
            continue;
        io->signal->result = number;
        sim_op_ready(io->signal);
    }
}

/* ---- one turn -------------------------------------------------------------------------------- */

static bool io_has_news(const struct io *io)
{
    return io->ready_count > 0 || io->woken || io->nudged;
}

static void poll_on_fiber(struct io *io, uint64_t until_ns)
{
    struct sim *s = io->sim;
    struct sim_core *c = io->core;
    uint64_t cost = 1 + chance_around(&s->streams[SIM_SCHEDULER], s->style.turn_ns);
    sim_core_away(c, s->now_ns + cost, false);
    /* Told early now and then by nobody: only by what io_has_news says, or the time. */
    while (!io_has_news(io) && until_ns > s->now_ns)
        sim_core_away(c, until_ns, true);
}

static void outside_due(struct sim_event *e)
{
    (void)e; /* only makes time pass */
}

static void poll_outside(struct io *io, uint64_t until_ns)
{
    struct sim *s = io->sim;
    struct core_id self = core_self();
    struct sim_event limit = {0};
    core_leave();
    sim_plan(s, &limit, MAX(s->now_ns + 1 + s->style.turn_ns, 1), outside_due);
    bool first = true; /* a poll lets what is due happen, even if it does not wait */
    for (uint32_t i = 0; first || (!io_has_news(io) && until_ns > s->now_ns); i++) {
        assert(i < OUTSIDE_EVENT_MAX);
        if (limit.place == 0) {
            first = false;
            if (io_has_news(io) || until_ns <= s->now_ns)
                break;
            sim_plan(s, &limit, until_ns, outside_due);
        }
        (void)sim_step(s);
    }
    sim_unplan(s, &limit);
    core_enter(self);
}

/* Tells one op. Returns whether somebody heard of something. */
static bool op_deliver(struct sim_op *o)
{
    struct io *io = o->io;
    struct op *op = o->op;
    sim_note(io->sim, io->machine->index << 16 | io->id.index, KIND_DONE,
             (uint64_t)o->kind << 32 | (uint32_t)o->result);
    switch (o->kind) {
    case OP_ACCEPT:
        sim_accept_deliver(o);
        return true;
    case OP_RECV:
        return sim_recv_deliver(o);
    case OP_SIGNAL:
        sim_op_unready(o);
        op->result = o->result;
        op->done(op);
        return true;
    case OP_SEND:
    case OP_CONNECT:
    case OP_RW:
    case OP_SYNC:
    case OP_PUNCH:
    case OP_REMOVE:
    case OP_READY:
        break;
    }
    op->result = o->result;
    op->armed = false;
    sim_op_free(o);
    op->done(op);
    return true;
}

/* The order and the time of completions are the seed's choice as it is. */
void io_gather(struct io *io, uint64_t ns)
{
    assert(core_same(core_self(), io->id));
    assert(ns < NS_PER_S);
}

void io_spin(struct io *io, uint64_t until_ns)
{
    assert(core_same(core_self(), io->id));
    (void)until_ns;
}

uint32_t io_poll(struct io *io, uint64_t until_ns, uint32_t budget)
{
    assert(core_same(core_self(), io->id));
    struct sim *s = io->sim;
    if (s->running != NULL) {
        assert(s->running == io->core);
        poll_on_fiber(io, until_ns);
    } else {
        poll_outside(io, until_ns);
    }
    io->woken = io->nudged = false;
    clocks_sample(io);
    struct chance *c = &s->streams[SIM_SCHEDULER];
    uint32_t count = MIN(budget, io->ready_count), told = 0;
    if (s->style.shuffle && count > 1 && chance_one_in(c, 4))
        count = (uint32_t)chance_between(c, 1, count);
    for (uint32_t i = 0; i < count && io->ready_count > 0; i++) {
        uint64_t at = s->style.shuffle ? chance_below(c, io->ready_count) : 0;
        told += op_deliver(io->ready[at]) ? 1 : 0;
    }
    return told;
}

/* ---- receive buffers ------------------------------------------------------------------------- */

int sim_buffers_start(struct io *io, const struct io_config *config)
{
    const struct sim_style *y = &io->sim->style;
    uint32_t count = config->recv_buffers_count > 0 ? config->recv_buffers_count : BUFFERS_COUNT;
    uint32_t size = config->recv_buffer_size > 0 ? config->recv_buffer_size : BUFFER_SIZE;
    if (y->recv_buffers_count > 0 && config->recv_buffers_count == 0) {
        count = y->recv_buffers_count;
        size = y->recv_buffer_size;
    }
    assert((count & (count - 1)) == 0 && size % 4096 == 0);
    io->buffers_count = count;
    io->buffer_size = size;
    io->buffer_memory = mem_pages(io->mem, (size_t)count * size);
    io->buffers = mem_zalloc(io->mem, count * sizeof(*io->buffers));
    io->buffers_used = mem_zalloc(io->mem, count * sizeof(*io->buffers_used));
    if (io->buffer_memory == NULL || io->buffers == NULL || io->buffers_used == NULL) {
        sim_buffers_stop(io);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++)
        io->buffers[i] = (struct io_buffer){
            .data = io->buffer_memory + (size_t)i * size, .size = size, .id = (uint16_t)i};
    io->buffers_free = count;
    guard_close(io->buffer_memory, (size_t)count * size);
    return 0;
}

void sim_buffers_stop(struct io *io)
{
    if (io->buffer_memory != NULL)
        guard_open(io->buffer_memory, (size_t)io->buffers_count * io->buffer_size);
    mem_pages_free(io->mem, io->buffer_memory, (size_t)io->buffers_count * io->buffer_size);
    mem_free(io->mem, io->buffers, io->buffers_count * sizeof(*io->buffers));
    mem_free(io->mem, io->buffers_used, io->buffers_count * sizeof(*io->buffers_used));
}

struct io_buffer *sim_buffer_take(struct io *io, uint32_t used)
{
    assert(used <= io->buffer_size);
    if (io->buffers_free == 0)
        return NULL;
    for (;;) {
        struct io_buffer *b = &io->buffers[io->buffers_hand++ % io->buffers_count];
        if (b->references > 0)
            continue;
        b->references = 1;
        io->buffers_free--;
        io->buffers_used[b->id] = used;
        guard_open(b->data, used);
        return b;
    }
}

uint32_t io_buffers_free(const struct io *io)
{
    return io->buffers_free;
}

void io_buffer_retain(struct io_buffer *b)
{
    assert(b->references > 0 && b->references < UINT32_MAX);
    b->references++;
}

/* The bytes are soiled at once: who still looks at them sees it, or is found by the sanitizer. */
void io_buffer_release(struct io *io, struct io_buffer *b)
{
    assert(core_same(core_self(), io->id));
    assert(b == &io->buffers[b->id] && b->references > 0);
    if (--b->references > 0)
        return;
    memset(b->data, SOILED, io->buffers_used[b->id]);
    guard_close(b->data, b->size);
    io->buffers_free++;
    struct list *l = list_pop_front(&io->starving);
    if (l == NULL)
        return;
    struct io_recv *r = container_of(l, struct io_recv, link);
    LIST_EACH(it, &io->ops)
    {
        struct sim_op *o = container_of(it, struct sim_op, link);
        if (o->op == &r->op)
            sim_op_ready(o);
    }
}

/* ---- process --------------------------------------------------------------------------------- */

int io_thread_start(struct io_thread **thread, void (*run)(void *argument), void *argument, int cpu,
                    const char *name)
{
    (void)run, (void)argument, (void)cpu, (void)name;
    *thread = NULL;
    return -ENOSYS; /* cores are started by sim_core_start */
}

void io_thread_join(struct io_thread *thread)
{
    assert(thread == NULL);
}

void io_print(int where, const char *text, size_t size)
{
    (void)where, (void)text, (void)size; /* nobody looks: nodes are given sinks of their own */
}

bool io_is_terminal(struct io *io, int where)
{
    (void)io, (void)where;
    return false;
}
