/* 128-bit ids as Kafka uses them: 16 bytes big-endian on the wire, URL-safe base64 without padding
 * (22 characters) as text. */
#ifndef CORE_UUID_H
#define CORE_UUID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define UUID_TEXT_SIZE 23 /* 22 characters and the terminator */

struct uuid {
    uint8_t bytes[16];
};

static inline bool uuid_equal(struct uuid a, struct uuid b)
{
    return memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0;
}

static inline bool uuid_is_zero(struct uuid a)
{
    return uuid_equal(a, (struct uuid){{0}});
}

/* Writes UUID_TEXT_SIZE bytes and returns to. */
const char *uuid_text(struct uuid id, char *to);
/* Reads exactly size characters; false if it is no such text. */
bool uuid_parse(struct uuid *id, const char *text, uint32_t size);

#endif
