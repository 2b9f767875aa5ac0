/* The world: virtual time, what happens next, and machines that live and die in it.
 *
 *   sim_step:  earliest event of the heap ─▶ now = its time ─▶ fire
 *                 │ a core's turn: fiber ─▶ data_core_turn ─▶ io_poll ─▶ back here
 *                 │ a segment arrives, a write is done, a workload's timer, a fault
 *                 ▼
 *              plans more events
 *
 *   machine:  down ── sim_boot ─▶ up ── sim_core_start ─▶ cores run
 *               ▲                  ├── sim_halt (all have returned)
 *               │                  ├── sim_kill (page cache stays)
 *               └──────────────────┴── sim_power_cut (what was synced stays)
 *
 * Invariants:
 *  1. Events fire in order of (time, sequence); sequence is the order in which they were planned.
 *     Nothing else orders anything: no address, no real clock.
 *  2. Time never goes back, and moves only to the next event.
 *  3. A machine dies only while none of its cores runs: from an event, never from its own fiber.
 *     Its cores are then left where they were, in io_poll or inside a call, for ever.
 *  4. What happened before the cut on the wire stays: bytes that left are on their way.
 *
 * Failure modes: the budget given to sim_make is too small, which asserts. */
#include "io/sim/sim_priv.h"

#include <stdio.h>
#include <string.h>

#define HEAP_FIRST   1024u
#define START_NS     NS_PER_S
#define FDS_LIMIT    4096u
#define EPHEMERAL    32768u
#define DEATH_RST_NS (2 * NS_PER_S) /* after a power cut peers learn of it within so much */

/* ---- memory ---------------------------------------------------------------------------------- */

void *sim_alloc(struct sim *s, size_t size)
{
    void *p = mem_zalloc(s->mem, size);
    assert(p != NULL); /* sim_make was given too small a budget */
    return p;
}

void *sim_grow(struct sim *s, void *old, size_t old_size, size_t new_size)
{
    assert(new_size > old_size);
    uint8_t *p = mem_realloc(s->mem, old, old_size, new_size);
    assert(p != NULL);
    memset(p + old_size, 0, new_size - old_size);
    return p;
}

/* ---- the heap -------------------------------------------------------------------------------- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->sequence < b->sequence);
}

static void heap_set(struct sim *s, uint32_t place, struct sim_event *e)
{
    s->heap[place] = e;
    e->place = place;
}

static void heap_up(struct sim *s, uint32_t place)
{
    struct sim_event *e = s->heap[place];
    for (; place > 1 && event_before(e, s->heap[place / 2]); place /= 2)
        heap_set(s, place, s->heap[place / 2]);
    heap_set(s, place, e);
}

static void heap_down(struct sim *s, uint32_t place)
{
    struct sim_event *e = s->heap[place];
    for (uint32_t child; (child = place * 2) <= s->heap_count; place = child) {
        if (child < s->heap_count && event_before(s->heap[child + 1], s->heap[child]))
            child++;
        if (!event_before(s->heap[child], e))
            break;
        heap_set(s, place, s->heap[child]);
    }
    heap_set(s, place, e);
}

void sim_unplan(struct sim *s, struct sim_event *e)
{
    uint32_t place = e->place;
    if (place == 0)
        return;
    assert(place <= s->heap_count && s->heap[place] == e);
    e->place = 0;
    struct sim_event *last = s->heap[s->heap_count--];
    if (last == e)
        return;
    heap_set(s, place, last);
    heap_down(s, place);
    heap_up(s, last->place);
}

void sim_plan(struct sim *s, struct sim_event *e, uint64_t at_ns, void (*fire)(struct sim_event *))
{
    assert(fire != NULL);
    sim_unplan(s, e);
    e->at_ns = MAX(at_ns, s->now_ns);
    e->sequence = ++s->sequence;
    e->fire = fire;
    if (s->heap_count + 1 >= s->heap_room) {
        uint32_t room = s->heap_room > 0 ? s->heap_room * 2 : HEAP_FIRST;
        s->heap = sim_grow(s, s->heap, s->heap_room * sizeof(*s->heap), room * sizeof(*s->heap));
        s->heap_room = room;
    }
    s->heap_count++;
    heap_set(s, s->heap_count, e);
    heap_up(s, s->heap_count);
}

bool sim_step(struct sim *s)
{
    assert(s->running == NULL);
    if (s->heap_count == 0)
        return false;
    struct sim_event *e = s->heap[1];
    assert(e->at_ns >= s->now_ns);
    s->now_ns = e->at_ns;
    sim_unplan(s, e);
    s->events++;
    s->digest = chance_mix(s->digest, s->now_ns);
    e->fire(e);
    return true;
}

bool sim_run(struct sim *s, uint64_t until_ns, bool (*over)(void *context), void *context)
{
    for (;;) {
        if (over != NULL && over(context))
            return true;
        if (s->heap_count == 0 || s->heap[1]->at_ns > until_ns)
            break;
        (void)sim_step(s);
    }
    if (until_ns != UINT64_MAX)
        s->now_ns = MAX(s->now_ns, until_ns);
    return over == NULL;
}

void sim_note(struct sim *s, uint32_t core, uint32_t kind, uint64_t payload)
{
    s->digest = chance_mix(s->digest, chance_mix((uint64_t)core << 32 | kind, payload));
}

/* ---- the world ------------------------------------------------------------------------------- */

