"""The tables that protogen writes beside the codecs: requests by API key (api.h, api.c), and all
messages with their shapes (entries.h, entries.c), which only tests and fuzzers link."""
from protogen_c import MARK, Output, c_struct, is_pointer, set_bounds
from protogen_schema import NEVER, SCALARS, SchemaError

API_H = """\
#ifndef PROTO_GEN_API_H
#define PROTO_GEN_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum api_key {
%(keys)s
    API_KEYS_MAX = %(max)d,
};

enum api_listener {
    API_ON_BROKER = 1,
    API_ON_CONTROLLER = 2,
};

/* What there is to know of a request kind before it is decoded. */
struct api_info {
    int16_t key;
    int16_t version_min, version_max;       /* what our codecs read and write */
    int16_t advertised_min, advertised_max; /* what ApiVersions says; nothing unstable */
    int16_t flexible_min;                   /* first with tags; INT16_MAX: none */
    uint8_t listeners;                      /* enum api_listener, or-ed */
    char name[%(name_size)d];
};

/* NULL: no such request kind. */
const struct api_info *api_find(int16_t key);
/* Version of the header around a request or response of a known kind; any version may be asked for,
 * as the header has to be read before the version can be refused. */
int16_t api_request_header_version(int16_t key, int16_t version);
int16_t api_response_header_version(int16_t key, int16_t version);

#endif
"""

API_C = """\
#include "proto/gen/api.h"

#include "core/assert.h"

static const struct api_info infos[API_KEYS_MAX + 1] = {
%(rows)s
};

const struct api_info *api_find(int16_t key)
{
    if (key < 0 || key > API_KEYS_MAX || infos[key].name[0] == 0)
        return NULL;
    return &infos[key];
}

int16_t api_request_header_version(int16_t key, int16_t version)
{
    const struct api_info *info = api_find(key);
    assert(info != NULL);
    return version >= info->flexible_min ? 2 : 1;
}

int16_t api_response_header_version(int16_t key, int16_t version)
{
    const struct api_info *info = api_find(key);
    assert(info != NULL);
    if (key == API_API_VERSIONS) /* whoever asks cannot know yet what we speak */
        return 0;
    return version >= info->flexible_min ? 1 : 0;
}
"""

ENTRIES_H = """\
#ifndef PROTO_GEN_ENTRIES_H
#define PROTO_GEN_ENTRIES_H

#include "proto/wire.h"

enum proto_kind {
    PROTO_REQUEST,
    PROTO_RESPONSE,
    PROTO_METADATA,
    PROTO_KEY,
    PROTO_VALUE,
    PROTO_DATA,
    PROTO_HEADER,
};

enum proto_type {
    PROTO_BOOL,
    PROTO_INT8,
    PROTO_INT16,
    PROTO_UINT16,
    PROTO_INT32,
    PROTO_UINT32,
    PROTO_INT64,
    PROTO_FLOAT64,
    PROTO_UUID,
    PROTO_STRING,
    PROTO_BYTES,
    PROTO_RECORDS,
    PROTO_STRUCT,
};

struct proto_shape;

/* One field of a struct, as data. Version spans are inclusive; an empty one has min > max. */
struct proto_field {
    const char *name;
    const struct proto_shape *shape; /* of a PROTO_STRUCT */
    uint16_t offset;                 /* in the C struct */
    uint16_t count_offset;           /* of the count, when array */
    uint8_t type;                    /* enum proto_type, of the elements when array */
    bool array;
    bool pointer; /* a struct that may be null */
    bool ignorable;
    int16_t version_min, version_max;
    int16_t nullable_min, nullable_max;
};

struct proto_shape {
    const char *name;
    const struct proto_field *fields;
    uint32_t fields_count;
    uint32_t size; /* of the C struct */
    void (*init)(void *m);
};

/* Every message there is. */
struct proto_entry {
    struct proto_shape shape;
    enum proto_kind kind;
    int16_t key; /* -1: the kind has none */
    int16_t version_min, version_max;
    int (*decode)(void *m, struct wire_reader *r, int16_t version, struct arena *arena);
    void (*encode)(const void *m, struct wire_writer *w, int16_t version);
    uint64_t (*size)(const void *m, int16_t version);
};

extern const struct proto_entry proto_entries[];
extern const uint32_t proto_entries_count;

#endif
"""


