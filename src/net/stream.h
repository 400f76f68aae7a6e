/* net/stream.h - a connection: socket, TLS, buffering and deadlines; the one place of IO
 *
 * Here, and only here, bytes become lines and waits get deadlines. Every call that may wait takes
 * the deadline by which it must be done. It tries the system call first, so a socket that is ready,
 * or soon will be, costs no poll(2). Reads and writes restart after EINTR.
 *
 * A stream has no buffers of its own. A worker lends it a pair while it works on the session
 * (stream_lend) and takes them back when the session is parked (stream_park), so an idle connection
 * costs no buffer. A stream can keep output that a slow peer does not read in time (`keeps_output`),
 * so that no worker waits for it. Owns the file descriptor, unless it was borrowed, and the TLS
 * session. Used by one thread at a time. Knows nothing of SMTP.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_STREAM_H
#define POSTERN_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/deadline.h"
#include "base/error.h"

struct tls_server;
struct tls_client;
struct tls_session;
struct tls_judge;

enum io_result {
    IO_OK,
    IO_EOF,      /* orderly end: FIN, or close_notify under TLS */
    IO_TIMEOUT,  /* the deadline passed */
    IO_FAILED,   /* reset, TLS failure, or (under TLS) a FIN without close_notify */
    IO_TOO_LONG, /* stream_read_line(): a line over the limit; skipped up to its LF */
};

/* "end of file", "timed out", ... for logs; static text. */
const char *io_result_name(enum io_result result);

/* A pair of buffers that a worker owns and lends. Sizes in octets. */
struct stream_buffers {
    char *in;
    size_t in_size;
    char *out;
    size_t out_size;
};

/* Allocates the buffers. `in_size` must exceed the longest line to be read by at least 1024 octets.
 * Returns 0, or -1 if out of memory. */
int stream_buffers_init(struct stream_buffers *buffers, size_t in_size, size_t out_size);
void stream_buffers_free(struct stream_buffers *buffers);

struct stream {
    int fd;                         /* -1 when closed */
    bool borrowed;                  /* the descriptor's owner closes it, not the stream */
    struct tls_session *tls;        /* NULL in plain text */
    struct stream_buffers *buffers; /* lent; NULL while parked */
    size_t in_start, in_end;        /* bytes read and not consumed: buffers->in[start..end) */
    size_t line_start;              /* start of the line read last */
    size_t out_len;                 /* bytes put and not yet flushed */
    char *unsent;                   /* output that the peer did not take in time, or NULL */
    size_t unsent_len;
    bool keeps_output; /* keep such output, up to STREAM_UNSENT_MAX; otherwise the stream breaks */
    bool uncorking;    /* more of it is still inside TLS */
    bool wants_output; /* the handshake waits for room to write */
    char *kept;        /* unread input while parked, or NULL */
    size_t kept_len;
    bool skipping;                  /* inside a line that is too long */
    bool handshaking;               /* a TLS handshake is not finished */
    bool broken;                    /* a read or write failed: nothing more is tried */
    bool mute;                      /* stream_hear_out(): nothing more is written */
    bool heeds_input;               /* a write that waits gives up when input arrives */
    bool kept_alive;                /* stream_keep_alive() was called */
    bool momentary;                 /* a blocking recv(2) ends after STREAM_MOMENT_MS */
    uint64_t octets_in, octets_out; /* application data, for logs */
};

#define STREAM_MOMENT_MS 200
#define STREAM_UNSENT_MAX (256 * 1024) /* octets */

/* Takes ownership of `fd`, which should be blocking and TCP_NODELAY, as listeners and dial_connect()
 * make it. */
void stream_init(struct stream *stream, int fd);

/* The same, but the descriptor's owner closes it, right after stream_close(). */
void stream_init_borrowed(struct stream *stream, int fd);

/* Lends buffers to a stream that has none, and copies the input that it kept into them. */
void stream_lend(struct stream *stream, struct stream_buffers *buffers);
/* Takes the buffers back. Bytes in them are lost. */
void stream_reclaim(struct stream *stream);
/* Takes the buffers back after copying unread input and unflushed output into the stream's own memory.
 * Returns 0, or -1 if out of memory; then the stream still has the buffers. */
int stream_park(struct stream *stream);
/* Moves output that was put to the unsent output, so that it is not sent yet. False if out of memory. */
bool stream_hold_output(struct stream *stream);
/* Discards unread input. */
void stream_forget_input(struct stream *stream);

/* Are there bytes to read without the socket: in the buffer, or in TLS, read ahead or decrypted? */
bool stream_has_input(const struct stream *stream);

/* Is there input, or its end, in the buffer or in the socket? Reads the socket, but does not wait. */
bool stream_hears(struct stream *stream);

/* For use after a failed write: what the peer sent before can still be read; nothing more is
 * written. */
void stream_hear_out(struct stream *stream);

/* Is there a whole line, up to an LF, in the buffer? */
bool stream_line_waiting(const struct stream *stream);

