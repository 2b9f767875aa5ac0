/* What is to go, and its removal beside the core: one thing at a time, a file in pieces, and a rest
 * after each of them.
 *
 *   planned ─▶ due ─▶ file ─▶ opened ─▶ its room given back, piece by piece ─▶ its name removed ─▶
 *               │            (not of one that is read still)                                next
 *               └──▶ folder ─▶ listed ─▶ each of its files, as above ─▶ listed ... empty: removed
 *
 * Why so: a file system may tell its device what room is free (ext4 mounted with discard), and wait
 * until the device has taken note. For a gigabyte, removed in a call, a core did nothing else for a
 * third of a second. Elsewhere, but without rests, it keeps a device as busy; and where the process
 * has a realtime priority the kernel's queue puts all that before what the file system itself has
 * to write, for which writes of the WAL wait. In a rest it is written.
 *
 * Invariants
 *  1. Of one core one op is in flight here, or the rest after it runs, or nothing goes.
 *  2. A file that was read when it was given up keeps its bytes until nobody has it open: of it
 *     only the name is removed. (Who reads a log that is deleted is told so at once.)
 *  3. What is planned has a name by which the next start finds it too. So the end of a process
 *     leaves nothing to be undone, wherever it comes.
 *
 * Failure: room that cannot be given back goes with the name. A name that cannot be removed is
 * reported and left to the next start, with what is left in its folder. In a FAILED directory
 * nothing is removed; in a FULL one there is no rest. */
#include "broker/log/removal.h"

#include <stdio.h>
#include <string.h>

#include "broker/log/path.h"
#include "core/lab.h"

#define REMOVAL_PIECE (2ull << 20) /* of which a device takes note in half a millisecond or so */
#define REMOVAL_NAMES 4096u        /* bytes of names of one listing */
#define REMOVAL_RESTS 3u           /* a rest is so many times as long as what was done before it */

_Static_assert(REMOVAL_NAMES > 2 * (FOLDER_NAME_MAX + 1), "more than a name at a time");

struct planned {
    struct list link; /* removal.planned or .due; none while it goes */
    uint64_t due_ns;
    uint32_t dir;
    enum removal_kind kind;
    uint32_t path_size;
    char path[];
};

struct removal {
    struct log_core *core;
    struct list planned, due;
    struct planned *now; /* NULL: nothing goes */
    struct io_punch punch;
    struct io_remove remove;
    struct timer rest;
    uint64_t begun_ns; /* the op before the rest */
    bool in_file;      /* path is of a file that goes; else the next one is still to be found */
    uint64_t size;     /* of the file that goes */
    uint32_t used, at; /* of names; from `at` on they are still to go */
    char names[REMOVAL_NAMES];
    char path[PATH_ROOM]; /* of the file that goes */
};

static void removal_punched(struct op *op);
static void removal_removed(struct op *op);
static void removal_rested(struct timer *t);

struct removal *removal_make(struct log_core *c)
{
    struct removal *r = mem_zalloc(c->mem, sizeof(*r));
    if (r == NULL)
        return NULL;
    r->core = c;
    list_init(&r->planned);
    list_init(&r->due);
    op_init(&r->punch.op, removal_punched);
    op_init(&r->remove.op, removal_removed);
    timer_init(&r->rest, removal_rested);
    r->punch.fd = -1;
    return r;
}

bool removal_busy(const struct removal *r)
{
    return r->punch.op.armed || r->remove.op.armed;
}

static void planned_free(struct removal *r, struct planned *p)
{
    mem_free(r->core->mem, p, sizeof(*p) + p->path_size + 1);
}

static void planned_forget(struct removal *r, struct list *list)
{
    struct list *at;
    while ((at = list_pop_front(list)) != NULL)
        planned_free(r, container_of(at, struct planned, link));
}

static void removal_close(struct removal *r)
{
    if (r->punch.fd >= 0)
        io_close(r->core->io, r->punch.fd);
    r->punch.fd = -1;
}

