/* A disk in user space that can be harmed: one file of a FUSE file system, meant to lie under a
 * loop device and a real file system on that. Needs root and /dev/fuse, no library.
 *
 *   shim MOUNT_POINT IMAGE      MOUNT_POINT/disk holds what IMAGE holds, in memory from then on
 *
 *   program ─▶ ext4 ─▶ block layer ─▶ loop (direct I/O) ─▶ FUSE ─▶ here: struct block
 *
 * What is relied on (seen with Linux 6.18; device.py looks before it uses it):
 *  1. The loop device in direct-I/O mode hands every write down as a FUSE WRITE and completes it
 *     with its answer; nothing of it stays in a page cache, as the file is opened FOPEN_DIRECT_IO.
 *  2. A flush of the block device is an fsync of the file: FUSE FSYNC. The loop device has a write
 *     cache and no FUA, so a write with FUA is a write and a flush.
 *  3. O_DIRECT with O_DSYNC or RWF_DSYNC on ext4, on written extents, is a write and a flush.
 *
 * Commands on stdin, one line each, answered by one line that begins with the command's word:
 *   count                            operations so far, sectors that no flush has followed
 *   cut SEED                         the power goes: what is not flushed is kept, lost or torn as
 *                                    the seed says (block.c); everything ends with EIO until:
 *   on                               the power is back
 *   fail KINDS NTH TIMES ERRNO [FROM TO]
 *                                    KINDS of r, w, f (flush): the NTH from now (0: the next) and
 *                                    so many in all fail; only those that touch the bytes FROM..TO
 *   slow US                          every operation takes so much longer; 0: none
 *   freeze MS                        nothing is answered for so long
 *   lie 0|1                          flushes are answered and not done
 *   space BYTES                      so many bytes that were never written can still be; then
 *                                    ENOSPC; -1: no bound
 *   image SEED FILE                  writes what a cut would leave now into a file
 * At the end of stdin it unmounts and ends. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "block.h"

#define WRITE_MAX (1u << 20)
#define DISK_NODE 2u
#define NS_PER_S  1000000000ull
#define FOR_EVER  3600u /* seconds that names and attributes are valid */

enum kind { KIND_READ = 1, KIND_WRITE = 2, KIND_FLUSH = 4 };

struct fault {
    uint32_t kinds;
    uint64_t nth, times, from, to;
    int error;
};

