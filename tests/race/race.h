/* What the race programs share: a thread, a place to sleep, and a way to fail. They are plain
 * programs, because the thread sanitizer and test frameworks that fork do not get along, and they
 * use the real threads that everything else leaves to io. */
#ifndef TESTS_RACE_RACE_H
#define TESTS_RACE_RACE_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RACE_LOST_WAKE_S 20

static inline void race_check(bool ok, const char *what)
{
    if (ok)
        return;
    (void)fprintf(stderr, "race: %s\n", what);
    exit(1);
}

static inline void race_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    race_check(pthread_create(thread, NULL, run, argument) == 0, "no thread");
}

static inline void race_join(pthread_t thread)
{
    race_check(pthread_join(thread, NULL) == 0, "no end of a thread");
}

/* Sleeps until woken. Nobody has reason to sleep for long: that is a lost wake. */
static inline void race_sleep(sem_t *bed)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += RACE_LOST_WAKE_S;
    int woken;
    while ((woken = sem_timedwait(bed, &until)) != 0 && until.tv_sec > 0) {
        struct timespec now;
        (void)clock_gettime(CLOCK_REALTIME, &now);
        race_check(now.tv_sec < until.tv_sec, "a wake was lost");
    }
}

#endif
