/* server/control-client.h - asks a daemon through its control socket
 *
 * The other side of server/control.h: one request, one answer, which is received completely before any of
 * it is used, so that a slow reader does not hold up the daemon. Blocks no longer than the caller allows for
 * each piece of the answer. Thread-safe; keeps no state. Used by relayctl and the exporter.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_CONTROL_CLIENT_H
#define POSTERN_SERVER_CONTROL_CLIENT_H

#include <stdio.h>

#include "base/error.h"

enum control_result {
    CONTROL_ANSWERED,
    CONTROL_DOWN,    /* the daemon is not running */
    CONTROL_REFUSED, /* it refused, or communication failed; `err` says why */
};

#define CONTROL_PATIENCE_S 60 /* usual */
#define CONTROL_AT_HAND_S 5 /* for what a daemon has at hand; there may be another daemon to ask */

/* Asks `program`, whose socket is in `folder` (the control option). On CONTROL_ANSWERED, *answer is positioned
 * after the word "ok", before the rest of that line; the caller closes it. */
enum control_result control_ask(const char *folder, const char *program, const char *request,
                                int patience_s, FILE **answer, struct error *err);

#endif
