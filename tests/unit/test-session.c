/* tests/unit/test-session.c - smtp/session through a recording courier
 *
 * Each case has what a client sends, all at once, the codes that it must receive, and the calls that the
 * courier must have received. The courier replies by the recipient's local part: "unknown" 550, "later"
 * 451, "gone" 421, anything else 250.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "clock.h"
#include "heard.h"
#include "smtp/session-internal.h"

struct fake_courier {
    struct courier base;
    struct recipient asked[SESSION_BATCH_MAX];
    size_t next;
    struct courier_loan *lent;
};

/* What the current test observes and sets. */
static GString *told, *body;
static int data_code = 354, end_code = 250;
static bool early;       /* 354 may be sent before the courier's */
static int data_takes_ms, write_takes_ms;
static bool wanted;           /* others wait for what the courier holds */
static int64_t granted_at_ms; /* prepare() must wait until then; 0 = not at all */
static int fail_write_at;  /* the nth write fails; 0 = none */
static int writes;
static enum courier_form next_form; /* the form in which chunked data goes out */

/* For its next hop, in turn: what is lent is the worker's. */
static void fake_lend(struct courier *base, struct courier_loan *loan)
{
    struct fake_courier *courier = (struct fake_courier *)base;
    g_assert_true((loan == NULL) != (courier->lent == NULL));
    courier->lent = loan;
}

static void fake_speak(struct courier *base)
{
    const struct courier_loan *lent = ((struct fake_courier *)base)->lent;
    g_assert_nonnull(lent);
    memset(lent->buffers.in, 'x', lent->buffers.in_size);
    memset(lent->buffers.out, 'x', lent->buffers.out_size);
}

static int64_t fake_prepare(struct courier *base, const struct client_identity *client,
                            const struct recipient *recipient, struct wakeup *wakeup)
{
    (void)base, (void)client, (void)recipient, (void)wakeup;
    return deadline_now_ms() < granted_at_ms ? granted_at_ms : 0;
}

static bool fake_is_wanted(struct courier *base)
{
    (void)base;
    return wanted;
}

static void fake_send(struct courier *base, const struct envelope *envelope,
                      const struct recipient *recipients, size_t count, enum courier_data data)
{
    struct fake_courier *courier = (struct fake_courier *)base;
    fake_speak(base);
    g_string_append_printf(told, "<%s>", envelope->sender.mailbox);
    static const char *const rets[] = {"", "FULL", "HDRS"};
    char notify[NOTIFY_MAX + 1];
    if (envelope->ret != MAIL_RET_NONE || envelope->envid[0] != '\0')
        g_string_append_printf(told, " RET=%s ENVID=%s", rets[envelope->ret], envelope->envid);
    for (size_t i = 0; i < count; i++) {
        recipient_copy(&courier->asked[i], &recipients[i]);
        g_string_append_printf(told, " %s", recipients[i].path.mailbox);
        if (recipients[i].notify != 0 || recipients[i].orcpt[0] != '\0')
            g_string_append_printf(told, " NOTIFY=%s ORCPT=%s",
                                   command_format_notify(recipients[i].notify, notify),
                                   recipients[i].orcpt);
    }
    courier->next = 0;
    g_string_append(told, data == COURIER_DATA             ? " DATA; "
                          : data == COURIER_CHUNKED_DATA ? " BDAT; "
                                                         : "; ");
    base->form = data == COURIER_CHUNKED_DATA ? next_form : COURIER_LINES;
}

static void fake_recipient_reply(struct courier *base, struct reply *reply)
{
    struct fake_courier *courier = (struct fake_courier *)base;
    const char *mailbox = courier->asked[courier->next++].path.mailbox;
    if (g_str_has_prefix(mailbox, "unknown"))
        reply_hear(reply, "550 5.1.1 no such user");
    else if (g_str_has_prefix(mailbox, "later"))
        reply_hear(reply, "451 4.3.0 later");
    else if (g_str_has_prefix(mailbox, "gone"))
        reply_hear(reply, "421 4.3.2 gone");
    else
        reply_hear(reply, "250 2.1.5 Ok");
}

static bool fake_ask_data(struct courier *base)
{
    (void)base;
    if (early)
        g_string_append(told, "asked; ");
    return early;
}

static void fake_data_reply(struct courier *base, struct reply *reply)
{
    fake_speak(base);
    if (early)
        g_string_append(told, "heard; ");
    clock_advance_ms(data_takes_ms);
    reply_hear_code(reply, data_code, "data");
}

static int fake_write(struct courier *base, const struct iovec *iov, int count)
{
    fake_speak(base);
    clock_advance_ms(write_takes_ms);
    if (++writes == fail_write_at)
        return -1;
    for (int i = 0; i < count; i++)
        g_string_append_len(body, iov[i].iov_base, (gssize)iov[i].iov_len);
    return 0;
}

static void fake_end(struct courier *base, struct reply *reply)
{
    fake_speak(base);
    g_string_append(told, "end; ");
    if (fail_write_at > 0)
        reply_own(reply, REPLY_BACKEND_LOST);
    else
        reply_hear_code(reply, data_code != 354 ? data_code : end_code, "done");
}

static void fake_reset(struct courier *base)
{
    (void)base;
}

static void fake_abort(struct courier *base)
{
    (void)base;
    g_string_append(told, "abort; ");
}

static void fake_free(struct courier *base)
{
    free(base);
}

/* Sends one challenge, and then accepts "dGVzdA==". */
static void fake_authenticate(struct courier *base, const struct client_identity *client,
                              const char *line, size_t len, struct reply *reply)
{
    (void)client;
    fake_speak(base);
    g_string_append_printf(told, "[%.*s]; ", (int)len, line);
    if (g_str_has_prefix(line, "AUTH "))
        reply_hear(reply, "334 Z28=");
    else if (len == 8 && memcmp(line, "dGVzdA==", 8) == 0)
        reply_hear(reply, "235 2.7.0 in");
    else
        reply_hear(reply, "535 5.7.8 no");
}

static struct courier *fake_new(void *context, const void *route)
{
    static const struct courier_ops ops = {
        .lend = fake_lend,
        .prepare = fake_prepare,
        .is_wanted = fake_is_wanted,
        .send = fake_send,
        .recipient_reply = fake_recipient_reply,
        .ask_data = fake_ask_data,
        .data_reply = fake_data_reply,
        .write = fake_write,
        .end = fake_end,
        .reset = fake_reset,
        .abort = fake_abort,
        .authenticate = fake_authenticate,
        .free = fake_free,
    };
    struct fake_courier *courier = calloc(1, sizeof *courier);
    (void)context;
    if (route != NULL && *(const char *)route != 'h')
        g_string_append(told, "other: ");
    courier->base.ops = &ops;
    return &courier->base;
}

/* "other.example" has another next hop. */
static enum own_reply fake_check(void *context, struct path *recipient, const void **route)
{
    static const char here[] = "here", there[] = "there";
    (void)context;
    bool is_there = strcmp(recipient->domain, "other.example") == 0;
    *route = is_there ? there : here;
    return is_there || strcmp(recipient->domain, "here.example") == 0 ? REPLY_OK
                                                                      : REPLY_RELAY_DENIED;
}

static const unsigned offered = EXTENSION_8BITMIME | EXTENSION_ENHANCEDSTATUSCODES |
                                EXTENSION_DSN | EXTENSION_CHUNKING;

static void fake_offer(void *context, struct session_offer *offer)
{
    (void)context;
    offer->extensions = offered;
}

