/* A regular expression becomes a small program, and the program is run on all ways at once.
 *
 *   text ─ one pass, a stack of open groups ─▶ steps ─ sets of steps, a byte at a time ─▶ yes or no
 *
 *   SET b     the byte is in b (128 bits: names are ASCII), then the next step
 *   FORK a b  both that step and that one           JUMP a    that one
 *   BEGIN, END, WORD, INSIDE                        ^ $ \b \B
 *   MATCH     the end of the pattern
 *
 * Distances are relative, so a piece of program can be moved and copied: that is how the operators
 * are made, around the atom that was compiled last.
 *
 *   x*   FORK +1 +n | x | JUMP -n          x|y   FORK +1 +n | x | JUMP | y
 *   x+   x | FORK -n +1                    x{2,4}  x x FORK x FORK x, both forks to the end
 *
 * Served: literals, . [] [^] [[:alpha:]] \d \w \s and their opposites, \pL \p{Greek}, escapes, \Q
 * \E, groups (named, not captured, with flags i m s U), | * + ? {n} {n,} {n,m} and their lazy
 * forms, and the assertions above. Refused as RE2 refuses them: back references, looking ahead and
 * behind, atomic groups, possessive operators. Laziness has no effect on whether a name matches.
 *
 * Invariants
 *  1. Programs are at most STEPS_MAX long; each step is added at most once per byte.
 *  2. No step leads outside the program.
 *
 * Failure modes: what is not understood is refused with RE2's words for it; of Unicode's scripts
 * only the ones in the table are known, and a pattern that names another one is refused too. */
#include "broker/group/pattern.h"
#include "core/assert.h"
#include "core/core.h"

#define STEPS_MAX  5000u
#define GROUPS_MAX 200u
#define REPEAT_MAX 1000
#define NO_ATOM    UINT32_MAX

enum step_kind { SET, FORK, JUMP, BEGIN, END, WORD, INSIDE, MATCH };

struct bits {
    uint64_t low, high;
};

struct pattern_step {
    uint8_t kind;
    int32_t x, y; /* distances from this step; of an open alternative: the JUMP before it */
    struct bits set;
};

struct group_open {
    uint32_t alternative; /* where the present one begins */
    uint32_t jumps;       /* last of the chain of JUMPs to the group's end; NO_ATOM: none */
    uint32_t begin;
    bool fold; /* before the group */
};

struct compiler {
    struct pattern_step *steps;
    uint32_t count;
    struct group_open *groups;
    uint32_t depth;
    uint32_t atom; /* begin of the last atom, what an operator applies to; NO_ATOM: nothing */
    bool repeated; /* the last atom is a repetition: another operator is a mistake */
    bool fold;     /* (?i) */
    const uint8_t *at, *end;
    const char *why;
};

static const char too_large[] = "expression too large";
static const char bad_escape[] = "invalid escape sequence";
static const char bad_class[] = "invalid character class range";
static const char bad_perl[] = "invalid or unsupported Perl syntax";

/* ---- sets of bytes --------------------------------------------------------------------------- */

static void bits_add(struct bits *b, uint32_t from, uint32_t to)
{
    for (uint32_t c = from; c <= to && c < 128; c++) {
        if (c < 64)
            b->low |= 1ull << c;
        else
            b->high |= 1ull << (c - 64);
    }
}

static bool bits_has(const struct bits *b, uint32_t c)
{
    return c < 64 ? b->low >> c & 1 : c < 128 && b->high >> (c - 64) & 1;
}

static struct bits bits_not(struct bits b)
{
    return (struct bits){~b.low, ~b.high};
}

static struct bits bits_or(struct bits a, struct bits b)
{
    return (struct bits){a.low | b.low, a.high | b.high};
}

/* Letters in both cases. */
static struct bits bits_fold(struct bits b)
{
    for (uint32_t c = 'a'; c <= 'z'; c++) {
        if (bits_has(&b, c) || bits_has(&b, c - 32)) {
            bits_add(&b, c, c);
            bits_add(&b, c - 32, c - 32);
        }
    }
    return b;
}

struct named_set {
    const char *name;
    const char *ranges; /* pairs of first and last */
};

