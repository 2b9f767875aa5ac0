/* Three cores on three real threads exchange letters through rings that are too small for them.
 *
 * Each core lends its letters to the others (and to itself), who answer in the letter and send it
 * home. Every letter must come home as often as it went out, answered by whom it was sent to, and
 * letters of one core to another must arrive in the order they were sent. A core with nothing to do
 * sleeps and must be woken; one whose outbox is not empty must not sleep.
 *
 * Played twice: as a crowd, where rings are full all the time, and with one letter each, where
 * somebody is always asleep. */
#include "core/mail.h"

#include <sched.h>

#include "tests/race/race.h"

#define CORES       3u
#define LETTERS_MAX 40u
#define SLOTS       8u
#define BUDGET      50u

enum { ASK, ANSWER };

struct letter {
    struct msg msg;
    uint32_t to;
    uint64_t number, answer; /* number counts the letters of one core to another */
};

struct node;

struct person {
    struct node *node;
    struct mail mail;
    struct letter letters[LETTERS_MAX];
    uint64_t numbers_sent[CORES], numbers_seen[CORES];
    uint64_t trips_begun, trips_ended, sleeps;
    uint32_t at_home;
};

struct node {
    struct post post;
    uint32_t letters_count; /* of each core */
    uint64_t trips_count;   /* of each core's letters, together */
    struct person persons[CORES];
    sem_t beds[CORES];
    uint32_t finished; /* atomic: how many cores have all letters home */
};

static void letter_send(struct person *p, struct letter *l)
{
    l->to = (uint32_t)(p->trips_begun % CORES);
    l->number = p->numbers_sent[l->to]++;
    l->answer = 0;
    l->msg.kind = ASK;
    l->msg.home = p->mail.self;
    p->trips_begun++;
    mail_send(&p->mail, (struct core_id){(uint16_t)l->to}, &l->msg);
}

static void deliver(void *context, struct msg *msg)
{
    struct person *p = context;
    struct letter *l = container_of(msg, struct letter, msg);
    if (msg->kind == ASK) {
        race_check(l->to == p->mail.self.index, "a letter reached the wrong core");
        race_check(l->number == p->numbers_seen[msg->home.index]++, "letters changed places");
        l->answer = l->number * 3 + p->mail.self.index;
        msg->kind = ANSWER;
        mail_send(&p->mail, msg->home, msg);
        return;
    }
    race_check(core_same(msg->home, p->mail.self), "an answer reached the wrong core");
    race_check(l->answer == l->number * 3 + l->to, "an answer is wrong");
    p->trips_ended++;
    if (p->trips_begun < p->node->trips_count)
        letter_send(p, l);
    else
        p->at_home++;
}

static void wake(void *context, struct core_id to)
{
    struct person *p = context;
    race_check(sem_post(&p->node->beds[to.index]) == 0, "no wake");
}

static void person_rest(struct person *p)
{
    struct bell *bell = &p->node->post.bells[p->mail.self.index];
    if (!mail_outbox_empty(&p->mail)) {
        sched_yield();
        return;
    }
    bell_sleep(bell);
    if (!mail_pending(&p->mail)) {
        p->sleeps++;
        race_sleep(&p->node->beds[p->mail.self.index]);
    }
    bell_awake(bell);
}

/* The last core to have all its letters home wakes everybody, for there will be no more mail. */
static void person_finish(struct person *p)
{
    if (__atomic_add_fetch(&p->node->finished, 1, __ATOMIC_ACQ_REL) < CORES)
        return;
    for (uint32_t i = 0; i < CORES; i++)
        race_check(sem_post(&p->node->beds[i]) == 0, "no wake");
}

static void *person_run(void *argument)
{
    struct person *p = argument;
    bool finished = false;
    core_enter(p->mail.self);
    for (uint32_t i = 0; i < p->node->letters_count; i++)
        letter_send(p, &p->letters[i]);
    while (__atomic_load_n(&p->node->finished, __ATOMIC_ACQUIRE) < CORES) {
        uint32_t delivered = mail_drain(&p->mail, BUDGET, deliver, p);
        mail_publish(&p->mail, wake, p);
        if (p->at_home == p->node->letters_count && !finished) {
            finished = true;
            person_finish(p);
        }
        if (delivered == 0 && __atomic_load_n(&p->node->finished, __ATOMIC_ACQUIRE) < CORES)
            person_rest(p);
    }
    core_leave();
    return NULL;
}

struct totals {
    uint64_t overflowed, sleeps;
};

static struct totals play(uint32_t letters_count, uint64_t trips_count)
{
    static struct node node;
    struct mem mem;
    pthread_t threads[CORES];
    struct totals totals = {0};
    node = (struct node){.letters_count = letters_count, .trips_count = trips_count};
    race_check(mem_init(&mem, 1 << 20) == 0, "no memory");
    race_check(post_init(&node.post, &mem, CORES, SLOTS) == 0, "no post");
    for (uint32_t i = 0; i < CORES; i++) {
        node.persons[i].node = &node;
        mail_init(&node.persons[i].mail, &node.post, (struct core_id){(uint16_t)i});
        race_check(sem_init(&node.beds[i], 0, 0) == 0, "no semaphore");
    }
    for (uint32_t i = 0; i < CORES; i++)
        race_start(&threads[i], person_run, &node.persons[i]);
    for (uint32_t i = 0; i < CORES; i++)
        race_join(threads[i]);
    for (uint32_t i = 0; i < CORES; i++) {
        const struct person *p = &node.persons[i];
        race_check(p->trips_ended == trips_count, "a letter made too few or many trips");
        totals.overflowed += p->mail.overflowed;
        totals.sleeps += p->sleeps;
    }
    post_destroy(&node.post);
    race_check(mem.used_bytes == 0, "memory was kept");
    mem_destroy(&mem);
    printf("mail: %u letters, %llu trips each, overflowed %llu, sleeps %llu\n", letters_count,
           (unsigned long long)trips_count, (unsigned long long)totals.overflowed,
           (unsigned long long)totals.sleeps);
    return totals;
}

int main(void)
{
    struct totals crowd = play(LETTERS_MAX, 60000);
    race_check(crowd.overflowed > 0, "no ring was ever full");
    struct totals few = play(1, 20000);
    race_check(few.overflowed == 0, "one letter overflowed a ring");
    race_check(few.sleeps > 0, "nobody ever slept");
    return 0;
}
