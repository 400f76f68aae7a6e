/* server/events.c - everything that the daemons log, in one table
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/events.h"

#include <string.h>

#include "base/mdoc.h"

/* In the order of the manual page: mail, clients, the backend, the spool, the daemons. */
const struct event_row event_rows[] = {
    {EVENTS_BOTH, "message", "info",
     "The summary of one message: status, session, client, id, helo, from, to (the first accepted "
     "recipient), the numbers of recipients accepted and refused, size, TLS, the reply that was "
     "given, and the time from MAIL to that reply. status=delivered: the next hop gave a 2xx and "
     "has it. status=stored: relay-out has it, or the part that was not delivered at once. "
     "status=deferred: the reply was 4xx; the client keeps the message and tries again. "
     "status=refused: the reply was 5xx. status=aborted: the end of the message never came, and "
     "nobody has it."},
    {EVENTS_OUT, "stored", "info",
     "A message was stored. session and id are as in the other lines of the session, spool is its "
     "name in the queue; the line also tells how many recipients remain to be tried."},
    {EVENTS_OUT, "delivery", "info",
     "The result of delivering a stored message to one recipient. status=delivered: the next hop "
     "has it. status=deferred: it will be tried again. status=refused: its sender is notified."},
    {EVENTS_OUT, "ID: to=<...>, relay=HOST[IP]:PORT, delay=..., dsn=..., status=...", "info",
     "The same for the first attempt, while the client waits, in Postfix's words: sent, deferred, "
     "bounced."},
    {EVENTS_OUT, "dsn", "info",
     "A notice to a sender was stored. about is the message that it is about."},
    {EVENTS_OUT, "expired", "notice",
     "A message has reached its lifetime, and its last attempt failed."},
    {EVENTS_OUT, "notice-lost", "warning",
     "A notice to a sender could not be delivered either. Nobody else is told; relayctl queue list "
     "counts such notices."},
    {EVENTS_OUT, "data-lost", "error",
     "The mail data of a message has disappeared from the disk or is damaged. Its sender is "
     "notified."},
    {EVENTS_OUT, "unrecorded", "error",
     "Some deliveries could not be recorded before the daemon ended. They are repeated after the "
     "next start."},
    {EVENTS_BOTH, "NOQUEUE: reject: ...", "info",
     "A connection, a command or a message was refused, in Postfix's words, with client, sender "
     "and recipient."},
    {EVENTS_BOTH, "warning: ...: SASL ... authentication failed: ...", "warning",
     "A log-in was refused, in Postfix's words."},
    {EVENTS_BOTH, "auth", "info", "status=ok: a user has logged in."},
    {EVENTS_IN, "PREGREET ...", "info",
     "A client talked before the greeting (in.greet_delay), in postscreen's words."},
    {EVENTS_IN, "HANGUP ...", "info", "A client left before the greeting."},
    {EVENTS_IN, "DNSBL rank ...", "info",
     "A client's sum of blocklist weights, and the lists that it is on (in.dnsbl)."},
    {EVENTS_IN, "dnsbl-unusable", "error",
     "A blocklist does not answer this resolver, or lists everything. It no longer counts."},
    {EVENTS_BOTH, "tls-failed", "info", "A TLS handshake with a client failed."},
    {EVENTS_BOTH, "busy", "warning", "A limit was reached. The line names the option."},
    {EVENTS_BOTH, "limited", "warning",
     "One client or network has too many connections or opens them too fast. The line names the "
     "option."},
    {EVENTS_BOTH, "stress", "notice",
     "status=begins: few workers or connections are free, and waits for clients are short "
     "(in.stress). status=ends: that is over."},
    {EVENTS_IN, "proxy-refused", "warning",
     "A host that is no load balancer (in.proxy_hosts) connected to a listener marked proxy."},
    {EVENTS_IN, "proxy-failed", "warning", "A load balancer sent no PROXY header, or not in time."},
    {EVENTS_IN, "proxy", "debug", "The client that a load balancer speaks for."},
    {EVENTS_BOTH, "disconnect", "debug", "A session has ended."},
    {EVENTS_BOTH, "silent", "debug", "A client was silent for too long, or left."},
    {EVENTS_IN, "backend", "error notice",
     "status=down: the backend cannot be reached or does not serve us; senders get 451 and try "
     "again. status=up: it serves us, again or for the first time. The relay also checks when "
     "there is no mail, so a change is logged within 30 seconds."},
    {EVENTS_IN, "outage", "notice",
     "status=over: the backend is up again after that many seconds. missed is the number of "
     "messages put off meanwhile; relayctl missed shows which have come back."},
    {EVENTS_IN, "missed", "warning",
     "status=memory: the ledger of missed mail cannot be written to its file, and why; status=file: "
     "it can be again, and nothing of it is lost."},
    {EVENTS_IN, "state-failed", "notice",
     "What the backend offers could not be saved for the next start (in.state), and why."},
    {EVENTS_IN, "backend-offer", "info",
     "What the backend offers has become known or has changed. EHLO follows it."},
    {EVENTS_IN, "backend-unknown", "warning",
     "The backend has not been reached since the start, so it is not known what it offers."},
    {EVENTS_IN, "backend-unreachable", "warning", "A session could not reach the backend."},
    {EVENTS_IN, "backend-busy", "warning", "A session waited in vain for one of max_sessions."},
    {EVENTS_IN, "backend-lost", "warning",
     "The connection to the backend broke during a dialog. If present, line is what the backend "
     "said that was no reply."},
    {EVENTS_IN, "backend-greeting", "warning error",
     "The backend refused the relay itself, temporarily or permanently."},
    {EVENTS_IN, "backend-hello", "error", "The backend refused the relay's EHLO."},
    {EVENTS_IN, "backend-identity", "error",
     "The backend does not let the relay introduce clients: the reason and the remedy. Nothing is "
     "delivered until that is fixed."},
    {EVENTS_IN, "backend-tls", "warning error",
     "The backend offers no TLS, or the handshake with it failed: the consequence and the remedy."},
    {EVENTS_OUT, "Untrusted TLS connection established to ..., Trusted TLS ..., Verified TLS ...",
     "info",
     "The TLS agreed with a next hop. A Verified host is authenticated; a Trusted one is too, but "
     "not as the domain's own. policy names the authority: dane, mta-sts, out.tls.level or route. "
     "matched names the kind of TLSA record."},
    {EVENTS_OUT, "login-refused", "error",
     "A smarthost refused our user or password. No log-in is tried there for next_seconds, so that "
     "it does not ban this host. Put the password right and reload relay-out."},
    {EVENTS_OUT, "tls-policy", "warning",
     "The first failure in a day of a policy that a domain publishes: policy=tlsa or sts, the "
     "result in the terms of RFC 8460, and the effect."},
    {EVENTS_OUT, "mta-sts", "notice warning", "An MTA-STS policy could not be fetched or saved."},
    {EVENTS_OUT, "dane", "warning",
     "status=off: the resolver does not validate, so there is no DANE."},
    {EVENTS_OUT, "spool", "notice", "What the spool held at the start."},
    {EVENTS_OUT, "spool-failed", "error",
     "The disk is full or failing. Mail that needs the spool gets a 4xx reply, and nothing is "
     "lost."},
    {EVENTS_OUT, "delivery-problem", "error",
     "A message could not be processed, for a reason on this host."},
    {EVENTS_OUT, "spool-quarantine", "error",
     "A file in the spool could not be understood and was moved aside; see postern-spool(5)."},
    {EVENTS_OUT, "spool-quarantine-failed", "error", "Such a file could not be moved aside."},
    {EVENTS_OUT, "spool-unreadable", "warning error",
     "The disk did not return a file of the spool. It is read again later."},
    {EVENTS_OUT, "spool-remove", "notice", "The remains of a message were removed."},
    {EVENTS_OUT, "spool-remove-failed", "error", "They could not be removed."},
    {EVENTS_OUT, "spool-lock", "debug",
     "The daemon could not write its process id into the lock file."},
    {EVENTS_OUT, "queue-order", "notice", "An operator's order, given through relayctl(8)."},
    {EVENTS_BOTH, "start", "notice", "The daemon serves: its version and where it listens."},
    {EVENTS_EXPORTER, "listen", "info", "The exporter serves at this address."},
    {EVENTS_BOTH, "stop", "notice",
     "The daemon has ended. The numbers are those of its whole life."},
    {EVENTS_OUT, "stop-unfinished", "notice",
     "Deliveries in progress will be tried again after the next start."},
    {EVENTS_BOTH, "reload", "notice error warning",
     "status=done: the configuration was reread. status=failed: it has errors, and the old one "
     "stays in force. option, if present, names an option whose new value takes effect only after "
     "a restart."},
    {EVENTS_BOTH, "config-error", "error", "An error in the configuration."},
    {EVENTS_BOTH, "config-warning", "warning",
     "Something in the configuration that is valid but dangerous."},
    {EVENTS_BOTH, "certificates", "notice error",
     "status=reread: renewed files are in use. status=failed: they could not be read, and the old "
     "ones stay in use."},
    {EVENTS_BOTH, "certificate-expires", "warning",
     "A certificate has 30, 14, 7, 3 or 1 days left: its name, file and date."},
    {EVENTS_BOTH, "certificate-expired", "error", "A certificate has expired. Logged every day."},
    {EVENTS_BOTH, "dns-settings", "notice error",
     "Name servers or trust anchor have changed, and the new ones are in use (status=reread) or "
     "could not be used (status=failed)."},
    {EVENTS_BOTH, "dns-server-ignored", "warning",
     "A line of resolv.conf names no IP address and was skipped."},
    {EVENTS_BOTH, "dns-bogus", "warning", "An answer failed DNSSEC validation."},
    {EVENTS_BOTH, "dns-validation-off", "error",
     "The name servers do not pass DNSSEC records on. Mail goes on without validation, which is "
     "tried again after an hour, later once a day."},
    {EVENTS_BOTH, "dns-validation-on", "notice",
     "After dns-validation-off: the name servers pass DNSSEC records on again."},
    {EVENTS_BOTH, "dns-start-failed", "error", "The resolver cannot be set up, and why."},
    {EVENTS_BOTH, "dns-broken", "error", "The resolver has failed. The daemon must be restarted."},
    {EVENTS_BOTH, "control", "info debug warning",
     "A request on the control socket, and who made it; with status=off, why there is no such "
     "socket."},
    {EVENTS_BOTH, "accept-failed", "error",
     "Descriptors or memory have run out. New connections wait."},
    {EVENTS_BOTH, "descriptors", "warning",
     "The limit of descriptors is below what the configuration may need."},
    {EVENTS_BOTH, "socket-unused", "warning",
     "systemd passed a socket that no listen option names."},
    {EVENTS_BOTH, "log-lost", "warning",
     "That many lines could not be written, because nobody read them in time."},
    {EVENTS_BOTH, "bug", "error",
     "Something happened that never should. The daemon ends, and systemd starts it again. Please "
     "report it."},
};
const size_t event_row_count = sizeof event_rows / sizeof *event_rows;

int event_is_named(const struct event_row *row)
{
    return row->name[strspn(row->name, "abcdefghijklmnopqrstuvwxyz-")] == '\0';
}

void events_print_manual(FILE *out)
{
    static const char *const daemons[] = {[EVENTS_IN] = "relay-in",
                                          [EVENTS_OUT] = "relay-out",
                                          [EVENTS_BOTH] = "both daemons",
                                          [EVENTS_EXPORTER] = "postern-exporter"};

    for (size_t i = 0; i < event_row_count; i++) {
        const struct event_row *row = &event_rows[i];
        fprintf(out, ".It Li \"%s%s\"\n", event_is_named(row) ? "event=" : "", row->name);
        fprintf(out, ".Pq %s; %s\n.br\n", daemons[row->daemons], row->levels);
        mdoc_print_sentences(row->meaning, out);
    }
}
