/* The parts of the wire that are too big to be inlined at every field of every message: varints,
 * lengths, arrays of scalars, tagged sections, splices.
 *
 *   string   classic  int16 size (-1 null) | bytes      compact  uvarint size + 1 (0 null) | bytes
 *   bytes    classic  int32 size (-1 null) | bytes      compact  the same
 *   records  as bytes
 *   array    classic  int32 count (-1 null) | elements  compact  uvarint count + 1 | elements
 *   tags     compact only: uvarint fields, then per field uvarint tag | uvarint size | bytes
 *   struct that may be null: int8 (-1 null, 1) before it; as a tagged field uvarint (0 null, 1)
 *   uvarint  7 bits per byte, low first, top bit set on all but the last; at most 5 bytes, and the
 *            fifth has only the 4 bits that 32 bits leave. varint, varlong: zigzag over the same.
 *
 * Invariants.
 *  1. A reader never moves past `end`, and after an error it is empty, so every later read fails
 *     too and yields zero: loops over counts end at once.
 *  2. No count is believed before the bytes for that many smallest elements are known to be there.
 *     So memory asked of the arena is at most a fixed multiple of the input.
 *  3. A writer's position is the sum of what was asked for, whether it fitted or not. Measuring and
 *     writing are the same code, so they cannot disagree.
 *  4. A splice's position never goes down: pieces enter the output in the order of the fields.
 *
 * Failure modes. Input: WIRE_MALFORMED, WIRE_NO_MEMORY in the reader. Output: too little room is
 * told by wire_writer_ok; a null or an oversized value where the schema has none is our bug. */
#include "proto/wire.h"

void wire_fail(struct wire_reader *r, int error)
{
    assert(error == WIRE_MALFORMED || error == WIRE_NO_MEMORY);
    if (r->error == 0)
        r->error = error;
    r->at = r->end;
}

/* ---- varints --------------------------------------------------------------------------------- */

