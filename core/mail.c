/* How cores talk: letters lent from one core to another, and home again.
 *
 *   mail_send ─▶ ring has room ─▶ staged ─────┐ mail_publish, end of turn     consumer's next turn
 *            └─▶ ring is full ──▶ outbox ─────┴─▶ published, bell ──────────▶ mail_drain ─▶ deliver
 *            └─▶ to oneself ────▶ local ────────────────────────────────────▶ mail_drain ─▶ deliver
 *
 * Invariants:
 *  1. Letters of one sender to one receiver are delivered in the order they were sent: while an
 *     outbox has letters, new ones go behind them and not into the ring.
 *  2. A letter is in exactly one place: local, an outbox, a ring, or its receiver's hands.
 *  3. The dirty bit of a peer is set while its ring has staged letters or its outbox has any.
 *  4. Nothing is delivered inside mail_send; a letter to oneself sent during a drain waits for the
 *     next drain, like any other.
 *
 * A letter that is a leg of a request (trip.h) is in stage RING from mail_send until it is
 * delivered.
 *
 * Fairness: a drain visits the senders in turn, a few letters each, and the next drain starts one
 * sender further, so a flood from one core delays the others' letters by a bounded number.
 *
 * Failure modes: a full ring is none; the letter waits in the outbox, which costs nothing because
 * the link is in the letter. The sender must then look again soon (mail_outbox_empty). */
#include "core/mail.h"

#include <errno.h>

#include "core/lab.h"

#define MAIL_VISIT_MAX 32u

static size_t pages_for(size_t size)
{
    return (size + 4095) & ~(size_t)4095;
}

int post_init(struct post *p, struct mem *mem, uint32_t cores_count, uint32_t slots)
{
    assert(cores_count > 0 && cores_count <= CORES_MAX);
    *p = (struct post){.mem = mem, .cores_count = cores_count};
    uint32_t rings_count = cores_count * cores_count;
    /* Pages, because rings and bells must begin on a cache line. */
    p->rings = mem_pages(mem, pages_for(rings_count * sizeof(struct ring)));
    p->bells = mem_pages(mem, pages_for(cores_count * sizeof(struct bell)));
    if (p->rings == NULL || p->bells == NULL)
        goto refused;
    for (uint32_t i = 0; i < rings_count; i++)
        p->rings[i] = (struct ring){0};
    for (uint32_t i = 0; i < cores_count; i++)
        p->bells[i] = (struct bell){0};
    for (uint32_t i = 0; i < rings_count; i++)
        if (i / cores_count != i % cores_count && ring_init(&p->rings[i], mem, slots) < 0)
            goto destroy;
    return 0;
destroy:
    post_destroy(p);
    return -ENOMEM;
refused:
    mem_pages_free(mem, p->rings, pages_for(rings_count * sizeof(struct ring)));
    mem_pages_free(mem, p->bells, pages_for(cores_count * sizeof(struct bell)));
    *p = (struct post){0};
    return -ENOMEM;
}

void post_destroy(struct post *p)
{
    assert(p->rings != NULL && p->bells != NULL);
    uint32_t rings_count = p->cores_count * p->cores_count;
    for (uint32_t i = 0; i < rings_count; i++)
        ring_destroy(&p->rings[i], p->mem);
    mem_pages_free(p->mem, p->rings, pages_for(rings_count * sizeof(struct ring)));
    mem_pages_free(p->mem, p->bells, pages_for(p->cores_count * sizeof(struct bell)));
    *p = (struct post){0};
}

static struct ring *mail_ring(const struct mail *m, uint32_t from, uint32_t to)
{
    assert(from != to);
    assert(from < m->post->cores_count && to < m->post->cores_count);
    return &m->post->rings[from * m->post->cores_count + to];
}

void mail_init(struct mail *m, struct post *post, struct core_id self)
{
    assert(self.index < post->cores_count);
    *m = (struct mail){.post = post, .self = self};
    list_init(&m->local);
    for (uint32_t i = 0; i < CORES_MAX; i++)
        list_init(&m->outbox[i]);
}

void mail_send(struct mail *m, struct core_id to, struct msg *msg)
{
    assert(core_same(core_self(), m->self));
    assert(to.index < m->post->cores_count);
    m->sent++;
    if (msg->trip != NULL)
        trip_depart(msg->trip, m->board, core_same(msg->home, m->self));
    if (core_same(to, m->self)) {
        list_push_back(&m->local, &msg->link);
        return;
    }
    m->dirty[to.index / 64] |= 1ull << (to.index % 64);
    struct ring *r = mail_ring(m, m->self.index, to.index);
    if (DEFECT(22) && m->sent % 1024 == 0)
        return;
    if (list_empty(&m->outbox[to.index]) && ring_push(r, msg))
        return;
    list_push_back(&m->outbox[to.index], &msg->link);
    m->outbox_count++;
    m->overflowed++;
}

