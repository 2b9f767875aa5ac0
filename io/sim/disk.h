/* struct disk: a file system in memory that knows what it would still have after the power went.
 * Every page, every size and every name exists twice: as programs see it now, and as it is kept.
 * Pure state: no time, no ops; io/sim/file.c gives it latency and faults. */
#ifndef IO_SIM_DISK_H
#define IO_SIM_DISK_H

#include "core/core.h"
#include "core/list.h"
#include "core/mem.h"
#include "io/sim/chance.h"

#define DISK_PAGE   4096u
#define DISK_SECTOR 512u
#define DISK_SITE   64u /* text of a place, see disk_site */

struct page {
    uint8_t *now, *kept; /* NULL: zeros. Equal pointers: the same bytes */
    uint64_t since;      /* when it became dirty (disk.sequence) */
    bool dirty;          /* a sync will keep `now`. Clean but different: a sync has failed */
};

struct name {
    char *text;
    uint32_t size; /* of text, with the zero */
    struct inode *inode;
};

/* Sorted by name. */
struct names {
    struct name *list;
    uint32_t count, room;
};

struct inode {
    struct list link; /* disk.inodes */
    struct list doomed;
    uint64_t id;
    bool directory;
    uint8_t volume;      /* as the folder it was made in */
    uint32_t references; /* names now and kept, descriptors, ops, changes not yet kept */
    bool locked;
    int64_t modified_ms;
    /* directory */
    struct names now, kept;
    /* file */
    uint64_t size_now, size_kept, size_kept_at;
    struct page *pages;
    uint32_t pages_room;
    uint64_t reserved;      /* pages from the first on that have their room already */
    uint64_t syncing_since; /* the latest sync under way started then; 0: none */
    uint32_t syncs;
};

/* A change of names that is not kept yet. */
struct change {
    struct list link;
    enum change_kind { CHANGE_ADD, CHANGE_REMOVE, CHANGE_MOVE } kind;
    struct inode *directory, *to_directory; /* to_*: moves only */
    char *text, *to_text;
    struct inode *inode;
};

struct disk_counts {
    uint64_t *pages_kept, *pages_lost, *pages_torn, *sizes_lost, *sizes_between, *names_kept,
        *names_lost, *writebacks;
};

struct disk {
    struct mem *mem;
    struct chance chance;
    struct inode *root;
    struct list inodes, changes, doomed;
    uint64_t ids, sequence;
    uint64_t bytes, capacity;
    uint32_t writeback_one_in;
    bool reaping;
    struct disk_counts counts;
};

void disk_init(struct disk *d, struct mem *mem, uint64_t seed, const struct disk_counts *counts);
void disk_free(struct disk *d);

/* ---- names. 0 or -errno ---------------------------------------------------------------------- */

NODISCARD int disk_find(struct disk *d, const char *path, struct inode **found);
/* The volume of what is there, or of the folder it would be in; 0 if there is none either. */
uint32_t disk_volume(struct disk *d, const char *path);
/* A new file, or with directory set a folder; -EEXIST if there is one of that name. */
NODISCARD int disk_add(struct disk *d, const char *path, bool directory, int64_t now_ms,
                       struct inode **added);
NODISCARD int disk_remove(struct disk *d, const char *path, bool directory);
NODISCARD int disk_move(struct disk *d, const char *from, const char *to);
void disk_hold(struct inode *i);
void disk_release(struct disk *d, struct inode *i);

/* ---- content --------------------------------------------------------------------------------- */

/* -ENOSPC (nothing written) or 0. */
NODISCARD int disk_write(struct disk *d, struct inode *i, uint64_t offset, const void *from,
                         size_t size);
/* Bytes read, at most to the end. */
size_t disk_read(const struct inode *i, uint64_t offset, void *to, size_t size);
void disk_resize(struct disk *d, struct inode *i, uint64_t size);
/* These bytes become zeros, and their pages take no room any more. */
void disk_punch(struct disk *d, struct inode *i, uint64_t offset, uint64_t size);
/* Room for its first bytes, also where it is shorter. */
NODISCARD int disk_reserve(struct disk *d, struct inode *i, uint64_t size);
/* One bit turns, wherever the byte is. False: nothing was ever written there. */
bool disk_rot(struct disk *d, struct inode *i, uint64_t offset);
/* "CALL NAME", with the name of a file (by inode or path) in which every number is a 0. */
void disk_site(struct disk *d, const struct inode *i, const char *path, const char *call,
               char site[DISK_SITE]);
/* Whether so many bytes from offset fit; counts only pages that are not there yet. */
bool disk_has_room(const struct disk *d, const struct inode *i, uint64_t offset, uint64_t size);

/* ---- what is kept ---------------------------------------------------------------------------- */

/* A sync keeps what was there when it began. */
struct disk_sync {
    uint64_t since, size;
};
void disk_sync_begin(struct disk *d, struct inode *i, struct disk_sync *sync);
void disk_sync_end(struct disk *d, struct inode *i, const struct disk_sync *sync);
/* It failed as Linux fails it: the pages count as clean, and are not what is kept. */
void disk_sync_fail(struct disk *d, struct inode *i, const struct disk_sync *sync);
/* These bytes, already written, are kept, and a size that covers them. */
void disk_keep(struct disk *d, struct inode *i, uint64_t offset, uint64_t size);
void disk_sync_names(struct disk *d, struct inode *directory);
void disk_sync_all(struct disk *d);
/* The kernel drops clean pages when it likes: what a failed sync lost is then seen to be lost. */
void disk_evict(struct disk *d);
/* The same for all clean pages of one file. */
void disk_reread(struct disk *d, struct inode *i);
/* The process that waited for them is gone. */
void disk_forget_syncs(struct disk *d);
/* The power went. Descriptors and ops have let go of their inodes before. */
void disk_cut(struct disk *d, bool ordered_names);

/* ---- shared by disk.c and keep.c ------------------------------------------------------------- */

bool disk_names_find(const struct names *n, const char *text, uint32_t *at);
void disk_names_set(struct disk *d, struct names *n, const char *text, struct inode *i);
/* Only if it is this inode's name. */
void disk_names_drop(struct disk *d, struct names *n, const char *text, const struct inode *i);
void disk_names_clear(struct disk *d, struct names *n);
/* Pages it takes room for. */
uint64_t disk_pages(const struct inode *i);
void disk_page_keep(struct disk *d, struct page *p);
void disk_forget_changes(struct disk *d);

#endif
