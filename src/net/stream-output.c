/* net/stream-output.c - a connection's output: gathered, sent, kept while the peer does not read
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/stream-internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/tls-internal.h"

#define IOV_MAX_HERE 80  /* more than any caller passes, plus the output buffer in front */
#define TLS_RECORD 16384 /* output that fits one record is coalesced into one */

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

void stream_forget_unsent(struct stream *stream)
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