struct shim {
    struct block block;
    int fd; /* /dev/fuse */
    bool dead, lies, ended;
    struct fault fault;
    uint64_t slow_us, frozen_until_ns;
    int64_t space;  /* -1: no bound */
    uint8_t *fresh; /* a bit per sector: written once */
    uint64_t reads, writes, flushes, failed;
    char line[512];
    size_t line_size;
    uint8_t *in;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- the disk -------------------------------------------------------------------------------- */

/* 0, or what this operation fails with. */
static int fault_of(struct shim *s, enum kind kind, uint64_t offset, uint64_t size)
{
    struct fault *f = &s->fault;
    if (s->dead)
        return EIO;
    bool touched = kind == KIND_FLUSH || (offset < f->to && offset + size > f->from);
    if (f->times == 0 || (f->kinds & kind) == 0 || !touched)
        return 0;
    if (f->nth > 0) {
        f->nth--;
        return 0;
    }
    f->times--;
    s->failed++;
    return f->error;
}

/* Sectors that were never written take of what space there is. */
static bool space_take(struct shim *s, uint64_t offset, uint32_t size)
{
    int64_t wanted = 0;
    for (uint64_t i = offset / SECTOR; i * SECTOR < offset + size; i++)
        wanted += (s->fresh[i / 8] & 1u << i % 8) != 0 ? 0 : SECTOR;
    if (s->space >= 0 && wanted > s->space)
        return false;
    for (uint64_t i = offset / SECTOR; i * SECTOR < offset + size; i++)
        s->fresh[i / 8] |= (uint8_t)(1u << i % 8);
    s->space -= s->space >= 0 ? wanted : 0;
    return true;
}

static int disk_write(struct shim *s, uint64_t offset, const void *data, uint32_t size)
{
    s->writes++;
    int error = fault_of(s, KIND_WRITE, offset, size);
    if (error == 0 && (offset > s->block.size || size > s->block.size - offset))
        error = EFBIG;
    if (error == 0 && !space_take(s, offset, size))
        error = ENOSPC;
    if (error != 0)
        return error;
    block_put(&s->block, offset, data, size);
    return 0;
}

static int disk_flush(struct shim *s)
{
    s->flushes++;
    int error = fault_of(s, KIND_FLUSH, 0, 0);
    if (error != 0 || s->lies)
        return error;
    block_flush(&s->block);
    return 0;
}

/* ---- FUSE ------------------------------------------------------------------------------------ */

static void answer(struct shim *s, const struct fuse_in_header *h, int error, const void *data,
                   size_t size)
{
    struct fuse_out_header out = {
        .len = (uint32_t)(sizeof(out) + size), .error = -error, .unique = h->unique};
    struct iovec iov[2] = {{&out, sizeof(out)}, {(void *)(uintptr_t)data, size}};
    (void)!writev(s->fd, iov, size > 0 ? 2 : 1); /* ENOENT: who asked was killed */
}

static struct fuse_attr attr_of(const struct shim *s, uint64_t node)
{
    bool disk = node == DISK_NODE;
    return (struct fuse_attr){.ino = node,
                              .size = disk ? s->block.size : 0,
                              .blocks = disk ? s->block.size / SECTOR : 0,
                              .mode = disk ? S_IFREG | 0600 : S_IFDIR | 0700,
                              .nlink = disk ? 1 : 2,
                              .blksize = 4096};
}

static void fuse_init(struct shim *s, const struct fuse_in_header *h)
{
    const struct fuse_init_in *in = (const void *)(h + 1);
    struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = in->minor < FUSE_KERNEL_MINOR_VERSION ? in->minor : FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = 0,
        .flags = in->flags & (FUSE_BIG_WRITES | FUSE_MAX_PAGES),
        .max_background = 64,
        .congestion_threshold = 64,
        .max_write = WRITE_MAX,
        .max_pages = WRITE_MAX / 4096,
        .time_gran = 1};
    answer(s, h, 0, &out, sizeof(out));
}

static void fuse_lookup(struct shim *s, const struct fuse_in_header *h)
{
    struct fuse_entry_out out = {.nodeid = DISK_NODE,
                                 .entry_valid = FOR_EVER,
                                 .attr_valid = FOR_EVER,
                                 .attr = attr_of(s, DISK_NODE)};
    bool there = h->nodeid == FUSE_ROOT_ID && strcmp((const char *)(h + 1), "disk") == 0;
    answer(s, h, there ? 0 : ENOENT, &out, there ? sizeof(out) : 0);
}

static void fuse_read(struct shim *s, const struct fuse_in_header *h)
{
    const struct fuse_read_in *in = (const void *)(h + 1);
    s->reads++;
    int error = fault_of(s, KIND_READ, in->offset, in->size);
    uint64_t left = in->offset < s->block.size ? s->block.size - in->offset : 0;
    size_t size = error != 0 ? 0 : in->size < left ? in->size : (size_t)left;
    answer(s, h, error, s->block.now + in->offset, size);
}

static void fuse_write(struct shim *s, const struct fuse_in_header *h)
{
    const struct fuse_write_in *in = (const void *)(h + 1);
    int error = disk_write(s, in->offset, in + 1, in->size);
    struct fuse_write_out out = {.size = in->size};
    answer(s, h, error, &out, error == 0 ? sizeof(out) : 0);
}

