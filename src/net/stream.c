/* net/stream.c - a connection: socket, TLS, buffering and deadlines; the one place of IO
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/stream-internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/assert.h"
#include "net/tls-internal.h"

#define LONG_WAIT_MS 10000 /* a wait this long turns on TCP keepalive */
#define CLOSE_READS 16     /* most pieces of unread input read before a close; stream_close() */

const char *io_result_name(enum io_result result)
{
    static const char *const names[] = {
        [IO_OK] = "ok",
        [IO_EOF] = "connection closed",
        [IO_TIMEOUT] = "timed out",
        [IO_FAILED] = "connection lost",
        [IO_TOO_LONG] = "line too long",
    };
    return names[result];
}

/* Buffers are lent while something is under way; a stream that rests keeps what it must. */

int stream_buffers_init(struct stream_buffers *buffers, size_t in_size, size_t out_size)
{
    *buffers = (struct stream_buffers){malloc(in_size), in_size, malloc(out_size), out_size};
    if (buffers->in != NULL && buffers->out != NULL)
        return 0;
    stream_buffers_free(buffers);
    return -1;
}

void stream_buffers_free(struct stream_buffers *buffers)
{
    free(buffers->in);
    free(buffers->out);
    *buffers = (struct stream_buffers){0};
}

void stream_init(struct stream *stream, int fd)
{
    const struct timeval moment = {.tv_usec = STREAM_MOMENT_MS * 1000};
    memset(stream, 0, sizeof *stream);
    stream->fd = fd;
    stream->momentary = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof moment) == 0;
}

void stream_init_borrowed(struct stream *stream, int fd)
{
    stream_init(stream, fd);
    stream->borrowed = true;
}

void stream_forget_input(struct stream *stream)
{
    /* It may contain a password. */
    if (stream->kept != NULL)
        explicit_bzero(stream->kept, stream->kept_len);
    free(stream->kept);
    stream->kept = NULL;
    stream->in_start = stream->in_end = stream->kept_len = 0;
}

void stream_lend(struct stream *stream, struct stream_buffers *buffers)
{
    size_t kept = stream->kept_len <= buffers->in_size ? stream->kept_len : 0;

    ASSERT(stream->buffers == NULL);
    stream->buffers = buffers;
    if (kept > 0)
        memcpy(buffers->in, stream->kept, kept);
    stream_forget_input(stream);
    stream->in_end = kept;
    stream->out_len = 0;
}

void stream_reclaim(struct stream *stream)
{
    stream->buffers = NULL;
    stream->in_start = stream->in_end = stream->out_len = 0;
}

int stream_park(struct stream *stream)
{
    size_t len = stream->in_end - stream->in_start;

    if (stream->out_len > 0 && !stream_hold_output(stream))
        return -1;
    if (len > 0) {
        stream->kept = malloc(len);
        if (stream->kept == NULL)
            return -1;
        memcpy(stream->kept, stream->buffers->in + stream->in_start, len);
        explicit_bzero(stream->buffers->in + stream->in_start, len);
        stream->kept_len = len;
    }
    stream_reclaim(stream);
    return 0;
}

void stream_wipe(struct stream *stream)
{
    const struct stream_buffers *buffers = stream->buffers;
    explicit_bzero(buffers->in, stream->in_start);
    explicit_bzero(buffers->in + stream->in_end, buffers->in_size - stream->in_end);
    explicit_bzero(buffers->out + stream->out_len, buffers->out_size - stream->out_len);
}

static const char *stream_input(const struct stream *stream)
{
    return stream->buffers->in + stream->in_start;
}

bool stream_has_input(const struct stream *stream)
{
    return stream->in_end > stream->in_start ||
           (stream->tls != NULL && tls_session_has_pending(stream->tls));
}

/* The LF of the line that comes next, or NULL. */
static const char *stream_find_lf(const struct stream *stream)
{
    return memchr(stream_input(stream), '\n', stream->in_end - stream->in_start);
}

bool stream_line_waiting(const struct stream *stream)
{
    return stream_find_lf(stream) != NULL;
}

enum io_result stream_fail(struct stream *stream)
{
    stream->broken = true;
    return IO_FAILED;
}

