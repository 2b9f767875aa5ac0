/* What a disk keeps when the power goes.
 *
 *   write ─▶ now ──── sync, or the kernel's own write-back ───▶ kept
 *   name  ─▶ now + change ──── sync of the folder ────────────▶ kept
 *
 *   cut: each dirty page   kept as it was │ as it is now │ sector by sector of both
 *        each size         as it was │ as it is now │ in between
 *        each change       done or not: any subset, or the first few (a journal)
 *
 * Invariants:
 *  1. What was synced before the cut is there after it: pages written before the sync began, the
 *     size they need, and the names of a synced folder. That is all that is promised: neither does
 *     the sync of a file keep its name, nor the sync of a folder the folder's own name.
 *  2. Within one sector (512 bytes) the old and the new are never mixed.
 *  3. A move is one change: it is done or not, never half.
 *  4. Bytes beyond the end are zero after a cut as well.
 *
 * Failure modes: none; this file is the failure. */
#include <string.h>

#include "io/sim/disk.h"

/* ---- changes of names ------------------------------------------------------------------------ */

static void change_free(struct disk *d, struct change *c)
{
    list_remove(&c->link);
    struct inode *held[] = {c->directory, c->to_directory, c->inode};
    mem_free(d->mem, c->text, strlen(c->text) + 1);
    if (c->to_text != NULL)
        mem_free(d->mem, c->to_text, strlen(c->to_text) + 1);
    mem_free(d->mem, c, sizeof(*c));
    for (uint32_t i = 0; i < 3; i++) {
        if (held[i] != NULL)
            disk_release(d, held[i]);
    }
}

static void change_keep(struct disk *d, struct change *c)
{
    switch (c->kind) {
    case CHANGE_ADD:
        disk_names_set(d, &c->directory->kept, c->text, c->inode);
        break;
    case CHANGE_REMOVE:
        disk_names_drop(d, &c->directory->kept, c->text, c->inode);
        break;
    case CHANGE_MOVE:
        disk_names_set(d, &c->to_directory->kept, c->to_text, c->inode);
        disk_names_drop(d, &c->directory->kept, c->text, c->inode);
        break;
    }
    change_free(d, c);
}

void disk_forget_changes(struct disk *d)
{
    LIST_EACH(it, &d->changes)
    change_free(d, container_of(it, struct change, link));
}

static bool change_touches(const struct change *c, const struct inode *folder)
{
    return c->directory == folder || c->to_directory == folder;
}

void disk_sync_names(struct disk *d, struct inode *folder)
{
    assert(folder->directory);
    bool all = false; /* a move between folders ties what is kept of both together */
    LIST_EACH(it, &d->changes)
    {
        struct change *c = container_of(it, struct change, link);
        if (c->kind == CHANGE_MOVE && c->directory != c->to_directory && change_touches(c, folder))
            all = true;
    }
    LIST_EACH(it, &d->changes)
    {
        struct change *c = container_of(it, struct change, link);
        if (all || change_touches(c, folder))
            change_keep(d, c);
    }
}

/* ---- content --------------------------------------------------------------------------------- */

void disk_sync_begin(struct disk *d, struct inode *i, struct disk_sync *sync)
{
    *sync = (struct disk_sync){.since = d->sequence, .size = i->size_now};
    i->syncing_since = d->sequence;
    i->syncs++;
}

void disk_sync_end(struct disk *d, struct inode *i, const struct disk_sync *sync)
{
    assert(i->syncs > 0);
    i->syncs--;
    for (uint32_t p = 0; p < i->pages_room; p++) {
        if (i->pages[p].dirty && i->pages[p].since <= sync->since)
            disk_page_keep(d, &i->pages[p]);
    }
    if (i->size_kept_at <= sync->since) {
        i->size_kept = sync->size;
        i->size_kept_at = sync->since;
    }
}

