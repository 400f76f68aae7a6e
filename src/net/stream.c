/* net/stream.c - a connection: socket, TLS, buffering and deadlines; the one place of IO
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "net/tls-internal.h"

#define IOV_MAX_HERE 80    /* more than any caller passes, plus the output buffer in front */
#define TLS_RECORD 16384   /* output that fits one record is coalesced into one */
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

static const char *stream_input(const struct stream *stream)
{
    return stream->buffers->in + stream->in_start;
}

bool stream_has_input(const struct stream *stream)
{
    return stream->in_end > stream->in_start ||
           (stream->tls != NULL && tls_session_has_pending(stream->tls));
}

bool stream_line_waiting(const struct stream *stream)
{
    return memchr(stream_input(stream), '\n', stream->in_end - stream->in_start) != NULL;
}

static enum io_result stream_fail(struct stream *stream)
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

static enum io_result stream_wait_for(struct stream *stream, short events, struct deadline deadline)
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

/* Takes a whole line from the buffer: IO_OK, IO_TOO_LONG, or IO_TIMEOUT if there is none yet. */
static enum io_result stream_take_line(struct stream *stream, struct line *line, size_t max)
{
    const char *start = stream_input(stream);
    size_t len = stream->in_end - stream->in_start;
    const char *lf = memchr(start, '\n', len);
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

/* The same, but keeps the first `max` octets of a line that is too long; later input overwrites the
 * rest. */
static enum io_result stream_take_cut_line(struct stream *stream, struct line *line, size_t max)
{
    const char *start = stream_input(stream);
    size_t len = stream->in_end - stream->in_start;
    const char *lf = memchr(start, '\n', len);

    if (lf == NULL && len > max)
        stream->in_end = stream->in_start + max;
    if (lf == NULL)
        return IO_TIMEOUT;
    if ((size_t)(lf - start) < max)
        return stream_take_line(stream, line, max);
    stream_consume(stream, (size_t)(lf - start) + 1);
    *line = (struct line){.text = start, .len = max};
    return IO_OK;
}

typedef enum io_result take_function(struct stream *stream, struct line *line, size_t max);

static enum io_result stream_take_line_by(struct stream *stream, struct line *line, size_t max,
                                          struct deadline deadline, take_function *take)
{
    for (;;) {
        enum io_result result = take(stream, line, max);
        if (result != IO_TIMEOUT)
            return result;
        result = stream_fill(stream, deadline);
        if (result != IO_OK)
            return result;
        /* With a trickle of octets stream_fill() never waits long, so check the clock here too. But
         * don't stop while TLS has input inside: poll(2) would not report it. */
        if (!stream_line_waiting(stream) && deadline_passed(deadline) &&
            !(stream->tls != NULL && tls_session_has_pending(stream->tls)))
            return IO_TIMEOUT;
    }
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

/* Waits until something can be written or, if `heeds_input`, until the peer has sent something. */
static enum io_result stream_wait_to_write(struct stream *stream, struct deadline deadline)
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

/* Advances the vector past what was sent. */
static void stream_advance(struct iovec **iov, int *count, size_t sent)
{
    while (*count > 0 && sent >= (*iov)->iov_len) {
        sent -= (*iov)->iov_len;
        ++*iov;
        --*count;
    }
    if (*count > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + sent;
        (*iov)->iov_len -= sent;
    }
}

bool stream_owes_output(const struct stream *stream)
{
    return stream->unsent_len > 0 || stream->uncorking;
}

static void stream_forget_unsent(struct stream *stream)
{
    free(stream->unsent);
    stream->unsent = NULL;
    stream->unsent_len = 0;
}

/* Makes these octets the unsent output; parts of the previous unsent output may be among them. False if
 * there are too many or if out of memory. */
static bool stream_keep_unsent(struct stream *stream, const struct iovec *iov, int count)
{
    size_t len = 0;

    for (int i = 0; i < count; i++)
        len += iov[i].iov_len;
    char *unsent = len > 0 && len <= STREAM_UNSENT_MAX ? malloc(len) : NULL;
    if (unsent == NULL)
        return len == 0;
    char *end = unsent;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len == 0)
            continue;
        memcpy(end, iov[i].iov_base, iov[i].iov_len);
        end += iov[i].iov_len;
    }
    stream_forget_unsent(stream);
    stream->unsent = unsent;
    stream->unsent_len = len;
    return true;
}

bool stream_hold_output(struct stream *stream)
{
    const struct iovec all[] = {{stream->unsent, stream->unsent_len},
                                {stream->buffers->out, stream->out_len}};
    if (!stream_keep_unsent(stream, all, 2))
        return false;
    stream->octets_out += stream->out_len;
    stream->out_len = 0;
    return true;
}

/* Waits for room. On IO_TIMEOUT these octets remain unsent. Part of a record may already be out, so if
 * they cannot be kept the stream is broken. */
