/* A program that is loaded once and begun many times: preloaded, this stands in for its main.
 *
 *     zygote.py ──"r" words, a descriptor──▶ zygote ──fork──▶ main(words), writes there
 *               ◀──pid───────────────────────┘
 *               ──"w" pid──▶ waitpid ──status──▶
 *
 * To load, to link and to ask the processor what it can takes longer than what the program then
 * does with a small directory. The copy has nothing of its forebears but that: it is forked before
 * main, from a process of one thread. It is killed when the zygote ends, which is when the socket
 * is closed. A message is one packet; words are separated by zeros. */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET    3
#define WORDS_MAX 16

typedef int main_fn(int, char **, char **);
typedef int start_fn(main_fn *, int, char **, void (*)(void), void (*)(void), void (*)(void),
                     void *);

start_fn __libc_start_main; /* glibc's name, taken before glibc's own */

static main_fn *program;

/* Size of the packet, at most `size`; *fd is what came with it, or -1. */
static ssize_t receive(char *to, size_t size, int *fd)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } beside;
    struct iovec at = {to, size};
    struct msghdr m = {
        .msg_iov = &at, .msg_iovlen = 1, .msg_control = &beside, .msg_controllen = sizeof(beside)};
    ssize_t n = recvmsg(SOCKET, &m, MSG_CMSG_CLOEXEC);
    const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    *fd = -1;
    if (c != NULL && c->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(c), sizeof(*fd));
    return n;
}

static _Noreturn void begin(char *text, const char *end, int output, char **environment)
{
    char *words[WORDS_MAX + 1];
    int count = 0;
    for (char *at = text; at < end && count < WORDS_MAX; at += strlen(at) + 1)
        words[count++] = at;
    words[count] = NULL;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)dup2(output, STDOUT_FILENO);
    (void)dup2(output, STDERR_FILENO);
    (void)close(output);
    (void)close(SOCKET);
    exit(program(count, words, environment));
}

static int serve(int count, char **words, char **environment)
{
    static char text[4096];
    ssize_t n;
    int output;
    (void)count, (void)words;
    while ((n = receive(text, sizeof(text) - 1, &output)) > 0) {
        int answer = -1;
        text[n] = '\0';
        if (text[0] == 'w') {
            (void)waitpid((pid_t)strtol(text + 1, NULL, 10), &answer, 0);
        } else {
            answer = fork();
            if (answer == 0)
                begin(text + 1, text + n, output, environment);
        }
        if (output >= 0)
            (void)close(output);
        char said[16];
        int size = snprintf(said, sizeof(said), "%d", answer);
        if (send(SOCKET, said, (size_t)size, MSG_NOSIGNAL) < 0)
            break;
    }
    return 0;
}

int __libc_start_main(main_fn *of, int count, char **words, void (*init)(void), void (*fini)(void),
                      void (*linker_fini)(void), void *stack)
{
    start_fn *next;
    void *found = dlsym(RTLD_NEXT, "__libc_start_main");
    memcpy(&next, &found, sizeof(next));
    program = of;
    return next(serve, count, words, init, fini, linker_fini, stack);
}
