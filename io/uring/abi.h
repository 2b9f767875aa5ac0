/* Kernel numbers that the oldest liburing and C library we build with do not name. They are stable
 * ABI; whether the running kernel knows them is found by trying, never by version. */
#ifndef IO_URING_ABI_H
#define IO_URING_ABI_H

#include <stdint.h>
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x00000080 /* write: drop the pages once they are on the device; 6.14 */
#endif

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* find pages for all of it, to be written to; 5.14 */
#endif

#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x00002000U /* alignment that O_DIRECT asks for; 6.1 */
#endif

/* struct io_uring_getevents_arg as of 6.12: the last wait but one had a pad for min_wait_us, and an
 * older kernel refuses it unless it is zero. A wait for n completions that has lasted so long goes
 * on for one. */
struct abi_wait {
    uint64_t sigmask;
    uint32_t sigmask_size;
    uint32_t min_wait_us;
    uint64_t timeout; /* address of a struct __kernel_timespec */
};

/* statfs.f_type of the file systems that io_probe names and linux/magic.h may lack. */
#define MAGIC_XFS  0x58465342
#define MAGIC_ZFS  0x2fc12fc1
#define MAGIC_BCFS 0xca451a4e
#define MAGIC_FUSE 0x65735546
#define MAGIC_NTFS 0x5346544e

#endif