/* Swarm: what one world is like. Extremes are as likely as the middle. */
static void style_draw(struct sim_style *y, struct chance *c)
{
    static const uint32_t segments[] = {64, 1460, 65536, 1u << 20};
    static const uint32_t pipes[] = {4096, 65536, 1u << 20};
    static const uint32_t buffers[] = {0, 2, 4, 8};
    static const uint32_t sizes[] = {4096, 16384, 65536};
    y->turn_ns = 1 + chance_below(c, 4) * 3 * NS_PER_US;
    y->wake_ns = 1 + chance_below(c, 3) * 20 * NS_PER_US;
    y->call_ns = 1 + chance_below(c, 3) * 50 * NS_PER_US;
    y->read_ns = chance_between(c, 5, 500) * NS_PER_US;
    y->write_ns = chance_between(c, 5, 2000) * NS_PER_US;
    y->sync_ns = chance_between(c, 5, 5000) * NS_PER_US;
    y->net_ns = chance_between(c, 5, 2000) * NS_PER_US;
    y->segment_max = segments[chance_below(c, 4)];
    y->segment_one = chance_one_in(c, 2) ? 0 : (uint32_t)chance_between(c, 2, 40);
    y->pipe_bytes = pipes[chance_below(c, 3)];
    y->recv_buffers_count = buffers[chance_below(c, 4)];
    y->recv_buffer_size = sizes[chance_below(c, 3)];
    y->writeback_one_in = chance_one_in(c, 3) ? 0 : (uint32_t)chance_between(c, 2, 20);
    y->shuffle = !chance_one_in(c, 4);
    y->direct = !chance_one_in(c, 8);
    y->ordered_names = chance_one_in(c, 2);
}

struct sim *sim_make(struct mem *mem, uint64_t seed)
{
    return sim_make_taped(mem, seed, NULL);
}

struct sim *sim_make_taped(struct mem *mem, uint64_t seed, struct chance_tape *tape)
{
    struct sim *s = mem_zalloc(mem, sizeof(*s));
    assert(s != NULL);
    s->mem = mem;
    s->tape = tape;
    s->now_ns = START_NS;
    s->digest = seed;
    list_init(&s->machines);
    list_init(&s->connections);
    list_init(&s->clients);
    for (uint32_t i = 0; i < SIM_STREAMS; i++) {
        chance_init(&s->streams[i], seed, i + 1);
        s->streams[i].tape = tape;
    }
    struct chance draw;
    chance_init(&draw, seed, 1000);
    draw.tape = tape;
    style_draw(&s->style, &draw);
    return s;
}

