/* A log of histograms as HdrHistogram's tools read it: format 1.3, and in each line a histogram of
 * encoding V2.
 *
 *   Tag=LABEL.NAME          the whole window, what the table shows
 *   Tag=LABEL.NAME.slices   the same piece by piece, for latency over time
 *
 *   line   Tag=T,begin,length,max,BASE64      seconds since StartTime, seconds, ms
 *   BASE64 of the compressed form             at  size
 *     cookie 0x1c849314                        0  4
 *     length of what follows                   4  4
 *     zlib stream of                           8
 *       cookie 0x1c849313                      0  4
 *       length of the counts                   4  4
 *       0: index of the first bucket           8  4
 *       significant digits: 1                 12  4
 *       lowest and highest value: 1, max      16  16
 *       1.0: integers to doubles              32  8
 *       counts, zigzag LEB128; -n: n zeros    40
 *
 * With one significant digit HdrHistogram cuts each power of two into 16, the first 32 values being
 * exact: bucket n there is bucket n of core/histogram.h, so nothing is lost on the way.
 *
 * Failure modes: no memory; the text has failed then, which whoever writes it looks at. */
#include "broker/bench/series.h"

#include <stdio.h>
#include <string.h>

#include "core/core.h"
#include "proto/wire.h"

#define COOKIE            0x1c849313u
#define COOKIE_COMPRESSED 0x1c849314u
#define HEAD_SIZE         40u
#define COUNT_SIZE_MAX    9u /* of a zigzag LEB128 in this format */
#define GZIP_HEAD         10u
#define GZIP_TAIL         8u
#define ZLIB_HEAD         2u
#define ZLIB_TAIL         4u
#define ONE_AS_DOUBLE     0x3ff0000000000000ull
#define ADLER             65521u

struct hdr {
    struct text *t;
    struct compress compress;
    uint8_t plain[HEAD_SIZE + HISTOGRAM_BUCKETS * COUNT_SIZE_MAX];
    uint64_t first_ms; /* StartTime */
};

static uint8_t *count_put(uint8_t *to, int64_t count)
{
    uint64_t z = ((uint64_t)count << 1) ^ (uint64_t)(count >> 63);
    for (uint32_t i = 1; i < COUNT_SIZE_MAX && z > 0x7f; i++, z >>= 7)
        *to++ = (uint8_t)(z | 0x80);
    *to++ = (uint8_t)z;
    return to;
}

/* The plain form; its size. */
static uint32_t plain_put(uint8_t *plain, const struct histogram *h)
{
    uint8_t *at = plain + HEAD_SIZE;
    uint32_t end = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        end = h->buckets[i] > 0 ? i + 1 : end;
    for (uint32_t i = 0; i < end;) {
        uint32_t zeros = 0;
        while (h->buckets[i + zeros] == 0) /* the last bucket is not */
            zeros++;
        if (zeros > 0)
            at = count_put(at, zeros > 1 ? -(int64_t)zeros : 0);
        else
            at = count_put(at, (int64_t)h->buckets[i]);
        i += MAX(zeros, 1);
    }
    uint32_t size = (uint32_t)(at - plain);
    wire_store32(plain, COOKIE);
    wire_store32(plain + 4, size - HEAD_SIZE);
    wire_store32(plain + 8, 0);
    wire_store32(plain + 12, 1);
    wire_store64(plain + 16, 1);
    wire_store64(plain + 24, end == 0 ? 2 : MAX(histogram_upper(end - 1), 2));
    wire_store64(plain + 32, ONE_AS_DOUBLE);
    return size;
}

static uint32_t adler(const uint8_t *data, uint32_t size)
{
    uint32_t a = 1, b = 0;
    for (uint32_t i = 0; i < size; i++) {
        a = (a + data[i]) % ADLER;
        b = (b + a) % ADLER;
    }
    return b << 16 | a;
}

static void base64_put(struct text *t, const uint8_t *data, uint32_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (uint32_t i = 0; i < size; i += 3) {
        uint32_t left = size - i;
        uint32_t v = (uint32_t)data[i] << 16 | (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                     (left > 2 ? data[i + 2] : 0u);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
                        left > 2 ? digits[v & 63] : '='};
        text_put(t, four, sizeof(four));
    }
}

