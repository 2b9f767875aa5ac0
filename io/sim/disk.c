/* The simulated disk: names and content as programs see them now.
 *
 *   path ─▶ root.now ─▶ folder.now ─▶ file ─▶ pages[i].now     reads and writes
 *                │           │          │          │
 *            .kept        .kept     size_kept   .kept           what a power cut leaves (keep.c)
 *
 * Invariants:
 *  1. A page whose `now` and `kept` are one pointer holds the same bytes in both; it is copied
 * before it is written. So memory grows with what is dirty, not with what is there.
 *  2. Bytes of `now` beyond size_now are zero: a file that grows shows zeros, never what was cut
 * off.
 *  3. Each change of a name is in disk.changes, in order, until it is kept; what is kept of a
 * folder is reached by replaying changes, never by looking at `now`.
 *  4. An inode lives as long as something refers to it: names now and kept, changes, descriptors
 *     and ops. A file that is unlinked and open is still there, as in Unix.
 *
 * Failure modes: those of a file system, as -errno; and -ENOSPC by capacity. The simulator's own
 * memory does not run out. */
#include "io/sim/disk.h"

#include <errno.h>
#include <string.h>

#define NAME_MAX_SIZE 256u
#define NAMES_FIRST   8u
#define PAGES_FIRST   16u

/* ---- memory ---------------------------------------------------------------------------------- */

static void *disk_alloc(struct disk *d, size_t size)
{
    void *p = mem_zalloc(d->mem, size);
    assert(p != NULL); /* the simulator's budget is too small */
    return p;
}

static uint8_t *page_copy(struct disk *d, const uint8_t *from)
{
    uint8_t *p = mem_alloc(d->mem, DISK_PAGE);
    assert(p != NULL);
    if (from != NULL)
        memcpy(p, from, DISK_PAGE);
    else
        memset(p, 0, DISK_PAGE);
    return p;
}

static void page_free(struct disk *d, uint8_t *p)
{
    mem_free(d->mem, p, DISK_PAGE);
}

static char *text_copy(struct disk *d, const char *text, size_t length)
{
    char *p = disk_alloc(d, length + 1);
    memcpy(p, text, length);
    return p;
}

/* ---- folders --------------------------------------------------------------------------------- */

