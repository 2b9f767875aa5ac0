/* Two cores on real threads hand a ball to and fro through rings, and sleep in io_poll between.
 *
 * The catcher raises its bell, looks once more, and sleeps; the thrower publishes and wakes who
 * sleeps. A wake that is lost shows as a poll that runs into its limit. Played on rings that wake
 * each other, on eventfds, with cores that look for a while before they sleep, and with cores
 * that let wakes gather. Built plain it
 * proves liveness; built with the thread sanitizer, that nothing but the rings is shared. */
#include "core/ring.h"
#include "io/uring/uring_priv.h"

#include <stdio.h>
#include <stdlib.h>

#define THROWS   5000u
#define LIMIT_NS (20 * NS_PER_S)

struct court {
    struct io_world *world;
    struct mem mem; /* of the start-up thread */
    struct ring rings[2];
    struct bell bells[2];
    uint64_t spin_ns, gather_ns;
};

struct player {
    struct court *court;
    uint16_t index;
    struct mem mem;
    struct io *io;
    uint32_t thrown, caught;
};

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static void throw_ball(struct player *p, void *ball)
{
    uint16_t to = 1 - p->index;
    CHECK(ring_push(&p->court->rings[to], ball));
    CHECK(ring_publish(&p->court->rings[to]));
    if (bell_must_wake(&p->court->bells[to]))
        io_wake(p->io, (struct core_id){to});
    p->thrown++;
}

static void *catch_ball(struct player *p)
{
    struct ring *ring = &p->court->rings[p->index];
    struct bell *bell = &p->court->bells[p->index];
    uint64_t limit = io_clock_ns(p->io) + LIMIT_NS;
    void *ball;
    while (ring_drain(ring, &ball, 1) == 0) {
        bell_sleep(bell);
        if (p->court->spin_ns > 0)
            io_spin(p->io, io_clock_ns(p->io) + p->court->spin_ns);
        (void)io_poll(p->io, ring_pending(ring) ? 0 : limit, 16);
        bell_awake(bell);
        CHECK(io_now_ns(p->io) < limit);
    }
    p->caught++;
    return ball;
}

static void play(void *argument)
{
    struct player *p = argument;
    char why[256];
    core_enter((struct core_id){p->index});
    CHECK(mem_init(&p->mem, 16 << 20) == 0);
    struct io_config config = {
        .world = p->court->world, .core = {.index = p->index}, .mem = &p->mem};
    CHECK(io_start(&p->io, &config, why, sizeof(why)) == 0);
    io_gather(p->io, p->court->gather_ns);
    if (p->index == 0)
        throw_ball(p, p->court);
    for (uint32_t i = 0; i < THROWS; i++) {
        void *ball = catch_ball(p);
        CHECK(ball == p->court);
        if (p->index != 0 || i + 1 < THROWS)
            throw_ball(p, ball);
    }
    (void)io_poll(p->io, 0, 16); /* the last wake leaves */
    CHECK(p->thrown == THROWS && p->caught == THROWS);
    io_stop(p->io);
    CHECK(p->mem.used_bytes == 0);
    mem_destroy(&p->mem);
    core_leave();
}

static void game(const char *name, uint32_t without, uint64_t spin_ns, uint64_t gather_ns)
{
    static struct court court;
    char why[256];
    court.spin_ns = spin_ns;
    court.gather_ns = gather_ns;
    CHECK(mem_init(&court.mem, 1 << 20) == 0);
    CHECK(uring_world_start(&court.world, 2, without, why, sizeof(why)) == 0);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK(ring_init(&court.rings[i], &court.mem, 8) == 0);
        bell_awake(&court.bells[i]);
    }
    struct player players[2] = {{.court = &court, .index = 0}, {.court = &court, .index = 1}};
    struct io_thread *threads[2];
    for (uint32_t i = 0; i < 2; i++)
        CHECK(io_thread_start(&threads[i], play, &players[i], -1, "player") == 0);
    for (uint32_t i = 0; i < 2; i++)
        io_thread_join(threads[i]);
    for (uint32_t i = 0; i < 2; i++)
        ring_destroy(&court.rings[i], &court.mem);
    io_world_stop(court.world);
    CHECK(court.mem.used_bytes == 0);
    mem_destroy(&court.mem);
    printf("%s: %u throws, none lost\n", name, 2 * THROWS);
}

int main(void)
{
    game("rings", 0, 0, 0);
    game("rings, looking first", 0, 20 * NS_PER_US, 0);
    game("rings, gathering", 0, 0, 30 * NS_PER_US);
    game("eventfds", WITHOUT_MSG_RING, 0, 0);
    game("plain rings", WITHOUT_DEFER | WITHOUT_COOP, 0, 0);
    return 0;
}