static void fuse_serve(struct shim *s, const struct fuse_in_header *h)
{
    struct fuse_attr_out attr = {.attr_valid = FOR_EVER, .attr = attr_of(s, h->nodeid)};
    struct fuse_open_out open = {.open_flags = h->nodeid == DISK_NODE ? FOPEN_DIRECT_IO : 0};
    struct fuse_statfs_out fs = {.st = {.bsize = 4096, .frsize = 4096, .namelen = 255}};
    switch (h->opcode) {
    case FUSE_INIT:
        fuse_init(s, h);
        break;
    case FUSE_LOOKUP:
        fuse_lookup(s, h);
        break;
    case FUSE_GETATTR:
    case FUSE_SETATTR: /* times: of no interest */
        answer(s, h, 0, &attr, sizeof(attr));
        break;
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        answer(s, h, 0, &open, sizeof(open));
        break;
    case FUSE_READ:
        fuse_read(s, h);
        break;
    case FUSE_WRITE:
        fuse_write(s, h);
        break;
    case FUSE_FSYNC:
        answer(s, h, disk_flush(s), NULL, 0);
        break;
    case FUSE_STATFS:
        answer(s, h, 0, &fs, sizeof(fs));
        break;
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_FLUSH:
    case FUSE_READDIR: /* it looks empty */
        answer(s, h, 0, NULL, 0);
        break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        break; /* no answer */
    default:
        answer(s, h, ENOSYS, NULL, 0);
    }
}

static void fuse_turn(struct shim *s)
{
    ssize_t n = read(s->fd, s->in, WRITE_MAX + 4096 + FUSE_MIN_READ_BUFFER);
    if (n < 0 && errno == ENODEV)
        s->ended = true; /* somebody unmounted it */
    if (n < (ssize_t)sizeof(struct fuse_in_header))
        return;
    if (s->slow_us > 0)
        (void)usleep((useconds_t)s->slow_us);
    fuse_serve(s, (const void *)s->in);
}

/* ---- commands -------------------------------------------------------------------------------- */

static void say_count(const struct shim *s)
{
    uint64_t sectors = 0;
    for (uint32_t i = 0; i < s->block.writes_count; i++)
        sectors += s->block.writes[i].size / SECTOR;
    printf("count reads=%" PRIu64 " writes=%" PRIu64 " flushes=%" PRIu64 " failed=%" PRIu64
           " unflushed=%" PRIu64 "\n",
           s->reads, s->writes, s->flushes, s->failed, sectors);
}

static bool command_fail(struct shim *s, const char *rest)
{
    char kinds[4];
    struct fault f = {.to = UINT64_MAX};
    int n = sscanf(rest, "%3[rwf] %" SCNu64 " %" SCNu64 " %d %" SCNu64 " %" SCNu64, kinds, &f.nth,
                   &f.times, &f.error, &f.from, &f.to);
    if (n != 4 && n != 6)
        return false;
    f.kinds = (strchr(kinds, 'r') != NULL ? (uint32_t)KIND_READ : 0) |
              (strchr(kinds, 'w') != NULL ? (uint32_t)KIND_WRITE : 0) |
              (strchr(kinds, 'f') != NULL ? (uint32_t)KIND_FLUSH : 0);
    s->fault = f;
    return true;
}

static bool command_cut(struct shim *s, const char *rest)
{
    struct block_cut cut;
    block_cut(&s->block, strtoull(rest, NULL, 10), &cut);
    s->dead = true;
    printf("cut kept=%" PRIu64 " lost=%" PRIu64 " torn=%" PRIu64 "\n", cut.kept, cut.lost,
           cut.torn_writes);
    return true;
}

static bool command_image(struct shim *s, const char *rest)
{
    struct block_cut cut;
    char *path;
    uint64_t seed = strtoull(rest, &path, 10);
    uint8_t *to = calloc(1, s->block.size);
    if (to == NULL || *path != ' ')
        return false;
    block_crash(&s->block, seed, to, &cut);
    bool saved = block_save(to, s->block.size, path + 1);
    free(to);
    printf("image %s kept=%" PRIu64 " lost=%" PRIu64 " torn=%" PRIu64 "\n",
           saved ? path + 1 : "cannot be written", cut.kept, cut.lost, cut.torn_writes);
    return true;
}