void disk_sync_fail(struct disk *d, struct inode *i, const struct disk_sync *sync)
{
    assert(i->syncs > 0);
    i->syncs--;
    for (uint32_t p = 0; p < i->pages_room; p++) {
        struct page *page = &i->pages[p];
        if (!page->dirty || page->since > sync->since)
            continue;
        if (chance_one_in(&d->chance, 2))
            disk_page_keep(d, page);
        else
            page->dirty = false;
    }
}

void disk_keep(struct disk *d, struct inode *i, uint64_t offset, uint64_t size)
{
    assert(offset + size <= i->size_now);
    for (uint64_t p = offset / DISK_PAGE; p < i->pages_room && p * DISK_PAGE < offset + size; p++)
        disk_page_keep(d, &i->pages[p]);
    if (offset + size > i->size_kept) {
        i->size_kept = offset + size;
        i->size_kept_at = ++d->sequence;
    }
}

void disk_sync_all(struct disk *d)
{
    LIST_EACH(it, &d->changes)
    change_keep(d, container_of(it, struct change, link));
    LIST_EACH(it, &d->inodes)
    {
        struct inode *i = container_of(it, struct inode, link);
        struct disk_sync sync;
        disk_sync_begin(d, i, &sync);
        disk_sync_end(d, i, &sync);
    }
}

void disk_evict(struct disk *d)
{
    LIST_EACH(it, &d->inodes)
    {
        struct inode *i = container_of(it, struct inode, link);
        bool all = chance_one_in(&d->chance, 2);
        d->bytes -= disk_pages(i) * DISK_PAGE;
        for (uint32_t p = 0; p < i->pages_room; p++) {
            struct page *page = &i->pages[p];
            if (page->dirty || page->now == page->kept || (!all && chance_one_in(&d->chance, 2)))
                continue;
            mem_free(d->mem, page->now, DISK_PAGE);
            page->now = page->kept;
        }
        d->bytes += disk_pages(i) * DISK_PAGE;
    }
}

void disk_reread(struct disk *d, struct inode *i)
{
    assert(!i->directory);
    d->bytes -= disk_pages(i) * DISK_PAGE;
    for (uint32_t p = 0; p < i->pages_room; p++) {
        struct page *page = &i->pages[p];
        if (page->dirty || page->now == page->kept)
            continue;
        if (page->now != NULL)
            mem_free(d->mem, page->now, DISK_PAGE);
        page->now = page->kept;
    }
    d->bytes += disk_pages(i) * DISK_PAGE;
}

void disk_forget_syncs(struct disk *d)
{
    for (struct list *l = d->inodes.next; l != &d->inodes; l = l->next)
        container_of(l, struct inode, link)->syncs = 0;
}

/* ---- the power goes -------------------------------------------------------------------------- */

static void cut_names(struct disk *d, bool ordered)
{
    uint64_t count = 0;
    for (struct list *l = d->changes.next; l != &d->changes; l = l->next)
        count++;
    uint64_t first = chance_between(&d->chance, 0, count); /* ordered: so many are kept */
    uint64_t bias = chance_between(&d->chance, 0, 4);      /* else: of four */
    uint64_t at = 0;
    LIST_EACH(it, &d->changes)
    {
        struct change *c = container_of(it, struct change, link);
        bool kept = chance_below(&d->chance, 4) < bias;
        if (ordered)
            kept = at < first;
        at++;
        ++*(kept ? d->counts.names_kept : d->counts.names_lost);
        if (kept)
            change_keep(d, c);
        else
            change_free(d, c);
    }
}

/* Folders are again what is kept of them. First every folder gets its names back, so that nothing
 * that another folder keeps is thrown away in between. */
static void cut_folders(struct disk *d)
{
    for (struct list *l = d->inodes.next; l != &d->inodes; l = l->next) {
        struct inode *i = container_of(l, struct inode, link);
        i->locked = false;
        disk_hold(i);
    }
    for (struct list *l = d->inodes.next; l != &d->inodes; l = l->next) {
        struct inode *i = container_of(l, struct inode, link);
        disk_names_clear(d, &i->now);
        for (uint32_t n = 0; n < i->kept.count; n++)
            disk_names_set(d, &i->now, i->kept.list[n].text, i->kept.list[n].inode);
    }
}

