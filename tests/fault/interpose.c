/* tests/fault/interpose.c - makes one system call of a running daemon fail, at a chosen moment
 *
 * Preloaded into a daemon. It shares a page in a file ($POSTERN_FAULT_PAGE) with the test, which writes there which call
 * fails, on which occurrence and how. Calls are counted from the moment the test sets the counter to zero. All others go
 * through. The page can also shift the wall clock (CLOCK_REALTIME, time) and, separately, the monotonic clock.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* In the order of CALLS in interpose.py. */
enum call {
    CALL_RECV,
    CALL_SEND,
    CALL_SENDMSG,
    CALL_WRITEV,
    CALL_POLL,
    CALL_EPOLL_WAIT,
    CALL_EPOLL_ADD,
    CALL_EPOLL_CTL, /* except ADD */
    CALL_ACCEPT,
    CALL_SOCKET,
    CALL_CONNECT,
    CALL_OPEN,
    CALL_MALLOC,
    CALL_WRITE, /* to files, like WRITEV, except standard error */
    CALL_FSYNC,
    CALL_RENAME,
    CALL_OPENAT,
    CALL_UNLINK,
    CALL_COUNT
};

#define SHORT 0 /* instead of an errno: one octet is transferred */

struct page {
    _Atomic int64_t wanted; /* enum call + 1; 0 = none */
    _Atomic int64_t first, times, error;
    _Atomic int64_t hits;
    _Atomic int64_t clock_offset_s;
    _Atomic int64_t calls[CALL_COUNT];
    _Atomic int64_t monotonic_offset_s;
};

static struct page nothing;
static struct page *page = &nothing;

__attribute__((constructor)) static void open_page(void)
{
    const char *name = getenv("POSTERN_FAULT_PAGE");
    int fd = name != NULL ? (int)open(name, O_RDWR | O_CLOEXEC) : -1;
    void *memory = MAP_FAILED;
    if (fd >= 0)
        memory = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        static const char text[] = "interpose: POSTERN_FAULT_PAGE names no page\n";
        if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
            _exit(71);
        _exit(70);
    }
    page = memory;
    close(fd);
}

/* Counts the call. True if it is to fail, with *error (SHORT or an errno). */
static int strikes(enum call call, int *error)
{
    int64_t number = atomic_fetch_add(&page->calls[call], 1) + 1;
    int64_t first = atomic_load(&page->first);
    if (atomic_load(&page->wanted) != call + 1 || number < first ||
        number >= first + atomic_load(&page->times))
        return 0;
    atomic_fetch_add(&page->hits, 1);
    *error = (int)atomic_load(&page->error);
    return 1;
}

/* The same for calls that cannot be short. */
static int fails(enum call call)
{
    int error;
    if (!strikes(call, &error))
        return 0;
    errno = error;
    return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* What the C library's headers call instead under _FORTIFY_SOURCE, which some distributions set by default. The
 * lengths of the buffers are not checked here. */
ssize_t __recv_chk(int fd, void *bytes, size_t len, size_t room, int flags);
int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room);
int __open_2(const char *name, int flags);
int __openat_2(int fd, const char *name, int flags);

ssize_t recv(int fd, void *bytes, size_t len, int flags)
{
    int error;
    if (strikes(CALL_RECV, &error)) {
        if (error != SHORT) {
            errno = error;
            return -1;
        }
        len = len > 1 ? 1 : len;
    }
    return NEXT(recv)(fd, bytes, len, flags);
}

ssize_t __recv_chk(int fd, void *bytes, size_t len, size_t room, int flags)
{
    (void)room;
    return recv(fd, bytes, len, flags);
}

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    int error;
    if (strikes(CALL_SEND, &error)) {
        if (error != SHORT) {
            errno = error;
            return -1;
        }
        len = len > 1 ? 1 : len;
    }
    return NEXT(send)(fd, bytes, len, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    int error;
    if (!strikes(CALL_SENDMSG, &error))
        return NEXT(sendmsg)(fd, message, flags);
    if (error != SHORT) {
        errno = error;
        return -1;
    }
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        if (message->msg_iov[i].iov_len > 0)
            return NEXT(send)(fd, message->msg_iov[i].iov_base, 1, flags);
    }
    return 0;
}

