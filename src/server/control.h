/* server/control.h - a daemon's control socket: relayctl asks, the daemon answers
 *
 * Each daemon has one UNIX socket, FOLDER/PROGRAM.socket, mode 0660: root, the daemon's user and the
 * members of its group may use it; the peer's credentials are checked too. There are two levels of
 * rights. The group may read numbers and lists, as the exporter does. Only root and the user may give
 * orders and read mail; a handler calls control_permit_order() before either. A connection carries one
 * request:
 *
 *   request   WORD WORD ... LF                  at most CONTROL_REQUEST_MAX octets
 *   answer    "ok" [ WORD ... ] LF, what the request calls for, "end" LF
 *         or  "error" TEXT LF
 *
 * Arbitrary octets follow a line that names them and gives their number ("message 512"). An answer without
 * its last line is incomplete.
 *
 * It cannot stall the daemon: its own thread accepts, and each connection is served on another (at most
 * CONTROL_CLIENTS_MAX). A client that does not send its request or read its answer is dropped, and the
 * daemon's threads never wait for any of these. Owns its socket and threads. Used by the daemons' main.
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

/* Answers a request of `count` words (the array ends in NULL), except for the last line. The first call must be
 * control_ok() or control_error(). Runs on a thread of the control socket. */
typedef void control_handler(void *context, struct control_client *client, const char *const *words,
                             size_t count);

/* Writes the path of a daemon's socket, for the daemon and its clients. Returns 0, or -1 if it is too long. */
#define CONTROL_PATH_MAX 108
int control_path(const char *folder, const char *program, char out[CONTROL_PATH_MAX]);

/* Starts listening. NULL with a reason in `err`: the folder does not exist, or another process listens. */
struct control *control_start(const char *folder, const char *program, control_handler *handler,
                              void *context, struct error *err);
/* Cuts off the remaining clients, joins the threads, removes the socket and frees. NULL is fine. */
void control_stop(struct control *control);

/* May this client give orders? If not, this has sent the refusal, which is the whole answer. */
bool control_permit_order(struct control_client *client);

/* For the handler. They return 0, or -1 if the client is gone or has not read for too long; anything more is then
 * useless. */
int control_ok(struct control_client *client);
int control_error(struct control_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int control_printf(struct control_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int control_write(struct control_client *client, const char *octets, size_t len);
/* Sends the answer so far. Call it between steps of long work, so that the client keeps waiting. */
int control_flush(struct control_client *client);

#endif
