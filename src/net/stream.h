/* net/stream.h - a connection: socket, TLS, buffering and deadlines; the one place of IO
 *
 * Here, and only here, bytes become lines and waits get deadlines. Every call that may wait takes
 * the deadline by which it must be done and tries the system call first, so a ready socket costs no
 * poll(2), and one that is ready in a moment neither. Reads and writes are restarted after EINTR.
 *
 * The buffers are not the stream's: a worker lends it a pair while it works on the session
 * (stream_lend) and takes them back when the session is parked (stream_park), so an idle
 * connection costs no buffer. What a slow reader does not take in time a stream may keep by itself
 * (`keeps_output`), so that nobody has to wait for him. Owns: the file descriptor (unless it was only borrowed) and the TLS
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
    IO_EOF,      /* orderly end: FIN, under TLS a close_notify */
    IO_TIMEOUT,  /* the deadline passed */
    IO_FAILED,   /* reset, TLS failure, or (under TLS) a FIN without close_notify */
    IO_TOO_LONG, /* stream_read_line: longer than allowed; it was skipped up to its LF */
};

/* "end of file", "timed out", ... for logs; static text. */
const char *io_result_name(enum io_result result);

/* A pair of buffers that a worker owns and lends. */
struct stream_buffers {
    char *in;
    size_t in_size;
    char *out;
    size_t out_size;
};

/* 0, or -1 when out of memory. in_size at least 1024 octets more than the longest line to be
 * read. */
int stream_buffers_init(struct stream_buffers *buffers, size_t in_size, size_t out_size);
void stream_buffers_free(struct stream_buffers *buffers);

struct stream {
    int fd;                         /* -1 when closed */
    bool borrowed;                  /* the descriptor's owner closes it */
    struct tls_session *tls;        /* NULL in plain text */
    struct stream_buffers *buffers; /* lent; NULL while parked */
    size_t in_start, in_end;        /* bytes read and not consumed: buffers->in[start..end) */
    size_t line_start;              /* of the line read last */
    size_t out_len;                 /* bytes put and not yet flushed */
    char *unsent;                   /* flushed, and not taken by the other side in time; or NULL */
    size_t unsent_len;
    bool keeps_output; /* that is kept, up to STREAM_UNSENT_MAX; otherwise it breaks the stream */
    bool uncorking;    /* some more of it is held within TLS */
    bool wants_output; /* the handshake waits for room to write */
    char *kept;        /* unread input while parked, or NULL */
    size_t kept_len;
    bool skipping;                  /* within a line that was too long */
    bool handshaking;               /* a TLS handshake is not yet through */
    bool broken;                    /* a read or write failed: nothing more is tried */
    bool mute;                      /* stream_hear_out(): nothing more is written */
    bool heeds_input;               /* a write that has to wait is given up when input comes */
    bool kept_alive;                /* stream_keep_alive() */
    bool momentary;                 /* a recv(2) that waits ends after STREAM_MOMENT_MS */
    uint64_t octets_in, octets_out; /* of the application, for logs */
};

#define STREAM_MOMENT_MS 200
#define STREAM_UNSENT_MAX (256 * 1024)

/* Takes over `fd`, which should block and be TCP_NODELAY, as listeners and dial_connect() make
 * it. */
void stream_init(struct stream *stream, int fd);

/* The same, but whoever lent the descriptor closes it, right after stream_close(). */
void stream_init_borrowed(struct stream *stream, int fd);

/* Lends buffers to a stream that has none; what it has kept is in them again. */
void stream_lend(struct stream *stream, struct stream_buffers *buffers);
/* Takes them back, bytes in them are lost. */
void stream_reclaim(struct stream *stream);
/* Takes them back and keeps unread input, and output not yet flushed, in memory of the stream's own.
 * -1 when out of memory: then the stream still has the buffers. */
int stream_park(struct stream *stream);
/* What was put goes to what is unsent: it is not to leave yet. False when out of memory. */
bool stream_hold_output(struct stream *stream);
/* Unread input is of no use any more. */
void stream_forget_input(struct stream *stream);

/* Bytes that can be read without the socket: in the buffer, or in TLS, read ahead or decrypted. */
bool stream_has_input(const struct stream *stream);

/* Input, or its end, is there: in the buffer or, when one looks, in the socket. Does not wait. */
bool stream_hears(struct stream *stream);

/* After a failed write: what the peer said before can still be read, and nothing more is written. */
void stream_hear_out(struct stream *stream);

/* A whole line (up to an LF) stands in the buffer. */
bool stream_line_waiting(const struct stream *stream);

