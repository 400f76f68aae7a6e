/* server/sdnotify.h - telling systemd how we are (sd_notify(3) protocol)
 *
 * A datagram to NOTIFY_SOCKET; nothing happens where that is not set. No state but the environment.
 *
 * Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_SDNOTIFY_H
#define POSTERN_SERVER_SDNOTIFY_H

#include <stdint.h>

/* Sends "READY=1", "RELOADING=1\nMONOTONIC_USEC=...", "STOPPING=1", "STATUS=...", "WATCHDOG=1".
 * Several may be joined by '\n'. Never waits. */
void sdnotify_send(const char *state);

/* How often WATCHDOG=1 is due, in ms (half of WATCHDOG_USEC); 0 when it is not asked for. */
int64_t sdnotify_watchdog_ms(void);

#endif
