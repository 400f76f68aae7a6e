/* relayctl/run.h - runs another program and takes what it prints
 *
 * For what only other programs know: ip(8), systemctl(1), wg(8). Uses no shell. Owns nothing. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_RUN_H
#define POSTERN_RELAYCTL_RUN_H

#include <stdbool.h>
#include <stddef.h>

/* Runs a command for at most `seconds` and stores its output in `out`, cut at `size` octets. `arguments` ends
 * with NULL. False if it cannot be run, fails, or takes too long. */
bool run_command(const char *const *arguments, int seconds, char *out, size_t size);

#endif