/* Delivers up to max letters of one sender; `local` holds those from oneself. */
static uint32_t mail_visit(struct mail *m, uint32_t from, struct list *local, uint32_t max,
                           void (*deliver)(void *context, struct msg *msg), void *context)
{
    void *letters[MAIL_VISIT_MAX];
    uint32_t count = 0;
    assert(max <= MAIL_VISIT_MAX);
    if (from != m->self.index)
        count = ring_drain(mail_ring(m, from, m->self.index), letters, max);
    else
        for (; count < max && !list_empty(local); count++)
            letters[count] = container_of(list_pop_front(local), struct msg, link);
    for (uint32_t i = 0; i < count; i++) {
        struct msg *msg = letters[i];
        assert(msg != NULL);
        if (msg->trip != NULL)
            trip_arrive(msg->trip, m->board);
        deliver(context, msg);
    }
    return count;
}

uint32_t mail_drain(struct mail *m, uint32_t budget,
                    void (*deliver)(void *context, struct msg *msg), void *context)
{
    assert(core_same(core_self(), m->self));
    assert(budget > 0);
    struct list local; /* invariant 4: letters sent to oneself from now on are not in it */
    list_init(&local);
    list_splice_back(&local, &m->local);
    uint32_t cores_count = m->post->cores_count;
    uint32_t delivered = 0, idle_visits = 0, from = m->next_from;
    while (delivered < budget && idle_visits < cores_count) {
        uint32_t max = MIN(MAIL_VISIT_MAX, budget - delivered);
        uint32_t count = mail_visit(m, from, &local, max, deliver, context);
        delivered += count;
        idle_visits = count == 0 ? idle_visits + 1 : 0;
        from = from + 1 == cores_count ? 0 : from + 1;
    }
    m->next_from = m->next_from + 1 == cores_count ? 0 : m->next_from + 1;
    m->received += delivered;
    list_splice_back(&local, &m->local);
    list_splice_back(&m->local, &local);
    return delivered;
}

/* Moves what fits from the outbox into the ring. Returns whether the outbox is empty. */
static bool mail_refill(struct mail *m, uint32_t to, struct ring *r)
{
    struct list *outbox = &m->outbox[to];
    SOMETIMES_IF(!list_empty(outbox), "letters wait for room in a ring");
    for (struct list *l; (l = list_first(outbox)) != NULL; m->outbox_count--) {
        struct msg *msg = container_of(l, struct msg, link);
        list_remove(l); /* before the push: after publishing, the link is the receiver's */
        if (!ring_push(r, msg)) {
            SOMETIMES("a ring is full still");
            list_push_front(outbox, l);
            return false;
        }
    }
    return true;
}

void mail_publish(struct mail *m, void (*wake)(void *context, struct core_id to), void *context)
{
    assert(core_same(core_self(), m->self));
    for (uint32_t word = 0; word < sizeof(m->dirty) / sizeof(m->dirty[0]); word++) {
        for (uint64_t bits = m->dirty[word]; bits != 0; bits &= bits - 1) {
            uint32_t to = word * 64 + (uint32_t)__builtin_ctzll(bits);
            struct ring *r = mail_ring(m, m->self.index, to);
            if (mail_refill(m, to, r))
                m->dirty[word] &= ~(bits & -bits);
            if (ring_publish(r) && bell_must_wake(&m->post->bells[to]))
                wake(context, (struct core_id){(uint16_t)to});
        }
    }
}

bool mail_pending(const struct mail *m)
{
    if (!list_empty(&m->local))
        return true;
    for (uint32_t from = 0; from < m->post->cores_count; from++)
        if (from != m->self.index && ring_pending(mail_ring(m, from, m->self.index)))
            return true;
    return false;
}

uint32_t mail_depth(const struct mail *m)
{
    uint32_t depth = 0;
    LIST_EACH(l, &m->local)
    depth++;
    for (uint32_t from = 0; from < m->post->cores_count; from++)
        if (from != m->self.index)
            depth += ring_depth(mail_ring(m, from, m->self.index));
    return depth;
}

bool mail_outbox_empty(const struct mail *m)
{
    return m->outbox_count == 0;
}
