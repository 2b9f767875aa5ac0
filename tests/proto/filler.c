/* Values are drawn so that the interesting ones are frequent: zero, minus one, the extremes, empty
 * and null. Recursion follows the schema's nesting, which is finite and shallow. */
#include "filler.h"

#define ELEMENTS_MAX 4
#define TEXT_MAX     40

static bool spans(int16_t min, int16_t max, int16_t version)
{
    return version >= min && version <= max;
}

uint64_t filler_next(struct filler *f)
{
    assert(f->state != 0);
    f->state ^= f->state << 13;
    f->state ^= f->state >> 7;
    f->state ^= f->state << 17;
    return f->state;
}

static uint64_t number(struct filler *f)
{
    uint64_t v = filler_next(f);
    switch (v >> 61) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return v & 0x7f;
    case 3:
        return UINT64_C(1) << 63;
    case 4:
        return 0x7fffffff;
    default:
        return v;
    }
}

/* ASCII, so that it is valid as a string too, whoever reads it. */
static void *text(struct filler *f, int32_t *size)
{
    uint32_t wanted = (uint32_t)(filler_next(f) % TEXT_MAX);
    if (wanted > 20 && filler_next(f) % 8 == 0)
        wanted *= 20; /* two bytes of length */
    uint8_t *data = arena_alloc(f->arena, wanted);
    for (uint32_t i = 0; data && i < wanted; i++)
        data[i] = (uint8_t)(' ' + filler_next(f) % 95);
    *size = (int32_t)wanted;
    return data;
}

/* One value of a scalar or view type at `to`. */
static bool fill_value(struct filler *f, enum proto_type type, void *to)
{
    uint64_t v = number(f);
    struct wire_string string;
    switch (type) {
    case PROTO_BOOL:
        *(bool *)to = v & 1;
        return true;
    case PROTO_INT8:
        memcpy(to, &v, 1);
        return true;
    case PROTO_INT16:
    case PROTO_UINT16:
        memcpy(to, &v, 2);
        return true;
    case PROTO_INT32:
    case PROTO_UINT32:
        memcpy(to, &v, 4);
        return true;
    case PROTO_INT64:
        memcpy(to, &v, 8);
        return true;
    case PROTO_FLOAT64:
        *(double *)to = (double)(int64_t)v;
        return true;
    case PROTO_UUID:
        ((struct uuid *)to)->bytes[0] = (uint8_t)v;
        ((struct uuid *)to)->bytes[15] = (uint8_t)(v >> 8);
        return true;
    case PROTO_STRING:
        string.data = text(f, &string.size);
        *(struct wire_string *)to = string;
        return string.data != NULL;
    case PROTO_BYTES:
        ((struct wire_bytes *)to)->data = text(f, &((struct wire_bytes *)to)->size);
        return ((struct wire_bytes *)to)->data != NULL;
    case PROTO_RECORDS:
        ((struct wire_records *)to)->data = text(f, &((struct wire_records *)to)->size);
        return ((struct wire_records *)to)->data != NULL;
    case PROTO_STRUCT:
        break;
    }
    assert(type != PROTO_STRUCT); /* those are filled by their shape */
    return false;
}

static size_t type_size(const struct proto_field *field)
{
    static const uint8_t sizes[] = {
        [PROTO_BOOL] = 1,
        [PROTO_INT8] = 1,
        [PROTO_INT16] = 2,
        [PROTO_UINT16] = 2,
        [PROTO_INT32] = 4,
        [PROTO_UINT32] = 4,
        [PROTO_INT64] = 8,
        [PROTO_FLOAT64] = 8,
        [PROTO_UUID] = 16,
        [PROTO_STRING] = sizeof(struct wire_string),
        [PROTO_BYTES] = sizeof(struct wire_bytes),
        [PROTO_RECORDS] = sizeof(struct wire_records),
    };
    return field->type == PROTO_STRUCT ? field->shape->size : sizes[field->type];
}

static bool fill_array(struct filler *f, const struct proto_field *field, uint8_t *m,
                       int16_t version, bool null)
{
    int32_t count = null ? -1 : (int32_t)(filler_next(f) % ELEMENTS_MAX);
    size_t size = type_size(field);
    uint8_t *elements = arena_array(f->arena, (size_t)(count > 0 ? count : 0), size);
    if (!elements)
        return false;
    memcpy(m + field->offset, &elements, sizeof(elements));
    memcpy(m + field->count_offset, &count, sizeof(count));
    for (int32_t i = 0; i < count; i++) {
        uint8_t *to = elements + (size_t)i * size;
        if (field->type == PROTO_STRUCT ? !filler_fill(f, field->shape, to, version)
                                        : !fill_value(f, field->type, to))
            return false;
    }
    return true;
}

static bool fill_struct(struct filler *f, const struct proto_field *field, uint8_t *m,
                        int16_t version, bool null)
{
    if (!field->pointer)
        return filler_fill(f, field->shape, m + field->offset, version);
    void *held = null ? NULL : arena_alloc(f->arena, field->shape->size);
    memcpy(m + field->offset, &held, sizeof(held));
    return null || (held && filler_fill(f, field->shape, held, version));
}

static void set_null(const struct proto_field *field, uint8_t *to)
{
    if (field->type == PROTO_STRING)
        *(struct wire_string *)to = WIRE_NULL_STRING;
    else if (field->type == PROTO_BYTES)
        *(struct wire_bytes *)to = WIRE_NULL_BYTES;
    else
        *(struct wire_records *)to = WIRE_NULL_RECORDS;
}

bool filler_fill(struct filler *f, const struct proto_shape *shape, void *m, int16_t version)
{
    assert(shape->size > 0);
    shape->init(m);
    for (uint32_t i = 0; i < shape->fields_count; i++) {
        const struct proto_field *field = &shape->fields[i];
        if (!spans(field->version_min, field->version_max, version))
            continue;
        bool null =
            spans(field->nullable_min, field->nullable_max, version) && filler_next(f) % 4 == 0;
        bool filled = true;
        if (field->array)
            filled = fill_array(f, field, m, version, null);
        else if (field->type == PROTO_STRUCT)
            filled = fill_struct(f, field, m, version, null);
        else if (null)
            set_null(field, (uint8_t *)m + field->offset);
        else
            filled = fill_value(f, field->type, (uint8_t *)m + field->offset);
        if (!filled)
            return false;
    }
    return true;
}