/* Compressed, in base64. A gzip member is the same stream between another head and tail. */
static void histogram_put(struct hdr *d, const struct histogram *h)
{
    uint8_t *packed;
    uint32_t size = plain_put(d->plain, h), packed_size;
    if (compress_pack(&d->compress, CODEC_GZIP, COMPRESS_LEVEL_DEFAULT, d->plain, size, 0, &packed,
                      &packed_size) != COMPRESS_OK) {
        d->t->failed = true;
        return;
    }
    assert(packed_size > GZIP_HEAD + GZIP_TAIL);
    uint32_t stream = packed_size - GZIP_HEAD - GZIP_TAIL, length = ZLIB_HEAD + stream + ZLIB_TAIL;
    uint8_t *body = packed + GZIP_HEAD;
    _Static_assert(GZIP_HEAD >= ZLIB_HEAD + 8, "the heads lie where gzip's was");
    _Static_assert(GZIP_TAIL >= ZLIB_TAIL, "the tail lies where gzip's was");
    wire_store32(body - ZLIB_HEAD - 8, COOKIE_COMPRESSED);
    wire_store32(body - ZLIB_HEAD - 4, length);
    body[-2] = 0x78; /* deflate, a window of 32 KiB, the usual level */
    body[-1] = 0x9c;
    wire_store32(body + stream, adler(d->plain, size));
    base64_put(d->t, body - ZLIB_HEAD - 8, length + 8);
}

/* Tags may hold neither commas nor blanks. */
static void tag_put(struct text *t, const char *text)
{
    for (const char *at = text; *at != '\0'; at++)
        text_put(t, *at == ',' || *at <= ' ' ? "_" : at, 1);
}

static void line_put(struct hdr *d, const struct bench_point *p, const char *name,
                     const char *suffix, double after, double seconds, const struct histogram *h)
{
    struct text *t = d->t;
    text_add(t, "Tag=");
    tag_put(t, p->label);
    text_add(t, ".");
    tag_put(t, name);
    text_add(t, "%s,%.3f,%.3f,%.6f,", suffix,
             (double)(p->result.begin_wall_ms - d->first_ms) / 1e3 + after, seconds,
             (double)h->max / 1e6);
    histogram_put(d, h);
    text_add(t, "\n");
}

static void point_put(struct hdr *d, const struct bench_point *p)
{
    const struct bench_result *r = &p->result;
    double slice_s = (double)r->slice_ns / (double)NS_PER_S;
    for (uint32_t i = 0; i < LATENCIES; i++)
        if (r->counts.latency[i].count > 0)
            line_put(d, p, bench_latency_names[i], "", 0, r->seconds, &r->counts.latency[i]);
    for (uint32_t i = 0; i < r->slices_count; i++) {
        const struct histogram *response = &r->slices[i].response, *e2e = &r->slices[i].e2e;
        if (response->count > 0)
            line_put(d, p, bench_latency_names[LATENCY_RESPONSE], ".slices", i * slice_s, slice_s,
                     response);
        if (e2e->count > 0)
            line_put(d, p, bench_latency_names[LATENCY_E2E], ".slices", i * slice_s, slice_s, e2e);
    }
}

void series_hdr(struct text *t, const struct bench_series *s, const struct provenance *p)
{
    struct hdr *d = mem_zalloc(t->mem, sizeof(*d));
    if (d == NULL) {
        t->failed = true;
        return;
    }
    d->t = t;
    d->first_ms = s->count > 0 ? s->points[0]->result.begin_wall_ms : 0;
    compress_init(&d->compress, t->mem);
    text_add(t, "#[Histogram log format version 1.3]\n#[torc bench %s, ns]\n", p->version);
    text_add(t, "#[StartTime: %.3f (seconds since epoch), %s]\n", (double)d->first_ms / 1e3,
             p->time);
    text_add(t, "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\","
                "\"Interval_Compressed_Histogram\"\n");
    for (uint32_t i = 0; i < s->count && !t->failed; i++)
        point_put(d, s->points[i]);
    compress_free(&d->compress);
    mem_free(t->mem, d, sizeof(*d));
}