/* Is it a file of the spool? Standard error may be a regular file too, but is a log. */
static int is_kept(int fd)
{
    struct stat stat;
    return fd > STDERR_FILENO && fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    int error;
    if (!is_kept(fd) || !strikes(CALL_WRITEV, &error))
        return NEXT(writev)(fd, iov, count);
    if (error != SHORT) {
        errno = error;
        return -1;
    }
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > 0)
            return NEXT(write)(fd, iov[i].iov_base, 1);
    }
    return 0;
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    int error;
    if (is_kept(fd) && strikes(CALL_WRITE, &error)) {
        if (error != SHORT) {
            errno = error;
            return -1;
        }
        len = len > 1 ? 1 : len;
    }
    return NEXT(write)(fd, bytes, len);
}

int fsync(int fd)
{
    return fails(CALL_FSYNC) ? -1 : NEXT(fsync)(fd);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return fails(CALL_RENAME) ? -1 : NEXT(renameat)(from_fd, from, to_fd, to);
}

int unlinkat(int fd, const char *name, int flags)
{
    return fails(CALL_UNLINK) ? -1 : NEXT(unlinkat)(fd, name, flags);
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    return fails(CALL_POLL) ? -1 : NEXT(poll)(fds, count, timeout);
}

int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room)
{
    (void)room;
    return poll(fds, count, timeout);
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
    return fails(CALL_EPOLL_WAIT) ? -1 : NEXT(epoll_wait)(fd, events, max, timeout);
}

int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    enum call call = operation == EPOLL_CTL_ADD ? CALL_EPOLL_ADD : CALL_EPOLL_CTL;
    return fails(call) ? -1 : NEXT(epoll_ctl)(epoll_fd, operation, fd, event);
}

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    return fails(CALL_ACCEPT) ? -1 : NEXT(accept4)(fd, address, len, flags);
}

int socket(int domain, int type, int protocol)
{
    return fails(CALL_SOCKET) ? -1 : NEXT(socket)(domain, type, protocol);
}

int connect(int fd, const struct sockaddr *address, socklen_t len)
{
    return fails(CALL_CONNECT) ? -1 : NEXT(connect)(fd, address, len);
}

static mode_t mode_of(int flags, va_list arguments)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

int open(const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return fails(CALL_OPEN) ? -1 : NEXT(openat)(AT_FDCWD, name, flags, mode);
}

int openat(int fd, const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return fails(CALL_OPENAT) ? -1 : NEXT(openat)(fd, name, flags, mode);
}

int __open_2(const char *name, int flags)
{
    return open(name, flags, 0);
}

int __openat_2(int fd, const char *name, int flags)
{
    return openat(fd, name, flags, 0);
}

FILE *fopen(const char *name, const char *mode)
{
    return fails(CALL_OPEN) ? NULL : NEXT(fopen)(name, mode);
}

/* The C library's own functions, under the names that it keeps for programs that replace them. */
#ifndef WITHOUT_MALLOC /* a sanitizer has its own */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

/* GnuTLS and the libraries below it (GMP, libtasn1) end the process if a handshake gets no memory, and a daemon cannot
 * prevent it. So only the daemon itself, and the C library on its behalf, are refused memory here. */
static int is_spared(const void *caller)
{
    Dl_info library;
    return dladdr(caller, &library) == 0 || (strstr(library.dli_fname, "/relay-") == NULL &&
                                             strstr(library.dli_fname, "/libc.so.") == NULL);
}

/* Counts only calls that may fail: of thousands in a handshake, few are the daemon's. */
static int no_memory(const void *caller)
{
    return atomic_load(&page->wanted) == CALL_MALLOC + 1 && !is_spared(caller) &&
           fails(CALL_MALLOC);
}

void *malloc(size_t size)
{
    return no_memory(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return no_memory(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return no_memory(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}
#endif

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = NEXT(clock_gettime)(clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec += atomic_load(&page->clock_offset_s);
    if (clock == CLOCK_MONOTONIC)
        now->tv_sec += atomic_load(&page->monotonic_offset_s);
    return result;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int result = NEXT(gettimeofday)(now, zone);
    now->tv_sec += atomic_load(&page->clock_offset_s);
    return result;
}
