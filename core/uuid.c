/* Kafka's ids as text: URL-safe base64 without padding.
 *
 *   16 bytes = 128 bits ─▶ 21 characters of 6 bits + one with the last 2 bits (and four zero bits)
 *
 * Read as leniently as Java's decoder reads it, because people's scripts rely on that: "==" may
 * follow, and the four spare bits of the last character are ignored. Written strictly.
 *
 * Invariant: uuid_parse(uuid_text(id)) == id for every id. */
#include "core/uuid.h"

#include "core/assert.h"

#define TEXT_LENGTH 22u

_Static_assert(UUID_TEXT_SIZE == TEXT_LENGTH + 1, "text and terminator");

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const char *uuid_text(struct uuid id, char *to)
{
    assert(to != NULL);
    for (uint32_t i = 0; i < TEXT_LENGTH; i++) {
        uint32_t bit = i * 6, byte = bit / 8;
        uint32_t pair = (uint32_t)id.bytes[byte] << 8 | (byte < 15 ? id.bytes[byte + 1] : 0);
        to[i] = alphabet[pair >> (10 - bit % 8) & 63];
    }
    to[TEXT_LENGTH] = '\0';
    return to;
}

/* The six bits a character stands for, or -1. */
static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool uuid_parse(struct uuid *id, const char *text, uint32_t size)
{
    assert(id != NULL);
    assert(text != NULL || size == 0);
    if (size == TEXT_LENGTH + 2 && text[22] == '=' && text[23] == '=')
        size = TEXT_LENGTH;
    if (size != TEXT_LENGTH)
        return false;
    struct uuid parsed;
    uint32_t bits = 0, bits_count = 0, byte = 0;
    for (uint32_t i = 0; i < TEXT_LENGTH; i++) {
        int value = sextet(text[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        bits_count += 6;
        if (bits_count >= 8 && byte < sizeof(parsed.bytes)) {
            bits_count -= 8;
            parsed.bytes[byte++] = (uint8_t)(bits >> bits_count);
        }
    }
    assert(byte == sizeof(parsed.bytes));
    *id = parsed;
    return true;
}