static enum own_reply fake_serves(void *context, const struct address *client)
{
    char ip[ADDRESS_TEXT_MAX];
    (void)context;
    if (strcmp(address_format_ip(client, ip), "203.0.113.66") == 0)
        return REPLY_CLIENT_DENIED;
    return address_is_private(client) ? REPLY_CLIENT_REFUSED : REPLY_OK;
}

static struct session_rules rules_for_test(void)
{
    return (struct session_rules){
        .hostname = "mx.here.example",
        .message_size = 100000,
        .recipients = 5,
        .errors = 6,
        .junk_commands = 8,
        .refused_recipients = 3,
        .received_headers = 3,
        .bare_newlines = DATALINE_NORMALIZE,
        .park_after_ms = 1,
        .command_timeout_ms = 2000,
        .line_timeout_ms = 200,
        .handshake_timeout_ms = 1000,
        .data_timeout_ms = 300,
        .drain_octets = 200000,
        .drain_timeout_ms = 1000,
        .policy = {.check_recipient = fake_check,
                   .offer = fake_offer,
                   .courier_new = fake_new,
                   .serves = fake_serves},
    };
}

struct scene {
    struct session *session;
    struct session_scratch scratch;
    struct session_rules rules;
    struct session_signals signals;
    int client, server;
};

static void scene_open(struct scene *scene)
{
    int fds[2];
    struct address address;

    memset(scene, 0, sizeof *scene);
    scene->rules = rules_for_test();
    told = g_string_new(NULL);
    body = g_string_new(NULL);
    data_code = 354;
    end_code = 250;
    early = false;
    data_takes_ms = write_takes_ms = 0;
    granted_at_ms = 0;
    wanted = false;
    writes = fail_write_at = 0;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    scene->client = fds[1];
    scene->server = fds[0];
    g_assert_cmpint(address_parse_ip(&address, "198.51.100.7"), ==, 0);
    g_assert_cmpint(session_scratch_init(&scene->scratch), ==, 0);
    scene->session = session_new(&(struct session_start){
        .fd = fds[0],
        .client = &address,
        .local = &address,
        .rules = &scene->rules,
        .signals = &scene->signals,
    });
    g_assert_nonnull(scene->session);
}

static void scene_close(struct scene *scene)
{
    session_free(scene->session);
    session_scratch_free(&scene->scratch);
    close(scene->client);
    close(scene->server);
    g_string_free(told, TRUE);
    g_string_free(body, TRUE);
}

/* Lets time pass until the session is due. */
static void pass_until_due(struct scene *scene)
{
    struct deadline due = {session_due_ms(scene->session)};
    clock_advance_ms(deadline_left_ms(due));
}

/* A worker is free at once. */
static enum session_result step(struct scene *scene)
{
    return session_run(scene->session, &scene->scratch, deadline_now_ms());
}

/* Like the gate: resumes a waiting session when its client sends or when it is due. */
static enum session_result run(struct scene *scene)
{
    enum session_result result;
    while ((result = step(scene)) == SESSION_WAITING) {
        struct pollfd poll_fd = {.fd = scene->server, .events = POLLIN};
        if (poll(&poll_fd, 1, 0) == 0)
            pass_until_due(scene);
    }
    return result;
}

static void say(struct scene *scene, const char *text, size_t len)
{
    g_assert_cmpint(send(scene->client, text, len, MSG_NOSIGNAL), ==, (gssize)len);
}

/* The codes of the replies received so far; for a multi-line reply, that of its last line. */
static char *heard_codes(struct scene *scene)
{
    GString *all = g_string_new(NULL), *codes = g_string_new(NULL);
    char piece[4096];
    ssize_t len;
    while ((len = recv(scene->client, piece, sizeof piece, MSG_DONTWAIT)) > 0)
        g_string_append_len(all, piece, len);
    char **lines = g_strsplit(all->str, "\r\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        if (strlen(*line) >= 4 && (*line)[3] == ' ')
            g_string_append_printf(codes, "%s%.3s", codes->len > 0 ? " " : "", *line);
    }
    g_strfreev(lines);
    g_string_free(all, TRUE);
    return g_string_free(codes, FALSE);
}

#define EHLO "EHLO c.example\r\n"
#define MAIL "MAIL FROM:<s@far.example>\r\n"
#define RCPT(local) "RCPT TO:<" local "@here.example>\r\n"
#define SENDER "<s@far.example>"

