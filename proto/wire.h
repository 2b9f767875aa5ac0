/* The bytes of Kafka's protocol, one primitive at a time: struct wire_reader takes them apart,
 * struct wire_writer puts them together. Generated codecs (proto/gen) are made of these calls.
 *
 * Two encodings exist for whatever has a length: the classic one (int16 or int32 before the data)
 * and the compact one of "flexible" versions (unsigned varint of length + 1). `compact` says which.
 *
 * Reader: the first thing that does not fit sets `error` and empties the reader; whatever is read
 * after that is zero. Check `error` once, at the end. What is read is a view into the input.
 *
 * Writer: `position` runs on even where the room has ended, so a writer without room (all zero)
 * measures, and one pass over a message tells everything needed to make the real one:
 *     struct wire_writer w = {0};
 *     fetch_response_encode(&m, &w, version);
 *     // w.position: bytes of room, w.spliced_bytes: bytes that stay where they are,
 *     // w.splices_count: slots for wire_writer_splice. The frame is position + spliced_bytes long.
 * Records given as pieces are not copied: the writer notes where they belong in the output. */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include "core/arena.h"
#include "core/assert.h"
#include "core/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum wire_error {
    WIRE_MALFORMED = -1, /* the bytes are not what the schema says */
    WIRE_NO_MEMORY = -2, /* the arena is over its limit */
};

#define WIRE_STRING_MAX 32767 /* bytes of a string, in both encodings */

/* Not terminated. size -1: null. */
struct wire_string {
    const char *data;
    int32_t size;
};

/* size -1: null. */
struct wire_bytes {
    const uint8_t *data;
    int32_t size;
};

/* A run of lent memory. */
struct wire_piece {
    const void *data;
    uint32_t size;
};

/* Record batches. Decoded, and small ones to encode: data and size (-1: null). To encode without
 * a copy: pieces, which then win over data; they and what they point to outlive the output. */
struct wire_records {
    const uint8_t *data;
    int32_t size;
    uint32_t pieces_count;
    const struct wire_piece *pieces;
};

/* ---- reader ---------------------------------------------------------------------------------- */

struct wire_reader {
    const uint8_t *at, *end;
    int error; /* sticky: 0, WIRE_MALFORMED or WIRE_NO_MEMORY */
};

static inline void wire_reader_init(struct wire_reader *r, const void *data, size_t size)
{
    r->at = data;
    r->end = size > 0 ? r->at + size : r->at;
    r->error = 0;
}

/* Ends the reading: the first error stays. */
void wire_fail(struct wire_reader *r, int error);

static inline size_t wire_left(const struct wire_reader *r)
{
    return (size_t)(r->end - r->at);
}

/* The next size bytes, or NULL (failed) when there are fewer. */
static inline const uint8_t *wire_take(struct wire_reader *r, size_t size)
{
    if (__builtin_expect(wire_left(r) < size, 0)) {
        wire_fail(r, WIRE_MALFORMED);
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += size;
    return p;
}

static inline uint16_t wire_load16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return __builtin_bswap16(v);
}

static inline uint32_t wire_load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return __builtin_bswap32(v);
}

static inline uint64_t wire_load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return __builtin_bswap64(v);
}

static inline int8_t wire_get_int8(struct wire_reader *r)
{
    const uint8_t *p = wire_take(r, 1);
    return p ? (int8_t)*p : 0;
}

static inline bool wire_get_bool(struct wire_reader *r)
{
    return wire_get_int8(r) != 0;
}

static inline uint16_t wire_get_uint16(struct wire_reader *r)
{
    const uint8_t *p = wire_take(r, 2);
    return p ? wire_load16(p) : 0;
}

static inline int16_t wire_get_int16(struct wire_reader *r)
{
    return (int16_t)wire_get_uint16(r);
}

static inline uint32_t wire_get_uint32(struct wire_reader *r)
{
    const uint8_t *p = wire_take(r, 4);
    return p ? wire_load32(p) : 0;
}

static inline int32_t wire_get_int32(struct wire_reader *r)
{
    return (int32_t)wire_get_uint32(r);
}

static inline int64_t wire_get_int64(struct wire_reader *r)
{
    const uint8_t *p = wire_take(r, 8);
    return p ? (int64_t)wire_load64(p) : 0;
}