uint32_t wire_get_uvarint(struct wire_reader *r)
{
    uint32_t v = 0;
    for (uint32_t shift = 0; shift < 35 && r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;
        if (shift == 28 && byte > 0x0f)
            break; /* more than 32 bits, or a sixth byte */
        v |= (uint32_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return v;
    }
    wire_fail(r, WIRE_MALFORMED);
    return 0;
}

int32_t wire_get_varint(struct wire_reader *r)
{
    uint32_t v = wire_get_uvarint(r);
    return (int32_t)((v >> 1) ^ (0U - (v & 1)));
}

int64_t wire_get_varlong(struct wire_reader *r)
{
    uint64_t v = 0;
    for (uint32_t shift = 0; shift < 70 && r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;
        if (shift == 63 && byte > 0x01)
            break;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return (int64_t)((v >> 1) ^ (0U - (v & 1)));
    }
    wire_fail(r, WIRE_MALFORMED);
    return 0;
}

static uint32_t zigzag32(int32_t v)
{
    return ((uint32_t)v << 1) ^ (v < 0 ? UINT32_MAX : 0);
}

static uint64_t zigzag64(int64_t v)
{
    return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

static uint32_t varint_size(uint64_t v)
{
    uint32_t bits = 64 - (uint32_t)__builtin_clzll(v | 1);
    return (bits + 6) / 7;
}

uint32_t wire_uvarint_size(uint32_t v)
{
    return varint_size(v);
}

uint32_t wire_varint_size(int32_t v)
{
    return varint_size(zigzag32(v));
}

uint32_t wire_varlong_size(int64_t v)
{
    return varint_size(zigzag64(v));
}

static void put_varint(struct wire_writer *w, uint64_t v)
{
    uint32_t size = varint_size(v);
    assert(size >= 1 && size <= 10);
    uint8_t *p = wire_claim(w, size);
    if (!p)
        return;
    for (uint32_t i = 0; i + 1 < size; i++, v >>= 7)
        p[i] = (uint8_t)(v | 0x80);
    p[size - 1] = (uint8_t)v;
}

void wire_put_uvarint(struct wire_writer *w, uint32_t v)
{
    put_varint(w, v);
}

void wire_put_varint(struct wire_writer *w, int32_t v)
{
    put_varint(w, zigzag32(v));
}

void wire_put_varlong(struct wire_writer *w, int64_t v)
{
    put_varint(w, zigzag64(v));
}

/* ---- lengths --------------------------------------------------------------------------------- */

/* A compact length or count: -1 for null; INT32_MAX and beyond cannot be and is malformed. */
static int32_t get_compact(struct wire_reader *r)
{
    uint32_t v = wire_get_uvarint(r);
    if (v > (uint32_t)INT32_MAX) {
        wire_fail(r, WIRE_MALFORMED);
        return 0;
    }
    return (int32_t)v - 1;
}

static void put_compact(struct wire_writer *w, int32_t v)
{
    assert(v >= -1);
    assert(v < INT32_MAX);
    wire_put_uvarint(w, (uint32_t)(v + 1));
}

/* Refuses a null, by the sticky error, and then gives the empty value. */
static int32_t not_null(struct wire_reader *r, int32_t size)
{
    if (size >= 0)
        return size;
    wire_fail(r, WIRE_MALFORMED);
    return 0;
}

struct wire_string wire_get_string_or_null(struct wire_reader *r, bool compact)
{
    int32_t size = compact ? get_compact(r) : wire_get_int16(r);
    if (size == -1 && r->error == 0)
        return WIRE_NULL_STRING;
    if (size < 0 || size > WIRE_STRING_MAX) {
        wire_fail(r, WIRE_MALFORMED);
        size = 0;
    }
    const uint8_t *p = wire_take(r, (size_t)size);
    return (struct wire_string){(const char *)p, p ? size : 0};
}

struct wire_string wire_get_string(struct wire_reader *r, bool compact)
{
    struct wire_string v = wire_get_string_or_null(r, compact);
    v.size = not_null(r, v.size);
    return v;
}

struct wire_bytes wire_get_bytes_or_null(struct wire_reader *r, bool compact)
{
    int32_t size = compact ? get_compact(r) : wire_get_int32(r);
    if (size == -1 && r->error == 0)
        return WIRE_NULL_BYTES;
    if (size < 0) {
        wire_fail(r, WIRE_MALFORMED);
        size = 0;
    }
    const uint8_t *p = wire_take(r, (size_t)size);
    return (struct wire_bytes){p, p ? size : 0};
}

struct wire_bytes wire_get_bytes(struct wire_reader *r, bool compact)
{
    struct wire_bytes v = wire_get_bytes_or_null(r, compact);
    v.size = not_null(r, v.size);
    return v;
}

struct wire_records wire_get_records_or_null(struct wire_reader *r, bool compact)
{
    struct wire_bytes v = wire_get_bytes_or_null(r, compact);
    return (struct wire_records){v.data, v.size, 0, NULL};
}

struct wire_records wire_get_records(struct wire_reader *r, bool compact)
{
    struct wire_bytes v = wire_get_bytes(r, compact);
    return (struct wire_records){v.data, v.size, 0, NULL};
}

int32_t wire_get_count_or_null(struct wire_reader *r, bool compact, uint32_t element_min)
{
    assert(element_min > 0);
    int32_t count = compact ? get_compact(r) : wire_get_int32(r);
    if (r->error != 0)
        return 0;
    if (count < -1 || (count > 0 && (size_t)count > wire_left(r) / element_min)) {
        wire_fail(r, WIRE_MALFORMED);
        return 0;
    }
    return count;
}

int32_t wire_get_count(struct wire_reader *r, bool compact, uint32_t element_min)
{
    return not_null(r, wire_get_count_or_null(r, compact, element_min));
}

void wire_put_raw(struct wire_writer *w, const void *data, size_t size)
{
    if (size == 0)
        return;
    assert(data != NULL);
    uint8_t *p = wire_claim(w, size);
    if (p)
        memcpy(p, data, size);
}

void wire_put_string_or_null(struct wire_writer *w, struct wire_string v, bool compact)
{
    assert(v.size >= -1);
    assert(v.size <= WIRE_STRING_MAX);
    if (compact)
        put_compact(w, v.size);
    else
        wire_put_int16(w, (int16_t)v.size);
    if (v.size > 0)
        wire_put_raw(w, v.data, (size_t)v.size);
}

void wire_put_string(struct wire_writer *w, struct wire_string v, bool compact)
{
    assert(v.size >= 0);
    wire_put_string_or_null(w, v, compact);
}

void wire_put_bytes_or_null(struct wire_writer *w, struct wire_bytes v, bool compact)
{
    wire_put_count_or_null(w, v.size, compact);
    if (v.size > 0)
        wire_put_raw(w, v.data, (size_t)v.size);
}

void wire_put_bytes(struct wire_writer *w, struct wire_bytes v, bool compact)
{
    assert(v.size >= 0);
    wire_put_bytes_or_null(w, v, compact);
}

void wire_put_records_or_null(struct wire_writer *w, const struct wire_records *v, bool compact)
{
    if (!v->pieces) {
        wire_put_bytes_or_null(w, (struct wire_bytes){v->data, v->size}, compact);
        return;
    }
    uint64_t size = 0;
    for (uint32_t i = 0; i < v->pieces_count; i++)
        size += v->pieces[i].size;
    assert(size < INT32_MAX);
    wire_put_count(w, (int32_t)size, compact);
    if (size == 0)
        return;
    uint32_t slot = w->splices_count++;
    w->pieces_count += v->pieces_count;
    w->spliced_bytes += size;
    if (slot < w->splices_max)
        w->splices[slot] =
            (struct wire_splice){w->position, v->pieces, v->pieces_count, (uint32_t)size};
}

void wire_put_records(struct wire_writer *w, const struct wire_records *v, bool compact)
{
    assert(v->pieces || v->size >= 0);
    wire_put_records_or_null(w, v, compact);
}

void wire_put_count_or_null(struct wire_writer *w, int32_t count, bool compact)
{
    assert(count >= -1);
    if (compact)
        put_compact(w, count);
    else
        wire_put_int32(w, count);
}

void wire_put_count(struct wire_writer *w, int32_t count, bool compact)
{
    assert(count >= 0);
    wire_put_count_or_null(w, count, compact);
}

/* ---- arrays of scalars ----------------------------------------------------------------------- */

void *wire_get_room(struct wire_reader *r, struct arena *arena, int32_t count, size_t size)
{
    assert(size > 0);
    if (count <= 0 || r->error != 0)
        return NULL;
    void *p = arena_alloc(arena, (size_t)count * size);
    if (!p)
        wire_fail(r, WIRE_NO_MEMORY);
    return p;
}

/* The bytes of count elements and the room to turn them into, or NULL when either is missing. */
static void *take_elements(struct wire_reader *r, struct arena *arena, int32_t count, size_t size,
                           const uint8_t **from)
{
    if (count <= 0)
        return NULL;
    *from = wire_take(r, (size_t)count * size);
    return *from ? wire_get_room(r, arena, count, size) : NULL;
}

int8_t *wire_get_int8s(struct wire_reader *r, struct arena *arena, int32_t count)
{
    const uint8_t *from;
    int8_t *to = take_elements(r, arena, count, sizeof(*to), &from);
    if (to)
        memcpy(to, from, (size_t)count);
    return to;
}

int16_t *wire_get_int16s(struct wire_reader *r, struct arena *arena, int32_t count)
{
    const uint8_t *from;
    int16_t *to = take_elements(r, arena, count, sizeof(*to), &from);
    for (int32_t i = 0; to && i < count; i++)
        to[i] = (int16_t)wire_load16(from + (size_t)i * sizeof(*to));
    return to;
}

int32_t *wire_get_int32s(struct wire_reader *r, struct arena *arena, int32_t count)
{
    const uint8_t *from;
    int32_t *to = take_elements(r, arena, count, sizeof(*to), &from);
    for (int32_t i = 0; to && i < count; i++)
        to[i] = (int32_t)wire_load32(from + (size_t)i * sizeof(*to));
    return to;
}

int64_t *wire_get_int64s(struct wire_reader *r, struct arena *arena, int32_t count)
{
    const uint8_t *from;
    int64_t *to = take_elements(r, arena, count, sizeof(*to), &from);
    for (int32_t i = 0; to && i < count; i++)
        to[i] = (int64_t)wire_load64(from + (size_t)i * sizeof(*to));
    return to;
}

struct uuid *wire_get_uuids(struct wire_reader *r, struct arena *arena, int32_t count)
{
    const uint8_t *from;
    struct uuid *to = take_elements(r, arena, count, sizeof(*to), &from);
    if (to)
        memcpy(to, from, (size_t)count * sizeof(*to));
    return to;
}

struct wire_string *wire_get_strings(struct wire_reader *r, struct arena *arena, int32_t count,
                                     bool compact)
{
    struct wire_string *to = wire_get_room(r, arena, count, sizeof(*to));
    for (int32_t i = 0; to && i < count && r->error == 0; i++)
        to[i] = wire_get_string(r, compact);
    return r->error == 0 ? to : NULL;
}

void wire_put_int8s(struct wire_writer *w, const int8_t *v, int32_t count)
{
    if (count > 0)
        wire_put_raw(w, v, (size_t)count);
}

void wire_put_int16s(struct wire_writer *w, const int16_t *v, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        wire_put_int16(w, v[i]);
}

void wire_put_int32s(struct wire_writer *w, const int32_t *v, int32_t count)
{
    if (count <= 0)
        return;
    uint8_t *p = wire_claim(w, (size_t)count * sizeof(*v));
    for (int32_t i = 0; p && i < count; i++)
        wire_store32(p + (size_t)i * sizeof(*v), (uint32_t)v[i]);
}

void wire_put_int64s(struct wire_writer *w, const int64_t *v, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        wire_put_int64(w, v[i]);
}

void wire_put_uuids(struct wire_writer *w, const struct uuid *v, int32_t count)
{
    if (count > 0)
        wire_put_raw(w, v, (size_t)count * sizeof(*v));
}

void wire_put_strings(struct wire_writer *w, const struct wire_string *v, int32_t count,
                      bool compact)
{
    for (int32_t i = 0; i < count; i++)
        wire_put_string(w, v[i], compact);
}

/* ---- tagged fields --------------------------------------------------------------------------- */

struct wire_tags wire_tags_begin(struct wire_reader *r)
{
    uint32_t count = wire_get_uvarint(r);
    if (count > wire_left(r) / 2) { /* a field is at least a tag and a size */
        wire_fail(r, WIRE_MALFORMED);
        count = 0;
    }
    return (struct wire_tags){.left = count, .last = -1, .end = NULL};
}

bool wire_tags_next(struct wire_reader *r, struct wire_tags *tags)
{
    if (tags->end) { /* the field that was open must have been read to its end */
        if (r->at != r->end)
            wire_fail(r, WIRE_MALFORMED);
        r->end = tags->end;
        tags->end = NULL;
        if (r->error != 0)
            r->at = r->end;
    }
    if (tags->left == 0 || r->error != 0)
        return false;
    tags->left--;
    tags->tag = wire_get_uvarint(r);
    uint32_t size = wire_get_uvarint(r);
    if (r->error != 0 || (int64_t)tags->tag <= tags->last || size > wire_left(r)) {
        wire_fail(r, WIRE_MALFORMED);
        return false;
    }
    tags->last = tags->tag;
    tags->end = r->end;
    r->end = r->at + size;
    return true;
}

void wire_skip_tags(struct wire_reader *r)
{
    if (r->at < r->end && *r->at == 0) { /* nearly always: no tags */
        r->at++;
        return;
    }
    struct wire_tags tags = wire_tags_begin(r);
    while (wire_tags_next(r, &tags))
        wire_skip(r);
}