static const struct {
    const char *name, *input, *codes, *told;
} dialogs[] = {
    {"one message", EHLO MAIL RCPT("a") "DATA\r\nhello\r\n.\r\nQUIT\r\n", "250 250 250 354 250 221",
     SENDER " a@here.example DATA; end; "},
    {"helo", "HELO c\r\n" MAIL RCPT("a") "QUIT\r\n", "250 250 250 221",
     SENDER " a@here.example; "},
    {"two in one session", EHLO MAIL RCPT("a") "DATA\r\nx\r\n.\r\n" MAIL RCPT("b") "DATA\r\ny\r\n.\r\n",
     "250 250 250 354 250 250 250 354 250",
     SENDER " a@here.example DATA; end; " SENDER " b@here.example DATA; end; "},
    {"mail before hello", MAIL EHLO "QUIT\r\n", "503 250 221", ""},
    {"rcpt before mail", EHLO RCPT("a"), "250 503", ""},
    {"data before mail", EHLO "DATA\r\n", "250 503", ""},
    {"data before rcpt", EHLO MAIL "DATA\r\n", "250 250 503", ""},
    {"nested mail", EHLO MAIL MAIL, "250 250 503", ""},
    {"foreign recipient never asked", EHLO MAIL "RCPT TO:<a@foreign.example>\r\nDATA\r\n",
     "250 250 550 554", ""},
    {"refused alone, in order", EHLO MAIL RCPT("a") RCPT("unknown") RCPT("b") "DATA\r\nx\r\n.\r\n",
     "250 250 250 550 250 354 250",
     SENDER " a@here.example unknown@here.example b@here.example; " SENDER " DATA; end; "},
    {"ours and theirs in order",
     EHLO MAIL RCPT("a") "RCPT TO:<x@foreign.example>\r\n" RCPT("later") "DATA\r\nx\r\n.\r\n",
     "250 250 250 550 451 354 250",
     SENDER " a@here.example later@here.example DATA; end; "},
    {"no 354 without recipient", EHLO MAIL RCPT("unknown") "DATA\r\n", "250 250 550 554",
     SENDER " unknown@here.example DATA; abort; "},
    {"421 in mid-batch becomes 451", EHLO MAIL RCPT("gone") RCPT("a") "NOOP\r\n",
     "250 250 451 250 250", SENDER " gone@here.example a@here.example; "},
    {"421 at the end is passed and ends", EHLO MAIL RCPT("gone") "NOOP\r\n", "250 250 421",
     SENDER " gone@here.example; "},
    {"three refused recipients, then 451",
     EHLO MAIL RCPT("unknown1") RCPT("unknown2") RCPT("unknown3") RCPT("a"),
     "250 250 550 550 550 451",
     SENDER " unknown1@here.example unknown2@here.example unknown3@here.example; "},
    {"recipient limit",
     EHLO MAIL RCPT("a") RCPT("b") RCPT("c") RCPT("d") RCPT("e") RCPT("f"),
     "250 250 250 250 250 250 250 452",
     SENDER " a@here.example b@here.example c@here.example; " SENDER
            " d@here.example e@here.example; "},
    {"rset forgets", EHLO MAIL RCPT("a") "RSET\r\n" RCPT("b"), "250 250 250 250 503",
     SENDER " a@here.example; "},
    {"size announced too big", EHLO "MAIL FROM:<s@far.example> SIZE=100001\r\n", "250 552", ""},
    {"unknown parameter", EHLO "MAIL FROM:<s@far.example> FOO=1\r\n", "250 555", ""},
    {"smtputf8 not offered", EHLO "MAIL FROM:<s@far.example> SMTPUTF8\r\n", "250 555", ""},
    {"binarymime not offered", EHLO "MAIL FROM:<s@far.example> BODY=BINARYMIME\r\n", "250 554", ""},
    {"unknown commands", EHLO "XYZZY\r\nXCLIENT ADDR=1.2.3.4\r\nAUTH PLAIN\r\n", "250 500 500 502",
     ""},
    {"bdat", EHLO MAIL RCPT("a") "BDAT 5\r\nab\r\nc" "BDAT 3 LAST\r\nd\r\nNOOP\r\n",
     "250 250 250 250 250 250", SENDER " a@here.example BDAT; end; "},
    {"bdat before mail is read away", EHLO "BDAT 6 LAST\r\nNOOP\r\nNOOP\r\n", "250 503 250", ""},
    {"bdat without a recipient", EHLO MAIL RCPT("unknown") "BDAT 6 LAST\r\nNOOP\r\nNOOP\r\n",
     "250 250 550 554 250", SENDER " unknown@here.example BDAT; abort; "},
    {"bdat that cannot be read closes", EHLO MAIL RCPT("a") "BDAT many\r\nNOOP\r\n",
     "250 250 250 501", SENDER " a@here.example; "},
    {"data between chunks", EHLO MAIL RCPT("a") "BDAT 1\r\nxDATA\r\nBDAT 1 LAST\r\ny",
     "250 250 250 250 503 250", SENDER " a@here.example BDAT; end; "},
    {"rset between chunks", EHLO MAIL RCPT("a") "BDAT 1\r\nxRSET\r\n" MAIL,
     "250 250 250 250 250 250", SENDER " a@here.example BDAT; abort; "},
    {"client vanishes in a chunk", EHLO MAIL RCPT("a") "BDAT 9 LAST\r\nhalf", "250 250 250",
     SENDER " a@here.example BDAT; abort; "},
    {"client vanishes between chunks", EHLO MAIL RCPT("a") "BDAT 4\r\nhalf", "250 250 250 250",
     SENDER " a@here.example BDAT; abort; "},
    {"dsn", EHLO "MAIL FROM:<s@far.example> RET=HDRS ENVID=QQ+2B1\r\n"
     "RCPT TO:<a@here.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@here.example\r\n",
     "250 250 250", SENDER " RET=HDRS ENVID=QQ+2B1 a@here.example NOTIFY=SUCCESS,DELAY "
     "ORCPT=rfc822;a+2Bb@here.example; "},
    {"bad dsn", EHLO "MAIL FROM:<s@far.example> RET=SOME\r\n"
     "MAIL FROM:<s@far.example> ENVID=+2\r\n" MAIL
     "RCPT TO:<a@here.example> NOTIFY=NEVER,DELAY\r\n"
     "RCPT TO:<a@here.example> ORCPT=a@here.example\r\n", "250 501 501 250 501 501", ""},
    {"another next hop's recipient waits for the next transaction",
     EHLO MAIL RCPT("a") "RCPT TO:<b@other.example>\r\nDATA\r\nx\r\n.\r\n" MAIL
     "RCPT TO:<b@other.example>\r\n", "250 250 250 452 354 250 250 250",
     SENDER " a@here.example; " SENDER " DATA; end; " "other: " SENDER " b@other.example; "},
    {"a refused recipient binds to no next hop",
     EHLO MAIL RCPT("unknown") "RCPT TO:<b@other.example>\r\n", "250 250 550 250",
     SENDER " unknown@here.example; other: " SENDER " b@other.example; "},
    {"log-in needs a listener for it", EHLO "AUTH PLAIN dGVzdA==\r\n", "250 502", ""},
    {"http closes", "GET / HTTP/1.0\r\nHELO x\r\n", "500", ""},
    {"starttls without tls", EHLO "STARTTLS\r\n", "250 502", ""},
    {"nul in a command", EHLO "NOOP \001x\r\n", "250 500", ""},
    {"too many errors", "A\r\nB\r\nC\r\nD\r\nE\r\nF\r\nG\r\nNOOP\r\n",
     "500 500 500 500 500 500 500 421", ""},
    {"too much junk", EHLO "NOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nRSET\r\nNOOP\r\nHELP\r\nNOOP\r\nNOOP\r\n",
     "250 250 250 250 250 250 250 214 421", ""},
    {"client vanishes in mid-data", EHLO MAIL RCPT("a") "DATA\r\nhalf a mess", "250 250 250 354",
     SENDER " a@here.example DATA; abort; "},
    {"client vanishes before the last octet", EHLO MAIL RCPT("a") "DATA\r\nx\r\n.\r",
     "250 250 250 354", SENDER " a@here.example DATA; abort; "},
    {"loop", EHLO MAIL RCPT("a") "DATA\r\nReceived: 1\r\nReceived: 2\r\nReceived: 3\r\nReceived: 4\r\n"
     "\r\nx\r\n.\r\n", "250 250 250 354 554", SENDER " a@here.example DATA; abort; "},
    {"smuggled transaction stays data", EHLO MAIL RCPT("a") "DATA\r\nx\n.\n" MAIL RCPT("b")
     "DATA\r\ny\r\n.\r\n", "250 250 250 354 250", SENDER " a@here.example DATA; end; "},
};

static void test_dialog(gconstpointer data)
{
    size_t i = GPOINTER_TO_SIZE(data);
    struct scene scene;

    scene_open(&scene);
    say(&scene, dialogs[i].input, strlen(dialogs[i].input));
    shutdown(scene.client, SHUT_WR);
    g_assert_cmpint(run(&scene), ==, SESSION_CLOSED);
    g_autofree char *codes = heard_codes(&scene);
    if (strcmp(codes, dialogs[i].codes) != 0 || strcmp(told->str, dialogs[i].told) != 0)
        g_test_message("input: %s", dialogs[i].input);
    g_assert_cmpstr(codes, ==, dialogs[i].codes);
    g_assert_cmpstr(told->str, ==, dialogs[i].told);
    scene_close(&scene);
}

/* How a message received in chunks goes out, in either form. */
static const struct {
    const char *name, *chunks, *lines, *out;
} chunked[] = {
    {"plain", "BDAT 6 LAST\r\na\r\nb\r\n", "a\r\nb\r\n", "a\r\nb\r\n"},
    {"dots", "BDAT 11 LAST\r\n.a\r\n.\r\n..\r\n", "..a\r\n..\r\n...\r\n", ".a\r\n.\r\n..\r\n"},
    {"dot at a chunk's border", "BDAT 3\r\na\r\nBDAT 3 LAST\r\n.\r\n", "a\r\n..\r\n", "a\r\n.\r\n"},
    {"CRLF over a border", "BDAT 2\r\na\rBDAT 2 LAST\r\n\n.", "a\r\n..\r\n", "a\r\n."},
    {"no newline at the end", "BDAT 1 LAST\r\na", "a\r\n", "a"},
    {"bare LF", "BDAT 4 LAST\r\na\n.\n", "a\r\n..\r\n", "a\r\n.\r\n"},
    {"bare CR, at the end too", "BDAT 4 LAST\r\na\rb\r", "a b \r\n", "a b "},
    {"empty last chunk", "BDAT 3\r\na\r\nBDAT 0 LAST\r\n", "a\r\n", "a\r\n"},
};

