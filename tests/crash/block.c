/* A disk with a write-back cache: what was written is there, what was flushed stays.
 *
 *   put ─▶ now, and the list of writes ──flush──▶ kept, the list is empty
 *                        └──the power goes──▶ kept, and of the list what the seed leaves
 *
 * Invariants
 *  1. kept is exactly what was there at the last flush.
 *  2. After a cut a sector (512 B) holds what it held at the last flush, or what one of the later
 *     writes put there. Nothing smaller is torn, and no write goes to another place.
 *  3. The first 4 KiB are one sector: ext4's superblock is there, which it writes in place, with a
 *     checksum, and reads before its journal. It would not come back from a tear in it.
 *
 * How much survives is drawn for each cut: nothing, everything, the writes up to one in the middle
 * of which it stopped, any of the writes, any of their sectors. Each is a way disks behave, and
 * each finds other mistakes. */
#include "block.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u

enum mood { MOOD_NOTHING, MOOD_ALL, MOOD_PREFIX, MOOD_WRITES, MOOD_SECTORS, MOODS };

uint64_t block_random(uint64_t *state, uint64_t below)
{
    *state += 0x9E3779B97F4A7C15ull;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return (z ^ (z >> 31)) % below;
}

static uint8_t *pages(uint64_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    static const uint8_t zeros[PAGE];
    return memcmp(bytes, zeros, size) == 0;
}

/* Touches only pages that are not zeros. */
static void copy_sparse(uint8_t *to, const uint8_t *from, uint64_t size)
{
    for (uint64_t at = 0; at < size; at += PAGE) {
        size_t n = size - at < PAGE ? (size_t)(size - at) : PAGE;
        if (memcmp(to + at, from + at, n) != 0)
            memcpy(to + at, from + at, n);
    }
}

bool block_open(struct block *b, const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    *b = (struct block){0};
    if (fd < 0 || fstat(fd, &st) != 0)
        return false;
    b->size = (uint64_t)st.st_size;
    b->now = pages(b->size);
    b->kept = pages(b->size);
    const uint8_t *file = mmap(NULL, b->size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (b->now == NULL || b->kept == NULL || file == MAP_FAILED)
        return false;
    copy_sparse(b->now, file, b->size);
    copy_sparse(b->kept, file, b->size);
    munmap((void *)(uintptr_t)file, b->size);
    return true;
}

void block_put(struct block *b, uint64_t offset, const void *data, uint32_t size)
{
    if (b->writes_count == b->writes_room) {
        b->writes_room = b->writes_room * 2 + 64;
        b->writes = realloc(b->writes, b->writes_room * sizeof(*b->writes));
    }
    struct block_write w = {.offset = offset, .size = size, .data = malloc(size)};
    if (b->writes == NULL || w.data == NULL)
        abort();
    memcpy(w.data, data, size);
    memcpy(b->now + offset, data, size);
    b->writes[b->writes_count++] = w;
}

static void forget(struct block *b)
{
    for (uint32_t i = 0; i < b->writes_count; i++)
        free(b->writes[i].data);
    b->writes_count = 0;
}

void block_flush(struct block *b)
{
    for (uint32_t i = 0; i < b->writes_count; i++) {
        const struct block_write *w = &b->writes[i];
        memcpy(b->kept + w->offset, w->data, w->size);
    }
    forget(b);
}

/* Of one write, sector by sector: those up to `first`, or any. */
static void keep_some(const struct block_write *w, uint64_t *random, bool any, uint32_t first,
                      uint8_t *to, struct block_cut *cut)
{
    uint32_t kept = 0, lost = 0, n;
    for (uint32_t at = 0; at < w->size; at += n) {
        uint64_t sector = w->offset + at < PAGE ? PAGE - w->offset - at : SECTOR; /* invariant 3 */
        n = w->size - at < sector ? w->size - at : (uint32_t)sector;
        if (any ? block_random(random, 2) == 0 : at < first) {
            memcpy(to + w->offset + at, w->data + at, n);
            kept++;
        } else {
            lost++;
        }
    }
    cut->kept += kept;
    cut->lost += lost;
    cut->torn_writes += kept > 0 && lost > 0;
}

/* Lays over `to`, which is as the last flush left it, what the seed keeps of the writes since. */
static void survive(const struct block *b, uint64_t seed, uint8_t *to, struct block_cut *cut)
{
    uint64_t random = seed;
    enum mood mood = (enum mood)block_random(&random, MOODS);
    uint64_t stop = block_random(&random, (uint64_t)b->writes_count + 1);
    *cut = (struct block_cut){0};
    for (uint32_t i = 0; i < b->writes_count; i++) {
        const struct block_write *w = &b->writes[i];
        bool whole = mood == MOOD_ALL || (mood == MOOD_PREFIX && i < stop) ||
                     (mood == MOOD_WRITES && block_random(&random, 2) == 0);
        uint32_t part = (uint32_t)block_random(&random, (uint64_t)w->size + 1);
        uint32_t first = whole ? w->size : mood == MOOD_PREFIX && i == stop ? part : 0;
        keep_some(w, &random, mood == MOOD_SECTORS, first, to, cut);
    }
}

void block_crash(const struct block *b, uint64_t seed, uint8_t *to, struct block_cut *cut)
{
    copy_sparse(to, b->kept, b->size);
    survive(b, seed, to, cut);
}

void block_cut(struct block *b, uint64_t seed, struct block_cut *cut)
{
    for (uint32_t i = 0; i < b->writes_count; i++) {
        const struct block_write *w = &b->writes[i];
        memcpy(b->now + w->offset, b->kept + w->offset, w->size);
    }
    survive(b, seed, b->now, cut);
    survive(b, seed, b->kept, cut);
    forget(b);
}

bool block_save(const uint8_t *bytes, uint64_t size, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = fd >= 0 && ftruncate(fd, (off_t)size) == 0;
    for (uint64_t at = 0; good && at < size; at += PAGE) {
        size_t n = size - at < PAGE ? (size_t)(size - at) : PAGE;
        if (!is_zero(bytes + at, n))
            good = pwrite(fd, bytes + at, n, (off_t)at) == (ssize_t)n;
    }
    return fd >= 0 && close(fd) == 0 && good;
}