static inline double wire_get_float64(struct wire_reader *r)
{
    int64_t bits = wire_get_int64(r);
    double v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

static inline struct uuid wire_get_uuid(struct wire_reader *r)
{
    struct uuid v = {{0}};
    const uint8_t *p = wire_take(r, sizeof(v.bytes));
    if (p)
        memcpy(v.bytes, p, sizeof(v.bytes));
    return v;
}

/* Unsigned varint of at most 32 bits. */
uint32_t wire_get_uvarint(struct wire_reader *r);
/* Zigzag varints, as records use them: 32 and 64 bits. */
int32_t wire_get_varint(struct wire_reader *r);
int64_t wire_get_varlong(struct wire_reader *r);

/* Null is malformed for those without _or_null. */
struct wire_string wire_get_string(struct wire_reader *r, bool compact);
struct wire_string wire_get_string_or_null(struct wire_reader *r, bool compact);
struct wire_bytes wire_get_bytes(struct wire_reader *r, bool compact);
struct wire_bytes wire_get_bytes_or_null(struct wire_reader *r, bool compact);
struct wire_records wire_get_records(struct wire_reader *r, bool compact);
struct wire_records wire_get_records_or_null(struct wire_reader *r, bool compact);

/* Count of an array whose elements take at least element_min (> 0) bytes each: what cannot fit in
 * the bytes that are left is malformed. -1: null. */
int32_t wire_get_count(struct wire_reader *r, bool compact, uint32_t element_min);
int32_t wire_get_count_or_null(struct wire_reader *r, bool compact, uint32_t element_min);
/* Room for count elements, not zeroed; NULL for count <= 0, and when the arena refuses (failed). */
void *wire_get_room(struct wire_reader *r, struct arena *arena, int32_t count, size_t size);

/* Arrays of scalars after their count: elements from the arena, NULL as above. */
int8_t *wire_get_int8s(struct wire_reader *r, struct arena *arena, int32_t count);
int16_t *wire_get_int16s(struct wire_reader *r, struct arena *arena, int32_t count);
int32_t *wire_get_int32s(struct wire_reader *r, struct arena *arena, int32_t count);
int64_t *wire_get_int64s(struct wire_reader *r, struct arena *arena, int32_t count);
struct uuid *wire_get_uuids(struct wire_reader *r, struct arena *arena, int32_t count);
struct wire_string *wire_get_strings(struct wire_reader *r, struct arena *arena, int32_t count,
                                     bool compact);

/* Tagged fields: while (wire_tags_next(r, &tags)) the reader is confined to the field `tag`; a
 * known one is read to its last byte, an unknown one goes to wire_skip. Tags must ascend. */
struct wire_tags {
    uint32_t left; /* fields still to come */
    uint32_t tag;
    int64_t last;
    const uint8_t *end; /* what r->end was outside the field; NULL between fields */
};

struct wire_tags wire_tags_begin(struct wire_reader *r);
bool wire_tags_next(struct wire_reader *r, struct wire_tags *tags);
/* Everything that is left. */
static inline void wire_skip(struct wire_reader *r)
{
    r->at = r->end;
}
/* A whole section none of whose tags is known. */
void wire_skip_tags(struct wire_reader *r);

/* ---- writer ---------------------------------------------------------------------------------- */

/* Bytes that belong into the output before its byte `position`, after all earlier splices. */
struct wire_splice {
    uint64_t position;
    const struct wire_piece *pieces;
    uint32_t pieces_count;
    uint32_t size; /* sum of the pieces */
};

struct wire_writer {
    uint8_t *data;
    uint64_t position; /* bytes written, or wanted */
    uint64_t capacity;
    struct wire_splice *splices;
    uint32_t splices_count; /* noted, or wanted */
    uint32_t splices_max;
    uint32_t pieces_count; /* in all splices */
    uint64_t spliced_bytes;
};

static inline void wire_writer_init(struct wire_writer *w, void *data, size_t capacity)
{
    *w = (struct wire_writer){.data = data, .capacity = capacity};
}

static inline void wire_writer_splice(struct wire_writer *w, struct wire_splice *splices,
                                      uint32_t splices_max)
{
    w->splices = splices;
    w->splices_max = splices_max;
}

/* Everything fitted; false: data and splices are not to be used. */
static inline bool wire_writer_ok(const struct wire_writer *w)
{
    return w->position <= w->capacity && w->splices_count <= w->splices_max;
}

/* Where the next size bytes go, or NULL when there is no room for them. */
static inline uint8_t *wire_claim(struct wire_writer *w, size_t size)
{
    uint64_t at = w->position;
    w->position += size;
    return w->position <= w->capacity ? w->data + at : NULL;
}

static inline void wire_store16(uint8_t *p, uint16_t v)
{
    v = __builtin_bswap16(v);
    memcpy(p, &v, sizeof(v));
}

static inline void wire_store32(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, sizeof(v));
}

static inline void wire_store64(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, sizeof(v));
}

