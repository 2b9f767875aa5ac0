/* The checksum against a bit-by-bit one, in every size and alignment that takes another way. */
#include "core/crc32c.h"

#include <criterion/criterion.h>
#include <string.h>

static uint8_t bytes[70000], copied[70000];

/* The definition: reflected polynomial 0x1EDC6F41, inverted in and out. */
static uint32_t by_definition(uint32_t crc, const uint8_t *p, size_t size)
{
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((crc & 1) ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void fill(void)
{
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        x = x * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(x >> 24);
    }
}

Test(crc32c, of_the_check_string_is_the_published_value)
{
    cr_assert_eq(crc32c(0, "123456789", 9), 0xE3069283u);
}

Test(crc32c, of_nothing_is_the_crc_so_far)
{
    cr_assert_eq(crc32c(0, NULL, 0), 0);
    cr_assert_eq(crc32c(0x12345678, bytes, 0), 0x12345678u);
}

Test(crc32c, of_32_zeros_and_ones_is_as_in_rfc_3720)
{
    uint8_t block[32];
    memset(block, 0, sizeof(block));
    cr_assert_eq(crc32c(0, block, 32), 0x8A9136AAu);
    memset(block, 0xff, sizeof(block));
    cr_assert_eq(crc32c(0, block, 32), 0x62A8AB43u);
}

Test(crc32c, agrees_with_the_definition_in_every_small_size_and_alignment)
{
    fill();
    for (size_t size = 0; size <= 700; size++)
        for (size_t shift = 0; shift < 9; shift++)
            cr_assert_eq(crc32c(7, bytes + shift, size), by_definition(7, bytes + shift, size),
                         "size %zu shift %zu", size, shift);
}

Test(crc32c, continues_over_any_cut)
{
    fill();
    uint32_t whole = by_definition(0, bytes, sizeof(bytes));
    cr_assert_eq(crc32c(0, bytes, sizeof(bytes)), whole);
    for (size_t cut = 0; cut <= sizeof(bytes); cut += 1 + cut / 3)
        cr_assert_eq(crc32c(crc32c(0, bytes, cut), bytes + cut, sizeof(bytes) - cut), whole,
                     "cut at %zu", cut);
}

Test(crc32c, copies_and_sums_the_same_bytes)
{
    fill();
    static const size_t sizes[] = {0, 1, 255, 256, 4095, 4096, 4097, 8192, 65537};
    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = sizes[i];
        memset(copied, 0x5a, sizeof(copied));
        cr_assert_eq(crc32c_copy(9, copied + 3, bytes + 1, size), crc32c(9, bytes + 1, size));
        cr_assert_arr_eq(copied + 3, bytes + 1, size);
        cr_assert_eq(copied[2], 0x5a);
        cr_assert_eq(copied[3 + size], 0x5a, "nothing is written behind %zu bytes", size);
    }
}

Test(crc32c, one_flipped_bit_changes_it)
{
    fill();
    uint32_t sound = crc32c(0, bytes, 1000);
    for (size_t bit = 0; bit < 8000; bit += 7) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert_neq(crc32c(0, bytes, 1000), sound);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
