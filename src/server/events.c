/* server/events.c - what the daemons log, in one table
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/events.h"

#include <string.h>

/* In the order of the manual: mail, clients, the backend, the spool, the daemons. */
const struct event_row event_rows[] = {
    {EVENTS_BOTH, "message", "info",
     "The summary of one message: status, session, client, id, helo, from, to (the first "
     "recipient that was taken), the numbers of recipients taken and refused, size, TLS, the "
     "reply that was given, and the time from MAIL to it. status=delivered: the next hop has "
     "it, and gave the 2xx. status=stored: relay-out has it, or the part that was not "
     "delivered at once. status=deferred: the answer was 4xx, the client still has it and "
     "comes again. status=refused: the answer was 5xx. status=aborted: its end never came, and "
     "nobody has it."},
    {EVENTS_OUT, "stored", "info",
     "Mail was stored: session and id as in the other lines of the session, spool the name in "
     "the queue, and how many of its recipients are left to be tried."},
    {EVENTS_OUT, "delivery", "info",
     "What became of a stored message at one recipient: status=delivered, the next hop has it; "
     "status=deferred, it is tried again; status=refused, its sender is told."},
    {EVENTS_OUT, "ID: to=<...>, relay=HOST[IP]:PORT, delay=..., dsn=..., status=...", "info",
     "The same at the first try, while the client waits, in Postfix's words: sent, deferred, "
     "bounced."},
    {EVENTS_OUT, "dsn", "info",
     "A notice to a sender was stored; about is the message that it tells of."},
    {EVENTS_OUT, "expired", "notice", "The time of a message is over, and its last try failed."},
    {EVENTS_OUT, "notice-lost", "warning",
     "A notice to a sender could not be delivered either. Nobody else is told; relayctl "
     "queue list counts them."},
    {EVENTS_OUT, "data-lost", "error",
     "The mail data of a message is gone from the disk, or damaged. Its sender is told."},
    {EVENTS_OUT, "unrecorded", "error",
     "At the end, deliveries could not be recorded: they are made again after the next "
     "start."},
    {EVENTS_BOTH, "NOQUEUE: reject: ...", "info",
     "A connection, a command or a message was refused, in Postfix's words, with client, "
     "sender and recipient."},
    {EVENTS_BOTH, "warning: ...: SASL ... authentication failed: ...", "warning",
     "A log-in was refused, in Postfix's words."},
    {EVENTS_BOTH, "auth", "info", "status=ok: a user has logged in."},
    {EVENTS_IN, "PREGREET ...", "info",
     "A client talked before the greeting (in.greet_delay), in postscreen's words."},
    {EVENTS_IN, "HANGUP ...", "info", "A client left before the greeting."},
    {EVENTS_IN, "DNSBL rank ...", "info",
     "The sum of what the blocklists say of a client, and which of them (in.dnsbl)."},
    {EVENTS_IN, "dnsbl-unusable", "error",
     "A blocklist does not answer this resolver, or says yes to everything: it does not count "
     "any more."},
    {EVENTS_BOTH, "tls-failed", "info", "The handshake of a client failed."},
    {EVENTS_BOTH, "busy", "warning", "A limit was reached; the line names the option."},
    {EVENTS_BOTH, "limited", "warning",
     "One client or network has too many connections, or makes them too often; the line names "
     "the option."},
    {EVENTS_BOTH, "stress", "notice",
     "status=begins: workers or connections are few, and waits for clients are short "
     "(in.stress). status=ends: no longer."},
    {EVENTS_IN, "proxy-refused", "warning",
     "A connection to a listener of kind proxy that is no load balancer's (in.proxy_hosts)."},
    {EVENTS_IN, "proxy-failed", "warning",
     "A load balancer sent no PROXY header, or none in time."},
    {EVENTS_IN, "proxy", "debug", "For whom a load balancer speaks."},
    {EVENTS_BOTH, "disconnect", "debug", "A session is over."},
    {EVENTS_BOTH, "silent", "debug", "A client was silent for too long, or left."},
    {EVENTS_IN, "backend", "error notice",
     "status=down: the backend cannot be reached, or does not serve us; senders get 451 and "
     "come again. status=up: it serves us, again or for the first time. The relay looks by "
     "itself when there is no mail: a change is said within 30 seconds."},
    {EVENTS_IN, "outage", "notice",
     "status=over: the backend is up again after so many seconds, and missed senders and "
     "recipients were put off meanwhile; relayctl missed says who has come back."},
    {EVENTS_IN, "missed", "warning",
     "status=memory: the ledger of missed mail cannot be written to its file, and why."},
    {EVENTS_IN, "state-failed", "notice",
     "What the backend offers could not be kept for the next start (in.state), and why."},
    {EVENTS_IN, "backend-offer", "info",
     "What the backend offers is known now, or has changed; EHLO follows it."},
    {EVENTS_IN, "backend-unknown", "warning",
     "The backend has not been reached since the start, so what it offers is not known."},
    {EVENTS_IN, "backend-unreachable", "warning", "A session could not reach the backend."},
    {EVENTS_IN, "backend-busy", "warning", "A session has waited in vain for one of max_sessions."},
    {EVENTS_IN, "backend-lost", "warning",
     "The backend went away within a dialog; with line, what it said that was no reply."},
    {EVENTS_IN, "backend-greeting", "warning error",
     "The backend refused the relay itself, for now or for good."},
    {EVENTS_IN, "backend-hello", "error", "The backend refused the relay's EHLO."},
    {EVENTS_IN, "backend-identity", "error",
     "The backend does not let us introduce clients: the reason and the remedy. Nothing is "
     "delivered until that is done."},
    {EVENTS_IN, "backend-tls", "warning error",
     "The backend offers no TLS, or its handshake failed: what follows from that, and what can "
     "be done."},
    {EVENTS_OUT, "Untrusted TLS connection established to ..., Trusted TLS ..., Verified TLS ...",
     "info",
     "What was agreed with a next hop. Verified is a host that is proven, Trusted one that is "
     "proven, though not to be the domain's. policy says by what: dane, mta-sts, out.tls.level, "
     "route; matched names the kind of the TLSA record."},
    {EVENTS_OUT, "tls-policy", "warning",
     "The first failure in a day of a policy that a domain publishes: policy=tlsa or sts, "
     "result "
     "in the terms of RFC 8460, and the effect."},
    {EVENTS_OUT, "mta-sts", "notice warning", "A policy could not be fetched, or kept."},
    {EVENTS_OUT, "dane", "warning",
     "status=off: the resolver proves nothing, so there is no DANE."},
    {EVENTS_OUT, "spool", "notice", "What was found in the spool at the start."},
    {EVENTS_OUT, "spool-failed", "error",
     "The disk is full or fails; mail that would have to be stored gets a 4xx reply, and "
     "nothing is lost."},
    {EVENTS_OUT, "delivery-problem", "error",
     "A message could not be worked on, for a reason of this host's."},
    {EVENTS_OUT, "spool-quarantine", "error",
     "A file in the spool could not be understood and was put aside; see postern-spool(5)."},
    {EVENTS_OUT, "spool-quarantine-failed", "error", "Nor could it be put aside."},
    {EVENTS_OUT, "spool-unreadable", "warning error",
     "The disk did not give a file of the spool; it is read again later."},
    {EVENTS_OUT, "spool-remove", "notice", "A rest of a message was removed."},
    {EVENTS_OUT, "spool-remove-failed", "error", "It could not be."},
    {EVENTS_OUT, "spool-lock", "debug", "The lock file could not name its owner."},
    {EVENTS_OUT, "queue-order", "notice", "What an operator wanted, by relayctl(8)."},
    {EVENTS_BOTH, "start", "notice", "The daemon serves: its version, where it listens."},
    {EVENTS_EXPORTER, "listen", "info", "The exporter serves at this address."},
    {EVENTS_BOTH, "stop", "notice",
     "The daemon has ended; the numbers are those of its whole life."},
    {EVENTS_OUT, "stop-unfinished", "notice",
     "Deliveries under way are tried again after the next start."},
    {EVENTS_BOTH, "reload", "notice error warning",
     "status=done: the configuration was read again. status=failed: it has errors, and the old "
     "one stays in force. With option, one whose new value is in force only after a "
     "restart."},
    {EVENTS_BOTH, "config-error", "error", "What is wrong with it."},
    {EVENTS_BOTH, "config-warning", "warning", "Something valid, but dangerous."},
    {EVENTS_BOTH, "certificates", "notice error",
     "status=reread: renewed files are in use. status=failed: they could not be, and the old "
     "ones stay."},
    {EVENTS_BOTH, "certificate-expires", "warning",
     "A certificate has 30, 14, 7, 3 or 1 days left: its name, file and date."},
    {EVENTS_BOTH, "certificate-expired", "error", "It is overdue. Said every day."},
    {EVENTS_BOTH, "dns-settings", "notice error",
     "Name servers or trust anchor have changed, and the new ones are in use "
     "(status=reread), or could not be (status=failed)."},
    {EVENTS_BOTH, "dns-server-ignored", "warning",
     "A line of resolv.conf names no IP address, and was passed over."},
    {EVENTS_BOTH, "dns-bogus", "warning", "The answer to a question did not agree with DNSSEC."},
    {EVENTS_BOTH, "dns-validation-off", "error",
     "The name servers pass no DNSSEC records on: mail goes on without validation."},
    {EVENTS_BOTH, "dns-start-failed", "error", "The resolver cannot be set up, and why."},
    {EVENTS_BOTH, "dns-broken", "error",
     "The resolver has failed: the daemon has to be "
     "restarted."},
    {EVENTS_BOTH, "control", "info debug warning",
     "What was asked by the control socket, by whom; or, with status=off, why there is none."},
    {EVENTS_BOTH, "accept-failed", "error", "Descriptors or memory are out: new connections wait."},
    {EVENTS_BOTH, "descriptors", "warning",
     "The limit of descriptors is below what the configuration may need."},
    {EVENTS_BOTH, "socket-unused", "warning",
     "systemd handed over a socket that no listen option names."},
    {EVENTS_BOTH, "log-lost", "warning",
     "So many lines could not be written, because nobody read them in time."},
    {EVENTS_BOTH, "bug", "error",
     "Something that must not be: the daemon ends, and systemd starts it again. Please report "
     "it."},
};
const size_t event_row_count = sizeof event_rows / sizeof *event_rows;

int event_is_named(const struct event_row *row)
{
    return row->name[strspn(row->name, "abcdefghijklmnopqrstuvwxyz-")] == '\0';
}

/* mdoc(7) wants each sentence on a line of its own. */
static void events_print_sentences(const char *text, FILE *out)
{
    for (const char *end; (end = strstr(text, ". ")) != NULL; text = end + 2)
        fprintf(out, "%.*s.\n", (int)(end - text), text);
    fprintf(out, "%s\n", text);
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
        events_print_sentences(row->meaning, out);
    }
}
