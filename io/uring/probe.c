/* io_probe: what the file system under a directory can do, found by doing it there.
 *
 *   probe file ─▶ O_DIRECT open ─▶ RWF_DSYNC write of a pattern ─▶ read back ─▶ equal?
 *             └─▶ buffered write with RWF_DONTCACHE ─▶ accepted?
 *
 *  1. A feature counts when its operation succeeded and, for reads, brought the bytes that were
 *     written. Opening with O_DIRECT proves nothing: some file systems refuse only the transfer.
 *  2. The probe file is removed before the call returns, whatever happened; its name begins with a
 *     dot and ends in .torc, so a leftover of a crash is no partition.
 *
 * Failures: only those that make the directory unusable are errors (it cannot be written at all);
 * a missing feature is an answer. */
#include "io/uring/abi.h"
#include "io/uring/uring_priv.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BLOCK             4096u
#define ALIGNMENT_DEFAULT 4096u /* where the kernel does not say */
#define PATH_SIZE         4096u

static const struct {
    uint32_t magic;
    const char *name;
} magics[] = {
    {EXT4_SUPER_MAGIC, "ext4"},   {MAGIC_XFS, "xfs"},
    {BTRFS_SUPER_MAGIC, "btrfs"}, {TMPFS_MAGIC, "tmpfs"},
    {RAMFS_MAGIC, "ramfs"},       {OVERLAYFS_SUPER_MAGIC, "overlay"},
    {F2FS_SUPER_MAGIC, "f2fs"},   {MAGIC_ZFS, "zfs"},
    {MAGIC_BCFS, "bcachefs"},     {NFS_SUPER_MAGIC, "nfs"},
    {MAGIC_FUSE, "fuse"},         {MAGIC_NTFS, "ntfs"},
    {V9FS_MAGIC, "9p"},           {ECRYPTFS_SUPER_MAGIC, "ecryptfs"},
    {CEPH_SUPER_MAGIC, "ceph"},
};

static void filesystem_name(uint32_t magic, char *to, size_t size)
{
    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
        if (magics[i].magic == magic) {
            snprintf(to, size, "%s", magics[i].name);
            return;
        }
    }
    snprintf(to, size, "0x%x", magic);
}

static uint32_t direct_alignment(int fd)
{
    struct statx s;
    memset(&s, 0, sizeof(s));
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &s) != 0 || (s.stx_mask & STATX_DIOALIGN) == 0)
        return ALIGNMENT_DEFAULT;
    /* The two words after stx_mnt_id, where older headers have only spare room. */
    uint32_t words[2];
    memcpy(words, (const uint8_t *)&s + offsetof(struct statx, stx_mnt_id) + sizeof(uint64_t),
           sizeof(words));
    uint32_t alignment = MAX(words[0], words[1]);
    return alignment > 0 && alignment <= BLOCK ? alignment : ALIGNMENT_DEFAULT;
}

static bool direct_works(int fd, uint8_t *block)
{
    struct iovec v = {.iov_base = block, .iov_len = BLOCK};
    for (uint32_t i = 0; i < BLOCK; i++)
        block[i] = (uint8_t)(i * 7 + 3);
    if (pwritev2(fd, &v, 1, 0, RWF_DSYNC) != (ssize_t)BLOCK)
        return false;
    memset(block, 0, BLOCK);
    if (preadv2(fd, &v, 1, 0, 0) != (ssize_t)BLOCK)
        return false;
    for (uint32_t i = 0; i < BLOCK; i++) {
        if (block[i] != (uint8_t)(i * 7 + 3))
            return false;
    }
    return true;
}

int io_probe(struct io *io, const char *directory, struct io_probe *probe)
{
    *probe = (struct io_probe){.alignment = ALIGNMENT_DEFAULT};
    struct statfs fs;
    if (statfs(directory, &fs) != 0)
        return -errno;
    filesystem_name((uint32_t)fs.f_type, probe->filesystem, sizeof(probe->filesystem));
    char path[PATH_SIZE];
    int length = snprintf(path, sizeof(path), "%s/.probe-%016llx.torc", directory,
                          (unsigned long long)io_random(io));
    if (length < 0 || (size_t)length >= sizeof(path))
        return -ENAMETOOLONG;
    uint8_t *block = mem_pages(io->mem, BLOCK);
    if (block == NULL)
        return -ENOMEM;
    int error = 0;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        error = -errno;
        goto out;
    }
    memset(block, 1, BLOCK);
    struct iovec v = {.iov_base = block, .iov_len = BLOCK};
    if (pwritev2(fd, &v, 1, 0, 0) != (ssize_t)BLOCK)
        error = errno != 0 ? -errno : -EIO;
    probe->uncached = error == 0 && pwritev2(fd, &v, 1, 0, RWF_DONTCACHE) == (ssize_t)BLOCK;
    int direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (direct >= 0) {
        probe->direct = error == 0 && direct_works(direct, block);
        if (probe->direct)
            probe->alignment = direct_alignment(direct);
        close(direct);
    }
    close(fd);
    (void)unlink(path);
out:
    mem_pages_free(io->mem, block, BLOCK);
    return error;
}
