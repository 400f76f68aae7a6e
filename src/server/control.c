/* server/control.c - a daemon's control socket: relayctl asks, the daemon answers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"
#include "base/thread.h"
#include "net/stream.h"

#define REQUEST_TIMEOUT_MS 3000
#define ANSWER_TIMEOUT_MS 30000 /* for a client to read a piece of it */
#define IN_BUFFER (CONTROL_REQUEST_MAX + 1024)
#define OUT_BUFFER 16384
#define BACKLOG 16
#define GROUPS_MAX 64 /* groups of a peer that are checked */

struct control_client {
    struct control *control;
    pthread_t thread;
    atomic_bool used; /* has a thread */
    atomic_bool done; /* the thread waits to be joined */
    int fd;
    struct stream stream;
    bool failed;  /* nothing more can be sent */
    bool refused; /* the answer was an error: it has no end line */
    long uid;
    bool may_order; /* root, or the daemon's own user */
};

struct control {
    char path[CONTROL_PATH_MAX];
    control_handler *handler;
    void *context;
    int fd, stop_fd;
    pthread_t thread;
    struct control_client clients[CONTROL_CLIENTS_MAX]; /* managed by the accepting thread */
};

int control_path(const char *folder, const char *program, char out[CONTROL_PATH_MAX])
{
    const char *slash = folder[0] != '\0' && folder[strlen(folder) - 1] == '/' ? "" : "/";
    int len = snprintf(out, CONTROL_PATH_MAX, "%s%s%s.socket", folder, slash, program);
    return len > 0 && len < CONTROL_PATH_MAX ? 0 : -1;
}

/* Answers. */

int control_write(struct control_client *client, const char *octets, size_t len)
{
    if (!client->failed)
        client->failed =
            stream_put(&client->stream, octets, len, deadline_in_ms(ANSWER_TIMEOUT_MS)) != IO_OK;
    return client->failed ? -1 : 0;
}

int control_flush(struct control_client *client)
{
    if (!client->failed)
        client->failed = stream_flush(&client->stream, deadline_in_ms(ANSWER_TIMEOUT_MS)) != IO_OK;
    return client->failed ? -1 : 0;
}

__attribute__((format(printf, 2, 0))) static int control_put(struct control_client *client,
                                                             const char *format, va_list arguments)
{
    char text[CONTROL_REQUEST_MAX];
    int len = vsnprintf(text, sizeof text, format, arguments);
    if (len < 0 || (size_t)len >= sizeof text)
        len = sizeof text - 1;
    return control_write(client, text, (size_t)len);
}

int control_printf(struct control_client *client, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int result = control_put(client, format, arguments);
    va_end(arguments);
    return result;
}

int control_ok(struct control_client *client)
{
    return control_printf(client, "ok\n");
}

int control_error(struct control_client *client, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    client->refused = true;
    control_printf(client, "error ");
    control_put(client, format, arguments);
    va_end(arguments);
    return control_printf(client, "\n");
}

bool control_permit_order(struct control_client *client)
{
    if (!client->may_order)
        control_error(client, "not permitted: only root and the daemon's user may do this; their "
                              "group may only look at numbers and lists");
    return client->may_order;
}

/* One connection. */

static void control_log_request(const struct control_client *client, const char *request)
{
    struct log_line line;
    /* These come every few seconds and change nothing. */
    bool routine = strcmp(request, "stats") == 0 || strcmp(request, "sessions") == 0 ||
                   strcmp(request, "talks") == 0;
    log_begin(&line, routine ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, "event=control");
    log_int(&line, "uid", client->uid);
    log_str(&line, "request", request);
    log_end(&line);
}

static void control_handle(struct control_client *client, char *request)
{
    const char *words[CONTROL_WORDS_MAX + 1];
    char *rest = NULL;
    size_t count = 0;

    control_log_request(client, request);
    for (char *word = strtok_r(request, " ", &rest); word != NULL;
         word = strtok_r(NULL, " ", &rest)) {
        if (count == CONTROL_WORDS_MAX) {
            control_error(client, "too many words");
            return;
        }
        words[count++] = word;
    }
    words[count] = NULL;
    if (count == 0)
        control_error(client, "an empty request");
    else
        client->control->handler(client->control->context, client, words, count);
}

static void control_serve(struct control_client *client)
{
    char request[CONTROL_REQUEST_MAX];
    struct line line;

    enum io_result result = stream_read_line(&client->stream, &line, CONTROL_REQUEST_MAX,
                                             deadline_in_ms(REQUEST_TIMEOUT_MS));
    if (result == IO_TOO_LONG || (result == IO_OK && memchr(line.text, '\0', line.len) != NULL)) {
        control_error(client, "not a request");
    } else if (result == IO_OK) {
        snprintf(request, sizeof request, "%.*s", (int)line.len, line.text);
        control_handle(client, request);
    } else {
        return;
    }
    if (!client->refused)
        control_printf(client, "end\n");
    if (!client->failed)
        stream_flush(&client->stream, deadline_in_ms(ANSWER_TIMEOUT_MS));
}

static void *control_run_client(void *context)
{
    struct control_client *client = context;
    struct stream_buffers buffers;

    if (stream_buffers_init(&buffers, IN_BUFFER, OUT_BUFFER) == 0) {
        stream_init_borrowed(&client->stream, client->fd);
        stream_lend(&client->stream, &buffers);
        control_serve(client);
        stream_close(&client->stream);
        shutdown(client->fd, SHUT_RDWR); /* it is closed when the next client comes */
        stream_buffers_free(&buffers);
    }
    atomic_store(&client->done, true);
    return NULL;
}

