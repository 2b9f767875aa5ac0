/* A wall clock that jumps, for one process: preloaded, it adds so many seconds to CLOCK_REALTIME as
 * the file named by TORC_TEST_CLOCK begins with (int64_t, this machine's order), at each look. The
 * kernel's own wall clock cannot be moved for one process alone. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef int clock_fn(clockid_t, struct timespec *);

static clock_fn *real;
static const volatile int64_t *shift;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("TORC_TEST_CLOCK");
    void *found = dlsym(RTLD_NEXT, "clock_gettime");
    memcpy(&real, &found, sizeof(real));
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        abort();
    shift = mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);
    if (shift == MAP_FAILED)
        abort();
    (void)close(fd);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    if (real == NULL) /* somebody asks before us */
        begin();
    int result = real(id, t);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
        t->tv_sec += *shift;
    return result;
}
