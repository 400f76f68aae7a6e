/* server/control-client.h - asking a daemon by its control socket
 *
 * The other side of server/control.h: one request, one answer, taken whole before anything of it is
 * used, so that a reader who stops in between holds up nobody. Blocks, a minute at most for each piece of
 * the answer. Thread-safe; keeps no state. Used by relayctl and the exporter.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_CONTROL_CLIENT_H
#define POSTERN_SERVER_CONTROL_CLIENT_H

#include <stdio.h>

#include "base/error.h"

enum control_result {
    CONTROL_ANSWERED,
    CONTROL_DOWN,    /* no daemon is there */
    CONTROL_REFUSED, /* it said no, or could not be spoken with; a reason in `err` */
};

/* Asks `program`, whose socket is in `folder` (the control option). When it was answered, *answer stands
 * behind the word "ok", the rest of that line first; the caller closes it. */
enum control_result control_ask(const char *folder, const char *program, const char *request,
                                FILE **answer, struct error *err);

#endif
