/* net/stream-buffers.c - initializes streams, and lends and reclaims their buffers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/assert.h"

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