static void test_chunks(gconstpointer data)
{
    size_t i = GPOINTER_TO_SIZE(data);
    for (int form = COURIER_LINES; form <= COURIER_CHUNKS; form++) {
        struct scene scene;
        scene_open(&scene);
        next_form = form;
        g_autofree char *input = g_strdup_printf(EHLO MAIL RCPT("a") "%s", chunked[i].chunks);
        say(&scene, input, strlen(input));
        shutdown(scene.client, SHUT_WR);
        step(&scene);
        const char *text = strstr(body->str, "+0000\r\n");
        g_assert_nonnull(text);
        g_assert_cmpstr(text + 7, ==, form == COURIER_LINES ? chunked[i].lines : chunked[i].out);
        scene_close(&scene);
    }
    next_form = COURIER_LINES;
}

/* XCLIENT from a listed host: the session starts over as another client, only once, without a login. */
static void test_xclient(void)
{
    static const char input[] =
        "XCLIENT NAME=x ADDR=IPV6:2001:db8::9 PORT=99 LOGIN=bob\r\n"
        "XCLIENT NAME=x ADDR=IPV6:2001:db8::9 PORT=99\r\n" MAIL EHLO "XCLIENT ADDR=192.0.2.1\r\n"
        MAIL RCPT("a") "DATA\r\nx\r\n.\r\nQUIT\r\n";
    struct scene scene;
    struct cidr_set *front = cidr_set_new();

    cidr_set_add(front, "198.51.100.7", NULL);
    scene_open(&scene);
    scene.rules.xclient_hosts = front;
    say(&scene, input, strlen(input));
    step(&scene);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "501 220 503 250 550 250 250 354 250 221");
    g_assert_true(g_str_has_prefix(body->str, "Received: from c.example (unknown [IPv6:2001:db8::9])"));
    g_assert_cmpstr(scene.session->client_shown, ==, "[2001:db8::9]:99");
    scene_close(&scene);

    scene_open(&scene);
    scene.rules.xclient_hosts = front;
    say(&scene, "XCLIENT ADDR=127.0.0.1\r\nNOOP\r\n", 30);
    step(&scene);
    g_autofree char *refused = heard_codes(&scene);
    g_assert_cmpstr(refused, ==, "554");
    scene_close(&scene);

    /* Lists apply to the client that it names, not to the one that sent it. */
    scene_open(&scene);
    scene.rules.xclient_hosts = front;
    say(&scene, "XCLIENT ADDR=203.0.113.66\r\nNOOP\r\n", 33);
    step(&scene);
    g_autofree char *denied = heard_codes(&scene);
    g_assert_cmpstr(denied, ==, "554");
    scene_close(&scene);

    /* An earlier login does not belong to the client named now. */
    scene_open(&scene);
    scene.rules.xclient_hosts = front;
    scene.session->client.authenticated = true;
    strcpy(scene.session->user, "bob");
    say(&scene, "XCLIENT ADDR=192.0.2.1\r\nQUIT\r\n", 31);
    step(&scene);
    g_assert_false(scene.session->client.authenticated);
    g_assert_cmpstr(scene.session->user, ==, "");
    scene_close(&scene);
    cidr_set_free(front);
}

/* A client that is refused for lack of TLS has often already sent the password. */
static void test_refused_auth_is_wiped(void)
{
    static const char input[] = EHLO "AUTH PLAIN AGJvYgBzZWNyZXQ=\r\nQUIT\r\n";
    struct scene scene;

    scene_open(&scene);
    say(&scene, input, strlen(input));
    step(&scene);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 502 221");
    g_assert_null(memmem(scene.scratch.client.in, sizeof input, "AGJvYg", 6));
    scene_close(&scene);
}

/* What EHLO offers, to the letter: a keyword that nobody meant to offer is found here. */
static void test_offer(void)
{
    static const char wanted_lines[] = "250-mx.here.example\r\n"
                                       "250-PIPELINING\r\n"
                                       "250-SIZE 100000\r\n"
                                       "250-ENHANCEDSTATUSCODES\r\n"
                                       "250-8BITMIME\r\n"
                                       "250-DSN\r\n"
                                       "250-CHUNKING\r\n"
                                       "250-LIMITS RCPTMAX=5\r\n"
                                       "250 HELP\r\n";
    char heard[1024] = "";
    struct scene scene;

    scene_open(&scene);
    say(&scene, EHLO, strlen(EHLO));
    run(&scene);
    g_assert_cmpint(recv(scene.client, heard, sizeof heard - 1, MSG_DONTWAIT), >, 0);
    g_assert_cmpstr(heard, ==, wanted_lines);
    scene_close(&scene);
}

static void test_body_is_untouched(void)
{
    static const char text[] = "Subject: x\r\n\r\n..dots\r\n.more\r\n\xc3\xa4 8-bit\r\n";
    struct scene scene;

    scene_open(&scene);
    g_autofree char *input = g_strdup_printf(EHLO MAIL RCPT("a") "DATA\r\n%s.\r\n", text);
    say(&scene, input, strlen(input));
    shutdown(scene.client, SHUT_WR);
    run(&scene);
    g_assert_true(g_str_has_prefix(body->str, "Received: from c.example (unknown [198.51.100.7])"));
    g_assert_true(g_str_has_suffix(body->str, text));
    scene_close(&scene);
}

/* A first line that begins with a space, or with a bare CR that becomes one, must not continue our Received
 * field. */
static void test_first_line_with_blank(void)
{
    static const char *const texts[] = {" hidden: in our field\r\n", "\thidden\r\n", "\rhidden\r\n"};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        struct scene scene;
        scene_open(&scene);
        g_autofree char *input =
            g_strdup_printf(EHLO MAIL RCPT("a") "DATA\r\n%sx\r\n.\r\n", texts[i]);
        say(&scene, input, strlen(input));
        shutdown(scene.client, SHUT_WR);
        step(&scene);
        const char *text = strstr(body->str, "hidden");
        g_assert_nonnull(text);
        g_assert_cmpint(strncmp(text - 5, "\r\n\r\n", 4), ==, 0);
        scene_close(&scene);
    }
}

/* The field goes after mailbox file lines, which would otherwise separate it from the header, and nowhere
 * else. A false end of data in such a line does not count either. */
static void test_mailbox_lines(void)
{
    static const struct {
        const char *text, *before, *behind; /* our field */
    } cases[] = {
        {"From a@b Sat\r\nSubject: x\r\n\r\ny\r\n", "From a@b Sat\r\n", "Subject: x\r\n\r\ny\r\n"},
        {"From a\n>From b\nFrom: c\r\n", "From a\r\n>From b\r\n", "From: c\r\n"},
        {"From a\n.\r\nS: x\r\n", "From a\r\n", "..\r\nS: x\r\n"},
        {"From a\r\n b: c\r\n", "From a\r\n", "\r\n b: c\r\n"},
        {"From a\r\n", "From a\r\n", ""},
        {"From\r\n", "", "From\r\n"},
        {">Fr\rom a\r\n", "", ">Fr om a\r\n"},
        {"", "", ""},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct scene scene;
        scene_open(&scene);
        g_autofree char *input =
            g_strdup_printf(EHLO MAIL RCPT("a") "DATA\r\n%s.\r\n", cases[i].text);
        g_test_message("%s", cases[i].text);
        say(&scene, input, strlen(input));
        shutdown(scene.client, SHUT_WR);
        step(&scene);
        g_assert_true(g_str_has_prefix(body->str, cases[i].before));
        const char *field = body->str + strlen(cases[i].before), *end = strstr(field, " +0000\r\n");
        g_assert_true(g_str_has_prefix(field, "Received: from c.example"));
        g_assert_nonnull(end);
        g_assert_cmpstr(end + 8, ==, cases[i].behind);
        scene_close(&scene);
    }
}

