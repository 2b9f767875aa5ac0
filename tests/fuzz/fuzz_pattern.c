/* Any bytes as a regular expression over topic names, matched against names. It compiles or is
 * refused; memory is bounded by the text; a name matches again as it did; a text without special
 * characters matches itself and nothing else, and quoted it is the same. The bytes up to the first
 * zero are the pattern, each up to the next a name. */
#include "tests/fuzz/fuzz.h"

#include "broker/group/pattern.h"

#define BUDGET (16u << 20)
#define ARENA  (4u << 20)

static bool is_plain(struct wire_string s)
{
    for (int32_t i = 0; i < s.size; i++) {
        char c = s.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
            return false;
    }
    return true;
}

static struct wire_string piece(struct fuzz_reader *r)
{
    const uint8_t *end = r->left > 0 ? memchr(r->at, 0, r->left) : NULL;
    size_t size = end != NULL ? (size_t)(end - r->at) : r->left;
    struct wire_string s = {(const char *)r->at, (int32_t)size};
    r->at += size + (end != NULL);
    r->left -= size + (end != NULL);
    return s;
}

static void quoted(struct mem *mem, struct wire_string text, struct wire_string name)
{
    char bytes[64] = "\\Q";
    struct pattern p;
    struct arena arena;
    const char *why = NULL;
    if (text.size > 32)
        return;
    memcpy(bytes + 2, text.data, (size_t)text.size);
    memcpy(bytes + 2 + text.size, "\\E", 2);
    arena_init(&arena, mem, ARENA);
    if (pattern_compile(&p, &arena, (struct wire_string){bytes, text.size + 4}, &why))
        assert(pattern_matches(&p, name) == wire_string_equal(text, name));
    else
        assert(why != NULL);
    arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem mem;
    struct fuzz_reader r = {data, size};
    struct pattern p;
    struct arena arena;
    const char *why = NULL;
    int error = mem.budget_bytes == 0 ? mem_init(&mem, BUDGET) : 0;
    assert(error == 0);
    if (size > 512)
        return 0;
    struct wire_string text = piece(&r);
    arena_init(&arena, &mem, ARENA);
    bool compiled = pattern_compile(&p, &arena, text, &why);
    assert(compiled || why != NULL);
    while (compiled && r.left > 0) {
        struct wire_string name = piece(&r);
        bool matches = pattern_matches(&p, name);
        assert(pattern_matches(&p, name) == matches);
        if (is_plain(text)) {
            assert(matches == wire_string_equal(text, name));
            quoted(&mem, text, name);
        }
    }
    arena_release(&arena);
    assert(mem.used_bytes == 0);
    return 0;
}

size_t fuzz_seed(uint32_t n, uint8_t *to)
{
    static const char *const texts[] = {
        "orders\0orders\0order",
        "or.*s?\0ors\0orders",
        "(a|b)+c{2,3}\0abcc\0c",
        "[^a-c_]\\d\\w\0d1x",
        "^\\Qa.b\\E$\0a.b",
        "(?i)abc\0ABC",
        "(?:x|y)*?z\0xyz\0z",
        "[[:alpha:]]+\\.\\x41\0a.A",
        "\\pL\\P{Greek}\0aa",
        "a{1000}\0a",
        "((((((((((a*)*)*)*)*)*)*)*)*)*)*b\0aaaaaaaaaaaaaaaa",
        "(?P<n>a)(?s:.)\\b\\B\\A\\z\0ab",
        "\xc3\xa9[\xc3\xa0-\xc3\xbf]\0\xc3\xa9\xc3\xa0",
    };
    if (n >= sizeof(texts) / sizeof(texts[0]))
        return 0;
    size_t size = strlen(texts[n]) + 1;
    size += strlen(texts[n] + size); /* the first name */
    memcpy(to, texts[n], size);
    return size;
}
