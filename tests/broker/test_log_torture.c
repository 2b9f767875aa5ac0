/* Logs on a simulated disk that loses, tears and refuses: whatever is done to it, what was
 * acknowledged is there in the next life. Each test runs many seeds; TORTURE_SEED runs one,
 * TORTURE_SEEDS so many from 1 on. */
#include "tests/broker/log_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void lives(uint64_t seed, uint32_t count, enum model_way (*way)(struct model *m))
{
    struct model *m = malloc(sizeof(*m));
    model_start(m, seed);
    for (uint32_t life = 0; life < count; life++) {
        model_open(m);
        model_check(m);
        model_work(m, (uint32_t)chance_between(&m->chance, 10, 1500));
        if (chance_one_in(&m->chance, 3))
            model_settle(m);
        model_die(m, life + 1 == count ? MODEL_STOP : way(m));
    }
    model_open(m);
    model_check(m);
    model_die(m, MODEL_STOP);
    model_end(m);
    free(m);
}

static void seeds(uint32_t count, void (*run)(uint64_t seed))
{
    const char *one = getenv("TORTURE_SEED"), *many = getenv("TORTURE_SEEDS");
    uint64_t first = one != NULL ? strtoull(one, NULL, 10) : 1;
    uint64_t last = one != NULL ? first : many != NULL ? strtoull(many, NULL, 10) : count;
    for (uint64_t seed = first; seed <= last; seed++) {
        if (many != NULL)
            fprintf(stderr, "seed %lu\r", (unsigned long)seed);
        run(seed);
    }
}

static enum model_way by_kill(struct model *m)
{
    return chance_one_in(&m->chance, 5) ? MODEL_STOP : MODEL_KILL;
}

static enum model_way by_cut(struct model *m)
{
    return chance_one_in(&m->chance, 5) ? MODEL_STOP : MODEL_CUT;
}

static void killed(uint64_t seed)
{
    lives(seed, 5, by_kill);
}

static void cut(uint64_t seed)
{
    lives(seed, 5, by_cut);
}

Test(log_torture, keeps_its_promises_through_kills)
{
    seeds(40, killed);
}

Test(log_torture, keeps_its_promises_through_power_cuts)
{
    seeds(40, cut);
}

/* An error in the middle of work: the directory is out till the next life, the other one goes on,
 * nothing acknowledged is lost. */
static void failing(uint64_t seed)
{
    static const uint32_t calls[] = {SIM_DISK_WRITE, SIM_DISK_SYNC,
                                     SIM_DISK_WRITE | SIM_DISK_SYNC | SIM_DISK_NAME};
    struct model *m = malloc(sizeof(*m));
    model_start(m, seed);
    for (uint32_t life = 0; life < 4; life++) {
        model_open(m);
        model_check(m);
        model_work(m, (uint32_t)chance_between(&m->chance, 10, 600));
        sim_disk_fail(m->rig.machine, calls[chance_below(&m->chance, 3)],
                      chance_below(&m->chance, 60), 1, -EIO);
        model_work(m, (uint32_t)chance_between(&m->chance, 10, 900));
        model_settle(m);
        sim_disk_fail(m->rig.machine, 0, 0, 0, 0);
        model_die(m, chance_one_in(&m->chance, 2) ? MODEL_KILL : MODEL_CUT);
    }
    model_open(m);
    model_check(m);
    model_die(m, MODEL_STOP);
    model_end(m);
    free(m);
}

Test(log_torture, fails_a_directory_once_and_for_good_when_the_disk_errs)
{
    seeds(40, failing);
}

/* Each batch of these topics is acknowledged when its segment is synced, and is nowhere else. What
 * a sync that failed was to bring to the disk still shows in the page cache after a kill, and may
 * not be built upon: later syncs do not bring it there. */