static const struct named_set posix[] = {{"alnum", "09AZaz"},
                                         {"alpha", "AZaz"},
                                         {"ascii", "\1\177"},
                                         {"blank", "\t\t  "},
                                         {"cntrl", "\1\037\177\177"},
                                         {"digit", "09"},
                                         {"graph", "!~"},
                                         {"lower", "az"},
                                         {"print", " ~"},
                                         {"punct", "!/:@[`{~"},
                                         {"space", "\t\r  "},
                                         {"upper", "AZ"},
                                         {"word", "09AZaz__"},
                                         {"xdigit", "09AFaf"},
                                         {NULL, NULL}};

/* The part of Unicode's categories and scripts that is ASCII. */
static const struct named_set unicode[] = {{"Any", "\1\177"},
                                           {"L", "AZaz"},
                                           {"Lu", "AZ"},
                                           {"Ll", "az"},
                                           {"Lt", ""},
                                           {"Lm", ""},
                                           {"Lo", ""},
                                           {"M", ""},
                                           {"Mn", ""},
                                           {"Mc", ""},
                                           {"Me", ""},
                                           {"N", "09"},
                                           {"Nd", "09"},
                                           {"Nl", ""},
                                           {"No", ""},
                                           {"P", "!#%*,/:;?@[]__{{}}"},
                                           {"Pc", "__"},
                                           {"Pd", "--"},
                                           {"Ps", "((([[{{"},
                                           {"Pe", "))]]}}"},
                                           {"Pi", ""},
                                           {"Pf", ""},
                                           {"Po", "!#%'**,,./:;?@\\\\"},
                                           {"S", "$$++<>^^``||~~"},
                                           {"Sm", "++<>||~~"},
                                           {"Sc", "$$"},
                                           {"Sk", "^^``"},
                                           {"So", ""},
                                           {"Z", "  "},
                                           {"Zs", "  "},
                                           {"Zl", ""},
                                           {"Zp", ""},
                                           {"C", "\1\037\177\177"},
                                           {"Cc", "\1\037\177\177"},
                                           {"Cf", ""},
                                           {"Co", ""},
                                           {"Cs", ""},
                                           {"Latin", "AZaz"},
                                           {"Common", "\1@[`{\177"},
                                           {"Arabic", ""},
                                           {"Armenian", ""},
                                           {"Bengali", ""},
                                           {"Cyrillic", ""},
                                           {"Devanagari", ""},
                                           {"Ethiopic", ""},
                                           {"Georgian", ""},
                                           {"Greek", ""},
                                           {"Han", ""},
                                           {"Hangul", ""},
                                           {"Hebrew", ""},
                                           {"Hiragana", ""},
                                           {"Inherited", ""},
                                           {"Katakana", ""},
                                           {"Khmer", ""},
                                           {"Lao", ""},
                                           {"Mongolian", ""},
                                           {"Tamil", ""},
                                           {"Telugu", ""},
                                           {"Thai", ""},
                                           {"Tibetan", ""},
                                           {NULL, NULL}};

static bool named_set(const struct named_set *table, const char *name, size_t size, struct bits *to)
{
    for (; table->name != NULL; table++) {
        if (strlen(table->name) != size || memcmp(table->name, name, size) != 0)
            continue;
        *to = (struct bits){0};
        for (const char *r = table->ranges; r[0] != '\0' && r[1] != '\0'; r += 2)
            bits_add(to, (uint8_t)r[0], (uint8_t)r[1]);
        return true;
    }
    return false;
}

/* ---- making steps ---------------------------------------------------------------------------- */

static bool fail(struct compiler *c, const char *why)
{
    if (c->why == NULL)
        c->why = why;
    return false;
}

/* Room for count steps at a place; what is behind it moves. */
static bool make_room(struct compiler *c, uint32_t at, uint32_t count)
{
    if (c->count + count > STEPS_MAX)
        return fail(c, too_large);
    memmove(c->steps + at + count, c->steps + at, (c->count - at) * sizeof(*c->steps));
    c->count += count;
    return true;
}

static bool emit(struct compiler *c, enum step_kind kind, struct bits set)
{
    if (!make_room(c, c->count, 1))
        return false;
    c->atom = c->count - 1;
    c->repeated = false;
    c->steps[c->atom] = (struct pattern_step){.kind = (uint8_t)kind, .x = 1, .y = 1, .set = set};
    return true;
}