static enum io_result stream_wait_to_send(struct stream *stream, short events,
                                          const struct iovec *iov, int count,
                                          struct deadline deadline)
{
    enum io_result result = events == POLLIN ? stream_wait_for(stream, POLLIN, deadline)
                                             : stream_wait_to_write(stream, deadline);
    if (result == IO_TIMEOUT && (!stream->keeps_output || !stream_keep_unsent(stream, iov, count)))
        stream->broken = true;
    return result;
}

static enum io_result stream_wait_for_tls(struct stream *stream, ssize_t step,
                                          const struct iovec *iov, int count,
                                          struct deadline deadline)
{
    if (step == TLS_BROKEN)
        return stream_fail(stream);
    return stream_wait_to_send(stream, step == TLS_WANT_READ ? POLLIN : POLLOUT, iov, count,
                               deadline);
}

/* Sends what TLS has collected. `iov` is the output that follows it. */
static enum io_result stream_uncork(struct stream *stream, const struct iovec *iov, int count,
                                    struct deadline deadline)
{
    int step;

    stream->uncorking = true;
    while ((step = tls_session_uncork(stream->tls)) != 0) {
        enum io_result result = stream_wait_for_tls(stream, step, iov, count, deadline);
        if (result != IO_OK)
            return result;
    }
    stream->uncorking = false;
    return IO_OK;
}

/* After a wait that timed out, GnuTLS requires the same octets again. They come from the unsent
 * output. */
static enum io_result stream_writev_tls(struct stream *stream, struct iovec *iov, int count,
                                        size_t total, struct deadline deadline)
{
    bool cork = count > 1 && total <= TLS_RECORD && !stream_owes_output(stream);
    enum io_result result = stream->uncorking ? stream_uncork(stream, iov, count, deadline) : IO_OK;

    if (cork)
        tls_session_cork(stream->tls);
    while (count > 0 && result == IO_OK) {
        ssize_t sent = tls_session_send(stream->tls, iov->iov_base, iov->iov_len);
        if (sent >= 0)
            stream_advance(&iov, &count, (size_t)sent);
        else
            result = stream_wait_for_tls(stream, sent, iov, count, deadline);
    }
    return result == IO_OK && cork ? stream_uncork(stream, NULL, 0, deadline) : result;
}

static enum io_result stream_writev_plain(struct stream *stream, struct iovec *iov, int count,
                                          struct deadline deadline)
{
    while (count > 0) {
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)count};
        ssize_t sent = sendmsg(stream->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            stream_advance(&iov, &count, (size_t)sent);
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return stream_fail(stream);
        enum io_result result = stream_wait_to_send(stream, POLLOUT, iov, count, deadline);
        if (result != IO_OK)
            return result;
    }
    return IO_OK;
}

enum io_result stream_writev(struct stream *stream, const struct iovec *iov, int count,
                             struct deadline deadline)
{
    struct iovec all[IOV_MAX_HERE + 1];
    size_t total = 0, before = stream->unsent_len;
    int used = 0;

    if (stream->broken || stream->mute || count >= IOV_MAX_HERE)
        return stream_fail(stream);
    all[0] = (struct iovec){NULL, 0};
    if (before > 0)
        all[used++] = (struct iovec){stream->unsent, before};
    if (stream->out_len > 0)
        all[used++] = (struct iovec){stream->buffers->out, stream->out_len};
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > 0)
            all[used++] = iov[i];
    }
    for (int i = 0; i < used; i++)
        total += all[i].iov_len;
    stream->out_len = 0;
    stream->octets_out += total - before;
    enum io_result result = stream->tls != NULL
                                ? stream_writev_tls(stream, all, used, total, deadline)
                                : stream_writev_plain(stream, all, used, deadline);
    if (result == IO_OK && before > 0)
        stream_forget_unsent(stream);
    return result;
}

enum io_result stream_flush(struct stream *stream, struct deadline deadline)
{
    if (stream->broken || stream->mute)
        return IO_FAILED;
    return stream->out_len > 0 || stream_owes_output(stream)
               ? stream_writev(stream, NULL, 0, deadline)
               : IO_OK;
}

bool stream_has_room(const struct stream *stream, size_t len)
{
    return len <= stream->buffers->out_size - stream->out_len;
}

enum io_result stream_put(struct stream *stream, const char *bytes, size_t len,
                          struct deadline deadline)
{
    struct stream_buffers *buffers = stream->buffers;

    if (stream->broken || stream->mute)
        return IO_FAILED;
    if (!stream_has_room(stream, len)) {
        struct iovec iov = {(void *)bytes, len};
        return stream_writev(stream, &iov, 1, deadline);
    }
    memcpy(buffers->out + stream->out_len, bytes, len);
    stream->out_len += len;
    return IO_OK;
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

void stream_close(struct stream *stream)
{
    if (stream->fd < 0)
        return;
    if (stream->tls != NULL && !stream->broken && !stream->handshaking)
        tls_session_bye(stream->tls);
    stream_discard_input(stream);
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