/* What goes has gone, or is left where it is. */
static void removal_end(struct removal *r, int error)
{
    struct planned *p = r->now;
    assert(p != NULL && !removal_busy(r));
    if (error != 0 && error != -ENOENT)
        trace_line(r->core->trace, TRACE_LOG, TRACE_WARN, "%s cannot be removed: %s", p->path,
                   strerror(-error));
    removal_close(r);
    planned_free(r, p);
    r->now = NULL;
    r->in_file = false;
}

void removal_free(struct removal *r)
{
    timer_cancel(r->core->config.wheel, &r->rest);
    if (r->now != NULL)
        removal_end(r, 0);
    planned_forget(r, &r->planned);
    planned_forget(r, &r->due);
    mem_free(r->core->mem, r, sizeof(*r));
}

/* ---- planning -------------------------------------------------------------------------------- */

/* A name may be planned already, of a file that this one has taken the place of (a segment that is
 * compacted twice): whoever comes to it first must know. */
static void planned_are_read(struct list *list, const char *path)
{
    LIST_EACH(at, list)
    {
        struct planned *p = container_of(at, struct planned, link);
        if (p->kind == REMOVE_FILE && strcmp(p->path, path) == 0)
            p->kind = REMOVE_READ_FILE;
    }
}

void removal_plan(struct log_core *c, uint32_t dir, const char *path, enum removal_kind kind,
                  uint64_t due_ns)
{
    struct removal *r = c->removal;
    uint32_t size = (uint32_t)strlen(path);
    assert(dir < c->config.dirs_count && size < PATH_ROOM);
    if (kind == REMOVE_READ_FILE) {
        planned_are_read(&r->planned, path);
        planned_are_read(&r->due, path);
    }
    struct planned *p = mem_alloc(c->mem, sizeof(*p) + size + 1);
    if (p == NULL)
        return; /* invariant 3 */
    *p = (struct planned){.due_ns = due_ns, .dir = dir, .kind = kind, .path_size = size};
    memcpy(p->path, path, size + 1);
    list_push_back(&r->planned, &p->link);
}

/* ---- one file -------------------------------------------------------------------------------- */

static void removal_remove(struct removal *r, const char *path, bool folder)
{
    r->remove.path = path;
    r->remove.folder = folder;
    r->begun_ns = io_now_ns(r->core->io);
    io_remove(r->core->io, &r->remove);
}

/* The next piece of the file, or its name. */
static void file_step(struct removal *r)
{
    assert(r->in_file);
    if (r->punch.fd >= 0 && r->punch.offset < r->size) {
        r->punch.size =
            REMOVAL_PIECE; /* the last one beyond the end: only so its last block goes */
        r->begun_ns = io_now_ns(r->core->io);
        io_punch(r->core->io, &r->punch);
        return;
    }
    removal_close(r);
    removal_remove(r, r->path, false);
}

static void file_begin(struct removal *r)
{
    struct io *io = r->core->io;
    struct io_stat st = {0};
    bool read = r->now->kind == REMOVE_READ_FILE;
    assert(r->punch.fd < 0);
    SOMETIMES_IF(read, "a file goes that was read when it was given up");
    if (!read) /* one that cannot be opened may go all the same */
        r->punch.fd = io_open(io, r->path, IO_READ | IO_WRITE);
    if (r->punch.fd >= 0 && io_fstat(io, r->punch.fd, &st) != 0)
        st.size = 0;
    r->in_file = true;
    r->size = st.size;
    r->punch.offset = 0;
    file_step(r);
}

/* ---- one after the other --------------------------------------------------------------------- */

static bool folder_name(void *context, const char *name, bool is_directory)
{
    (void)is_directory; /* its removal will say so */
    struct removal *r = context;
    uint32_t size = (uint32_t)strlen(name) + 1;
    if (r->used + size > REMOVAL_NAMES)
        return false;
    memcpy(r->names + r->used, name, size);
    r->used += size;
    return true;
}

/* The next file of the folder that goes, or itself. What it holds is listed only when nothing of it
 * is being removed: what a listing says meanwhile is not defined. */