static bool command_number(struct shim *s, const char *word, const char *rest)
{
    int64_t n = strtoll(rest, NULL, 10);
    if (strcmp(word, "slow") == 0)
        s->slow_us = (uint64_t)n;
    else if (strcmp(word, "freeze") == 0)
        s->frozen_until_ns = now_ns() + (uint64_t)n * 1000000;
    else if (strcmp(word, "lie") == 0)
        s->lies = n != 0;
    else if (strcmp(word, "space") == 0)
        s->space = n;
    else
        return false;
    return true;
}

/* True: it has printed its answer. False: `known` says whether there is such a command. */
static bool command_answered(struct shim *s, const char *word, const char *rest, bool *known)
{
    *known = true;
    if (strcmp(word, "cut") == 0)
        return command_cut(s, rest);
    if (strcmp(word, "image") == 0)
        return (*known = command_image(s, rest));
    if (strcmp(word, "count") == 0) {
        say_count(s);
        return true;
    }
    if (strcmp(word, "on") == 0)
        s->dead = false;
    else if (strcmp(word, "fail") == 0)
        *known = command_fail(s, rest);
    else
        *known = command_number(s, word, rest);
    return false;
}

static void command(struct shim *s, char *line)
{
    bool known;
    char *rest = strchr(line, ' ');
    if (rest != NULL)
        *rest++ = '\0';
    if (!command_answered(s, line, rest == NULL ? "" : rest, &known))
        printf("%s%s\n", known ? "" : "unknown ", line);
    (void)fflush(stdout);
}

static void commands_read(struct shim *s)
{
    ssize_t n = read(STDIN_FILENO, s->line + s->line_size, sizeof(s->line) - s->line_size - 1);
    if (n <= 0) {
        s->ended = true;
        return;
    }
    s->line_size += (size_t)n;
    s->line[s->line_size] = '\0';
    char *begin = s->line;
    for (char *end; (end = strchr(begin, '\n')) != NULL; begin = end + 1) {
        *end = '\0';
        command(s, begin);
    }
    s->line_size = strlen(begin);
    memmove(s->line, begin, s->line_size + 1);
    if (s->line_size == sizeof(s->line) - 1)
        s->line_size = 0; /* no command is so long */
}

/* ---- life ------------------------------------------------------------------------------------ */

static void turn(struct shim *s)
{
    uint64_t now = now_ns();
    bool frozen = now < s->frozen_until_ns;
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                            {.fd = frozen ? -1 : s->fd, .events = POLLIN}};
    int wait_ms = frozen ? (int)((s->frozen_until_ns - now) / 1000000 + 1) : -1;
    if (poll(fds, 2, wait_ms) < 0)
        return;
    if (fds[0].revents != 0)
        commands_read(s);
    if (fds[1].revents != 0)
        fuse_turn(s);
}

static bool shim_mount(struct shim *s, const char *where)
{
    char options[128];
    s->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    (void)snprintf(options, sizeof(options), "fd=%d,rootmode=40700,user_id=0,group_id=0", s->fd);
    return s->fd >= 0 &&
           mount("torc-shim", where, "fuse", MS_NODEV | MS_NOSUID | MS_NOEXEC, options) == 0;
}

int main(int count, char **words)
{
    struct shim *s = calloc(1, sizeof(*s));
    if (count != 3 || s == NULL) {
        (void)fprintf(stderr, "usage: shim MOUNT_POINT IMAGE\n");
        return 2;
    }
    s->space = -1;
    s->in = malloc(WRITE_MAX + 4096 + FUSE_MIN_READ_BUFFER);
    if (s->in == NULL || !block_open(&s->block, words[2]) || !shim_mount(s, words[1])) {
        (void)fprintf(stderr, "shim: %s: %s\n", words[1], strerror(errno));
        return 1;
    }
    s->fresh = calloc(1, s->block.size / SECTOR / 8 + 1);
    if (s->fresh == NULL)
        return 1;
    printf("ready %" PRIu64 "\n", s->block.size);
    (void)fflush(stdout);
    while (!s->ended)
        turn(s);
    (void)umount2(words[1], MNT_DETACH);
    return 0;
}
