/* server/control.h - a daemon's control socket: relayctl asks, the daemon answers
 *
 * One UNIX socket for each daemon, FOLDER/PROGRAM.socket, mode 0660: root, the daemon's user and
 * the members of its group may use it; the peer's credentials are checked as well. There are two
 * rights: the group may look at numbers and lists (the exporter does); only root and the user may
 * give orders and read mail. A handler asks control_permit_order() before it does the latter. A
 * connection carries one request:
 *
 *   request   WORD WORD ... LF                  at most CONTROL_REQUEST_MAX octets
 *   answer    "ok" [ WORD ... ] LF, what the request calls for, "end" LF
 *         or  "error" TEXT LF
 *
 * Octets of any kind stand behind a line that names them and tells their number ("message 512"). An
 * answer without its last line was cut off.
 *
 * It can stall nothing: a thread of its own accepts, each connection is served on one more (of at
 * most CONTROL_CLIENTS_MAX), a client that does not send its request or take its answer is dropped,
 * and the daemon's own threads never wait for any of these. Used by the daemons' main.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_CONTROL_H
#define POSTERN_SERVER_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define CONTROL_REQUEST_MAX 2048
#define CONTROL_CLIENTS_MAX 8
#define CONTROL_WORDS_MAX 8

struct control;
struct control_client;

/* Answers a request of `count` words (the array ends in a NULL) but for the last line. The first
 * thing said must be control_ok() or control_error(). On a thread of the control socket's. */
typedef void control_handler(void *context, struct control_client *client, const char *const *words,
                             size_t count);

/* Where the socket of a daemon is; also for its clients. -1 when the name is too long. */
#define CONTROL_PATH_MAX 108
int control_path(const char *folder, const char *program, char out[CONTROL_PATH_MAX]);

/* NULL with a reason: the folder is not there, another process listens. */
struct control *control_start(const char *folder, const char *program, control_handler *handler,
                              void *context, struct error *err);
/* Cuts off whoever is still there, removes the socket. NULL is fine. */
void control_stop(struct control *control);

/* May this client give orders? If not it has been told so, and that was the answer. */
bool control_permit_order(struct control_client *client);

/* For the handler. -1: the client is gone, or has not taken anything for too long; the rest is then
 * in vain. */
int control_ok(struct control_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int control_error(struct control_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int control_printf(struct control_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int control_write(struct control_client *client, const char *octets, size_t len);
/* Sends what was said so far: between two steps of long work, so that the client waits on. */
int control_flush(struct control_client *client);

#endif