static void test_too_big_is_drained(void)
{
    struct scene scene;
    scene_open(&scene);
    GString *input = g_string_new(EHLO MAIL RCPT("a") "DATA\r\n");
    for (int i = 0; i < 1500; i++)
        g_string_append(input, "0123456789012345678901234567890123456789012345678901234567890123456789\r\n");
    g_string_append(input, ".\r\nNOOP\r\n");
    say(&scene, input->str, input->len);
    shutdown(scene.client, SHUT_WR);
    run(&scene);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 354 552 250");
    g_assert_true(g_str_has_suffix(told->str, "abort; "));
    g_string_free(input, TRUE);
    scene_close(&scene);
}

static void test_next_hop_lost_in_data(void)
{
    struct scene scene;
    scene_open(&scene);
    fail_write_at = 1;
    static const char input[] = EHLO MAIL RCPT("a") "DATA\r\nx\r\n.\r\nNOOP\r\n";
    say(&scene, input, strlen(input));
    shutdown(scene.client, SHUT_WR);
    run(&scene);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 354 451 250");
    scene_close(&scene);
}

static void test_final_refusal_is_passed(void)
{
    struct scene scene;
    scene_open(&scene);
    end_code = 550;
    static const char input[] = EHLO MAIL RCPT("a") "DATA\r\nx\r\n.\r\nNOOP\r\n";
    say(&scene, input, strlen(input));
    shutdown(scene.client, SHUT_WR);
    run(&scene);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 354 550 250");
    scene_close(&scene);
}

/* What follows a DATA that gets its 354 before the next hop's. */
static const struct {
    const char *name, *parameters, *data, *codes, *told;
    int data_code;
    bool parked; /* between DATA and what follows */
} begun_early[] = {
    {"taken", "", "x\r\n.\r\nNOOP\r\n", "354 250 250", "asked; heard; end; ", 354, true},
    {"empty", "", ".\r\nNOOP\r\n", "354 250 250", "asked; heard; end; ", 354, true},
    {"refused for now", "", "x\r\n.\r\nNOOP\r\n", "354 451 250", "asked; heard; end; ", 451, true},
    {"refused", "", "x\r\n.\r\nNOOP\r\n", "354 554 250", "asked; heard; end; ", 554, true},
    {"refused and left", "", "x\r\n.\r\nNOOP\r\n", "354 421", "asked; heard; end; ", 421, true},
    {"refused, client vanishes", "", "x\r\n", "354", "asked; heard; abort; ", 554, true},
    {"client vanishes", "", "", "354", "asked; abort; ", 354, true},
    {"client vanishes before the last octet", "", ".\r", "354", "asked; heard; abort; ", 354, true},
    {"a big message", " SIZE=1048577", "x\r\n.\r\n", "354 250", "heard; end; ", 354, true},
    {"a big message, refused", " SIZE=1048577", "NOOP\r\n", "554 250", "heard; ", 554, true},
    {"one that is just small", " SIZE=1048576", "x\r\n.\r\n", "354 250", "asked; heard; end; ", 354,
     true},
    {"client does not wait", "", "x\r\n.\r\n", "354 250", "heard; end; ", 354, false},
    {"client does not wait, refused", "", "NOOP\r\n", "554 250", "heard; ", 554, false},
};

static void test_begun_early(gconstpointer data)
{
    size_t i = GPOINTER_TO_SIZE(data);
    struct scene scene;

    scene_open(&scene);
    early = true;
    data_code = begun_early[i].data_code;
    scene.rules.message_size = 2000000;
    g_autofree char *before = g_strdup_printf(EHLO "MAIL FROM:<s@far.example>%s\r\n" RCPT("a"),
                                              begun_early[i].parameters);
    say(&scene, before, strlen(before));
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    g_autofree char *greeted = heard_codes(&scene);
    g_assert_cmpstr(greeted, ==, "250 250 250");
    g_string_truncate(told, 0);
    g_autofree char *input = g_strconcat("DATA\r\n", begun_early[i].data, NULL);
    if (begun_early[i].parked) {
        say(&scene, input, 6);
        step(&scene);
    }
    say(&scene, input + (begun_early[i].parked ? 6 : 0), strlen(input) - (begun_early[i].parked ? 6 : 0));
    shutdown(scene.client, SHUT_WR);
    g_assert_cmpint(run(&scene), ==, SESSION_CLOSED);
    g_autofree char *codes = heard_codes(&scene);
    g_autofree char *expected = g_strconcat(SENDER " DATA; ", begun_early[i].told, NULL);
    g_assert_cmpstr(codes, ==, begun_early[i].codes);
    g_assert_cmpstr(told->str, ==, expected);
    g_assert_cmpint(data_code == 354 || body->len == 0, ==, true);
    scene_close(&scene);
}

/* The next hop's reply is read when the first octet arrives, not before, and the wait for it does not count
 * as the client's. */
static void test_early_waits_without_worker(void)
{
    struct scene scene;

    scene_open(&scene);
    early = true;
    say(&scene, EHLO MAIL RCPT("a") "DATA\r\n", strlen(EHLO MAIL RCPT("a") "DATA\r\n"));
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    g_assert_cmpstr(told->str, ==, SENDER " a@here.example DATA; asked; ");
    g_assert_true(session_holds_next_hop(scene.session));
    data_takes_ms = 400; /* longer than data_timeout_ms */
    say(&scene, "x", 1);
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    g_assert_true(g_str_has_suffix(told->str, "asked; heard; "));
    say(&scene, "\r\n.\r\n", 5);
    g_assert_cmpint(run(&scene), ==, SESSION_IDLE);
    g_assert_true(g_str_has_suffix(told->str, "asked; heard; end; "));
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 354 250");
    scene_close(&scene);
}

/* A client that has sent its data in time is not cut because the next hop is slow to take them. */
static void test_slow_next_hop(void)
{
    struct scene scene;
    scene_open(&scene);
    scene.rules.min_data_rate = 100000;
    scene.rules.data_grace_ms = 100;
    write_takes_ms = 2 * (int)scene.rules.data_timeout_ms;
    GString *input = g_string_new(EHLO MAIL RCPT("a") "DATA\r\n");
    for (int i = 0; i < 2200; i++)
        g_string_append(input, "0123456789012345678901234567890123456789\r\n");
    g_string_append(input, ".\r\nQUIT\r\n");
    say(&scene, input->str, input->len);
    g_assert_cmpint(step(&scene), ==, SESSION_CLOSED);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 354 250 221");
    g_assert_cmpint(writes, >, 1);
    g_string_free(input, TRUE);
    scene_close(&scene);
}

/* The time between chunks is the client's, whatever it says there. */
static void test_slow_between_chunks(void)
{
    static const char *const said[] = {EHLO MAIL RCPT("a") "BDAT 1\r\nx", "NOOP\r\n", "NOOP\r\n"};
    struct scene scene;

    scene_open(&scene);
    scene.rules.min_data_rate = 1000;
    scene.rules.data_grace_ms = 1000;
    for (size_t i = 0; i < G_N_ELEMENTS(said); i++) {
        say(&scene, said[i], strlen(said[i]));
        g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
        clock_advance_ms(600);
    }
    say(&scene, "BDAT 10\r\n", 9);
    g_assert_cmpint(step(&scene), ==, SESSION_CLOSED);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 250 250 250 421");
    scene_close(&scene);
}

static void test_bare_newline_rejected(void)
{
    struct scene scene;
    scene_open(&scene);
    scene.rules.bare_newlines = DATALINE_REJECT;
    static const char input[] = EHLO MAIL RCPT("a") "DATA\r\nx\ny\r\n.\r\nNOOP\r\nNOOP\n";
    say(&scene, input, strlen(input));
    shutdown(scene.client, SHUT_WR);
    run(&scene);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 354 550 250 500");
    g_assert_true(g_str_has_suffix(told->str, "abort; "));
    scene_close(&scene);
}