static bool emit_code(struct compiler *c, uint32_t code)
{
    struct bits set = {0};
    bits_add(&set, code, code);
    return emit(c, SET, c->fold ? bits_fold(set) : set);
}

/* ---- characters ------------------------------------------------------------------------------ */

static bool more(const struct compiler *c)
{
    return c->at < c->end;
}

static bool take(struct compiler *c, char what)
{
    if (!more(c) || *c->at != (uint8_t)what)
        return false;
    c->at++;
    return true;
}

/* The next code point; what is beyond ASCII only matters for not being it. */
static bool take_code(struct compiler *c, uint32_t *code)
{
    if (!more(c))
        return false;
    uint32_t first = *c->at++;
    uint32_t tail = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    *code = first;
    for (; tail > 0; tail--) {
        if (!more(c) || (*c->at & 0xc0) != 0x80)
            return fail(c, "invalid UTF-8");
        *code = (*code << 6 | (*c->at++ & 0x3fu)) & 0x1fffff;
    }
    if (first >= 0x80 && *code < 0x80)
        *code = 0x10ffff;
    return true;
}

static int hex_digit(uint8_t b)
{
    if (b >= '0' && b <= '9')
        return b - '0';
    uint8_t lower = b | 32;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* After \x: two digits, or any number of them in braces. */
static bool take_hex(struct compiler *c, uint32_t *code)
{
    uint32_t value = 0, digits = 0;
    bool braces = take(c, '{');
    while (more(c) && hex_digit(*c->at) >= 0 && (braces || digits < 2)) {
        value = value * 16 + (uint32_t)hex_digit(*c->at++);
        digits++;
        if (value > 0x10ffff)
            return fail(c, bad_escape);
    }
    if (digits == 0 || (!braces && digits < 2) || (braces && !take(c, '}')))
        return fail(c, bad_escape);
    *code = value;
    return true;
}

/* What follows a backslash, where it stands for one character. */
static bool take_escaped(struct compiler *c, uint32_t *code)
{
    static const char names[] = "aftnrv", codes[] = "\a\f\t\n\r\v";
    uint32_t b;
    if (!more(c))
        return fail(c, "trailing backslash at end of expression");
    if (!take_code(c, &b))
        return false;
    *code = b;
    if (b < 0x80 && !(b >= '0' && b <= '9') && !((b | 32) >= 'a' && (b | 32) <= 'z'))
        return true; /* punctuation is itself */
    if (b == 'x')
        return take_hex(c, code);
    for (uint32_t i = 0; names[i] != '\0'; i++) {
        if (b == (uint8_t)names[i]) {
            *code = (uint8_t)codes[i];
            return true;
        }
    }
    /* \0 and \1 to \7 before another digit are octal; alone the latter refer back. */
    bool digit = more(c) && *c->at >= '0' && *c->at <= '7';
    if (b < '0' || b > '7' || (b != '0' && !digit))
        return fail(c, bad_escape);
    *code = b - '0';
    for (uint32_t i = 1; i < 3 && more(c) && *c->at >= '0' && *c->at <= '7'; i++)
        *code = *code * 8 + (*c->at++ - '0');
    return true;
}

/* \d \w \s \p and their opposites, the letter being next. false: it is something else. */
static bool take_set(struct compiler *c, struct bits *to)
{
    if (!more(c))
        return false;
    uint8_t letter = *c->at;
    const char *name = letter == 'd' || letter == 'D'   ? "digit"
                       : letter == 'w' || letter == 'W' ? "word"
                       : letter == 's' || letter == 'S' ? "space"
                                                        : NULL;
    if (name != NULL) {
        c->at++;
        bool known = named_set(posix, name, strlen(name), to);
        assert(known);
        if (letter == 's' || letter == 'S') /* without \v */
            to->low &= ~(1ull << 11);
        if (letter < 'a')
            *to = bits_not(*to);
        return true;
    }
    if (letter != 'p' && letter != 'P')
        return false;
    c->at++;
    bool opposite = letter == 'P';
    const uint8_t *from = c->at, *to_end;
    if (take(c, '{')) {
        opposite ^= take(c, '^');
        from = c->at;
        while (more(c) && *c->at != '}')
            c->at++;
        to_end = c->at;
        if (!take(c, '}'))
            return fail(c, bad_class);
    } else {
        to_end = more(c) ? ++c->at : c->at;
    }
    if (!named_set(unicode, (const char *)from, (size_t)(to_end - from), to))
        return fail(c, bad_class);
    if (opposite)
        *to = bits_not(*to);
    return true;
}

/* [:alpha:] and [:^alpha:], the bracket being next. */
static bool take_posix(struct compiler *c, struct bits *to)
{
    const uint8_t *from = c->at + 2, *at = from;
    while (at + 1 < c->end && !(at[0] == ':' && at[1] == ']'))
        at++;
    if (at + 1 >= c->end)
        return false; /* a plain bracket */
    bool opposite = at > from && *from == '^';
    from += opposite;
    if (!named_set(posix, (const char *)from, (size_t)(at - from), to))
        return fail(c, bad_class);
    c->at = at + 2;
    if (opposite)
        *to = bits_not(*to);
    return true;
}

static bool take_class_code(struct compiler *c, uint32_t *code)
{
    if (!more(c))
        return fail(c, "missing closing ]");
    return take(c, '\\') ? take_escaped(c, code) : take_code(c, code);
}

static bool take_range(struct compiler *c, struct bits *set)
{
    uint32_t low, high;
    if (!take_class_code(c, &low))
        return false;
    high = low;
    if (c->at + 1 < c->end && c->at[0] == '-' && c->at[1] != ']') {
        c->at++;
        if (!take_class_code(c, &high))
            return false;
        if (high < low)
            return fail(c, bad_class);
    }
    bits_add(set, low, high);
    return true;
}

/* After the opening bracket. */
static bool take_class(struct compiler *c)
{
    struct bits set = {0}, one = {0};
    bool opposite = take(c, '^'), first = true;
    for (; !more(c) || *c->at != ']' || first; first = false) {
        if (!more(c))
            return fail(c, "missing closing ]");
        if (!first && *c->at == '-' && c->at + 1 < c->end && c->at[1] != ']')
            return fail(c, bad_class); /* a range that begins with nothing */
        if (c->at + 1 < c->end && c->at[0] == '[' && c->at[1] == ':' && take_posix(c, &one)) {
            set = bits_or(set, one);
            continue;
        }
        if (c->why == NULL && c->at[0] == '\\') {
            c->at++;
            if (take_set(c, &one)) {
                set = bits_or(set, one);
                continue;
            }
            c->at--;
        }
        if (c->why != NULL || !take_range(c, &set))
            return false;
    }
    c->at++;
    if (c->fold)
        set = bits_fold(set);
    return emit(c, SET, opposite ? bits_not(set) : set);
}

/* ---- operators ------------------------------------------------------------------------------- */

static uint32_t atom_size(const struct compiler *c)
{
    return c->count - c->atom;
}

static bool fork_before(struct compiler *c, int32_t past)
{
    if (!make_room(c, c->atom, 1))
        return false;
    c->steps[c->atom] = (struct pattern_step){.kind = FORK, .x = 1, .y = past};
    return true;
}

static bool append(struct compiler *c, enum step_kind kind, int32_t x, int32_t y)
{
    if (!make_room(c, c->count, 1))
        return false;
    c->steps[c->count - 1] = (struct pattern_step){.kind = (uint8_t)kind, .x = x, .y = y};
    return true;
}

static bool repeat_star(struct compiler *c)
{
    int32_t size = (int32_t)atom_size(c);
    return fork_before(c, size + 2) && append(c, JUMP, -(size + 1), 1);
}

static bool repeat_plus(struct compiler *c)
{
    return append(c, FORK, -(int32_t)atom_size(c), 1);
}

/* Copies of the atom, which is at `from` and as large as said, go to the end. */
static bool copy_atom(struct compiler *c, uint32_t from, uint32_t size)
{
    if (!make_room(c, c->count, size))
        return false;
    memcpy(c->steps + c->count - size, c->steps + from, size * sizeof(*c->steps));
    return true;
}

static bool repeat_counted(struct compiler *c, int32_t min, int32_t max)
{
    uint32_t from = c->atom, size = atom_size(c);
    if (max == 0) { /* never */
        c->count = from;
        return append(c, JUMP, 1, 1);
    }
    if (min == 0 && max < 0)
        return repeat_star(c);
    for (int32_t i = 1; i < min; i++) {
        if (!copy_atom(c, from, size))
            return false;
    }
    if (max < 0) {
        c->atom = c->count - size;
        bool done = repeat_plus(c);
        c->atom = from;
        return done;
    }
    int32_t optional = max - MAX(min, 1);
    if (min == 0) {
        if (!fork_before(c, 0)) /* to the end, told below */
            return false;
    }
    uint32_t first = from + (min == 0);
    for (int32_t i = 0; i < optional; i++) {
        if (!append(c, FORK, 1, 0) || !copy_atom(c, first, size))
            return false;
    }
    if (min == 0)
        c->steps[from].y = (int32_t)(c->count - from);
    for (int32_t i = 0; i < optional; i++) {
        uint32_t fork = c->count - (uint32_t)(i + 1) * (size + 1);
        assert(c->steps[fork].kind == FORK);
        c->steps[fork].y = (int32_t)(c->count - fork);
    }
    return true;
}

/* {n} {n,} {n,m}. false without `why`: it is no count, the brace is itself. */
static bool take_count(struct compiler *c, int32_t *min, int32_t *max)
{
    const uint8_t *at = c->at;
    int32_t values[2] = {-1, -1};
    uint32_t n = 0;
    for (; at < c->end && n < 2; at++) {
        if (*at >= '0' && *at <= '9')
            values[n] = MIN(MAX(values[n], 0) * 10 + (*at - '0'), REPEAT_MAX + 1);
        else if (*at == ',' && n == 0 && values[0] >= 0)
            n = 1;
        else
            break;
    }
    if (at >= c->end || *at != '}' || values[0] < 0)
        return false;
    c->at = at + 1;
    *min = values[0];
    *max = n == 0 ? values[0] : values[1];
    if (*min > REPEAT_MAX || *max > REPEAT_MAX || (*max >= 0 && *max < *min))
        return fail(c, "invalid repetition count");
    return true;
}

static bool apply(struct compiler *c, uint8_t operator, int32_t min, int32_t max)
{
    if (c->atom == NO_ATOM)
        return fail(c, "missing argument to repetition operator");
    if (c->repeated)
        return fail(c, "invalid nested repetition operator");
    (void)take(c, '?'); /* lazy: matches the same names */
    bool done = operator== '*' ? repeat_star(c) :
                operator== '+' ? repeat_plus(c)
                :
                operator== '?' ? fork_before(c, (int32_t)atom_size(c) + 1)
                               : repeat_counted(c, min, max);
    c->repeated = true;
    return done;
}

/* ---- groups ---------------------------------------------------------------------------------- */

static bool group_enter(struct compiler *c, bool fold_before)
{
    if (c->depth == GROUPS_MAX)
        return fail(c, "expression nests too deeply");
    c->groups[c->depth++] = (struct group_open){c->count, NO_ATOM, c->count, fold_before};
    c->atom = NO_ATOM;
    return true;
}

/* Ends the present alternative, of which there are more if `bar`. */
static bool alternative_end(struct compiler *c, bool bar)
{
    struct group_open *g = &c->groups[c->depth - 1];
    if (!bar)
        return true;
    if (!make_room(c, g->alternative, 1))
        return false;
    int32_t size = (int32_t)(c->count - g->alternative);
    c->steps[g->alternative] = (struct pattern_step){.kind = FORK, .x = 1, .y = size + 1};
    if (!append(c, JUMP, g->jumps == NO_ATOM ? -1 : (int32_t)g->jumps, 1))
        return false;
    g->jumps = c->count - 1;
    g->alternative = c->count;
    c->atom = NO_ATOM;
    return true;
}

static void group_leave(struct compiler *c)
{
    struct group_open g = c->groups[--c->depth];
    for (uint32_t at = g.jumps; at != NO_ATOM;) {
        int32_t before = c->steps[at].x;
        c->steps[at].x = (int32_t)(c->count - at);
        at = before < 0 ? NO_ATOM : (uint32_t)before;
    }
    c->fold = g.fold;
    c->atom = g.begin;
    c->repeated = false;
}

static bool take_name(struct compiler *c)
{
    uint32_t size = 0;
    for (; more(c) && *c->at != '>'; c->at++, size++) {
        uint8_t lower = *c->at | 32;
        if (!(lower >= 'a' && lower <= 'z') && !(*c->at >= '0' && *c->at <= '9') && *c->at != '_')
            return fail(c, "invalid named capture");
    }
    return size > 0 && take(c, '>') ? true : fail(c, "invalid named capture");
}

/* After "(?": flags for what follows, or for a group; or a name. */
static bool take_perl(struct compiler *c)
{
    bool fold = c->fold, before = c->fold, on = true, any = false;
    if ((c->at + 1 < c->end && c->at[0] == 'P' && c->at[1] == '<') || (more(c) && *c->at == '<')) {
        c->at += *c->at == 'P' ? 2 : 1;
        if (more(c) && (*c->at == '=' || *c->at == '!'))
            return fail(c, bad_perl);
        return take_name(c) && group_enter(c, before);
    }
    for (; more(c); c->at++) {
        uint8_t b = *c->at;
        if (b == ':' || b == ')')
            break;
        if (b == '-' && on)
            on = any = false;
        else if (b == 'i' || b == 'm' || b == 's' || b == 'U')
            any = true;
        else
            return fail(c, bad_perl);
        fold = b == 'i' ? on : fold;
    }
    if (!more(c))
        return fail(c, "missing closing )");
    if (!on && !any)
        return fail(c, bad_perl);
    if (*c->at++ == ':') {
        if (!group_enter(c, before))
            return false;
        c->fold = fold;
        return true;
    }
    c->fold = fold;
    c->atom = NO_ATOM;
    return true;
}

/* ---- the pass -------------------------------------------------------------------------------- */

static bool take_quoted(struct compiler *c)
{
    uint32_t code;
    while (more(c)) {
        if (c->at + 1 < c->end && c->at[0] == '\\' && c->at[1] == 'E') {
            c->at += 2;
            return true;
        }
        if (!take_code(c, &code) || !emit_code(c, code))
            return false;
    }
    return true;
}

/* After a backslash, outside of a class. */
static bool take_backslash(struct compiler *c)
{
    const struct bits none = {0};
    struct bits set = {0};
    uint32_t code = 0;
    uint8_t next = more(c) ? *c->at : 0;
    enum step_kind kind = next == 'A'   ? BEGIN
                          : next == 'z' ? END
                          : next == 'b' ? WORD
                          : next == 'B' ? INSIDE
                                        : MATCH;
    if (kind != MATCH) {
        c->at++;
        return emit(c, kind, none);
    }
    if (next == 'Q') {
        c->at++;
        return take_quoted(c);
    }
    if (take_set(c, &set))
        return emit(c, SET, c->fold ? bits_fold(set) : set);
    return c->why == NULL && take_escaped(c, &code) && emit_code(c, code);
}

static bool take_one(struct compiler *c)
{
    const struct bits none = {0}, all = {~0ull, ~0ull};
    int32_t min, max;
    uint32_t code;
    uint8_t b = *c->at;
    switch (b) {
    case '(':
        c->at++;
        return take(c, '?') ? take_perl(c) : group_enter(c, c->fold);
    case ')':
        c->at++;
        if (c->depth <= 1)
            return fail(c, "unexpected )");
        group_leave(c);
        return true;
    case '|':
        c->at++;
        return alternative_end(c, true);
    case '[':
        c->at++;
        return take_class(c);
    case '.':
        c->at++;
        return emit(c, SET, all);
    case '^':
        c->at++;
        return emit(c, BEGIN, none);
    case '$':
        c->at++;
        return emit(c, END, none);
    case '\\':
        c->at++;
        return take_backslash(c);
    case '*':
    case '+':
    case '?':
        c->at++;
        return apply(c, b, 0, 0);
    case '{':
        c->at++;
        if (take_count(c, &min, &max))
            return apply(c, b, min, max);
        return c->why == NULL && emit_code(c, '{');
    default:
        return take_code(c, &code) && emit_code(c, code);
    }
}

static bool compile(struct compiler *c)
{
    const struct bits none = {0};
    if (!group_enter(c, false))
        return false;
    while (more(c)) { /* each turn takes at least a byte */
        if (!take_one(c))
            return fail(c, bad_escape);
    }
    if (c->depth != 1)
        return fail(c, "missing closing )");
    group_leave(c);
    return emit(c, MATCH, none);
}

bool pattern_compile(struct pattern *p, struct arena *arena, struct wire_string text,
                     const char **why)
{
    struct compiler c = {.at = (const uint8_t *)text.data, .atom = NO_ATOM};
    c.end = c.at + MAX(text.size, 0);
    c.steps = arena_array(arena, STEPS_MAX, sizeof(*c.steps));
    c.groups = arena_array(arena, GROUPS_MAX, sizeof(*c.groups));
    *p = (struct pattern){.steps = c.steps};
    *why = "no memory";
    if (c.steps == NULL || c.groups == NULL)
        return false;
    bool done = compile(&c);
    *why = c.why;
    if (!done)
        return false;
    p->steps_count = c.count;
    p->list[0] = arena_array(arena, c.count, sizeof(uint32_t));
    p->list[1] = arena_array(arena, c.count, sizeof(uint32_t));
    p->stack = arena_array(arena, 2 * (size_t)c.count, sizeof(uint32_t));
    p->seen = arena_array(arena, c.count, sizeof(uint32_t));
    *why = "no memory";
    return p->list[0] != NULL && p->list[1] != NULL && p->stack != NULL && p->seen != NULL;
}

/* ---- running --------------------------------------------------------------------------------- */

static bool word(struct wire_string s, int32_t at)
{
    if (at < 0 || at >= s.size)
        return false;
    uint8_t b = (uint8_t)s.data[at], lower = b | 32;
    return (b >= '0' && b <= '9') || b == '_' || (lower >= 'a' && lower <= 'z');
}

static bool asserted(uint8_t kind, struct wire_string s, int32_t at)
{
    if (kind == BEGIN)
        return at == 0;
    if (kind == END)
        return at == s.size;
    return (word(s, at - 1) != word(s, at)) == (kind == WORD);
}

/* The step and all that can be reached from it without a byte. true: the end of the pattern. */
static bool reach(struct pattern *p, uint32_t from, struct wire_string s, int32_t at,
                  uint32_t *list, uint32_t *count)
{
    uint32_t depth = 0;
    bool matched = false;
    p->stack[depth++] = from;
    while (depth > 0) {
        uint32_t i = p->stack[--depth];
        assert(i < p->steps_count); /* invariant 2 */
        if (p->seen[i] == p->round)
            continue;
        p->seen[i] = p->round;
        const struct pattern_step *step = &p->steps[i];
        switch (step->kind) {
        case SET:
            list[(*count)++] = i;
            break;
        case MATCH:
            matched = true; /* the other ways may lead further */
            break;
        case JUMP:
            p->stack[depth++] = i + (uint32_t)step->x;
            break;
        case FORK:
            p->stack[depth++] = i + (uint32_t)step->x;
            p->stack[depth++] = i + (uint32_t)step->y;
            break;
        default:
            if (asserted(step->kind, s, at))
                p->stack[depth++] = i + 1;
        }
    }
    return matched;
}

bool pattern_matches(struct pattern *p, struct wire_string name)
{
    uint32_t count = 0, which = 0;
    p->round++;
    bool matched = reach(p, 0, name, 0, p->list[0], &count);
    for (int32_t at = 0; at < name.size; at++) {
        if (count == 0)
            return false; /* no way goes on */
        uint32_t *now = p->list[which], *next = p->list[1 - which], next_count = 0;
        matched = false;
        p->round++;
        for (uint32_t i = 0; i < count; i++) {
            if (bits_has(&p->steps[now[i]].set, (uint8_t)name.data[at]))
                matched |= reach(p, now[i] + 1, name, at + 1, next, &next_count);
        }
        which = 1 - which;
        count = next_count;
    }
    return matched;
}