/* Credentials. */

static bool control_is_member(int fd, gid_t group)
{
    gid_t groups[GROUPS_MAX];
    socklen_t size = sizeof groups;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0)
        return false;
    for (size_t i = 0; i < size / sizeof *groups; i++) {
        if (groups[i] == group)
            return true;
    }
    return false;
}

/* Stores the peer's user and rights. False: it has no rights at all. */
static bool control_identify(int fd, long *uid, bool *may_order)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return false;
    *uid = (long)peer.uid;
    *may_order = peer.uid == 0 || peer.uid == geteuid();
    return *may_order || peer.gid == getegid() || control_is_member(fd, getegid());
}

static void control_refuse(int fd, const char *text)
{
    if (send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        log_write(LOG_LEVEL_DEBUG, "event=control status=gone");
    close(fd);
}

static void control_reap(struct control_client *client)
{
    pthread_join(client->thread, NULL);
    close(client->fd);
    atomic_store(&client->used, false);
}

static struct control_client *control_find_place(struct control *control)
{
    struct control_client *place = NULL;
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct control_client *client = &control->clients[i];
        if (atomic_load(&client->used) && atomic_load(&client->done))
            control_reap(client);
        if (!atomic_load(&client->used))
            place = client;
    }
    return place;
}

static void control_admit(struct control *control, int fd)
{
    struct control_client *client = control_find_place(control);
    long uid = -1;
    bool may_order = false;

    if (!control_identify(fd, &uid, &may_order)) {
        control_refuse(fd, "error not permitted: only root, the daemon's user and its group may "
                           "ask\n");
        return;
    }
    if (client == NULL) {
        control_refuse(fd, "error busy, try again\n");
        return;
    }
    client->control = control;
    client->fd = fd;
    client->uid = uid;
    client->may_order = may_order;
    client->failed = client->refused = false;
    atomic_store(&client->done, false);
    if (thread_start(&client->thread, THREAD_STACK_SIZE, control_run_client, client) != 0)
        control_refuse(fd, "error no thread available, try again\n");
    else
        atomic_store(&client->used, true);
}

static void *control_run(void *context)
{
    struct control *control = context;
    struct pollfd fds[] = {{.fd = control->fd, .events = POLLIN},
                           {.fd = control->stop_fd, .events = POLLIN}};

    while (fds[1].revents == 0) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        int fd = fds[0].revents != 0 ? accept4(control->fd, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (fd >= 0)
            control_admit(control, fd);
        else if (fds[0].revents != 0 && errno != EAGAIN && errno != ECONNABORTED)
            poll(&fds[1], 1, 100); /* no descriptors left: don't retry at once */
    }
    return NULL;
}

/* The socket. */

static int control_fail(struct error *err, const char *path)
{
    error_set(err, "%s: %s", path, strerror(errno));
    return -1;
}

/* Removes a socket that nobody listens on: a killed daemon has left it. */
static int control_clear_path(const struct sockaddr_un *address, struct error *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return control_fail(err, address->sun_path);
    int result = connect(fd, (const struct sockaddr *)address, sizeof *address);
    int reason = result == 0 ? 0 : errno;
    close(fd);
    if (reason == ENOENT)
        return 0;
    if (reason == 0 || reason == EAGAIN) {
        error_set(err, _("%s: another process listens there"), address->sun_path);
        return -1;
    }
    errno = reason;
    if (reason != ECONNREFUSED || unlink(address->sun_path) != 0)
        return control_fail(err, address->sun_path);
    return 0;
}

static int control_open_socket(struct control *control, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, control->path, sizeof address.sun_path);
    if (control_clear_path(&address, err) != 0)
        return -1;
    control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (control->fd < 0 ||
        bind(control->fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        chmod(control->path, 0660) != 0 || listen(control->fd, BACKLOG) != 0)
        return control_fail(err, control->path);
    return 0;
}

static void control_free_control(struct control *control)
{
    if (control->fd >= 0)
        close(control->fd);
    if (control->stop_fd >= 0)
        close(control->stop_fd);
    free(control);
}

struct control *control_start(const char *folder, const char *program, control_handler *handler,
                              void *context, struct error *err)
{
    struct control *control = calloc(1, sizeof *control);

    if (control == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    control->handler = handler;
    control->context = context;
    control->fd = -1;
    control->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (control_path(folder, program, control->path) != 0) {
        error_set(err, _("%s: the name is too long for a socket"), folder);
    } else if (control->stop_fd < 0) {
        control_fail(err, "eventfd");
    } else if (control_open_socket(control, err) == 0) {
        errno = thread_start(&control->thread, THREAD_STACK_SIZE, control_run, control);
        if (errno == 0)
            return control;
        error_set(err, _("cannot start a thread: %s"), strerror(errno));
        unlink(control->path);
    }
    control_free_control(control);
    return NULL;
}

void control_stop(struct control *control)
{
    uint64_t one = 1;

    if (control == NULL)
        return;
    unlink(control->path);
    if (write(control->stop_fd, &one, sizeof one) < 0)
        return; /* impossible: the counter is 0 */
    pthread_join(control->thread, NULL);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct control_client *client = &control->clients[i];
        if (!atomic_load(&client->used))
            continue;
        shutdown(client->fd, SHUT_RDWR);
        control_reap(client);
    }
    control_free_control(control);
}
