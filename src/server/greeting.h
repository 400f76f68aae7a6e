/* server/greeting.h - a connection before its banner
 *
 * A load balancer's PROXY header is peeked at until it says who the client is, and then taken off
 * exactly, so that the octets behind it are still there for greet delay, TLS and session; from then on the connection
 * is the client's that the header names. Then blocklists are asked, and a client that speaks before
 * the greet delay is over is sent away. Nothing of that costs a worker. On the gate's thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_GREETING_H
#define POSTERN_SERVER_GREETING_H

#include "server/admission.h"
#include "server/connection.h"

/* The header of a load balancer comes first. */
void greeting_await_header(struct connection *connection);

/* The client is identified and admitted: greet delay or banner. */
void greeting_begin(struct connection *connection, const struct admission *admission);

#endif
