/* The accounts of a load: what they find in streams that are broken on purpose, and that their sums
 * are those of the parts. */
#include "broker/bench/worker.h"

#include <criterion/criterion.h>
#include <string.h>

#include "broker/bench/text.h"
#include "proto/record.h"

#define MEMORY (64ull << 20)

static void ledger_feed(struct ledger *l, const uint64_t *numbers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        cr_assert(ledger_take(l, numbers[i]));
}

Test(bench, ledger_of_a_whole_stream_takes_no_memory_and_misses_nothing)
{
    struct mem mem;
    struct ledger l;
    cr_assert_eq(mem_init(&mem, MEMORY), 0);
    ledger_init(&l, &mem, 0);
    for (uint64_t i = 0; i < 100000; i++)
        cr_assert(ledger_take(&l, i));
    cr_assert_eq(mem.used_bytes, 0);
    cr_assert_eq(ledger_missing(&l, 100000), 0);
    cr_assert_eq(ledger_missing(&l, 100003), 3, "what was never seen is missing");
    cr_assert_eq(l.repeated + l.disordered, 0);
    mem_destroy(&mem);
}

Test(bench, ledger_counts_what_is_lost_repeated_and_out_of_order)
{
    static const uint64_t numbers[] = {0, 1, 3, 3, 2, 1, 6, 5, 200, 6};
    struct mem mem;
    struct ledger l;
    cr_assert_eq(mem_init(&mem, MEMORY), 0);
    ledger_init(&l, &mem, 0);
    ledger_feed(&l, numbers, 10);
    cr_assert_eq(l.count, 7);
    cr_assert_eq(l.repeated, 3, "3, 1 and 6 came twice");
    cr_assert_eq(l.disordered, 2, "2 after 3, 5 after 6");
    cr_assert_eq(ledger_missing(&l, 7), 1, "4");
    cr_assert_eq(ledger_missing(&l, 201), 194, "4 and 7 .. 199");
    ledger_free(&l);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

Test(bench, ledger_keeps_its_bits_while_the_ring_grows_and_closes)
{
    struct mem mem;
    struct ledger l;
    cr_assert_eq(mem_init(&mem, MEMORY), 0);
    ledger_init(&l, &mem, 77);
    for (uint64_t i = 100000; i > 78; i--) /* backwards: everything is above the gap */
        cr_assert(ledger_take(&l, i));
    cr_assert_eq(ledger_missing(&l, 100001), 2);
    cr_assert(ledger_take(&l, 77));
    cr_assert_eq(l.next, 78);
    cr_assert(ledger_take(&l, 78));
    cr_assert_eq(l.next, 100001, "the gap is closed");
    cr_assert_eq(l.above_count, 0);
    cr_assert_eq(l.repeated, 0);
    ledger_free(&l);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

Test(bench, ledger_refuses_a_number_too_far_ahead_to_be_true)
{
    struct mem mem;
    struct ledger l;
    cr_assert_eq(mem_init(&mem, MEMORY), 0);
    ledger_init(&l, &mem, 0);
    cr_assert_not(ledger_take(&l, LEDGER_AHEAD + 1));
    cr_assert_eq(l.count, 0);
    mem_destroy(&mem);
}

Test(bench, spread_is_dense_only_if_each_number_came_once_whoever_had_it)
{
    struct spread a = {0}, b = {0}, all = {0};
    for (uint64_t i = 0; i < 1000; i++)
        spread_take(i % 3 == 0 ? &a : &b, 999 - i);
    spread_merge(&all, &a);
    spread_merge(&all, &b);
    cr_assert(spread_dense(&all));
    cr_assert_not(spread_dense(&a), "a part of them is not all");
    struct spread twice = all;
    spread_take(&twice, 5);
    cr_assert_not(spread_dense(&twice));
    struct spread hole = {0};
    spread_take(&hole, 0);
    spread_take(&hole, 0);
    spread_take(&hole, 2);
    cr_assert_not(spread_dense(&hole), "0 twice and 1 never, of 3");
    struct spread none = {0};
    cr_assert(spread_dense(&none));
}

/* ---- payloads -------------------------------------------------------------------------------- */

static struct payload_template template_of(struct mem *mem, uint32_t records, uint32_t size,
                                           uint32_t keys)
{
    struct payload_template t;
    cr_assert(payload_template_make(&t, mem, records, size, keys, false, 7));
    return t;
}

static void stamp(struct payload_template *t, uint64_t sequence)
{
    struct payload_stamp s = {.first = {11, 22, sequence, 3},
                              .wall_ms = 1234,
                              .producer_id = -1,
                              .producer_epoch = -1,
                              .base_sequence = -1};
    payload_stamp(t, t->batch, &s);
    payload_seal(t->batch, t->batch_size);
}

Test(bench, stamped_batch_is_what_any_broker_takes_and_carries_what_was_stamped)
{
    struct mem mem;
    cr_assert_eq(mem_init(&mem, MEMORY), 0);
    struct payload_template t = template_of(&mem, 200, 100, 10);
    stamp(&t, 1000);
    struct batch_rules rules = {.max_message_bytes = 1 << 20,
                                .strict = true,
                                .produce_version = 9,
                                .timestamp_before_max_ms = INT64_MAX,
                                .timestamp_after_max_ms = INT64_MAX,
                                .now_ms = 1234,
                                .codec = BATCH_CODEC_PRODUCER,
                                .unpacked_bytes_max = 1 << 20};
    struct compress compress;
    struct batch_verdict verdict;
    compress_init(&compress, &mem);
    cr_assert_eq(batch_validate(&compress, &rules, t.batch, t.batch_size, NULL, &verdict), KE_NONE);
    struct record_iter it;
    struct record r;
    uint64_t sequence = 1000;
    record_iter_init(&it, t.batch + BATCH_HEADER_SIZE, t.batch_size - BATCH_HEADER_SIZE, 200);
    while (record_next(&it, &r)) {
        struct payload p;
        bool damaged;
        cr_assert(payload_read(&p, r.value.data, r.value.size, &damaged));
        cr_assert_eq(p.sequence, sequence++);
        cr_assert(p.run == 11 && p.due_ns == 22 && p.producer == 3);
        cr_assert_eq(r.key.size, 8);
        cr_assert_lt(r.key.data[7], 10, "one of ten keys");
    }
    cr_assert_eq(sequence, 1200);
    compress_free(&compress);
    mem_destroy(&mem);
}

Test(bench, every_flipped_bit_of_a_payload_is_found)
{
    struct mem mem;
    cr_assert_eq(mem_init(&mem, MEMORY), 0);
    struct payload_template t = template_of(&mem, 1, 60, 0);
    stamp(&t, 5);
    uint8_t *value = t.batch + t.values[0];
    for (uint32_t bit = 32; bit < 60 * 8; bit++) { /* without its name it is foreign, not damaged */
        struct payload p;
        bool damaged;
        value[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_not(payload_read(&p, value, 60, &damaged));
        cr_assert(damaged, "bit %u", bit);
        value[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    mem_destroy(&mem);
}

static void read_value(struct reading *p, struct mem *mem, struct bench_counts *c,
                       struct payload_template *t, uint64_t sequence)
{
    struct payload found;
    stamp(t, sequence);
    reading_take(p, mem, c, 11, t->batch + t->values[0], 64, &found);
}

Test(bench, reader_finds_loss_repetition_disorder_damage_and_strangers)
{
    struct mem mem;
    struct reading p = {0};
    struct bench_counts *c;
    struct payload found;
    cr_assert_eq(mem_init(&mem, MEMORY), 0);
    c = mem_zalloc(&mem, sizeof(*c));
    struct payload_template t = template_of(&mem, 1, 64, 0);
    static const uint64_t sequences[] = {0, 1, 4, 2, 2, 6};
    for (uint32_t i = 0; i < 6; i++)
        read_value(&p, &mem, c, &t, sequences[i]);
    t.batch[t.values[0] + 50] ^= 1;
    reading_take(&p, &mem, c, 11, t.batch + t.values[0], 64, &found);
    reading_take(&p, &mem, c, 11, (const uint8_t *)"hello", 5, &found);
    cr_assert_eq(c->checked, 6);
    cr_assert_eq(c->repeated, 1);
    cr_assert_eq(c->disordered, 1);
    cr_assert_eq(c->damaged, 1);
    cr_assert_eq(c->foreign, 1);
    struct stream *s = reading_stream(&p, 11, 3);
    cr_assert_not_null(s);
    cr_assert_eq(ledger_missing(&s->ledger, 7), 2, "3 and 5");
    cr_assert_null(reading_stream(&p, 12, 3), "another run");
    mem_destroy(&mem);
}

/* ---- sums ------------------------------------------------------------------------------------ */

Test(bench, percentiles_come_from_merged_histograms_and_not_from_averages)
{
    struct mem mem;
    cr_assert_eq(mem_init(&mem, MEMORY), 0);
    struct bench_counts *a = mem_zalloc(&mem, sizeof(*a)), *b = mem_zalloc(&mem, sizeof(*b));
    for (uint32_t i = 0; i < 1000; i++)
        histogram_record(&a->latency[LATENCY_RESPONSE], 1000);
    histogram_record(&b->latency[LATENCY_RESPONSE], 1000000);
    a->records = 1000;
    b->records = 1;
    b->errors = 2;
    b->first_error = 9;
    bench_counts_merge(a, b);
    const struct histogram *h = &a->latency[LATENCY_RESPONSE];
    cr_assert_eq(h->count, 1001);
    cr_assert_leq(histogram_quantile(h, 0.99), 1063, "an average of two p99 would be 500 us");
    cr_assert_eq(histogram_quantile(h, 1), 1000000);
    cr_assert(a->records == 1001 && a->errors == 2 && a->first_error == 9);
    mem_destroy(&mem);
}

Test(bench, timetable_depends_on_the_number_of_a_request_alone)
{
    struct plan plan = {.request_rate = 1000};
    cr_assert_eq(plan_due_ns(&plan, 500, 0), 500);
    cr_assert_eq(plan_due_ns(&plan, 500, 1), 500 + 1000000);
    cr_assert_eq(plan_due_ns(&plan, 500, 3600000), 500 + 3600ull * NS_PER_S, "an hour later");
}

Test(bench, numbers_are_written_as_people_read_them)
{
    char to[TEXT_NUMBER_SIZE];
    cr_assert_str_eq(text_count(to, 1234567), "1,234,567");
    cr_assert_str_eq(text_count(to, 999), "999");
    cr_assert_str_eq(text_duration(to, 181499), "181 us");
    cr_assert_str_eq(text_duration(to, 1900000), "1.90 ms");
    cr_assert_str_eq(text_duration(to, 2500000000), "2.50 s");
    cr_assert_str_eq(text_decimal(to, 12345.6), "12,346");
    cr_assert_str_eq(text_bytes(to, 48.8e6), "48.8 MB");
    cr_assert_str_eq(text_short(to, 999999), "999,999");
    cr_assert_str_eq(text_short(to, 1234567), "1.23 M");
    cr_assert_str_eq(text_short(to, UINT64_MAX / 1000000), "18.4 T");
}

Test(bench, json_is_whole_and_escaped)
{
    struct mem mem;
    struct text t;
    cr_assert_eq(mem_init(&mem, MEMORY), 0);
    text_init(&t, &mem);
    text_json_open(&t, NULL, '{');
    text_json_string(&t, "a\"b", "x\n\\");
    text_json_open(&t, "list", '[');
    text_json_integer(&t, NULL, 1);
    text_json_number(&t, NULL, 0.5);
    text_json_close(&t, ']');
    text_json_number(&t, "no", 0.0 / 0.0);
    text_json_close(&t, '}');
    cr_assert_str_eq(t.data, "{\"a\\\"b\":\"x\\u000a\\\\\",\"list\":[1,0.5],\"no\":null}");
    text_free(&t);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}