void stream_keep_alive(struct stream *stream)
{
    static const struct {
        int level, option, value;
    } options[] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 15},
        {IPPROTO_TCP, TCP_KEEPINTVL, 10},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        setsockopt(stream->fd, options[i].level, options[i].option, &options[i].value,
                   sizeof options[i].value);
    stream->kept_alive = true;
}

/* The one place where IO waits. `events` becomes the events that occurred. */
static enum io_result stream_wait_for_any(struct stream *stream, short *events,
                                          struct deadline deadline)
{
    struct pollfd poll_fd = {.fd = stream->fd, .events = *events};
    for (;;) {
        int left_ms = deadline_left_ms(deadline);
        bool at_first = left_ms > LONG_WAIT_MS && !stream->kept_alive;
        int ready = poll(&poll_fd, 1, at_first ? LONG_WAIT_MS : left_ms);
        *events = poll_fd.revents;
        if (ready > 0)
            return IO_OK;
        if (ready == 0 && !at_first)
            return IO_TIMEOUT;
        if (ready == 0)
            stream_keep_alive(stream);
        else if (errno != EINTR)
            return stream_fail(stream);
    }
}

enum io_result stream_wait_for(struct stream *stream, short events, struct deadline deadline)
{
    return stream_wait_for_any(stream, &events, deadline);
}

/* If there is enough time, the first recv(2) of a wait blocks for a moment. Most answers arrive within
 * it and then cost one system call instead of three. */
static bool stream_may_wait(const struct stream *stream, struct deadline deadline)
{
    return stream->momentary && deadline_left_ms(deadline) >= STREAM_MOMENT_MS;
}

/* Reads once, in plain text or from TLS. IO_OK: moved something. IO_TIMEOUT: would block, and `events`
 * says on what. */