static void syncing(uint64_t seed)
{
    struct model *m = malloc(sizeof(*m));
    model_start(m, seed);
    for (uint32_t i = 0; i < MODEL_LOGS; i++) {
        m->logs[i].config.write_caching = true;
        m->logs[i].config.flush_messages = 1;
    }
    for (uint32_t life = 0; life < 6; life++) {
        model_open(m);
        model_check(m);
        model_work(m, (uint32_t)chance_between(&m->chance, 10, 200));
        bool fails = life % 2 == 0;
        if (fails)
            sim_disk_fail(m->rig.machine, SIM_DISK_SYNC, chance_below(&m->chance, 20), 1, -EIO);
        model_work(m, (uint32_t)chance_between(&m->chance, 10, 200));
        model_settle(m);
        sim_disk_fail(m->rig.machine, 0, 0, 0, 0);
        model_die(m, fails ? MODEL_KILL : MODEL_CUT);
    }
    model_open(m);
    model_check(m);
    model_die(m, MODEL_STOP);
    model_end(m);
    free(m);
}

Test(log_torture, builds_on_nothing_that_a_failed_sync_left_in_the_page_cache)
{
    seeds(40, syncing);
}

/* Some file systems look for room as late as in a sync. What that one was to bring to the device is
 * lost, however much room there is later. */
static void syncing_without_room(uint64_t seed)
{
    struct model *m = malloc(sizeof(*m));
    model_start(m, seed);
    for (uint32_t life = 0; life < 3; life++) {
        model_open(m);
        model_check(m);
        uint64_t total = 0, usable = 0;
        cr_assert_eq(io_space(m->rig.io, "/d0", &total, &usable), 0);
        sim_disk_capacity(m->rig.machine, total - usable + (256u << 20));
        sim_disk_fail(m->rig.machine, SIM_DISK_SYNC, chance_below(&m->chance, 20), 1, -ENOSPC);
        m->full = true;
        model_work(m, (uint32_t)chance_between(&m->chance, 10, 900));
        m->full = false;
        sim_disk_capacity(m->rig.machine, UINT64_MAX / 4);
        uint64_t until = io_now_ns(m->rig.io) + 5 * NS_PER_S;
        while (io_now_ns(m->rig.io) < until)
            model_turn(m);
        sim_disk_fail(m->rig.machine, 0, 0, 0, 0);
        model_work(m, (uint32_t)chance_between(&m->chance, 10, 900));
        model_settle(m);
        model_die(m, MODEL_CUT);
    }
    model_open(m);
    model_check(m);
    model_die(m, MODEL_STOP);
    model_end(m);
    free(m);
}

Test(log_torture, tries_no_sync_again_that_failed_for_want_of_space)
{
    seeds(40, syncing_without_room);
}

/* The disk fills and is given space again: appends are refused meanwhile, also those that were
 * under way, and nothing else. */
static void filling(uint64_t seed)
{
    struct model *m = malloc(sizeof(*m));
    model_start(m, seed);
    for (uint32_t life = 0; life < 3; life++) {
        model_open(m);
        model_check(m);
        model_work(m, (uint32_t)chance_between(&m->chance, 10, 300));
        uint64_t total = 0, usable = 0;
        cr_assert_eq(io_space(m->rig.io, "/d0", &total, &usable), 0);
        sim_disk_capacity(m->rig.machine, total - usable + chance_below(&m->chance, 300000));
        m->full = true;
        model_work(m, (uint32_t)chance_between(&m->chance, 300, 1500));
        uint64_t until = io_now_ns(m->rig.io) + 2 * NS_PER_S;
        while (m->in_flight > 0) {
            model_turn(m);
            cr_assert(io_now_ns(m->rig.io) < until, "an append waits for space");
        }
        m->full = false;
        sim_disk_capacity(m->rig.machine, UINT64_MAX / 4);
        until = io_now_ns(m->rig.io) + 5 * NS_PER_S;
        while (io_now_ns(m->rig.io) < until)
            model_turn(m);
        cr_assert_eq(m->dirs_failed, 0);
        model_settle(m);
        uint32_t refused = m->refused;
        model_work(m, 50);
        model_settle(m);
        cr_assert_eq(m->refused, refused, "still refused");
        model_die(m, chance_one_in(&m->chance, 2) ? MODEL_STOP : MODEL_CUT);
    }
    model_open(m);
    model_check(m);
    model_die(m, MODEL_STOP);
    model_end(m);
    free(m);
}

Test(log_torture, refuses_appends_while_the_disk_is_full_and_goes_on_after)
{
    seeds(20, filling);
}