/* Reads one line, without its end. `line->text` points into the buffer and is valid until the next
 * read. `max` is the longest line allowed, in octets, including its end. NUL octets are passed on.
 * Input that is already there is read even if the deadline has passed. After IO_TIMEOUT the part
 * that has arrived stays buffered; call again to continue. An EOF within a line is IO_EOF, and the
 * part is lost. */
struct line {
    const char *text;
    size_t len;
    bool bare_lf; /* ended by LF alone */
};
enum io_result stream_read_line(struct stream *stream, struct line *line, size_t max,
                                struct deadline deadline);
/* The same, but a line that is too long is cut: returns IO_OK with its first `max` octets and discards
 * the rest. */
enum io_result stream_read_cut_line(struct stream *stream, struct line *line, size_t max,
                                    struct deadline deadline);

/* Puts back the line that stream_read_line() just returned (IO_OK), so that it is read again. Don't
 * call it after any other read. */
void stream_unread_line(struct stream *stream);

/* Raw access for mail data. Points at the bytes in the buffer, after one read if there are none; call
 * stream_consume() for those used. IO_OK means *len > 0. */
enum io_result stream_read(struct stream *stream, const char **bytes, size_t *len,
                           struct deadline deadline);
void stream_consume(struct stream *stream, size_t len);

/* Can so much be put without a flush? */
bool stream_has_room(const struct stream *stream, size_t len);

/* Collects output in the buffer. Flushes if the buffer is full. */
enum io_result stream_put(struct stream *stream, const char *bytes, size_t len,
                          struct deadline deadline);
/* Sends what was put. On a stream that keeps its output, stream_put(), stream_flush() and
 * stream_writev() return IO_TIMEOUT if the peer did not take all of it by the deadline. The rest goes
 * out first at the next call of any of them. */
enum io_result stream_flush(struct stream *stream, struct deadline deadline);
/* Sends what was put and then these bytes without copying them (mail data; one system call in plain
 * text). */
enum io_result stream_writev(struct stream *stream, const struct iovec *iov, int count,
                             struct deadline deadline);

/* Is any output left that the peer did not take in time? */
bool stream_owes_output(const struct stream *stream);

/* Turns on TCP keepalive: a peer that vanishes silently is noticed within a minute, or within
 * TCP_USER_TIMEOUT if that is set. Every long wait turns it on by itself. */
void stream_keep_alive(struct stream *stream);

/* Overwrites used parts of the buffers, which may hold a password after a login. Unread input and
 * unsent output stay. */
void stream_wipe(struct stream *stream);

/* Have plain-text bytes arrived after the STARTTLS line, in the buffer or in the socket (FIONREAD)?
 * True means command injection (CVE-2011-0411). */
bool stream_has_injected_input(const struct stream *stream);

/* Do a TLS handshake. Flush output first; buffered plain-text input is discarded. On failure `err` says
 * why and the stream is broken. `server` is borrowed for the call, as the TLS session takes its own
 * reference; a client must outlive the session. */
enum io_result stream_start_tls_server(struct stream *stream, struct tls_server *server,
                                       struct deadline deadline, struct error *err);
/* The same in steps: begin once, then continue until the result is not IO_TIMEOUT. Each step waits for
 * input until `linger` at most, and for room to write until `deadline`. A stream that keeps its
 * output waits for either until `linger`, and `wants_output` says for which. IO_TIMEOUT does not
 * break the stream. */
enum io_result stream_begin_tls_server(struct stream *stream, struct tls_server *server,
                                       struct error *err);
enum io_result stream_continue_tls(struct stream *stream, struct deadline linger,
                                   struct deadline deadline, struct error *err);
/* `server_name` is sent as SNI, and the certificate is checked against it; NULL means neither. If
 * `judge` is not NULL, it does the checking instead. */
enum io_result stream_start_tls_client(struct stream *stream, struct tls_client *client,
                                       const char *server_name, const struct tls_judge *judge,
                                       struct deadline deadline, struct error *err);

/* Facts of the TLS session, for logs and Received. stream_tls_info() is false in plain text. */
struct tls_info {
    char version[16];       /* "TLSv1.3" */
    char cipher[64];        /* "TLS_AES_256_GCM_SHA384", IANA name */
    char peer_subject[256]; /* of the client certificate; "" if there is none */
    bool peer_verified;     /* its chain ends at a configured CA */
    bool resumed;
};
bool stream_tls_info(const struct stream *stream, struct tls_info *info);

/* The reason in the alert with which the peer ended TLS; NULL if there was none. Static text. */
const char *stream_tls_refusal(const struct stream *stream);

/* End the connection. stream_close() sends close_notify without waiting, and closes. stream_leave() does
 * the same without reading away unread input: if there is any, the kernel sends RST, and our last words
 * may be lost, so only use it where they do not matter. stream_abort() closes at once with RST, so that
 * nothing in flight can look like an orderly end. */
void stream_close(struct stream *stream);
void stream_leave(struct stream *stream);
void stream_abort(struct stream *stream);

#endif