static enum io_result stream_receive_once(struct stream *stream, char *bytes, size_t size,
                                          size_t *got, short *events, bool wait)
{
    ssize_t result;

    *events = POLLIN;
    if (stream->tls != NULL) {
        result = tls_session_receive(stream->tls, bytes, size, wait);
        if (result == TLS_WANT_WRITE)
            *events = POLLOUT;
        if (result == TLS_WANT_READ || result == TLS_WANT_WRITE)
            return IO_TIMEOUT;
    } else {
        do {
            result = recv(stream->fd, bytes, size, wait ? 0 : MSG_DONTWAIT);
        } while (result < 0 && errno == EINTR);
        if (result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return IO_TIMEOUT;
    }
    if (result < 0)
        return stream_fail(stream);
    *got = (size_t)result;
    return result == 0 ? IO_EOF : IO_OK;
}

/* Reads once into the free part of the buffer, waiting until something is there. */
static enum io_result stream_fill(struct stream *stream, struct deadline deadline)
{
    struct stream_buffers *buffers = stream->buffers;
    size_t got = 0;
    short events;

    if (stream->broken)
        return IO_FAILED;
    if (stream->in_start == stream->in_end) {
        stream->in_start = stream->in_end = 0;
    } else if (stream->in_end == buffers->in_size) {
        memmove(buffers->in, stream_input(stream), stream->in_end - stream->in_start);
        stream->in_end -= stream->in_start;
        stream->in_start = 0;
    }
    for (;;) {
        enum io_result result = stream_receive_once(stream, buffers->in + stream->in_end,
                                                    buffers->in_size - stream->in_end, &got,
                                                    &events, stream_may_wait(stream, deadline));
        if (result == IO_OK) {
            stream->in_end += got;
            stream->octets_in += got;
        }
        if (result != IO_TIMEOUT || deadline_passed(deadline))
            return result;
        result = stream_wait_for(stream, events, deadline);
        if (result != IO_OK)
            return result;
    }
}

bool stream_hears(struct stream *stream)
{
    return stream_has_input(stream) || stream_fill(stream, (struct deadline){0}) != IO_TIMEOUT;
}

void stream_hear_out(struct stream *stream)
{
    stream->mute = true;
    stream->out_len = 0;
    if (stream->fd >= 0)
        stream->broken = false;
}

/* Takes the line that ends with this LF from the buffer: IO_OK or IO_TOO_LONG. IO_TIMEOUT if it is NULL, because there
 * is none yet. */
static enum io_result stream_take_line_to(struct stream *stream, struct line *line, size_t max,
                                          const char *lf)
{
    const char *start = stream_input(stream);
    size_t len = stream->in_end - stream->in_start;
    size_t line_len = lf != NULL ? (size_t)(lf - start) + 1 : len;
    bool too_long = stream->skipping || line_len > max || (lf == NULL && len >= max);

    if (lf == NULL && too_long) {
        stream->skipping = true;
        stream->in_start = stream->in_end = 0;
    }
    if (lf == NULL)
        return IO_TIMEOUT;
    stream->line_start = stream->in_start;
    stream_consume(stream, line_len);
    stream->skipping = false;
    if (too_long)
        return IO_TOO_LONG;
    line->text = start;
    line->bare_lf = line_len < 2 || start[line_len - 2] != '\r';
    line->len = line_len - (line->bare_lf ? 1 : 2);
    return IO_OK;
}

static enum io_result stream_take_line(struct stream *stream, struct line *line, size_t max)
{
    return stream_take_line_to(stream, line, max, stream_find_lf(stream));
}

/* The same, but keeps the first `max` octets of a line that is too long; later input overwrites the
 * rest. */
static enum io_result stream_take_cut_line(struct stream *stream, struct line *line, size_t max)
{
    const char *start = stream_input(stream);
    const char *lf = stream_find_lf(stream);

    if (lf == NULL && stream->in_end - stream->in_start > max)
        stream->in_end = stream->in_start + max;
    if (lf == NULL)
        return IO_TIMEOUT;
    if ((size_t)(lf - start) < max)
        return stream_take_line_to(stream, line, max, lf);
    stream_consume(stream, (size_t)(lf - start) + 1);
    *line = (struct line){.text = start, .len = max};
    return IO_OK;
}

typedef enum io_result take_function(struct stream *stream, struct line *line, size_t max);

static enum io_result stream_take_line_by(struct stream *stream, struct line *line, size_t max,
                                          struct deadline deadline, take_function *take)
{
    enum io_result result =
        stream->in_start < stream->in_end ? take(stream, line, max) : IO_TIMEOUT;

    while (result == IO_TIMEOUT) {
        result = stream_fill(stream, deadline);
        if (result != IO_OK)
            return result;
        result = take(stream, line, max);
        /* With a trickle of octets stream_fill() never waits long, so check the clock here too. But
         * don't stop while TLS has input inside: poll(2) would not report it. */
        if (result == IO_TIMEOUT && deadline_passed(deadline) &&
            !(stream->tls != NULL && tls_session_has_pending(stream->tls)))
            return IO_TIMEOUT;
    }
    return result;
}

enum io_result stream_read_line(struct stream *stream, struct line *line, size_t max,
                                struct deadline deadline)
{
    return stream_take_line_by(stream, line, max, deadline, stream_take_line);
}

enum io_result stream_read_cut_line(struct stream *stream, struct line *line, size_t max,
                                    struct deadline deadline)
{
    return stream_take_line_by(stream, line, max, deadline, stream_take_cut_line);
}

void stream_unread_line(struct stream *stream)
{
    ASSERT(stream->line_start <= stream->in_start && stream->in_start <= stream->in_end);
    stream->in_start = stream->line_start;
}

enum io_result stream_read(struct stream *stream, const char **bytes, size_t *len,
                           struct deadline deadline)
{
    if (stream->in_start == stream->in_end) {
        enum io_result result = stream_fill(stream, deadline);
        if (result != IO_OK)
            return result;
    }
    *bytes = stream_input(stream);
    *len = stream->in_end - stream->in_start;
    return IO_OK;
}

void stream_consume(struct stream *stream, size_t len)
{
    ASSERT(len <= stream->in_end - stream->in_start);
    stream->in_start += len;
}

enum io_result stream_wait_to_write(struct stream *stream, struct deadline deadline)
{
    for (;;) {
        short events = stream->heeds_input ? POLLIN | POLLOUT : POLLOUT;
        enum io_result result = stream_wait_for_any(stream, &events, deadline);
        if (result != IO_OK || (events & POLLIN) == 0 || !stream->heeds_input)
            return result;
        if (stream_hears(stream))
            return stream_fail(stream);
        if (events & POLLOUT)
            return IO_OK;
    }
}

bool stream_has_injected_input(const struct stream *stream)
{
    int waiting = 0;
    return stream->in_end > stream->in_start ||
           (ioctl(stream->fd, FIONREAD, &waiting) == 0 && waiting > 0);
}

static enum io_result stream_begin_handshake(struct stream *stream)
{
    stream->in_start = stream->in_end = 0;
    stream->handshaking = true;
    return stream->tls != NULL && !stream->broken ? IO_OK : stream_fail(stream);
}

enum io_result stream_begin_tls_server(struct stream *stream, struct tls_server *server,
                                       struct error *err)
{
    stream->tls = tls_session_new_server(server, stream->fd, err);
    return stream_begin_handshake(stream);
}

enum io_result stream_continue_tls(struct stream *stream, struct deadline linger,
                                   struct deadline deadline, struct error *err)
{
    enum io_result result = stream->broken ? IO_FAILED : IO_OK;
    int step;

    stream->wants_output = false;
    while (result == IO_OK &&
           (step = tls_session_handshake(stream->tls, stream_may_wait(stream, linger), err)) != 0) {
        if (step == TLS_BROKEN)
            result = stream_fail(stream);
        else if (step == TLS_WANT_READ)
            result = stream_wait_for(stream, POLLIN, linger);
        else
            result = stream_wait_for(stream, POLLOUT, stream->keeps_output ? linger : deadline);
        stream->wants_output = result == IO_TIMEOUT && step == TLS_WANT_WRITE;
    }
    if (result == IO_OK)
        stream->handshaking = false;
    return result;
}

/* Does the whole handshake. */
static enum io_result stream_handshake(struct stream *stream, struct deadline deadline,
                                       struct error *err)
{
    enum io_result result = stream_begin_handshake(stream);
    if (result == IO_OK)
        result = stream_continue_tls(stream, deadline, deadline, err);
    if (result == IO_TIMEOUT) {
        error_set(err, "timed out");
        stream->broken = true;
    }
    return result;
}

enum io_result stream_start_tls_server(struct stream *stream, struct tls_server *server,
                                       struct deadline deadline, struct error *err)
{
    stream->tls = tls_session_new_server(server, stream->fd, err);
    return stream_handshake(stream, deadline, err);
}

enum io_result stream_start_tls_client(struct stream *stream, struct tls_client *client,
                                       const char *server_name, const struct tls_judge *judge,
                                       struct deadline deadline, struct error *err)
{
    stream->tls = tls_session_new_client(client, stream->fd, server_name, judge, err);
    return stream_handshake(stream, deadline, err);
}

bool stream_tls_info(const struct stream *stream, struct tls_info *info)
{
    if (stream->tls == NULL)
        return false;
    tls_session_info(stream->tls, info);
    return true;
}

const char *stream_tls_refusal(const struct stream *stream)
{
    return stream->tls != NULL ? tls_session_refusal(stream->tls) : NULL;
}

static void stream_release(struct stream *stream)
{
    if (stream->tls != NULL)
        tls_session_free(stream->tls);
    stream->tls = NULL;
    stream_forget_input(stream);
    stream_forget_unsent(stream);
    if (!stream->borrowed)
        close(stream->fd);
    stream->fd = -1;
    stream->broken = true;
}

/* A socket closed with unread input sends RST, which may overtake our last reply. So read the input
 * that is there first. A piece that does not fill the buffer is the last. */
static void stream_discard_input(struct stream *stream)
{
    char waste[4096];
    for (int i = 0; i < CLOSE_READS; i++) {
        if (recv(stream->fd, waste, sizeof waste, MSG_DONTWAIT) < (ssize_t)sizeof waste)
            return;
    }
}

static void stream_say_bye(struct stream *stream)
{
    if (stream->tls != NULL && !stream->broken && !stream->handshaking)
        tls_session_bye(stream->tls);
}

void stream_close(struct stream *stream)
{
    if (stream->fd < 0)
        return;
    stream_say_bye(stream);
    stream_discard_input(stream);
    stream_release(stream);
}

void stream_leave(struct stream *stream)
{
    if (stream->fd < 0)
        return;
    stream_say_bye(stream);
    stream_release(stream);
}

void stream_abort(struct stream *stream)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    if (stream->fd < 0)
        return;
    setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    stream_release(stream);
}