/* One page: lose, keep, or mix by sectors. */
static void cut_page(struct disk *d, struct page *p, uint64_t mood)
{
    uint64_t choice = chance_below(&d->chance, 3), sectors = chance_next(&d->chance);
    if (mood < 3)
        choice = mood;
    bool failed = !p->dirty; /* by a sync that failed: it did not become the present one whole */
    if (p->now == p->kept)
        return;
    if (choice == 0 || (failed && choice == 1)) {
        ++*d->counts.pages_lost;
        return;
    }
    if (choice == 1) {
        ++*d->counts.pages_kept;
        disk_page_keep(d, p);
        return;
    }
    static const uint8_t zeros[DISK_SECTOR];
    ++*d->counts.pages_torn;
    uint8_t *torn = mem_alloc(d->mem, DISK_PAGE);
    assert(torn != NULL);
    for (uint32_t s = 0; s < DISK_PAGE / DISK_SECTOR; s++) {
        const uint8_t *from = (sectors >> s & 1) != 0 ? p->now : p->kept;
        memcpy(torn + s * DISK_SECTOR, from != NULL ? from + s * DISK_SECTOR : zeros, DISK_SECTOR);
    }
    if (p->kept != NULL)
        mem_free(d->mem, p->kept, DISK_PAGE);
    p->kept = torn;
}

static uint64_t cut_size(struct disk *d, const struct inode *i)
{
    uint64_t choice = chance_below(&d->chance, 4);
    uint64_t between =
        chance_between(&d->chance, MIN(i->size_now, i->size_kept), MAX(i->size_now, i->size_kept));
    if (i->size_now == i->size_kept)
        return i->size_now;
    if (choice < 2) {
        *d->counts.sizes_lost += choice == 0;
        return choice == 0 ? i->size_kept : i->size_now;
    }
    ++*d->counts.sizes_between;
    return between;
}

static void cut_file(struct disk *d, struct inode *i)
{
    uint64_t mood = chance_below(&d->chance, 8); /* 0: all lost, 1: all kept, 2: all torn */
    uint64_t size = cut_size(d, i);
    d->bytes -= disk_pages(i) * DISK_PAGE;
    for (uint32_t n = 0; n < i->pages_room; n++) {
        struct page *p = &i->pages[n];
        cut_page(d, p, mood);
        if (p->now != p->kept && p->now != NULL)
            mem_free(d->mem, p->now, DISK_PAGE);
        uint64_t start = (uint64_t)n * DISK_PAGE;
        if (start >= size && p->kept != NULL) {
            mem_free(d->mem, p->kept, DISK_PAGE);
            p->kept = NULL;
        }
        if (p->kept != NULL && size - start < DISK_PAGE) /* invariant 4 */
            memset(p->kept + (size - start), 0, (size_t)(DISK_PAGE - (size - start)));
        p->now = p->kept;
        p->dirty = false;
    }
    i->reserved = MIN(i->reserved, (size + DISK_PAGE - 1) / DISK_PAGE);
    d->bytes += disk_pages(i) * DISK_PAGE;
    i->size_now = i->size_kept = size;
    i->size_kept_at = d->sequence;
}

void disk_cut(struct disk *d, bool ordered_names)
{
    cut_names(d, ordered_names);
    cut_folders(d);
    for (struct list *l = d->inodes.next; l != &d->inodes; l = l->next) {
        struct inode *i = container_of(l, struct inode, link);
        if (!i->directory)
            cut_file(d, i);
    }
    /* Let go of what cut_folders held. What has no kept name goes, and with it what is in it: each
     * inode takes itself off the list it is on. */
    struct list seen;
    list_init(&seen);
    for (struct list *l; (l = list_pop_front(&d->inodes)) != NULL;) {
        list_push_back(&seen, l);
        disk_release(d, container_of(l, struct inode, link));
    }
    list_splice_back(&d->inodes, &seen);
}