static void machine_free(struct sim_machine *m)
{
    assert(!m->up);
    for (uint32_t i = 0; i < CORES_MAX; i++)
        fiber_free(&m->cores[i].fiber);
    disk_free(&m->disk);
    if (m->fds != NULL)
        mem_free(m->sim->mem, m->fds, m->fds_count * sizeof(*m->fds));
    list_remove(&m->link);
    mem_free(m->sim->mem, m, sizeof(*m));
}

void sim_free(struct sim *s)
{
    assert(s->running == NULL);
    sim_net_free(s);
    LIST_EACH(it, &s->machines)
    machine_free(container_of(it, struct sim_machine, link));
    struct mem *mem = s->mem;
    if (s->heap != NULL)
        mem_free(mem, s->heap, s->heap_room * sizeof(*s->heap));
    mem_free(mem, s, sizeof(*s));
}

struct sim_style *sim_style(struct sim *s)
{
    return &s->style;
}

struct chance *sim_chance(struct sim *s, enum sim_stream stream)
{
    assert(stream < SIM_STREAMS);
    return &s->streams[stream];
}

uint64_t sim_now_ns(const struct sim *s)
{
    return s->now_ns;
}

uint64_t sim_digest(const struct sim *s)
{
    return s->digest;
}

uint64_t sim_events(const struct sim *s)
{
    return s->events;
}

uint64_t sim_counted(const struct sim *s, enum sim_count what)
{
    assert(what < SIM_COUNTS);
    return s->counts[what];
}

const char *sim_count_name(enum sim_count what)
{
    static const char *const names[SIM_COUNTS] = {
        [SIM_TURNS] = "turns",
        [SIM_CALLS] = "calls",
        [SIM_CUTS] = "power cuts",
        [SIM_KILLS] = "kills",
        [SIM_DEATHS_IN_CALLS] = "deaths inside calls",
        [SIM_PAGES_KEPT] = "pages kept",
        [SIM_PAGES_LOST] = "pages lost",
        [SIM_PAGES_TORN] = "pages torn",
        [SIM_SIZES_LOST] = "sizes lost",
        [SIM_SIZES_BETWEEN] = "sizes between",
        [SIM_NAMES_KEPT] = "names kept",
        [SIM_NAMES_LOST] = "names lost",
        [SIM_WRITES_CUT] = "writes cut",
        [SIM_WRITES_TORN] = "writes torn",
        [SIM_WRITEBACKS] = "writebacks",
        [SIM_DISK_FAILURES] = "disk failures",
        [SIM_SEGMENTS] = "segments",
        [SIM_SEGMENTS_OF_ONE] = "segments of one byte",
        [SIM_BUFFERS_OUT] = "buffers out",
        [SIM_SENDS_WAITING] = "sends waiting",
        [SIM_RESETS] = "resets",
        [SIM_REFUSALS] = "refused connects",
        [SIM_STALLS] = "stalls",
    };
    assert(what < SIM_COUNTS);
    return names[what];
}

/* ---- machines -------------------------------------------------------------------------------- */

