/* Any row of events to a shard of transactional ids: producers begin, add partitions, have them
 * verified, end and are fenced, of every version; markers get written; time passes; ids are listed
 * and described. After each event states, epochs and lists of the shard fit each other; epochs of
 * an id never fall while its producer id stays; a second shard, loaded from the records of the
 * first, is the same; and nothing is left. */
#include "tests/fuzz/fuzz.h"

#include "broker/txn/txn_priv.h"
#include "tests/broker/txn_rig.h"

#define EVENTS_MAX 200u
#define IDS        3u

static const char *const names[IDS] = {"a", "b", "c"};

struct play {
    struct txn_rig rig;
    struct fuzz_reader in;
    struct known {
        int64_t id;
        int16_t epoch;
    } last[IDS], seen[IDS];
};

static struct known pick(struct play *p, uint32_t n)
{
    struct known k = p->last[n];
    switch (fuzz_below(&p->in, 16)) {
    case 0:
        k.epoch++;
        break;
    case 1:
        k.epoch--;
        break;
    case 2:
        k.id++;
        break;
    case 3:
        k = (struct known){-1, -1};
        break;
    default:
        break;
    }
    return k;
}

static void note(struct play *p, uint32_t n, struct rig_answer a)
{
    if (a.error == KE_NONE && a.id >= 0)
        p->last[n] = (struct known){a.id, a.epoch};
}

static void event(struct play *p)
{
    static const int32_t ms[] = {1, 100, 10001, 60001, 120000, 3600001, 604800001, 50};
    uint32_t what = fuzz_below(&p->in, 10), n = fuzz_below(&p->in, IDS);
    int32_t how = fuzz_byte(&p->in);
    struct known k = pick(p, n);
    struct txn *t = rig_find(&p->rig, names[n]);
    switch (what) {
    case 0:
        note(p, n, rig_begin(&p->rig, names[n]));
        break;
    case 1:
        note(p, n, rig_begin_as(&p->rig, names[n], k.id, k.epoch, (int16_t)(how % 7)));
        break;
    case 2:
    case 3:
        (void)rig_add(&p->rig, names[n], k.id, k.epoch, how & 3, how & 64 ? 2 : 0);
        break;
    case 4:
        (void)rig_verify(&p->rig, names[n], k.id, k.epoch, how & 3);
        break;
    case 5:
    case 6:
        note(p, n,
             rig_finish(&p->rig, names[n], k.id, k.epoch, (how & 1) != 0, (int16_t)(how / 2 % 6)));
        break;
    case 7:
        if (t != NULL && txn_ends(t) && (how & 1) != 0)
            rig_mark(&p->rig, names[n]);
        else if (t != NULL && txn_ends(t))
            txn_partition_ended(t, wire_string_of("t"), how >> 6);
        break;
    case 8:
        rig_pass(&p->rig, ms[how % 8]);
        rig_take(&p->rig.shard);
        break;
    default:
        (void)rig_describe(&p->rig, names[n]);
    }
}

static void check(struct play *p)
{
    const struct txn_shard *s = &p->rig.shard;
    uint32_t count = 0;
    LIST_EACH(l, &s->all)
    {
        const struct txn *t = container_of(l, struct txn, link);
        count++;
        assert(t->shard == s && t->id_size == 1);
        assert(t->now.producer_id >= 0 && t->now.epoch >= -1);
        assert(t->now.last_epoch <= t->now.epoch || t->now.last_epoch == INT16_MAX - 1);
        assert(!txn_is(t, TXN_EMPTY) || t->partitions_count == 0);
        assert(!txn_is(t, TXN_COMPLETE_COMMIT) || t->partitions_count == 0);
        assert(!txn_is(t, TXN_COMPLETE_ABORT) || t->partitions_count == 0);
        assert(!txn_is(t, TXN_DEAD) && !txn_is(t, TXN_PREPARE_EPOCH_FENCE));
        assert(list_empty(&t->waiting) || txn_ends(t));
        struct known *seen = &p->seen[t->id[0] - 'a'];
        assert(seen->id != t->now.producer_id || seen->epoch <= t->now.epoch);
        *seen = (struct known){t->now.producer_id, t->now.epoch};
    }
    assert(count == s->txns.count);
    assert(list_empty(&s->update.records) && list_empty(&s->update.answered));
}

static void same(struct play *p, struct txn_rig *other)
{
    for (uint32_t n = 0; n < IDS; n++) {
        const struct txn *a = rig_find(&p->rig, names[n]), *b = rig_find(other, names[n]);
        assert((a == NULL) == (b == NULL));
        if (a == NULL)
            continue;
        assert(a->now.state.now == b->now.state.now);
        assert(a->now.producer_id == b->now.producer_id && a->now.epoch == b->now.epoch);
        assert(a->now.timeout_ms == b->now.timeout_ms);
        if (!txn_ends(a)) /* what is ended already is not on record */
            assert(a->partitions_count == b->partitions_count);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct play p;
    static struct txn_rig second;
    if (size > FUZZ_INPUT_MAX)
        return 0;
    p.in = (struct fuzz_reader){data, size};
    rig_init(&p.rig);
    p.rig.shard.version = (int16_t)fuzz_below(&p.in, 3);
    for (uint32_t i = 0; i < IDS; i++)
        p.last[i] = p.seen[i] = (struct known){-1, -1};
    for (uint32_t n = 0; n < EVENTS_MAX && p.in.left > 0; n++) {
        event(&p);
        check(&p);
    }
    rig_load(&second, &p.rig);
    same(&p, &second);
    rig_end(&second);
    rig_end(&p.rig);
    return 0;
}

size_t fuzz_seed(uint32_t n, uint8_t *to)
{
    return n < 30 ? fuzz_noise(n, 40 + 20 * n, to) : 0;
}
