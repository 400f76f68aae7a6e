/* net/stream-internal.h - what net/stream's files share
 *
 * Internal to net/stream. stream.c has the stream's life, its waits, reading and TLS; stream-output.c what
 * is to be written.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_STREAM_INTERNAL_H
#define POSTERN_NET_STREAM_INTERNAL_H

#include "net/stream.h"

/* Marks the stream as of no further use. Returns IO_FAILED. */
enum io_result stream_fail(struct stream *stream);

/* Waits for these events, or the deadline. */
enum io_result stream_wait_for(struct stream *stream, short events, struct deadline deadline);

/* Waits until something can be written or, if `heeds_input`, until the peer has sent something. */
enum io_result stream_wait_to_write(struct stream *stream, struct deadline deadline);

/* Forgets output that the peer has not taken. */
void stream_forget_unsent(struct stream *stream);

#endif