static void folder_step(struct removal *r)
{
    struct planned *p = r->now;
    if (r->at == r->used) {
        r->at = r->used = 0;
        int error = io_list(r->core->io, p->path, folder_name, r);
        if (error != 0) {
            removal_end(r, error);
            return;
        }
    }
    if (r->used == 0) {
        removal_remove(r, p->path, true);
        return;
    }
    const char *name = r->names + r->at;
    int length = snprintf(r->path, sizeof(r->path), "%s/%s", p->path, name);
    r->at += (uint32_t)strlen(name) + 1;
    if (length < 0 || (uint32_t)length >= sizeof(r->path))
        removal_end(r, -ENAMETOOLONG); /* nothing of ours is called so */
    else
        file_begin(r);
}

static void removal_begin(struct removal *r, struct planned *p)
{
    r->now = p;
    r->at = r->used = 0;
    if (p->kind == REMOVE_FOLDER) {
        folder_step(r);
        return;
    }
    memcpy(r->path, p->path, p->path_size + 1);
    file_begin(r);
}

static bool planned_over(const struct removal *r, const struct planned *p)
{
    const struct log_core *c = r->core;
    return c->phase.now != PHASE_SERVING || c->dirs[p->dir].state.now == DIR_FAILED;
}

/* Goes on with what goes, or begins with what is due, until an op is in flight. */
static void removal_go_on(struct removal *r)
{
    struct list *at;
    SOMETIMES_IF(r->now != NULL && planned_over(r, r->now), "a removal ends in the middle");
    if (r->now != NULL && planned_over(r, r->now))
        removal_end(r, 0);
    else if (r->now != NULL && r->in_file)
        file_step(r);
    else if (r->now != NULL)
        folder_step(r);
    while (r->now == NULL && (at = list_pop_front(&r->due)) != NULL) {
        struct planned *p = container_of(at, struct planned, link);
        if (planned_over(r, p))
            planned_free(r, p);
        else
            removal_begin(r, p);
    }
}

static void removal_rested(struct timer *t)
{
    removal_go_on(container_of(t, struct removal, rest));
}

static void removal_take_rest(struct removal *r, uint32_t dir)
{
    struct log_core *c = r->core;
    uint64_t now_ns = io_now_ns(c->io);
    bool full = c->dirs[dir].state.now == DIR_FULL;
    uint64_t rest_ns = full ? 0 : MAX(REMOVAL_RESTS * (now_ns - r->begun_ns), NS_PER_MS);
    if (c->phase.now == PHASE_SERVING)
        timer_arm(c->config.wheel, &r->rest, now_ns + rest_ns);
    else if (r->now != NULL)
        removal_end(r, 0);
}

static void removal_punched(struct op *op)
{
    struct removal *r = container_of(op, struct removal, punch.op);
    SOMETIMES("a piece of a file goes");
    SOMETIMES_IF(op->result < 0, "the room of a file that goes cannot be given back");
    r->punch.offset = op->result < 0 ? r->size : r->punch.offset + r->punch.size;
    removal_take_rest(r, r->now->dir);
}

static void removal_removed(struct op *op)
{
    struct removal *r = container_of(op, struct removal, remove.op);
    uint32_t dir = r->now->dir;
    bool gone = op->result == 0 || op->result == -ENOENT;
    bool more = r->now->kind == REMOVE_FOLDER && !r->remove.folder;
    SOMETIMES_IF(!gone, "what is to go cannot be removed");
    SOMETIMES_IF(gone && r->remove.folder, "a folder has gone");
    r->in_file = false;
    if (!gone || !more)
        removal_end(r, op->result);
    removal_take_rest(r, dir);
}

void removal_tick(struct removal *r)
{
    struct log_core *c = r->core;
    assert(c->phase.now == PHASE_SERVING);
    LIST_EACH(at, &r->planned)
    {
        struct planned *p = container_of(at, struct planned, link);
        if (p->due_ns > io_now_ns(c->io) && c->dirs[p->dir].state.now != DIR_FULL)
            continue;
        list_remove(at);
        list_push_back(&r->due, at);
    }
    if (r->now == NULL && !timer_armed(&r->rest))
        removal_go_on(r);
}