/* 452 invites the client to try again later, but a client that keeps going is cut off anyway. */
static void test_overshoot(void)
{
    enum { PUT_OFF = 1000, ERRORS = 7 };
    struct scene scene;

    scene_open(&scene);
    log_set_level(LOG_LEVEL_ERROR); /* a thousand lines of one kind */
    g_autoptr(GString) input = g_string_new(EHLO MAIL);
    for (int i = 0; i < 5 + PUT_OFF + ERRORS + 1; i++)
        g_string_append(input, RCPT("a"));
    say(&scene, input->str, input->len);
    g_assert_cmpint(run(&scene), ==, SESSION_CLOSED);
    g_autofree char *codes = heard_codes(&scene);
    g_auto(GStrv) each = g_strsplit(codes, " ", -1);
    guint count = g_strv_length(each);
    g_assert_cmpuint(count, ==, 2 + 5 + PUT_OFF + ERRORS + 1);
    g_assert_cmpstr(each[count - 2], ==, "452");
    g_assert_cmpstr(each[count - 1], ==, "421");
    log_set_level(LOG_LEVEL_INFO);
    scene_close(&scene);
}

static void test_parking(void)
{
    struct scene scene;
    scene_open(&scene);
    say(&scene, EHLO, strlen(EHLO));
    g_assert_cmpint(run(&scene), ==, SESSION_IDLE);
    say(&scene, MAIL, strlen(MAIL));
    g_assert_cmpint(run(&scene), ==, SESSION_IDLE);
    say(&scene, RCPT("unknown"), strlen(RCPT("unknown")));
    g_assert_cmpint(run(&scene), ==, SESSION_IDLE);
    scene.rules.command_timeout_ms = 100;
    say(&scene, RCPT("a"), strlen(RCPT("a")));
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    g_assert_true(session_holds_next_hop(scene.session));
    g_assert_cmpint(run(&scene), ==, SESSION_CLOSED);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 550 250 421");
    scene_close(&scene);
}

/* Wherever a client stops, the session waits without a worker, keeps what it has read, and continues. */
static void test_waiting_everywhere(void)
{
    static const char input[] =
        EHLO MAIL RCPT("a") "DATA\r\nhello\r\n..x\r\n.\r\n" MAIL RCPT("b") "QUIT\r\n";
    struct scene scene;
    scene_open(&scene);
    scene.rules.park_after_ms = 0;
    for (size_t i = 0; i < sizeof input - 1; i++) {
        say(&scene, input + i, 1);
        enum session_result result = step(&scene);
        if (i + 2 < sizeof input)
            g_assert_cmpint(result, !=, SESSION_CLOSED);
        else
            g_assert_cmpint(result, ==, SESSION_CLOSED);
    }
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 354 250 250 250 221");
    g_assert_cmpstr(told->str, ==, SENDER " a@here.example; " SENDER " DATA; end; " SENDER
                                          " b@here.example; ");
    g_assert_true(g_str_has_suffix(body->str, "\r\n\r\nhello\r\n..x\r\n") ||
                  g_str_has_suffix(body->str, "hello\r\n..x\r\n"));
    scene_close(&scene);
}

/* The session waits without a worker for what a recipient needs. Everything before it has been answered,
 * nothing about it has been sent, and the input after it is kept. */
static void test_waits_for_a_grant(void)
{
    static const char input[] = EHLO MAIL RCPT("unknown") "RCPT TO:<a@foreign.example>\r\n"
        RCPT("a") RCPT("b") "DATA\r\nhello\r\n.\r\nQUIT\r\n";
    struct scene scene;
    scene_open(&scene);
    granted_at_ms = INT64_MAX;
    say(&scene, input, sizeof input - 1);
    for (int i = 0; i < 3; i++) {
        /* Run too early, it keeps waiting. */
        g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
        g_assert_cmpint(session_awaits(scene.session), ==, SESSION_AWAITS_GRANT);
        g_assert_cmpint(session_due_ms(scene.session), ==, INT64_MAX);
        g_assert_false(session_holds_next_hop(scene.session));
    }
    g_autofree char *before = heard_codes(&scene);
    g_assert_cmpstr(before, ==, "250 250");
    g_assert_cmpstr(told->str, ==, "");
    granted_at_ms = 0;
    g_assert_cmpint(step(&scene), ==, SESSION_CLOSED);
    g_autofree char *after = heard_codes(&scene);
    g_assert_cmpstr(after, ==, "550 550 250 250 354 250 221");
    g_assert_cmpstr(told->str, ==,
                    SENDER " unknown@here.example a@here.example b@here.example; " SENDER
                           " DATA; end; ");
    scene_close(&scene);
}

/* A recipient that must wait follows others that need not: those are asked about first. */
static void test_waits_in_mid_batch(void)
{
    struct scene scene;
    scene_open(&scene);
    say(&scene, EHLO MAIL RCPT("a"), strlen(EHLO MAIL RCPT("a")));
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    granted_at_ms = INT64_MAX;
    say(&scene, RCPT("b") "RSET\r\n", strlen(RCPT("b") "RSET\r\n"));
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    g_assert_cmpint(session_awaits(scene.session), ==, SESSION_AWAITS_GRANT);
    g_assert_true(session_holds_next_hop(scene.session));
    /* The client is not to blame for the time it waits there. */
    g_assert_cmpint(session_slowness_ms(scene.session, deadline_now_ms() + 10000), <, 5000);
    /* Evicted, it asks for nothing more. */
    session_evict(scene.session);
    g_assert_cmpint(session_due_ms(scene.session), ==, 0);
    g_assert_cmpint(step(&scene), !=, SESSION_WAITING);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 250 250");
    scene_close(&scene);
}

/* A client that is gone while it waits is asked about nowhere. */
static void test_vanishes_in_wait(void)
{
    static const char input[] = EHLO MAIL RCPT("a");
    struct scene scene;
    scene_open(&scene);
    granted_at_ms = INT64_MAX;
    say(&scene, input, sizeof input - 1);
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    session_vanish(scene.session);
    g_assert_cmpint(step(&scene), ==, SESSION_CLOSED);
    g_assert_cmpstr(told->str, ==, "");
    scene_close(&scene);
}

/* No worker waits for a client that does not read, and its input is not read. No reply is lost. */
static void test_replies_unread(void)
{
    enum { COMMANDS = 3000 };
    struct scene scene;
    int size = 1, runs = 0;
    scene_open(&scene);
    scene.rules.junk_commands = 10 * COMMANDS;
    g_assert_cmpint(setsockopt(scene.server, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), ==, 0);
    g_autoptr(GString) input = g_string_new(EHLO), heard = g_string_new(NULL);
    for (int i = 0; i < COMMANDS; i++)
        g_string_append(input, "HELP\r\n");
    g_string_append(input, "QUIT\r\n");
    say(&scene, input->str, input->len);
    enum session_result result;
    while ((result = step(&scene)) == SESSION_WAITING) {
        char piece[3000];
        ssize_t len;
        g_assert_cmpint(session_awaits(scene.session), ==, SESSION_AWAITS_OUTPUT);
        runs++;
        while ((len = recv(scene.client, piece, sizeof piece, MSG_DONTWAIT)) > 0)
            g_string_append_len(heard, piece, len);
    }
    g_assert_cmpint(result, ==, SESSION_CLOSED);
    g_autofree char *last = heard_codes(&scene);
    g_assert_cmpint(runs, >, 1);
    g_assert_true(g_str_has_suffix(last, "221"));
    scene_close(&scene);

    /* It has a time limit. */
    scene_open(&scene);
    scene.rules.junk_commands = 10 * COMMANDS;
    scene.rules.stress_timeout_ms = 100;
    atomic_store(&scene.signals.stressed, true);
    g_assert_cmpint(setsockopt(scene.server, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), ==, 0);
    say(&scene, input->str, input->len);
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    g_assert_cmpint(session_awaits(scene.session), ==, SESSION_AWAITS_OUTPUT);
    g_assert_cmpint(session_due_ms(scene.session), <=, deadline_now_ms() + 100);
    pass_until_due(&scene);
    g_assert_cmpint(step(&scene), ==, SESSION_CLOSED);
    scene_close(&scene);
}