/* One line, without its end. `line->text` points into the buffer and holds until the next read.
 * `max` is the longest line allowed, in octets, its end included. NUL octets are passed on.
 * A deadline that has passed still lets it read what is there. After IO_TIMEOUT the part that has
 * come stays buffered; call again to go on. An EOF within a line
 * is IO_EOF and the part is lost. */
struct line {
    const char *text;
    size_t len;
    bool bare_lf; /* ended by LF alone */
};
enum io_result stream_read_line(struct stream *stream, struct line *line, size_t max,
                                struct deadline deadline);
/* The same, but a line that is too long is cut: its first `max` octets are given with IO_OK, and the
 * rest of it is thrown away. */
enum io_result stream_read_cut_line(struct stream *stream, struct line *line, size_t max,
                                    struct deadline deadline);

/* The line just read by stream_read_line() (IO_OK) is the next to be read again. Not after any other
 * read. */
void stream_unread_line(struct stream *stream);

/* Raw access for mail data: bytes in the buffer (reads more, once, when there are none), then
 * stream_consume() what was used. IO_OK means *len > 0. */
enum io_result stream_read(struct stream *stream, const char **bytes, size_t *len,
                           struct deadline deadline);
void stream_consume(struct stream *stream, size_t len);

/* Collects in the output buffer; flushes by itself when that is full. */
enum io_result stream_put(struct stream *stream, const char *bytes, size_t len,
                          struct deadline deadline);
/* Sends what was put. These three, on a stream that keeps its output: IO_TIMEOUT when some of it was
 * not taken by the deadline. It goes out before anything else as soon as one of them is called
 * again. */
enum io_result stream_flush(struct stream *stream, struct deadline deadline);
/* Sends what was put and then these bytes, uncopied (mail data; one writev(2) in plain text). */
enum io_result stream_writev(struct stream *stream, const struct iovec *iov, int count,
                             struct deadline deadline);

/* Is any such output left? */
bool stream_owes_output(const struct stream *stream);

/* TCP asks a silent other side whether it is still there: one that has vanished without a word is
 * noticed within a minute, or within TCP_USER_TIMEOUT if that is shorter or longer. Any wait does so by
 * itself when it lasts. */
void stream_keep_alive(struct stream *stream);

/* Overwrites what the buffers still hold of the past: after a log-in. Input not yet read and output
 * not yet sent stay. */
void stream_wipe(struct stream *stream);

/* Plain-text bytes that came behind a STARTTLS line: in the buffer or in the socket (FIONREAD).
 * True means command injection (CVE-2011-0411). */
bool stream_has_injected_input(const struct stream *stream);

/* TLS handshakes. Output must have been flushed; whatever plain text is buffered is thrown away.
 * On failure `err` says why and the stream is broken. The server/client is only borrowed for the
 * call (credentials are kept alive by a reference of the TLS session). */
enum io_result stream_start_tls_server(struct stream *stream, struct tls_server *server,
                                       struct deadline deadline, struct error *err);
/* The same in steps: begin once, then go on until it is not IO_TIMEOUT. Each step waits for the
 * client until `linger` at most, and to write until `deadline`; on a stream that keeps its output
 * for both until `linger`, and `wants_output` says for which. IO_TIMEOUT breaks nothing. */
enum io_result stream_begin_tls_server(struct stream *stream, struct tls_server *server,
                                       struct error *err);
enum io_result stream_continue_tls(struct stream *stream, struct deadline linger,
                                   struct deadline deadline, struct error *err);
/* `server_name` goes out as SNI and is what a certificate is checked against; NULL: none. `judge`
 * checks instead of that, where it is not NULL. */
enum io_result stream_start_tls_client(struct stream *stream, struct tls_client *client,
                                       const char *server_name, const struct tls_judge *judge,
                                       struct deadline deadline, struct error *err);

/* The facts of the TLS session for logs and Received; false in plain text. */
struct tls_info {
    char version[16];       /* "TLSv1.3" */
    char cipher[64];        /* "TLS_AES_256_GCM_SHA384", IANA name */
    char peer_subject[256]; /* of a client certificate, "" when none was given */
    bool peer_verified;     /* its chain ends at a configured CA */
    bool resumed;
};
bool stream_tls_info(const struct stream *stream, struct tls_info *info);

/* The reason that the peer gave by an alert for ending TLS; NULL when it gave none. Static text. */
const char *stream_tls_refusal(const struct stream *stream);

/* Ends the connection. stream_close() sends close_notify (without waiting) and closes;
 * stream_abort() closes at once by RST, so that nothing in flight can look like an orderly end. */
void stream_close(struct stream *stream);
void stream_abort(struct stream *stream);

#endif
