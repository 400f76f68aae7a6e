/* server/sdnotify.h - reports our state to systemd (sd_notify(3) protocol)
 *
 * Sends a datagram to NOTIFY_SOCKET; does nothing if that is not set. No state except the environment.
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

/* How often WATCHDOG=1 is due, in ms (half of WATCHDOG_USEC); 0 if the watchdog is off. */
int64_t sdnotify_watchdog_ms(void);

#endif