/* The next hop is kept between two messages, unless others wait for it. */
static void test_next_hop_is_wanted(void)
{
    static const char message[] = MAIL RCPT("a") "DATA\r\nx\r\n.\r\n";
    struct scene scene;
    scene_open(&scene);
    atomic_store(&scene.signals.crowded, true);
    scene.rules.park_after_ms = 60000;
    say(&scene, EHLO, strlen(EHLO));
    say(&scene, message, strlen(message));
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    g_assert_true(session_holds_next_hop(scene.session));
    wanted = true;
    say(&scene, message, strlen(message));
    g_assert_cmpint(step(&scene), ==, SESSION_IDLE);
    g_assert_false(session_holds_next_hop(scene.session));
    scene_close(&scene);
}

/* Holding back a reply needs no worker. */
static void test_held_reply(void)
{
    struct scene scene;
    scene_open(&scene);
    say(&scene, EHLO "NOOP\r\n", strlen(EHLO "NOOP\r\n"));
    int64_t until_ms = deadline_now_ms() + 300;
    scene.session->held_until_ms = until_ms;
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    g_assert_cmpint(session_awaits(scene.session), ==, SESSION_AWAITS_GRANT);
    g_assert_cmpint(session_due_ms(scene.session), ==, until_ms);
    g_autofree char *before = heard_codes(&scene);
    g_assert_cmpstr(before, ==, "");
    pass_until_due(&scene);
    g_assert_cmpint(step(&scene), ==, SESSION_IDLE);
    g_autofree char *after = heard_codes(&scene);
    g_assert_cmpstr(after, ==, "250 250");
    scene_close(&scene);
}

/* Useless commands earn no time: slowness counts from MAIL. */
static void test_slowness(void)
{
    static const char *const nothings[] = {"BDAT 0\r\n", RCPT("a"), "VRFY x\r\n"};
    for (size_t i = 0; i < G_N_ELEMENTS(nothings); i++) {
        struct scene scene;
        scene_open(&scene);
        scene.rules.park_after_ms = 0;
        scene.rules.junk_commands = 100;
        scene.rules.recipients = 1000;
        scene.rules.min_data_rate = 1000;
        say(&scene, EHLO MAIL RCPT("a"), strlen(EHLO MAIL RCPT("a")));
        g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
        for (int k = 0; k < 10; k++) {
            clock_advance_ms(20);
            say(&scene, nothings[i], strlen(nothings[i]));
            g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
        }
        g_assert_cmpint(session_slowness_ms(scene.session, deadline_now_ms()), >=, 180);
        scene_close(&scene);
    }
}

/* One octet every 20 ms at the named place, and the time by which the session must end. */
static const struct {
    const char *name, *input, *codes;
    bool stressed;
    int least_ms, most_ms;
} trickles[] = {
    {"in a command", EHLO, "250 421", false, 200, 240},
    {"in a command under stress", EHLO, "250 421", true, 100, 140},
    {"in mail data: the average counts", EHLO MAIL RCPT("a") "DATA\r\n", "250 250 250 354 421",
     false, 400, 460},
    {"in mail data under stress", EHLO MAIL RCPT("a") "DATA\r\n", "250 250 250 354 421", true, 100,
     160},
};

static void test_trickles(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(trickles); i++) {
        struct scene scene;
        enum session_result result = SESSION_IDLE;
        g_test_message("%s", trickles[i].name);
        scene_open(&scene);
        scene.rules.data_timeout_ms = 10000;
        scene.rules.data_grace_ms = 400;
        scene.rules.min_data_rate = 1000;
        scene.rules.stress_timeout_ms = 100;
        scene.rules.stress_errors = 1;
        scene.rules.park_after_ms = 0;
        atomic_store(&scene.signals.stressed, trickles[i].stressed);
        int64_t began_ms = deadline_now_ms();
        say(&scene, trickles[i].input, strlen(trickles[i].input));
        result = step(&scene);
        int said;
        for (said = 0; result != SESSION_CLOSED && said < 150; said++) {
            say(&scene, "x", 1);
            result = step(&scene);
            if (result != SESSION_CLOSED)
                clock_advance_ms(20);
        }
        int64_t took_ms = deadline_now_ms() - began_ms;
        g_test_message("%d octets, %d ms", said, (int)took_ms);
        g_autofree char *codes = heard_codes(&scene);
        g_assert_cmpstr(codes, ==, trickles[i].codes);
        g_assert_cmpint(took_ms, >=, trickles[i].least_ms);
        g_assert_cmpint(said * 20, <=, trickles[i].most_ms);
        scene_close(&scene);
    }
}

#define RECEIVED "Received: from a by b\r\n"

/* What the client has sent in time is taken, however long it lies there until a worker is free. */
static void test_wait_for_worker(void)
{
    static const struct {
        const char *name, *before, *after, *codes;
        int late_ms; /* the client is so much behind its time */
    } waits[] = {
        {"mail data", EHLO MAIL RCPT("a") "DATA\r\n", "x\r\n.\r\nQUIT\r\n",
         "250 250 250 354 250 221", -1},
        {"mail data, too late", EHLO MAIL RCPT("a") "DATA\r\n", "x\r\n.\r\nQUIT\r\n",
         "250 250 250 354 421", 1},
        {"a chunk", EHLO MAIL RCPT("a") "BDAT 3 LAST\r\n", "x\r\nQUIT\r\n", "250 250 250 250 221",
         -1},
        {"refused mail data", EHLO MAIL RCPT("a") "DATA\r\n" RECEIVED RECEIVED RECEIVED RECEIVED,
         "x\r\n.\r\nQUIT\r\n", "250 250 250 354 554 221", -1},
        {"half a command", EHLO MAIL "RCPT TO:<a@", "here.example>\r\nQUIT\r\n", "250 250 250 221",
         -1},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(waits); i++) {
        struct scene scene;
        g_test_message("%s", waits[i].name);
        scene_open(&scene);
        scene.rules.stress_timeout_ms = 100;
        atomic_store(&scene.signals.stressed, true);
        say(&scene, waits[i].before, strlen(waits[i].before));
        g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
        clock_advance_ms((int)(session_due_ms(scene.session) - deadline_now_ms()) +
                         waits[i].late_ms);
        int64_t called_ms = deadline_now_ms();
        say(&scene, waits[i].after, strlen(waits[i].after));
        clock_advance_ms(10000);
        g_assert_cmpint(session_run(scene.session, &scene.scratch, called_ms), ==, SESSION_CLOSED);
        g_autofree char *codes = heard_codes(&scene);
        g_assert_cmpstr(codes, ==, waits[i].codes);
        scene_close(&scene);
    }
}

/* A fast sender may take longer than the grace time: its octets earn time. */
static void test_octets_earn_time(void)
{
    struct scene scene;
    static const char line[] = "0123456789012345678901234567890123456789\r\n";
    scene_open(&scene);
    scene.rules.data_grace_ms = 100;
    scene.rules.min_data_rate = 500;
    say(&scene, EHLO MAIL RCPT("a") "DATA\r\n", strlen(EHLO MAIL RCPT("a") "DATA\r\n"));
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    for (int i = 0; i < 30; i++) {
        say(&scene, line, sizeof line - 1);
        g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    }
    say(&scene, ".\r\nQUIT\r\n", 9);
    g_assert_cmpint(run(&scene), ==, SESSION_CLOSED);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 354 250 221");
    scene_close(&scene);
}