/* Where the name is, or would be. */
bool disk_names_find(const struct names *n, const char *text, uint32_t *at)
{
    uint32_t low = 0, high = n->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(n->list[middle].text, text);
        if (order == 0) {
            *at = middle;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *at = low;
    return false;
}

void disk_names_set(struct disk *d, struct names *n, const char *text, struct inode *i)
{
    uint32_t at;
    disk_hold(i);
    if (disk_names_find(n, text, &at)) {
        struct inode *before = n->list[at].inode;
        n->list[at].inode = i;
        disk_release(d, before);
        return;
    }
    if (n->count == n->room) {
        uint32_t room = n->room > 0 ? n->room * 2 : NAMES_FIRST;
        struct name *grown =
            mem_realloc(d->mem, n->list, n->room * sizeof(*grown), room * sizeof(*grown));
        assert(grown != NULL);
        n->list = grown;
        n->room = room;
    }
    memmove(n->list + at + 1, n->list + at, (n->count - at) * sizeof(*n->list));
    size_t length = strlen(text);
    n->list[at] = (struct name){text_copy(d, text, length), (uint32_t)length + 1, i};
    n->count++;
}

static void names_remove_at(struct disk *d, struct names *n, uint32_t at)
{
    assert(at < n->count);
    struct name gone = n->list[at];
    n->count--;
    memmove(n->list + at, n->list + at + 1, (n->count - at) * sizeof(*n->list));
    mem_free(d->mem, gone.text, gone.size);
    disk_release(d, gone.inode);
}

/* Only if it is this inode's name. */
void disk_names_drop(struct disk *d, struct names *n, const char *text, const struct inode *i)
{
    uint32_t at;
    if (disk_names_find(n, text, &at) && n->list[at].inode == i)
        names_remove_at(d, n, at);
}

void disk_names_clear(struct disk *d, struct names *n)
{
    while (n->count > 0)
        names_remove_at(d, n, n->count - 1);
    if (n->list != NULL)
        mem_free(d->mem, n->list, n->room * sizeof(*n->list));
    *n = (struct names){0};
}

static struct inode *inode_make(struct disk *d, bool directory, int64_t now_ms)
{
    struct inode *i = disk_alloc(d, sizeof(*i));
    i->id = ++d->ids;
    i->directory = directory;
    i->modified_ms = now_ms;
    list_init(&i->doomed);
    list_push_back(&d->inodes, &i->link);
    return i;
}

uint64_t disk_pages(const struct inode *i)
{
    uint64_t count = i->reserved;
    for (uint64_t p = i->reserved; p < i->pages_room; p++)
        count += i->pages[p].now != NULL;
    return count;
}

static void inode_free(struct disk *d, struct inode *i)
{
    assert(i->references == 0);
    disk_names_clear(d, &i->now);
    disk_names_clear(d, &i->kept);
    d->bytes -= disk_pages(i) * DISK_PAGE;
    for (uint32_t p = 0; p < i->pages_room; p++) {
        struct page *page = &i->pages[p];
        if (page->now != page->kept)
            page_free(d, page->now);
        page_free(d, page->kept);
    }
    if (i->pages != NULL)
        mem_free(d->mem, i->pages, i->pages_room * sizeof(*i->pages));
    list_remove(&i->link);
    mem_free(d->mem, i, sizeof(*i));
}

void disk_hold(struct inode *i)
{
    i->references++;
    assert(i->references > 0);
}

/* A folder that goes takes what is in it along: a list instead of recursion. */
void disk_release(struct disk *d, struct inode *i)
{
    assert(i->references > 0);
    if (--i->references > 0)
        return;
    list_push_back(&d->doomed, &i->doomed);
    if (d->reaping)
        return;
    d->reaping = true;
    for (struct list *l; (l = list_pop_front(&d->doomed)) != NULL;)
        inode_free(d, container_of(l, struct inode, doomed));
    d->reaping = false;
}

void disk_init(struct disk *d, struct mem *mem, uint64_t seed, const struct disk_counts *counts)
{
    *d = (struct disk){.mem = mem, .capacity = UINT64_MAX, .counts = *counts};
    chance_init(&d->chance, seed, 0);
    list_init(&d->inodes);
    list_init(&d->changes);
    list_init(&d->doomed);
    d->root = inode_make(d, true, 0);
    disk_hold(d->root);
}

void disk_free(struct disk *d)
{
    disk_forget_changes(d);
    disk_release(d, d->root);
    assert(list_empty(&d->inodes)); /* somebody still holds a file */
    assert(d->bytes == 0);
}

/* ---- paths ----------------------------------------------------------------------------------- */

/* The folder that the last part of the path is in, and that part. */
static int path_split(struct disk *d, const char *path, struct inode **folder,
                      char name[NAME_MAX_SIZE])
{
    struct inode *at = d->root;
    name[0] = 0;
    while (*path != 0) {
        size_t length = strcspn(path, "/");
        if (length > 0 && !(length == 1 && path[0] == '.')) {
            if (name[0] != 0) { /* the part before was no last one */
                uint32_t where;
                if (!disk_names_find(&at->now, name, &where))
                    return -ENOENT;
                at = at->now.list[where].inode;
                if (!at->directory)
                    return -ENOTDIR;
            }
            if (length >= NAME_MAX_SIZE)
                return -ENAMETOOLONG;
            memcpy(name, path, length);
            name[length] = 0;
        }
        path += length + (path[length] == '/');
    }
    *folder = at;
    return 0;
}

int disk_find(struct disk *d, const char *path, struct inode **found)
{
    char name[NAME_MAX_SIZE];
    struct inode *folder;
    uint32_t at;
    int error = path_split(d, path, &folder, name);
    if (error != 0)
        return error;
    *found = folder;
    if (name[0] == 0)
        return 0;
    if (!disk_names_find(&folder->now, name, &at))
        return -ENOENT;
    *found = folder->now.list[at].inode;
    return 0;
}

uint32_t disk_volume(struct disk *d, const char *path)
{
    char name[NAME_MAX_SIZE];
    struct inode *folder;
    uint32_t at;
    if (path_split(d, path, &folder, name) != 0)
        return 0;
    if (name[0] != 0 && disk_names_find(&folder->now, name, &at))
        return folder->now.list[at].inode->volume;
    return folder->volume;
}

static void change_note(struct disk *d, enum change_kind kind, struct inode *folder,
                        const char *name, struct inode *i)
{
    struct change *c = disk_alloc(d, sizeof(*c));
    *c = (struct change){
        .kind = kind, .directory = folder, .text = text_copy(d, name, strlen(name)), .inode = i};
    disk_hold(folder);
    disk_hold(i);
    list_push_back(&d->changes, &c->link);
}

int disk_add(struct disk *d, const char *path, bool directory, int64_t now_ms, struct inode **added)
{
    char name[NAME_MAX_SIZE];
    struct inode *folder;
    uint32_t at;
    int error = path_split(d, path, &folder, name);
    if (error != 0)
        return error;
    if (name[0] == 0 || disk_names_find(&folder->now, name, &at))
        return -EEXIST;
    struct inode *i = inode_make(d, directory, now_ms);
    i->volume = folder->volume;
    disk_names_set(d, &folder->now, name, i);
    change_note(d, CHANGE_ADD, folder, name, i);
    *added = i;
    return 0;
}

int disk_remove(struct disk *d, const char *path, bool directory)
{
    char name[NAME_MAX_SIZE];
    struct inode *folder;
    uint32_t at;
    int error = path_split(d, path, &folder, name);
    if (error != 0)
        return error;
    if (name[0] == 0)
        return directory ? -EBUSY : -EISDIR;
    if (!disk_names_find(&folder->now, name, &at))
        return -ENOENT;
    struct inode *i = folder->now.list[at].inode;
    if (i->directory != directory)
        return directory ? -ENOTDIR : -EISDIR;
    if (i->now.count > 0)
        return -ENOTEMPTY;
    change_note(d, CHANGE_REMOVE, folder, name, i);
    names_remove_at(d, &folder->now, at);
    return 0;
}

/* What is in the place that a name is moved to may forbid it. */
static int move_allowed(const struct inode *moved, const struct inode *there)
{
    if (moved->directory && !there->directory)
        return -ENOTDIR;
    if (!moved->directory && there->directory)
        return -EISDIR;
    return there->now.count > 0 ? -ENOTEMPTY : 0;
}

int disk_move(struct disk *d, const char *from, const char *to)
{
    char name[NAME_MAX_SIZE], to_name[NAME_MAX_SIZE];
    struct inode *folder, *to_folder;
    uint32_t at, to_at;
    int error = path_split(d, from, &folder, name);
    if (error == 0)
        error = path_split(d, to, &to_folder, to_name);
    if (error != 0)
        return error;
    if (name[0] == 0 || to_name[0] == 0)
        return -EBUSY;
    if (!disk_names_find(&folder->now, name, &at))
        return -ENOENT;
    struct inode *i = folder->now.list[at].inode;
    if (disk_names_find(&to_folder->now, to_name, &to_at)) {
        struct inode *there = to_folder->now.list[to_at].inode;
        if (there == i)
            return 0;
        error = move_allowed(i, there);
        if (error != 0)
            return error;
    }
    change_note(d, CHANGE_MOVE, folder, name, i);
    struct change *c = container_of(d->changes.prev, struct change, link);
    c->to_directory = to_folder;
    disk_hold(to_folder);
    c->to_text = text_copy(d, to_name, strlen(to_name));
    disk_names_set(d, &to_folder->now, to_name, i);
    disk_names_drop(d, &folder->now, name, i);
    return 0;
}

/* ---- content --------------------------------------------------------------------------------- */

static struct page *page_at(struct disk *d, struct inode *i, uint64_t index)
{
    if (index >= i->pages_room) {
        uint32_t room = i->pages_room > 0 ? i->pages_room : PAGES_FIRST;
        while (room <= index)
            room *= 2;
        struct page *grown = disk_alloc(d, room * sizeof(*grown));
        if (i->pages != NULL) {
            memcpy(grown, i->pages, i->pages_room * sizeof(*grown));
            mem_free(d->mem, i->pages, i->pages_room * sizeof(*grown));
        }
        i->pages = grown;
        i->pages_room = room;
    }
    return &i->pages[index];
}

void disk_page_keep(struct disk *d, struct page *p)
{
    if (p->kept != p->now)
        page_free(d, p->kept);
    p->kept = p->now;
    p->dirty = false;
}

/* The page is about to change. A sync that is under way is owed what it held before. */
static void page_dirty(struct disk *d, struct inode *i, struct page *p)
{
    if (p->dirty && i->syncs > 0 && p->since <= i->syncing_since)
        disk_page_keep(d, p);
    if (!p->dirty)
        p->since = ++d->sequence;
    p->dirty = true;
}

static void page_put(struct disk *d, struct inode *i, uint64_t index, uint32_t at,
                     const uint8_t *from, uint32_t size)
{
    assert(at + size <= DISK_PAGE);
    struct page *p = page_at(d, i, index);
    page_dirty(d, i, p);
    if (p->now == NULL && index >= i->reserved)
        d->bytes += DISK_PAGE;
    if (p->now == p->kept || p->now == NULL)
        p->now = page_copy(d, p->now);
    if (from != NULL)
        memcpy(p->now + at, from, size);
    else
        memset(p->now + at, 0, size);
}

bool disk_has_room(const struct disk *d, const struct inode *i, uint64_t offset, uint64_t size)
{
    if (d->capacity == UINT64_MAX)
        return true;
    uint64_t wanted = 0;
    for (uint64_t p = MAX(offset / DISK_PAGE, i->reserved); p * DISK_PAGE < offset + size; p++)
        wanted += p >= i->pages_room || i->pages[p].now == NULL ? DISK_PAGE : 0;
    return wanted == 0 || d->bytes + wanted <= d->capacity;
}

/* The kernel writes back when it likes: a later cut may then find neither the first nor the last.
 */
static void disk_writeback(struct disk *d, struct inode *i)
{
    uint64_t index = chance_below(&d->chance, i->pages_room > 0 ? i->pages_room : 1);
    bool now = chance_one_in(&d->chance, d->writeback_one_in);
    if (!now || index >= i->pages_room || !i->pages[index].dirty)
        return;
    disk_page_keep(d, &i->pages[index]);
    ++*d->counts.writebacks;
}

int disk_write(struct disk *d, struct inode *i, uint64_t offset, const void *from, size_t size)
{
    assert(!i->directory);
    if (!disk_has_room(d, i, offset, size))
        return -ENOSPC;
    disk_writeback(d, i);
    const uint8_t *bytes = from;
    for (uint64_t at = offset; at < offset + size;) {
        uint32_t in_page = (uint32_t)(at % DISK_PAGE);
        uint32_t part = (uint32_t)MIN((uint64_t)DISK_PAGE - in_page, offset + size - at);
        page_put(d, i, at / DISK_PAGE, in_page, bytes + (at - offset), part);
        at += part;
    }
    i->size_now = MAX(i->size_now, offset + size);
    return 0;
}

size_t disk_read(const struct inode *i, uint64_t offset, void *to, size_t size)
{
    assert(!i->directory);
    if (offset >= i->size_now)
        return 0;
    size = (size_t)MIN((uint64_t)size, i->size_now - offset);
    uint8_t *bytes = to;
    for (uint64_t at = offset; at < offset + size;) {
        uint64_t index = at / DISK_PAGE;
        uint32_t in_page = (uint32_t)(at % DISK_PAGE);
        size_t part = (size_t)MIN((uint64_t)DISK_PAGE - in_page, offset + size - at);
        const uint8_t *page = index < i->pages_room ? i->pages[index].now : NULL;
        if (page != NULL)
            memcpy(bytes + (at - offset), page + in_page, part);
        else
            memset(bytes + (at - offset), 0, part);
        at += part;
    }
    return size;
}

static void page_cut_off(struct disk *d, struct inode *i, struct page *p)
{
    if (p->now == NULL)
        return;
    page_dirty(d, i, p);
    if (p->now != p->kept)
        page_free(d, p->now);
    p->now = NULL;
}

void disk_resize(struct disk *d, struct inode *i, uint64_t size)
{
    assert(!i->directory);
    uint64_t pages = (size + DISK_PAGE - 1) / DISK_PAGE;
    d->bytes -= disk_pages(i) * DISK_PAGE;
    for (uint64_t p = pages; p < i->pages_room; p++)
        page_cut_off(d, i, &i->pages[p]);
    i->reserved = MIN(i->reserved, pages);
    d->bytes += disk_pages(i) * DISK_PAGE;
    uint32_t tail = (uint32_t)(size % DISK_PAGE);
    uint64_t last = size / DISK_PAGE;
    if (tail > 0 && size < i->size_now && last < i->pages_room && i->pages[last].now != NULL)
        page_put(d, i, last, tail, NULL, DISK_PAGE - tail); /* invariant 2 */
    i->size_now = size;
}

void disk_punch(struct disk *d, struct inode *i, uint64_t offset, uint64_t size)
{
    assert(!i->directory);
    uint64_t end = MIN(offset + size, i->size_now);
    d->bytes -= disk_pages(i) * DISK_PAGE;
    for (uint64_t at = offset; at < end;) {
        uint64_t index = at / DISK_PAGE, next = MIN((index + 1) * DISK_PAGE, end);
        bool whole = at % DISK_PAGE == 0 && (next % DISK_PAGE == 0 || next == i->size_now);
        if (index < i->pages_room && whole)
            page_cut_off(d, i, &i->pages[index]);
        at = next;
    }
    i->reserved = MIN(i->reserved, offset / DISK_PAGE);
    d->bytes += disk_pages(i) * DISK_PAGE;
    for (uint64_t at = offset; at < end;) { /* what is left of pages that were not punched whole */
        uint64_t index = at / DISK_PAGE, next = MIN((index + 1) * DISK_PAGE, end);
        if (index < i->pages_room && i->pages[index].now != NULL)
            page_put(d, i, index, (uint32_t)(at % DISK_PAGE), NULL, (uint32_t)(next - at));
        at = next;
    }
}

int disk_reserve(struct disk *d, struct inode *i, uint64_t size)
{
    assert(!i->directory);
    if (!disk_has_room(d, i, 0, size))
        return -ENOSPC;
    d->bytes -= disk_pages(i) * DISK_PAGE;
    i->reserved = MAX(i->reserved, (size + DISK_PAGE - 1) / DISK_PAGE);
    d->bytes += disk_pages(i) * DISK_PAGE;
    return 0;
}

bool disk_rot(struct disk *d, struct inode *i, uint64_t offset)
{
    uint64_t index = offset / DISK_PAGE;
    uint8_t bit = (uint8_t)(1u << chance_below(&d->chance, 8));
    if (index >= i->pages_room)
        return false;
    struct page *p = &i->pages[index];
    if (p->now != NULL)
        p->now[offset % DISK_PAGE] ^= bit;
    if (p->kept != NULL && p->kept != p->now)
        p->kept[offset % DISK_PAGE] ^= bit;
    return p->now != NULL;
}

/* Some name of it; "" when it has none any more. */
static const char *name_of(struct disk *d, const struct inode *i)
{
    for (struct list *l = d->inodes.next; l != &d->inodes; l = l->next) {
        const struct names *n = &container_of(l, struct inode, link)->now;
        for (uint32_t at = 0; at < n->count; at++)
            if (n->list[at].inode == i)
                return n->list[at].text;
    }
    return "";
}

void disk_site(struct disk *d, const struct inode *i, const char *path, const char *call,
               char site[DISK_SITE])
{
    assert(i != NULL || path != NULL);
    const char *slash = path == NULL ? NULL : strrchr(path, '/');
    const char *name = i != NULL ? name_of(d, i) : slash == NULL ? path : slash + 1;
    size_t at = strlen(call);
    memcpy(site, call, at);
    site[at++] = ' ';
    for (const char *c = name; *c != 0 && at < DISK_SITE - 1; c++) {
        bool digit = *c >= '0' && *c <= '9';
        if (!digit || site[at - 1] != '0')
            site[at++] = digit ? '0' : *c;
    }
    site[at] = 0;
}
