/* smtp/replies.h - all our own replies, in one table
 *
 * A row is a reply: its name, its code, its enhanced status code ("" for none) and its text, in which "%s"
 * stands for an argument, always a string. For a new reply, add a row here and call reply_own() where it
 * is needed. A next hop's replies are passed on unchanged.
 *
 * If Postfix has the same reply, the text is Postfix's, so that people and log readers recognize it.
 *
 * Constant, so thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_REPLIES_H
#define POSTERN_SMTP_REPLIES_H

/* clang-format off */
/* X(name, code, enhanced, text) */
#define OWN_REPLIES(X) \
    X(OK, 250, "2.0.0", "Ok") \
    X(RECIPIENT_OK, 250, "2.1.5", "Ok") \
    X(QUEUED, 250, "2.0.0", "Ok: queued as %s") \
    X(DELIVERED_IN_PART, 250, "2.0.0", "Ok, delivered in part; the rest is stored") \
    X(HELO, 250, "", "%s") \
    X(CLOSING, 221, "2.0.0", "Bye") \
    X(HELP, 214, "2.0.0", "See RFC 5321") \
    X(VRFY, 252, "2.1.5", "Send some mail, I'll try my best") \
    X(SENDER_OK, 250, "2.1.0", "Ok") \
    X(START_TLS, 220, "2.0.0", "Ready to start TLS") \
    X(START_DATA, 354, "", "End data with <CR><LF>.<CR><LF>") \
    X(SYNTAX, 500, "5.5.2", "Error: bad syntax") \
    X(LINE_TOO_LONG, 500, "5.5.2", "Error: line too long") \
    X(UNKNOWN_COMMAND, 500, "5.5.1", "Error: command not recognized") \
    X(NOT_IMPLEMENTED, 502, "5.5.1", "Error: command not implemented") \
    X(NO_ARGUMENT_ALLOWED, 501, "5.5.4", "Error: this command takes no argument") \
    X(HELO_SYNTAX, 501, "5.5.4", "Error: host name expected") \
    X(BAD_SENDER, 501, "5.1.7", "Error: bad sender address syntax") \
    X(BAD_RECIPIENT, 501, "5.1.3", "Error: bad recipient address syntax") \
    X(BAD_ARGUMENT, 501, "5.5.4", "Error: bad argument") \
    X(UNKNOWN_PARAMETER, 555, "5.5.4", "Error: unsupported parameter") \
    X(HELO_FIRST, 503, "5.5.1", "Error: send HELO/EHLO first") \
    X(MAIL_FIRST, 503, "5.5.1", "Error: need MAIL command") \
    X(RCPT_FIRST, 503, "5.5.1", "Error: need RCPT command") \
    X(NESTED_MAIL, 503, "5.5.1", "Error: nested MAIL command") \
    X(NOT_IN_TRANSACTION, 503, "5.5.1", "Error: not within a mail transaction") \
    X(TLS_ACTIVE, 503, "5.5.1", "Error: TLS already active") \
    X(INJECTION, 554, "5.5.0", "Error: plaintext after STARTTLS") \
    X(NO_VALID_RECIPIENTS, 554, "5.5.1", "Error: no valid recipients") \
    X(RELAY_DENIED, 550, "5.7.1", "Relay access denied") \
    X(UTF8_UNSUPPORTED, 553, "5.6.7", "Internationalized address not supported here") \
    X(UTF8_HEADER_UNSUPPORTED, 554, "5.6.9", "Internationalized header not supported here") \
    X(8BIT_UNSUPPORTED, 554, "5.6.3", "Message body type not supported here") \
    X(TOO_BIG, 552, "5.3.4", "Message size exceeds limit") \
    X(TOO_MANY_HOPS, 554, "5.4.6", "Too many hops") \
    X(BARE_NEWLINE, 550, "5.5.2", "Error: bare CR, LF or NUL received") \
    X(TOO_MANY_RECIPIENTS, 452, "4.5.3", "Too many recipients") \
    X(TOO_MANY_UNKNOWN, 451, "4.7.1", "Too many refused recipients in this session") \
    X(TOO_MANY_ERRORS, 421, "4.7.0", "Error: too many errors") \
    X(BACKEND_UNREACHABLE, 451, "4.4.1", "Mail server unreachable, try again later") \
    X(BACKEND_BUSY, 451, "4.3.2", "Mail server busy, try again later") \
    X(BACKEND_LOST, 451, "4.4.2", "Lost connection to mail server, try again later") \
    X(BACKEND_CONFIG, 451, "4.3.5", "Mail server configuration error, try again later") \
    X(BACKEND_LACKS, 451, "4.3.5", "Mail server lacks an extension that this message needs, try again later") \
    X(IDLE, 421, "4.4.2", "Error: timeout exceeded") \
    X(SHUTTING_DOWN, 421, "4.3.2", "Service shutting down, try again later") \
    X(SERVER_BUSY, 421, "4.3.2", "Too busy, try again later") \
    X(CLIENT_LIMIT, 421, "4.7.0", "Too many connections from your address") \
    X(NETWORK_LIMIT, 421, "4.7.0", "Too many connections from your network") \
    X(NETWORK_LIMIT_LATER, 451, "4.7.1", "Too many connections from your network, try again later") \
    X(BALANCER_UNNAMED, 451, "4.7.1", "The load balancer named no client and may not send mail itself") \
    X(CLIENT_DENIED, 554, "5.7.1", "Access denied") \
    X(CLIENT_LISTED, 554, "5.7.1", "Service unavailable; client [%s] blocked using %s") \
    X(CLIENT_LISTED_LATER, 451, "4.7.1", "Service unavailable; client [%s] blocked using %s, try again later") \
    X(CLIENT_REFUSED, 554, "5.7.1", "Connections from private addresses are not accepted") \
    X(EARLY_TALKER, 554, "5.5.0", "Error: SMTP protocol synchronization") \
    X(SESSION_LIMIT, 421, "4.4.2", "Session has lasted too long, connect again") \
    X(DATA_TIMEOUT, 421, "4.4.2", "Error: timeout in mail data") \
    X(CHUNK_OK, 250, "2.0.0", "Chunk received") \
    X(NOT_CHUNKED, 503, "5.5.1", "Error: BDAT and DATA cannot be mixed here") \
    X(OTHER_BACKEND, 452, "4.5.3", "Recipient has a different mail server: send separately") \
    X(REQUIRETLS_UNSUPPORTED, 550, "5.7.30", "REQUIRETLS support required") \
    X(AUTH_REQUIRED, 530, "5.7.0", "Authentication required") \
    X(AUTH_CHALLENGE, 334, "", "%s") \
    X(AUTH_OK, 235, "2.7.0", "Authentication successful") \
    X(TLS_REQUIRED, 530, "5.7.0", "Must issue a STARTTLS command first") \
    X(AUTH_ACTIVE, 503, "5.5.1", "Error: already authenticated") \
    X(BAD_MECHANISM, 504, "5.5.4", "Error: unknown authentication mechanism") \
    X(AUTH_TEMPORARY, 454, "4.7.0", "Temporary authentication failure") \
    X(AUTH_LOST, 421, "4.4.2", "Lost connection to mail server, log in again") \
    X(AUTH_FAILED, 535, "5.7.8", "Error: authentication failed") \
    X(AUTH_TOO_OFTEN, 454, "4.7.0", "Too many failed log-ins, try again later") \
    X(AUTH_CANCELLED, 501, "5.7.0", "Error: authentication aborted or malformed") \
    X(SENDER_DENIED, 553, "5.7.1", "Sender address not allowed for this user") \
    X(LITERAL_DENIED, 550, "5.7.1", "Address literals are not accepted") \
    X(LOOP, 554, "5.4.6", "Mail for this domain loops back to this host") \
    X(NO_SUCH_DOMAIN, 550, "5.1.2", "Domain not found") \
    X(NULL_MX, 556, "5.1.10", "Domain does not accept mail (null MX)") \
    X(NO_HOSTS, 550, "5.4.4", "No mail server of the domain has a usable address") \
    X(DNS_TEMPORARY, 451, "4.4.3", "Temporary failure in name resolution") \
    X(DESTINATION_BUSY, 451, "4.3.2", "All sessions with this destination are in use") \
    X(DESTINATION_RATE, 451, "4.3.2", "Message rate limit for this destination reached") \
    X(TOO_MANY_NEXT_HOPS, 452, "4.5.3", "Too many destinations in one message: send separately") \
    X(REMOTE_TOO_BIG, 552, "5.3.4", "Message too big for the recipient's mail server") \
    X(STORE_FULL, 452, "4.3.1", "No room to store the message now, try again later") \
    X(STORE_FAILED, 451, "4.3.0", "The message cannot be stored now, try again later") \
    X(STORE_LOST, 554, "5.3.0", "The message was lost on the relay's disk") \
    X(STORE_REMOVED, 554, "5.7.0", "Removed from the queue by the operator") \
    X(REMOTE_SLOW, 451, "4.4.2", "The recipient's mail server has not answered yet") \
    X(REMOTE_LOST, 451, "4.4.2", "Lost connection to the recipient's mail server") \
    X(REMOTE_MISPLACED, 500, "5.5.0", "Protocol error, the reply was: %s") \
    X(REMOTE_INTERRUPTED, 451, "4.3.0", "Delivery was interrupted on this host") \
    X(REMOTE_UNREACHED, 451, "4.4.1", "%s (%s)") \
    X(REMOTE_DEAD, 451, "4.4.1", "%s; not tried again for a while (host %s)") \
    X(REMOTE_NO_TIME, 451, "4.4.1", "No time left to reach a mail server of %s") \
    X(REMOTE_BROKEN, 451, "4.4.2", "%s while %s with %s") \
    X(REMOTE_SAID, 451, "4.4.1", "host %s said: %s (in reply to %s)") \
    X(REMOTE_TLS_FAILED, 451, "4.7.5", "TLS with %s failed: %s%s") \
    X(REMOTE_TLS_MISSED, 451, "4.7.5", "TLS with %s failed: %s (policy: %s)") \
    X(REMOTE_TLS_LACKING, 451, "4.7.4", "TLS is required (%s), but was not offered by host %s") \
    X(REMOTE_TLS_NAMELESS, 451, "4.7.5", "no name to check the certificate of %s against; set tls_name") \
    X(REMOTE_EXCLUDED, 451, "4.7.5", "host %s is not used: %s (policy: %s)") \
    X(REMOTE_LOGIN_UNPROVEN, 451, "4.7.8", "no log-in at %s without verified TLS") \
    X(REMOTE_LOGIN_LACKING, 451, "4.7.8", "host %s offers neither AUTH PLAIN nor LOGIN") \
    X(REMOTE_LOGIN_REFUSED, 451, "4.7.8", "host %s does not accept our log-in: %s") \
    X(REMOTE_LOGIN_WAITS, 451, "4.7.8", "%s; no log-in is tried again for a while (host %s)") \
    X(XCLIENT_DENIED, 550, "5.7.0", "Error: insufficient authorization") \
    X(DRAIN_LIMIT, 421, "4.4.2", "Message refused and too long to read to its end, try again later")
/* clang-format on */

#endif
