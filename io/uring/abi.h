/* Kernel numbers that the oldest liburing and C library we build with do not name. They are stable
 * ABI; whether the running kernel knows them is found by trying, never by version. */
#ifndef IO_URING_ABI_H
#define IO_URING_ABI_H

#include <sys/uio.h>

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x00000080 /* write: drop the pages once they are on the device; 6.14 */
#endif

#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x00002000U /* alignment that O_DIRECT asks for; 6.1 */
#endif

/* statfs.f_type of the file systems that io_probe names and linux/magic.h may lack. */
#define MAGIC_XFS  0x58465342
#define MAGIC_ZFS  0x2fc12fc1
#define MAGIC_BCFS 0xca451a4e
#define MAGIC_FUSE 0x65735546
#define MAGIC_NTFS 0x5346544e

#endif