/* However busy the client, a message and a session have a time limit. */
static void test_total_times(void)
{
    struct scene scene;
    scene_open(&scene);
    scene.rules.message_timeout_ms = 150;
    say(&scene, EHLO MAIL RCPT("a") "DATA\r\n", strlen(EHLO MAIL RCPT("a") "DATA\r\n"));
    enum session_result result = SESSION_WAITING;
    for (int i = 0; i < 50 && result != SESSION_CLOSED; i++) {
        say(&scene, "a lively line\r\n", 15);
        result = step(&scene);
        clock_advance_ms(10);
    }
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 354 421");
    g_assert_true(g_str_has_suffix(told->str, "abort; "));
    scene_close(&scene);

    scene_open(&scene);
    scene.rules.session_timeout_ms = 100;
    say(&scene, EHLO MAIL RCPT("a"), strlen(EHLO MAIL RCPT("a")));
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    clock_advance_ms(100);
    say(&scene, "DATA\r\n.\r\n" MAIL, strlen("DATA\r\n.\r\n" MAIL));
    g_assert_cmpint(run(&scene), ==, SESSION_CLOSED);
    g_autofree char *after = heard_codes(&scene);
    g_assert_cmpstr(after, ==, "250 250 250 354 250 421");
    scene_close(&scene);
}

/* To make room for others, a session in a transaction is cut; one between messages only loses its next
 * hop. */
static void test_eviction(void)
{
    struct scene scene;
    scene_open(&scene);
    scene.rules.command_timeout_ms = 60000;
    say(&scene, EHLO MAIL RCPT("a"), strlen(EHLO MAIL RCPT("a")));
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    session_evict(scene.session);
    g_assert_cmpint(step(&scene), ==, SESSION_CLOSED);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 421");
    scene_close(&scene);

    scene_open(&scene);
    atomic_store(&scene.signals.crowded, true);
    scene.rules.park_after_ms = 60000; /* it would keep its next hop this long without eviction */
    say(&scene, EHLO MAIL RCPT("unknown"), strlen(EHLO MAIL RCPT("unknown")));
    g_assert_cmpint(step(&scene), ==, SESSION_WAITING);
    session_evict(scene.session);
    g_assert_cmpint(step(&scene), ==, SESSION_IDLE);
    g_assert_false(session_holds_next_hop(scene.session));
    say(&scene, "NOOP\r\n", 6);
    g_assert_cmpint(run(&scene), ==, SESSION_IDLE);
    g_autofree char *after = heard_codes(&scene);
    g_assert_cmpstr(after, ==, "250 250 550 250");
    scene_close(&scene);
}

static void test_half_a_line_times_out(void)
{
    struct scene scene;
    scene_open(&scene);
    say(&scene, "EHL", 3);
    g_assert_cmpint(run(&scene), ==, SESSION_CLOSED);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "421");
    scene_close(&scene);
}

static void test_silence_in_data_times_out(void)
{
    struct scene scene;
    scene_open(&scene);
    static const char input[] = EHLO MAIL RCPT("a") "DATA\r\nhalf";
    say(&scene, input, strlen(input));
    g_assert_cmpint(run(&scene), ==, SESSION_CLOSED);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 250 250 354 421");
    g_assert_true(g_str_has_suffix(told->str, "abort; "));
    scene_close(&scene);
}

static void test_draining(void)
{
    struct scene scene;
    scene_open(&scene);
    say(&scene, EHLO, strlen(EHLO));
    g_assert_cmpint(run(&scene), ==, SESSION_IDLE);
    atomic_store(&scene.signals.draining, true);
    say(&scene, MAIL, strlen(MAIL));
    g_assert_cmpint(run(&scene), ==, SESSION_CLOSED);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "250 421");
    scene_close(&scene);
}

static void test_dismiss(void)
{
    struct scene scene;
    scene_open(&scene);
    session_dismiss(scene.session, REPLY_IDLE);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "421");
    scene_close(&scene);
}

static void test_line_too_long(void)
{
    struct scene scene;
    scene_open(&scene);
    g_autofree char *x = g_strnfill(COMMAND_LINE_MAX + 10, 'x');
    g_autofree char *input = g_strdup_printf("NOOP %s\r\nNOOP\r\n", x);
    say(&scene, input, strlen(input));
    shutdown(scene.client, SHUT_WR);
    run(&scene);
    g_autofree char *codes = heard_codes(&scene);
    g_assert_cmpstr(codes, ==, "500 250");
    scene_close(&scene);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(dialogs); i++) {
        g_autofree char *path = g_strdup_printf("/session/dialog/%s", dialogs[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_dialog);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(chunked); i++) {
        g_autofree char *path = g_strdup_printf("/session/chunks/%s", chunked[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_chunks);
    }
    g_test_add_func("/session/xclient", test_xclient);
    g_test_add_func("/session/refused AUTH is wiped", test_refused_auth_is_wiped);
    g_test_add_func("/session/offer", test_offer);
    g_test_add_func("/session/body untouched", test_body_is_untouched);
    g_test_add_func("/session/first line with blank", test_first_line_with_blank);
    g_test_add_func("/session/mailbox lines", test_mailbox_lines);
    g_test_add_func("/session/slow next hop", test_slow_next_hop);
    g_test_add_func("/session/slow between chunks", test_slow_between_chunks);
    g_test_add_func("/session/too big is drained", test_too_big_is_drained);
    g_test_add_func("/session/next hop lost in data", test_next_hop_lost_in_data);
    g_test_add_func("/session/final refusal passed", test_final_refusal_is_passed);
    for (size_t i = 0; i < G_N_ELEMENTS(begun_early); i++) {
        g_autofree char *path = g_strdup_printf("/session/begun early/%s", begun_early[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_begun_early);
    }
    g_test_add_func("/session/early waits without a worker", test_early_waits_without_worker);
    g_test_add_func("/session/bare newline rejected", test_bare_newline_rejected);
    g_test_add_func("/session/overshoot", test_overshoot);
    g_test_add_func("/session/parking", test_parking);
    g_test_add_func("/session/half a line times out", test_half_a_line_times_out);
    g_test_add_func("/session/silence in data times out", test_silence_in_data_times_out);
    g_test_add_func("/session/waiting everywhere", test_waiting_everywhere);
    g_test_add_func("/session/waits for a grant", test_waits_for_a_grant);
    g_test_add_func("/session/waits in mid-batch", test_waits_in_mid_batch);
    g_test_add_func("/session/vanishes in a wait", test_vanishes_in_wait);
    g_test_add_func("/session/replies unread", test_replies_unread);
    g_test_add_func("/session/next hop is wanted", test_next_hop_is_wanted);
    g_test_add_func("/session/held reply", test_held_reply);
    g_test_add_func("/session/slowness", test_slowness);
    g_test_add_func("/session/trickles", test_trickles);
    g_test_add_func("/session/wait for a worker", test_wait_for_worker);
    g_test_add_func("/session/octets earn time", test_octets_earn_time);
    g_test_add_func("/session/total times", test_total_times);
    g_test_add_func("/session/eviction", test_eviction);
    g_test_add_func("/session/draining", test_draining);
    g_test_add_func("/session/dismiss", test_dismiss);
    g_test_add_func("/session/line too long", test_line_too_long);
    return g_test_run();
}