struct sim_machine *sim_machine_make(struct sim *s, const char *host)
{
    struct sim_machine *m = sim_alloc(s, sizeof(*m));
    m->sim = s;
    (void)snprintf(m->host, sizeof(m->host), "%s", host);
    m->index = s->machines_count++;
    m->world.machine = m;
    m->slow_factor = 1;
    m->fds_limit = FDS_LIMIT;
    m->next_port = EPHEMERAL;
    list_init(&m->listeners);
    uint64_t seed = chance_mix(s->digest, m->index);
    chance_init(&m->chance, seed, 1);
    m->chance.tape = s->tape;
    struct disk_counts counts = {
        .pages_kept = &s->counts[SIM_PAGES_KEPT],
        .pages_lost = &s->counts[SIM_PAGES_LOST],
        .pages_torn = &s->counts[SIM_PAGES_TORN],
        .sizes_lost = &s->counts[SIM_SIZES_LOST],
        .sizes_between = &s->counts[SIM_SIZES_BETWEEN],
        .names_kept = &s->counts[SIM_NAMES_KEPT],
        .names_lost = &s->counts[SIM_NAMES_LOST],
        .writebacks = &s->counts[SIM_WRITEBACKS],
    };
    disk_init(&m->disk, s->mem, chance_mix(seed, 2), &counts);
    m->disk.chance.tape = s->tape;
    for (uint32_t i = 0; i < CORES_MAX; i++) {
        m->cores[i].machine = m;
        m->cores[i].id = (struct core_id){(uint16_t)i};
        fiber_init(&m->cores[i].fiber, s->mem);
    }
    list_push_back(&s->machines, &m->link);
    return m;
}

struct io_world *sim_boot(struct sim_machine *m, uint32_t cores_count, const struct sim_life *life)
{
    assert(!m->up && m->sim->running == NULL);
    assert(cores_count > 0 && cores_count <= CORES_MAX);
    m->up = true;
    m->boots++;
    m->cores_count = cores_count;
    m->life = *life;
    m->disk.writeback_one_in = m->sim->style.writeback_one_in;
    disk_evict(&m->disk);
    return &m->world;
}

struct io_world *sim_world(struct sim_machine *m)
{
    assert(m->up);
    return &m->world;
}

static void core_turn(struct sim_event *e)
{
    struct sim_core *c = container_of(e, struct sim_core, resume);
    struct sim *s = c->machine->sim;
    if (c->stalled_until > s->now_ns) {
        sim_plan(s, &c->resume, c->stalled_until, core_turn);
        return;
    }
    assert(c->fiber.alive && s->running == NULL);
    sim_note(s, c->machine->index << 16 | c->id.index, KIND_TURN, c->sleeping);
    c->poll_timeout = c->sleeping;
    c->sleeping = false;
    s->counts[SIM_TURNS]++;
    s->running = c;
    core_enter(c->id);
    fiber_resume(&c->fiber);
    core_leave();
    s->running = NULL;
}

static void core_main(void *argument)
{
    struct sim_core *c = argument;
    c->run(c->argument);
}

void sim_core_start(struct sim_machine *m, struct core_id id, void (*run)(void *argument),
                    void *argument)
{
    assert(m->up && id.index < m->cores_count);
    struct sim_core *c = &m->cores[id.index];
    assert(!c->started);
    c->started = true;
    c->run = run;
    c->argument = argument;
    c->sleeping = c->calling = false;
    c->stalled_until = 0;
    fiber_start(&c->fiber, core_main, c);
    uint64_t after = chance_around(&m->sim->streams[SIM_SCHEDULER], m->sim->style.wake_ns);
    sim_plan(m->sim, &c->resume, m->sim->now_ns + after, core_turn);
}

void sim_core_rouse(struct sim_core *c)
{
    struct sim *s = c->machine->sim;
    if (!c->sleeping)
        return;
    c->sleeping = false;
    uint64_t after = chance_around(&s->streams[SIM_SCHEDULER], s->style.wake_ns);
    if (c->resume.place == 0 || c->resume.at_ns > s->now_ns + after)
        sim_plan(s, &c->resume, s->now_ns + after, core_turn);
}

/* Leaves the core until at_ns; asleep: or until it is roused. Returns on its fiber. */
void sim_core_away(struct sim_core *c, uint64_t at_ns, bool asleep)
{
    struct sim *s = c->machine->sim;
    assert(s->running == c);
    c->sleeping = asleep;
    if (at_ns != UINT64_MAX)
        sim_plan(s, &c->resume, at_ns, core_turn);
    fiber_yield(&c->fiber);
}