static inline void wire_put_int8(struct wire_writer *w, int8_t v)
{
    uint8_t *p = wire_claim(w, 1);
    if (p)
        *p = (uint8_t)v;
}

static inline void wire_put_bool(struct wire_writer *w, bool v)
{
    wire_put_int8(w, v ? 1 : 0);
}

static inline void wire_put_uint16(struct wire_writer *w, uint16_t v)
{
    uint8_t *p = wire_claim(w, 2);
    if (p)
        wire_store16(p, v);
}

static inline void wire_put_int16(struct wire_writer *w, int16_t v)
{
    wire_put_uint16(w, (uint16_t)v);
}

static inline void wire_put_uint32(struct wire_writer *w, uint32_t v)
{
    uint8_t *p = wire_claim(w, 4);
    if (p)
        wire_store32(p, v);
}

static inline void wire_put_int32(struct wire_writer *w, int32_t v)
{
    wire_put_uint32(w, (uint32_t)v);
}

static inline void wire_put_int64(struct wire_writer *w, int64_t v)
{
    uint8_t *p = wire_claim(w, 8);
    if (p)
        wire_store64(p, (uint64_t)v);
}

static inline void wire_put_float64(struct wire_writer *w, double v)
{
    int64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    wire_put_int64(w, bits);
}

static inline void wire_put_uuid(struct wire_writer *w, struct uuid v)
{
    uint8_t *p = wire_claim(w, sizeof(v.bytes));
    if (p)
        memcpy(p, v.bytes, sizeof(v.bytes));
}

/* size bytes from data, which may be NULL when size is 0. */
void wire_put_raw(struct wire_writer *w, const void *data, size_t size);

void wire_put_uvarint(struct wire_writer *w, uint32_t v);
void wire_put_varint(struct wire_writer *w, int32_t v);
void wire_put_varlong(struct wire_writer *w, int64_t v);
/* Bytes that the varints take. */
uint32_t wire_uvarint_size(uint32_t v);
uint32_t wire_varint_size(int32_t v);
uint32_t wire_varlong_size(int64_t v);

/* Null (size -1) only through _or_null: anything else is our own bug. */
void wire_put_string(struct wire_writer *w, struct wire_string v, bool compact);
void wire_put_string_or_null(struct wire_writer *w, struct wire_string v, bool compact);
void wire_put_bytes(struct wire_writer *w, struct wire_bytes v, bool compact);
void wire_put_bytes_or_null(struct wire_writer *w, struct wire_bytes v, bool compact);
void wire_put_records(struct wire_writer *w, const struct wire_records *v, bool compact);
void wire_put_records_or_null(struct wire_writer *w, const struct wire_records *v, bool compact);
void wire_put_count(struct wire_writer *w, int32_t count, bool compact);
void wire_put_count_or_null(struct wire_writer *w, int32_t count, bool compact);

/* The elements only; the count has gone before. */
void wire_put_int8s(struct wire_writer *w, const int8_t *v, int32_t count);
void wire_put_int16s(struct wire_writer *w, const int16_t *v, int32_t count);
void wire_put_int32s(struct wire_writer *w, const int32_t *v, int32_t count);
void wire_put_int64s(struct wire_writer *w, const int64_t *v, int32_t count);
void wire_put_uuids(struct wire_writer *w, const struct uuid *v, int32_t count);
void wire_put_strings(struct wire_writer *w, const struct wire_string *v, int32_t count,
                      bool compact);

/* Tag and size of one tagged field, whose value follows; size as measured without room. Splices
 * inside tagged fields do not exist: no schema has records there. */
static inline void wire_put_tag(struct wire_writer *w, uint32_t tag, uint64_t size)
{
    assert(size <= UINT32_MAX);
    wire_put_uvarint(w, tag);
    wire_put_uvarint(w, (uint32_t)size);
}

/* ---- views ----------------------------------------------------------------------------------- */

#define WIRE_NULL_STRING  ((struct wire_string){NULL, -1})
#define WIRE_NULL_BYTES   ((struct wire_bytes){NULL, -1})
#define WIRE_NULL_RECORDS ((struct wire_records){NULL, -1, 0, NULL})

/* The view of a terminated text; NULL gives null. */
static inline struct wire_string wire_string_of(const char *text)
{
    return (struct wire_string){text, text ? (int32_t)strlen(text) : -1};
}

/* Same bytes, or both null. */
static inline bool wire_string_equal(struct wire_string a, struct wire_string b)
{
    return a.size == b.size && (a.size <= 0 || memcmp(a.data, b.data, (size_t)a.size) == 0);
}

#endif
