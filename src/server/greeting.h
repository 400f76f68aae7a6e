/* server/greeting.h - a connection before its banner
 *
 * Peeks at a load balancer's PROXY header until it names the client, and then removes exactly the header, so
 * that the octets after it remain for greet delay, TLS and session. From then on the connection belongs to
 * the client that the header names. Then it asks the blocklists, and refuses a client that talks before the
 * greet delay is over. None of this costs a worker. Runs on the gate's thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_GREETING_H
#define POSTERN_SERVER_GREETING_H

#include "server/admission.h"
#include "server/connection.h"

/* Waits for the header of a load balancer. */
void greeting_await_header(struct connection *connection);

/* Begins the greeting of a client that is identified and admitted: greet delay or banner. */
void greeting_begin(struct connection *connection, const struct admission *admission);

#endif