void sim_pause_in(struct io *io, const char *call, uint64_t ns)
{
    struct sim_core *c = io->core;
    struct sim_machine *m = io->machine;
    io->sim->counts[SIM_CALLS]++;
    if (io->sim->running == NULL)
        return; /* a test as a straight line: calls take no time */
    assert(io->sim->running == c);
    uint64_t until = io->sim->now_ns + chance_around(&m->chance, ns) * m->slow_factor;
    c->calling = true;
    c->call = call;
    m->past[m->past_count++ % SIM_PAST] =
        (struct sim_past){.at_ns = io->sim->now_ns, .what = call, .core = c->id};
    sim_core_away(c, MAX(until, m->frozen_until), false);
    c->calling = false;
}

bool sim_up(const struct sim_machine *m)
{
    return m->up;
}

bool sim_idle(const struct sim_machine *m)
{
    for (uint32_t i = 0; i < m->cores_count; i++) {
        if (m->cores[i].fiber.alive)
            return false;
    }
    return true;
}

/* ---- the end of a process -------------------------------------------------------------------- */

static void io_abandon(struct io *io, enum death death)
{
    LIST_EACH(it, &io->ops)
    {
        struct sim_op *o = container_of(it, struct sim_op, link);
        if (sim_op_of_file(o))
            sim_file_abandon(o, death);
        else
            sim_net_forget(o);
        sim_op_free(o);
    }
    if (io->ready != NULL)
        mem_free(io->sim->mem, io->ready, io->ready_room * sizeof(*io->ready));
    io->core->io = NULL;
}

static void machine_end(struct sim_machine *m, enum death death)
{
    struct sim *s = m->sim;
    assert(m->up && s->running == NULL);
    sim_note(s, m->index, KIND_DEATH, death);
    for (uint32_t i = 0; i < m->cores_count; i++) {
        struct sim_core *c = &m->cores[i];
        sim_unplan(s, &c->resume);
        s->counts[SIM_DEATHS_IN_CALLS] += c->calling;
        if (c->io != NULL)
            io_abandon(c->io, death);
        fiber_drop(&c->fiber);
        c->started = c->sleeping = c->calling = false;
    }
    sim_net_abandon(m, death);
    for (uint32_t i = 0; i < m->fds_count; i++) {
        if (m->fds[i].kind != FD_FREE)
            sim_fd_close(m, (int)i);
    }
    m->up = false;
    disk_forget_syncs(&m->disk);
    if (death == DEATH_CUT)
        disk_cut(&m->disk, s->style.ordered_names);
    if (death != DEATH_HALT && m->life.died != NULL)
        m->life.died(m->life.context);
}

void sim_halt(struct sim_machine *m)
{
    assert(sim_idle(m));
    machine_end(m, DEATH_HALT);
}

void sim_kill(struct sim_machine *m)
{
    m->sim->counts[SIM_KILLS]++;
    machine_end(m, DEATH_KILL);
}

void sim_power_cut(struct sim_machine *m)
{
    m->sim->counts[SIM_CUTS]++;
    machine_end(m, DEATH_CUT);
}

/* ---- descriptors ----------------------------------------------------------------------------- */

int sim_fd_open(struct sim_machine *m, struct sim_fd slot)
{
    assert(slot.kind != FD_FREE);
    if (m->fds_open >= m->fds_limit)
        return -EMFILE;
    uint32_t fd = 0;
    while (fd < m->fds_count && m->fds[fd].kind != FD_FREE)
        fd++;
    if (fd == m->fds_count) {
        uint32_t count = m->fds_count > 0 ? m->fds_count * 2 : 64;
        m->fds = sim_grow(m->sim, m->fds, m->fds_count * sizeof(*m->fds), count * sizeof(*m->fds));
        m->fds_count = count;
    }
    m->fds[fd] = slot;
    m->fds_open++;
    return (int)fd;
}