def api_name(message):
    return "API_" + message.name.removesuffix("_request").upper()


def api_tables(messages):
    requests = sorted((m for m in messages if m.kind == "request"), key=lambda m: m.key)
    answers = {m.key: m for m in messages if m.kind == "response"}
    rows = []
    for m in requests:
        answer = answers.get(m.key)
        if not answer or (answer.api, answer.versions, answer.flexible) != (
                m.api, m.versions, m.flexible):
            raise SchemaError(f"{m.api}: request and response do not match")
        flexible = "INT16_MAX" if m.flexible == NEVER else m.flexible[0]
        listeners = " | ".join(f"API_ON_{name.upper()}" for name in m.listeners)
        rows.append(f"    [{api_name(m)}] = {{{m.key}, {m.versions[0]}, {m.versions[1]}, "
                    f"{m.advertise}, {m.versions[1] - m.unstable}, {flexible},\n"
                    f"        {listeners}, \"{m.api}\"}},")
    keys = "\n".join(f"    {api_name(m)} = {m.key}," for m in requests)
    return {"api.h": MARK + API_H % {
        "keys": keys, "max": requests[-1].key, "name_size": max(len(m.api) for m in requests) + 1},
            "api.c": MARK + API_C % {"rows": "\n".join(rows)}}


def shape_rows(out, message, struct):
    name = c_struct(message, struct)
    out.put(f"static void init_{name}(void *m)", "{", f"{name}_init(m);", "}", "")
    if not struct.fields:
        return "NULL"
    out.put(f"static const struct proto_field fields_{name}[] = {{")
    for f in struct.fields:
        kind = f.type.upper() if f.type in SCALARS or not f.struct else "STRUCT"
        shape = f"&shape_{c_struct(message, f.struct)}" if f.struct else "NULL"
        count = f"offsetof(struct {name}, {f.name}_count)" if f.array else "0"
        flags = ", ".join(str(bool(x)).lower() for x in (f.array, is_pointer(f), f.ignorable))
        out.put(f'{{"{f.name}", {shape}, offsetof(struct {name}, {f.name}), {count}, PROTO_{kind}, '
                f"{flags}, {f.versions[0]}, {f.versions[1]}, {f.nullable[0]}, {f.nullable[1]}}},")
    out.put("};", "")
    return f"fields_{name}"


def shape_value(message, struct, fields):
    name = c_struct(message, struct)
    return f'{{"{name}", {fields}, {len(struct.fields)}, sizeof(struct {name}), init_{name}}}'


def entries(messages):
    out = Output()
    out.put(MARK.strip(), '#include "proto/gen/entries.h"', "")
    out.put(*(f'#include "proto/gen/{name}.h"' for name in sorted({m.file for m in messages})), "")
    rows = []
    for m in messages:
        for struct in m.structs:
            fields = shape_rows(out, m, struct)
            out.put(f"static const struct proto_shape shape_{c_struct(m, struct)} = "
                    f"{shape_value(m, struct, fields)};", "")
        fields = shape_rows(out, m, m)
        out.put(f"static int decode_{m.name}(void *m, struct wire_reader *r, int16_t version, "
                "struct arena *arena)", "{", f"return {m.name}_decode(m, r, version, arena);",
                "}", "", f"static void encode_{m.name}(const void *m, struct wire_writer *w, "
                "int16_t version)", "{", f"{m.name}_encode(m, w, version);", "}", "",
                f"static uint64_t size_{m.name}(const void *m, int16_t version)", "{",
                f"return {m.name}_size(m, version);", "}", "")
        rows.append(f"{{{shape_value(m, m, fields)}, PROTO_{m.kind.upper()}, "
                    f"{-1 if m.key is None else m.key}, {m.versions[0]}, {m.versions[1]}, "
                    f"decode_{m.name}, encode_{m.name}, size_{m.name}}},")
    out.put("const struct proto_entry proto_entries[] = {", *rows, "};",
            "const uint32_t proto_entries_count = sizeof(proto_entries) / "
            "sizeof(proto_entries[0]);")
    return out.text()


def tables(messages):
    """All files, name: text."""
    for message in messages:
        set_bounds(message)
    return {**api_tables(messages), "entries.h": MARK + ENTRIES_H, "entries.c": entries(messages)}