struct sim_fd *sim_fd_find(struct sim_machine *m, int fd, enum fd_kind kind)
{
    if (fd < 0 || (uint32_t)fd >= m->fds_count || m->fds[fd].kind != kind)
        return NULL;
    return &m->fds[fd];
}

void sim_fd_close(struct sim_machine *m, int fd)
{
    assert(fd >= 0 && (uint32_t)fd < m->fds_count);
    struct sim_fd slot = m->fds[fd];
    assert(slot.kind != FD_FREE); /* closed twice, or never opened */
    m->fds[fd] = (struct sim_fd){0};
    m->fds_open--;
    if (slot.inode != NULL) {
        if (slot.lock)
            slot.inode->locked = false;
        disk_release(&m->disk, slot.inode);
    }
    if (slot.listener != NULL)
        sim_listener_close(slot.listener);
    if (slot.end != NULL)
        sim_end_close(slot.end);
}

/* ---- harm ------------------------------------------------------------------------------------ */

void sim_disk_fail(struct sim_machine *m, uint32_t calls, uint64_t n, uint32_t times, int error)
{
    sim_disk_fail_on(m, UINT32_MAX, calls, n, times, error);
}

void sim_disk_fail_on(struct sim_machine *m, uint32_t volumes, uint32_t calls, uint64_t n,
                      uint32_t times, int error)
{
    assert(error < 0 || times == 0);
    m->fault = (struct disk_fault){
        .volumes = volumes, .calls = calls, .n = n, .times = times, .error = error};
}

void sim_disk_full_at(struct sim_machine *m, uint64_t n)
{
    m->full_at = n;
}

uint64_t sim_disk_calls(const struct sim_machine *m)
{
    return m->disk_calls;
}

const char *sim_disk_failed(const struct sim_machine *m)
{
    return m->site;
}

const char *sim_core_call(const struct sim_machine *m, struct core_id core)
{
    assert(core.index < m->cores_count);
    const struct sim_core *c = &m->cores[core.index];
    return c->calling ? c->call : NULL;
}

uint32_t sim_disk_refusals(const struct sim_machine *m, const struct sim_refusal **list)
{
    *list = m->refusals;
    return m->refusals_count;
}

bool sim_disk_failing(const struct sim_machine *m)
{
    return m->fault.times > 0;
}

void sim_disk_slow(struct sim_machine *m, uint32_t factor)
{
    assert(factor > 0);
    m->slow_factor = factor;
}

void sim_disk_freeze(struct sim_machine *m, uint64_t until_ns)
{
    m->frozen_until = until_ns;
    m->sim->counts[SIM_STALLS]++;
}

void sim_disk_capacity(struct sim_machine *m, uint64_t bytes)
{
    m->disk.capacity = bytes;
}

uint64_t sim_disk_used(const struct sim_machine *m)
{
    return m->disk.bytes;
}

uint64_t sim_clock_ns(const struct sim_machine *m)
{
    uint64_t earliest = m->sim->now_ns;
    for (uint32_t i = 0; i < m->cores_count; i++) {
        const struct sim_core *c = &m->cores[i];
        if (c->io != NULL && !c->sleeping)
            earliest = MIN(earliest, c->io->now_ns);
    }
    return earliest;
}

void sim_core_stall(struct sim_machine *m, struct core_id id, uint64_t until_ns)
{
    assert(id.index < m->cores_count);
    m->cores[id.index].stalled_until = until_ns;
    m->sim->counts[SIM_STALLS]++;
}

void sim_net_stall(struct sim_machine *m, uint64_t until_ns)
{
    m->net_stalled_until = until_ns;
    m->sim->counts[SIM_STALLS]++;
}

void sim_wall_jump(struct sim_machine *m, int64_t ms)
{
    m->wall_offset_ms += ms;
}

void sim_fds_limit(struct sim_machine *m, uint32_t count)
{
    m->fds_limit = count;
}

uint32_t sim_fds_open(const struct sim_machine *m)
{
    return m->fds_open;
}
