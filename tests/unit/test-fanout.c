/* tests/unit/test-fanout.c - relay-out's courier against scripted next hops, with a real spool
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <limits.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "relay-out/courier-spool.h"
#include "relay-out/courier.h"
#include "relay-out/spooler-internal.h"
#include "relay-out/target.h"

#define HOPS 4
#define LINE_MAX_OCTETS 4096
/* For tests in which it runs out. */
#define SHORT_DEADLINE "live_deadline = 1;"
#define RECIPIENTS_MAX (2 * SESSION_BATCH_MAX)
#define TEXT "Subject: x\r\n\r\n..dots\r\nend\r\n"

/* Its replies; NULL: the usual one. "close" and "stall"; "await" closes without a reply once all that do
 * so are connected; "bye TEXT" replies and closes; "late TEXT" replies once the courier has stopped waiting;
 * "gated TEXT" replies once gate_is_open; "deaf TEXT" replies and then reads nothing. A next hop that stalls,
 * is late, gated or deaf lets time pass meanwhile, see pass_time(). */
struct script {
    const char *banner, *ehlo, *mail, *rcpt, *data, *dot, *rset;
    const char *second_mail; /* of a connection */
};

struct hop {
    struct script script;
    int listener;
    uint16_t port;
    pthread_t thread;
    pthread_mutex_t lock;
    unsigned connections, resets, quits, dots, lost_in_data;
    unsigned mails;  /* on the connection */
    bool owes_reply; /* and is not silent on purpose */
    /* Waits for a place here from the next MAIL on, and gets none while the message is under way. */
    struct host_cache *host_cache;
    struct host_cache_claim *claim;
    GString *commands, *message;
};

static struct hop hops[HOPS];
static char *folder, *spool_folder;
static int all_over; /* becomes readable when stalling next hops must end */
/* Next hops that wait for each other: now, the most at one time, and all. */
static atomic_uint awaiting, awaiting_most, awaiting_all;
static atomic_bool gate_is_open;
/* The client waits for a reply. */
static atomic_bool client_waits;

/* How many more calls of fsync(2) succeed. They do nothing: other tests cover power failures. */
static atomic_int good_syncs = INT_MAX;

int __wrap_fsync(int fd);

int __wrap_fsync(int fd)
{
    (void)fd;
    if (atomic_fetch_sub(&good_syncs, 1) > 0)
        return 0;
    errno = EIO;
    return -1;
}

static void set_owes_reply(struct hop *hop, bool owes_reply)
{
    pthread_mutex_lock(&hop->lock);
    hop->owes_reply = owes_reply;
    pthread_mutex_unlock(&hop->lock);
}

static bool is_at_rest(struct hop *hop)
{
    pthread_mutex_lock(&hop->lock);
    bool is =
        hop->connections == 0 || (!hop->owes_reply && strstr(hop->commands->str, "RCPT") != NULL);
    pthread_mutex_unlock(&hop->lock);
    return is;
}

/* A moment of silence: a millisecond, and a hundred on the clock of deadlines while the client waits. The clock
 * stands while another next hop is at work: a busy machine must not make it late. */
static void pass_time(struct hop *silent)
{
    set_owes_reply(silent, false);
    bool runs = atomic_load(&client_waits);
    for (int i = 0; i < HOPS; i++)
        runs = runs && (&hops[i] == silent || is_at_rest(&hops[i]));
    if (runs)
        clock_advance_ms(100);
    g_usleep(1000);
}

/* While this is set, there is no local port left. */
static atomic_bool no_ports;

int __real_connect(int fd, const struct sockaddr *address, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len);

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len)
{
    if (!atomic_load(&no_ports))
        return __real_connect(fd, address, len);
    errno = EADDRNOTAVAIL;
    return -1;
}

/* Keeps reading, or reads nothing, until the other side hangs up or the test is over. */
static void hang(struct hop *hop, int fd, short events)
{
    struct pollfd poll_fds[] = {{.fd = fd, .events = events}, {.fd = all_over, .events = POLLIN}};
    char octets[512];
    int ready;
    while ((ready = poll(poll_fds, 2, 0)) >= 0 && poll_fds[1].revents == 0 &&
           (poll_fds[0].revents & POLLRDHUP) == 0) {
        if (ready == 0)
            pass_time(hop);
        else if (events != POLLRDHUP && recv(fd, octets, sizeof octets, 0) <= 0)
            break;
    }
}

/* The courier waits no longer: the client has its reply, or the disk has failed. */
static bool has_given_up(void)
{
    return !atomic_load(&client_waits) || atomic_load(&good_syncs) < 0;
}

static void await_others(int fd)
{
    unsigned now = atomic_fetch_add(&awaiting, 1) + 1, most = atomic_load(&awaiting_most);
    while (now > most && !atomic_compare_exchange_weak(&awaiting_most, &most, now))
        ;
    struct pollfd hang_up = {.fd = fd, .events = POLLRDHUP};
    while (atomic_load(&awaiting_most) < atomic_load(&awaiting_all) && poll(&hang_up, 1, 1) == 0)
        ;
    atomic_fetch_sub(&awaiting, 1);
}

static bool say(struct hop *hop, int fd, const char *script, const char *usual)
{
    const char *text = script != NULL ? script : usual;
    char line[512];
    if (strcmp(text, "close") == 0)
        return false;
    if (strcmp(text, "await") == 0) {
        await_others(fd);
        return false;
    }
    if (strcmp(text, "stall") == 0) {
        hang(hop, fd, POLLIN | POLLRDHUP);
        return false;
    }
    bool leaves = strncmp(text, "bye ", 4) == 0, deaf = strncmp(text, "deaf ", 5) == 0;
    bool late = strncmp(text, "late ", 5) == 0, gated = strncmp(text, "gated ", 6) == 0;
    for (int i = 0;
         i < 60000 && ((late && !has_given_up()) || (gated && !atomic_load(&gate_is_open))); i++)
        pass_time(hop);
    const char *reply = leaves || deaf || late || gated ? strchr(text, ' ') + 1 : text;
    int len = snprintf(line, sizeof line, "%s\r\n", reply);
    bool sent = send(fd, line, (size_t)len, MSG_NOSIGNAL) == len;
    if (deaf)
        hang(hop, fd, POLLRDHUP);
    return sent && !leaves && !deaf;
}

static bool take_data(struct hop *hop, FILE *in)
{
    char line[LINE_MAX_OCTETS];
    while (fgets(line, sizeof line, in) != NULL) {
        pthread_mutex_lock(&hop->lock);
        bool dot = strcmp(line, ".\r\n") == 0;
        hop->dots += dot;
        if (!dot)
            g_string_append(hop->message, line);
        pthread_mutex_unlock(&hop->lock);
        if (dot)
            return true;
    }
    pthread_mutex_lock(&hop->lock);
    hop->lost_in_data++;
    pthread_mutex_unlock(&hop->lock);
    return false;
}

static bool answer_mail(struct hop *hop, int fd)
{
    const struct script *script = &hop->script;
    bool again = ++hop->mails == 2 && script->second_mail != NULL;

    pthread_mutex_lock(&hop->lock);
    if (hop->claim != NULL)
        g_assert_cmpint(host_cache_claim(hop->host_cache, hop->claim), >, 0);
    pthread_mutex_unlock(&hop->lock);
    return say(hop, fd, again ? script->second_mail : script->mail, "250 2.1.0 Ok");
}

static bool answer(struct hop *hop, int fd, FILE *in, const char *line)
{
    const struct script *script = &hop->script;
    const char *ehlo = "250-hop\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 1000";
    if (strncmp(line, "EHLO", 4) == 0)
        return say(hop, fd, script->ehlo, ehlo);
    if (strncmp(line, "MAIL", 4) == 0)
        return answer_mail(hop, fd);
    if (strncmp(line, "RCPT", 4) == 0)
        return say(hop, fd, script->rcpt, "250 2.1.5 Ok");
    if (strncmp(line, "RSET", 4) == 0)
        return say(hop, fd, script->rset, "250 2.0.0 Ok");
    if (strncmp(line, "DATA", 4) == 0) {
        if (!say(hop, fd, script->data, "354 go"))
            return false;
        if (script->data != NULL && strncmp(script->data, "354", 3) != 0)
            return true;
        return take_data(hop, in) && say(hop, fd, script->dot, "250 2.0.0 taken");
    }
    return say(hop, fd, NULL, strncmp(line, "QUIT", 4) == 0 ? "221 bye" : "500 what");
}

static void serve(struct hop *hop, int fd)
{
    char line[LINE_MAX_OCTETS];
    FILE *in = fdopen(fd, "r");
    const int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    hop->mails = 0;
    if (say(hop, fd, hop->script.banner, "220 hop ESMTP")) {
        while (fgets(line, sizeof line, in) != NULL) {
            pthread_mutex_lock(&hop->lock);
            g_string_append(hop->commands, line);
            hop->resets += strncmp(line, "RSET", 4) == 0;
            hop->quits += strncmp(line, "QUIT", 4) == 0;
            hop->owes_reply = true;
            pthread_mutex_unlock(&hop->lock);
            bool goes_on = answer(hop, fd, in, line);
            set_owes_reply(hop, false);
            if (!goes_on)
                break;
        }
    }
    fclose(in);
}

static void *run_hop(void *context)
{
    struct hop *hop = context;
    int fd;
    while ((fd = accept(hop->listener, NULL, NULL)) >= 0) {
        pthread_mutex_lock(&hop->lock);
        hop->connections++;
        pthread_mutex_unlock(&hop->lock);
        serve(hop, fd);
    }
    return NULL;
}

static void start_hop(struct hop *hop, const struct script *script)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    memset(hop, 0, sizeof *hop);
    hop->script = *script;
    hop->commands = g_string_new(NULL);
    hop->message = g_string_new(NULL);
    pthread_mutex_init(&hop->lock, NULL);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    hop->listener = socket(AF_INET, SOCK_STREAM, 0);
    g_assert_cmpint(bind(hop->listener, (struct sockaddr *)&address, len), ==, 0);
    g_assert_cmpint(listen(hop->listener, 10), ==, 0);
    getsockname(hop->listener, (struct sockaddr *)&address, &len);
    hop->port = ntohs(address.sin_port);
    pthread_create(&hop->thread, NULL, run_hop, hop);
}

static void stop_hop(struct hop *hop)
{
    shutdown(hop->listener, SHUT_RDWR);
    pthread_join(hop->thread, NULL);
    close(hop->listener);
    g_string_free(hop->commands, TRUE);
    g_string_free(hop->message, TRUE);
    pthread_mutex_destroy(&hop->lock);
}

/* The setting of one test: hops, the snapshot, a courier, a transaction. */
struct world {
    struct host_cache *host_cache;
    struct outbound *out;
    struct courier *courier;
    struct client_identity client;
    struct envelope envelope;
    struct recipient recipients[RECIPIENTS_MAX];
    size_t recipient_count;
    struct reply replies[RECIPIENTS_MAX], data, final;
    bool early; /* the client gets 354 before the next hops have answered */
};

static void collect(void *context, const char *text)
{
    g_string_append_printf(context, "%s\n", text);
}

/* The domains hop0.example, hop1.example ... go to the hops, dead.example to a closed port, loop to
 * own_addresses, two.example to hop 0 and then hop 1. sender.example has no server, so that notices stay
 * in the spool. Stored mail is not tried again. */
static struct config *make_config(const char *more)
{
    g_autofree char *file = g_build_filename(folder, "relay.conf", NULL);
    GString *text = g_string_new("hostname = \"relay.example\"; out = { allow = [ \"10.0.0.2\" ]; "
                                 "tls = { level = \"none\"; };\n"
                                 "listen = [ \"127.0.0.1:2526\" ]; routes = (\n");
    GString *errors = g_string_new(NULL);
    for (int i = 0; i < HOPS; i++)
        g_string_append_printf(
            text, "{ domain = [ \"hop%d.example\" ]; next_hop = [ \"127.0.0.1:%u\" ]; },\n", i,
            hops[i].port);
    g_string_append_printf(
        text,
        "{ domain = [ \"two.example\" ]; next_hop = [ \"127.0.0.1:%u\","
        " \"127.0.0.1:%u\" ]; },\n"
        "{ domain = [ \"dead.example\", \"sender.example\" ]; next_hop = [ \"127.0.0.1:1\" ]; },\n"
        "{ domain = [ \"loop.example\" ]; next_hop = [ \"127.0.0.1:2526\" ]; });\n"
        "retry = [ \"1h\" ]; spool_reserve = 0;\n%s };\n",
        hops[0].port, hops[1].port, more);
    if (strstr(more, "spool = ") == NULL)
        g_string_insert(text, text->len - 4, "spool = \"spool\";\n");
    g_assert_true(g_file_set_contents(file, text->str, -1, NULL));
    struct config *config = config_load_for(file, CONFIG_PART_OUT, collect, errors);
    g_assert_cmpstr(errors->str, ==, "");
    g_string_free(errors, TRUE);
    g_string_free(text, TRUE);
    return config;
}

static void outbound_end(struct service *service)
{
    outbound_free((struct outbound *)service);
}

static void open_world(struct world *world, const struct script *scripts, const char *more)
{
    static const struct script usual;
    static const char sender[] = "<s@sender.example>";
    struct error err = {""};
    size_t used;
    memset(world, 0, sizeof *world);
    for (int i = 0; i < HOPS; i++)
        start_hop(&hops[i], scripts != NULL ? &scripts[i] : &usual);
    struct config *config = make_config(more);
    world->host_cache = host_cache_new(&err);
    world->out = outbound_new(config, world->host_cache, NULL, &err);
    g_assert_cmpstr(err.text, ==, "");
    atomic_init(&world->out->service.references, 1);
    world->out->service.destroy = outbound_end;
    if (config->out.spool[0] != '\0') {
        world->out->spooler = spooler_open(config, &err);
        g_assert_cmpstr(err.text, ==, "");
        g_assert_cmpint(spooler_use(world->out->spooler, world->out, &err), ==, 0);
    }
    config_unref(config);
    world->courier = courier_out_new(world->out);
    world->client.session_id = "SESSION";
    world->envelope.client = &world->client;
    world->envelope.id = "SESSION.1";
    g_assert_true(path_parse_reverse(&world->envelope.sender, sender, strlen(sender), &used));
}

/* Removes all files of the spool. Returns how many were in the queue. */
static unsigned remove_spool(void)
{
    static const char *const names[] = {"queue", "quarantine", "lock"};
    unsigned count = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(spool_folder, names[i], NULL);
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        const char *name;
        while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
            g_autofree char *file = g_build_filename(path, name, NULL);
            g_remove(file);
            count++;
        }
        g_remove(path);
    }
    g_rmdir(spool_folder);
    return count;
}

/* Returns the number of files left in the queue. */
static unsigned close_world(struct world *world)
{
    uint64_t once = 1;
    world->courier->ops->free(world->courier);
    g_assert_cmpint(write(all_over, &once, sizeof once), ==, sizeof once);
    if (world->out->spooler != NULL)
        g_assert_true(spooler_close(world->out->spooler, deadline_in_ms(60000)));
    service_unref(&world->out->service);
    host_cache_free(world->host_cache);
    for (int i = 0; i < HOPS; i++)
        stop_hop(&hops[i]);
    g_assert_cmpint(read(all_over, &once, sizeof once), ==, sizeof once);
    atomic_store(&good_syncs, INT_MAX);
    return remove_spool();
}

static void check_stored_text(struct spool *spool, const struct spool_envelope *envelope)
{
    char text[sizeof TEXT] = "";
    int fd;

    if (envelope->size != strlen(TEXT)) /* a test with another message */
        return;
    enum spool_result result = spool_open_data(spool, envelope, &fd, NULL);
    if (result == SPOOL_MISSING) /* by now */
        return;
    g_assert_cmpint(result, ==, SPOOL_OK);
    g_assert_cmpint(read(fd, text, sizeof text), ==, strlen(TEXT));
    g_assert_cmpstr(text, ==, TEXT);
    close(fd);
}

struct look {
    struct spool *spool;
    GString *found;
};

static void note_id(void *context, const struct spool_envelope *envelope)
{
    *(uint64_t *)context = envelope->id;
}

/* Of the only message in the spool. */
static uint64_t only_id(void)
{
    struct spool_config config = {.folder = spool_folder};
    struct spool *spool = spool_open(&config, true, NULL);
    struct spool_scan_counts counts;
    uint64_t id = 0;

    g_assert_cmpint(spool_scan(spool, note_id, &id, &counts, NULL), ==, 0);
    g_assert_cmpuint(counts.messages, ==, 1);
    spool_close(spool);
    return id;
}

static void look_at_message(void *context, const struct spool_envelope *envelope)
{
    static const char *const states[] = {[RECIPIENT_QUEUED] = "queued",
                                         [RECIPIENT_DELIVERED] = "delivered",
                                         [RECIPIENT_FAILED] = "failed"};
    struct look *look = context;

    if (envelope->report) {
        g_string_append_printf(look->found, "notice %s;", envelope->recipients[0].path.mailbox);
        return;
    }
    g_assert_cmpstr(envelope->sender.mailbox, ==, "s@sender.example");
    check_stored_text(look->spool, envelope);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct spool_recipient *recipient = &envelope->recipients[i];
        g_string_append_printf(look->found, "%s %s %.3s;", recipient->path.mailbox,
                               states[recipient->state], recipient->reply);
    }
}

/* The contents of the spool: recipients with their state and last reply, and to whom notices go. */
static char *look_into_spool(void)
{
    struct spool_config config = {.folder = spool_folder};
    struct look look = {spool_open(&config, true, NULL), g_string_new(NULL)};
    struct spool_scan_counts counts;

    g_assert_nonnull(look.spool);
    g_assert_cmpint(spool_scan(look.spool, look_at_message, &look, &counts, NULL), ==, 0);
    spool_close(look.spool);
    return g_string_free(look.found, FALSE);
}

static void wait_for_spool(const char *expected)
{
    g_autofree char *found = look_into_spool();
    for (int i = 0; i < 6000 && strcmp(found, expected) != 0; i++) {
        g_usleep(10000);
        g_free(found);
        found = look_into_spool();
    }
    g_assert_cmpstr(found, ==, expected);
}

static void add(struct world *world, const char *mailbox)
{
    struct recipient *recipient = &world->recipients[world->recipient_count++];
    g_autofree char *text = g_strdup_printf("<%s>", mailbox);
    size_t used;
    memset(recipient, 0, sizeof *recipient);
    g_assert_true(path_parse_forward(&recipient->path, text, strlen(text), &used));
}

/* Sends RCPT for each word in `recipients`, DATA, and the message if it is asked for. Returns the codes
 * as text: "250 550 / 354 / 250". */
static char *transact(struct world *world, const char *recipients)
{
    static char message[] = TEXT;
    const struct courier_ops *ops = world->courier->ops;
    GString *codes = g_string_new(NULL);
    g_auto(GStrv) words = g_strsplit(recipients, " ", 0);
    const struct deadline too_late = deadline_in_ms(60000);
    size_t accepted = 0;

    world->recipient_count = 0;
    atomic_store(&client_waits, true);
    for (char **word = words; *word != NULL; word++)
        add(world, *word);
    for (size_t at = 0; at < world->recipient_count; at += SESSION_BATCH_MAX) {
        const size_t count = MIN(world->recipient_count - at, SESSION_BATCH_MAX);
        ops->send(world->courier, &world->envelope, world->recipients + at, count, COURIER_DATA);
        for (size_t i = at; i < at + count; i++) {
            ops->recipient_reply(world->courier, &world->replies[i]);
            accepted += reply_is_positive(&world->replies[i]);
            g_string_append_printf(codes, "%d ", world->replies[i].code);
        }
    }
    bool early = world->early && accepted > 0 && ops->ask_data(world->courier);
    ops->data_reply(world->courier, &world->data);
    g_string_append_printf(codes, "/ %d", early ? 354 : world->data.code);
    if (early || (world->data.code == 354 && accepted > 0)) {
        struct iovec iov = {message, strlen(message)};
        if (world->data.code == 354)
            ops->write(world->courier, &iov, 1);
        ops->end(world->courier, &world->final);
        g_string_append_printf(codes, " / %d", world->final.code);
    } else {
        ops->reset(world->courier);
    }
    atomic_store(&client_waits, false);
    /* By a short deadline, not by one of the defaults, which are longer. */
    g_assert_false(deadline_passed(too_late));
    return g_string_free(codes, FALSE);
}

/* clang-format off */
/* Each case is one transaction; `scripts` are for the four hops. */
static const struct {
    const char *name;
    struct script scripts[HOPS];
    const char *more, *recipients, *codes, *enhanced; /* of the last reply */
    unsigned dots[HOPS], connections[HOPS];
} cases[] = {
    {"one", {{0}}, "",
     "a@hop0.example b@hop0.example", "250 250 / 354 / 250", "2.0.0", {1}, {1}},
    {"next host after MAIL", {{.mail = "451 4.3.0 later"}}, "",
     "a@two.example", "250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"next host after 421 at MAIL", {{.mail = "bye 421 4.3.2 later"}}, "",
     "a@two.example", "250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"next host after a loss at MAIL", {{.mail = "close"}}, "",
     "a@two.example", "250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"next host after RCPT", {{.rcpt = "450 4.2.0 later"}}, "",
     "a@two.example", "250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"next host after RCPT, of two recipients", {{.rcpt = "450 4.2.0 later"}}, "",
     "a@two.example b@two.example", "250 250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"next host after a loss at RCPT", {{.rcpt = "close"}}, "",
     "a@two.example", "250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"next host after DATA", {{.data = "451 4.3.0 later"}}, "",
     "a@two.example b@two.example", "250 250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"next host after a loss at DATA", {{.data = "close"}}, "",
     "a@two.example", "250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"next host takes not all at DATA", {{.data = "451 4.3.5 later"}, {.rcpt = "550 5.1.1 no"}}, "",
     "a@two.example", "250 / 451", "4.3.5", {0}, {1, 1}},
    {"no next host after a refusal for good", {{.rcpt = "550 5.1.1 no"}}, "",
     "a@two.example", "550 / 554", "5.5.1", {0}, {1}},
    {"no next host behind the data", {{.dot = "451 4.7.1 later"}}, "",
     "a@two.example", "250 / 354 / 451", "4.7.1", {1}, {1}},
    {"no next host behind an end without a reply", {{.dot = "close"}}, "",
     "a@two.example", "250 / 354 / 451", "4.4.2", {1}, {1}},
    {"the next host does not want it either",
     {{.rcpt = "450 4.2.0 later"}, {.rcpt = "452 4.2.2 full"}}, "",
     "a@two.example", "452 / 554", "5.5.1", {0}, {1, 1}},
    {"refused for good, softly", {{.rcpt = "550 5.1.1 no"}}, "soft_bounce = true;",
     "a@two.example", "450 / 554", "5.5.1", {0}, {1}},
    {"refused for good behind the data, softly", {{.dot = "521 5.7.1 no"}}, "soft_bounce = true;",
     "a@two.example", "250 / 354 / 451", "4.7.1", {1}, {1}},
    {"three, one refuses its recipient", {{0}, {.rcpt = "550 5.1.1 no"}, {0}}, "",
     "a@hop0.example b@hop1.example c@hop2.example", "250 550 250 / 354 / 250", "2.0.0", {1, 0, 1},
     {1, 1, 1}},
    {"all refuse", {{.rcpt = "550 5.1.1 no"}}, "",
     "a@hop0.example", "550 / 554", "5.5.1", {0}, {1}},
    {"final refusals agree", {{.dot = "550 5.7.1 spam"}, {.dot = "554 5.7.1 spam"}}, "",
     "a@hop0.example b@hop1.example", "250 250 / 354 / 550", "5.7.1", {1, 1}, {1, 1}},
    {"final: later before never", {{.dot = "550 5.7.1 spam"}, {.dot = "451 4.7.1 later"}}, "",
     "a@hop0.example b@hop1.example", "250 250 / 354 / 451", "4.7.1", {1, 1}, {1, 1}},
    {"final: mixed", {{.dot = "550 5.7.1 spam"}, {0}}, "",
     "a@hop0.example b@hop1.example", "250 250 / 354 / 250", "2.0.0", {1, 1}, {1, 1}},
    {"no store: one next hop", {{0}}, "spool = \"\";",
     "a@hop0.example b@hop1.example c@hop0.example", "250 452 250 / 354 / 250", "2.0.0", {1, 0},
     {1, 0}},
    {"no store: the first that is there", {{0}}, "spool = \"\";",
     "a@dead.example b@hop0.example", "451 250 / 354 / 250", "2.0.0", {1}, {1}},
    {"lost after the end", {{.dot = "close"}}, "",
     "a@hop0.example", "250 / 354 / 451", "4.4.2", {1}, {1}},
    {"one lost at DATA", {{.data = "close"}, {0}}, "",
     "a@hop0.example b@hop1.example", "250 250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"DATA refused", {{.data = "451 4.3.0 not now"}}, "",
     "a@hop0.example", "250 / 451", "4.3.0", {0}, {1}},
    {"DATA refused for good", {{.data = "554 5.7.1 never"}, {.data = "554 5.7.0 never"}}, "",
     "a@hop0.example b@hop1.example", "250 250 / 554", "5.7.1", {0}, {1, 1}},
    {"DATA refused: later before never", {{.data = "554 5.7.1 never"}, {.data = "421 4.7.1 later"}},
     "",
     "a@hop0.example b@hop1.example", "250 250 / 451", "4.7.1", {0}, {1, 1}},
    {"DATA refused by one", {{.data = "554 5.7.1 never"}, {0}}, "",
     "a@hop0.example b@hop1.example", "250 250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"no sense at DATA", {{.data = "250 2.0.0 thanks"}}, "",
     "a@hop0.example", "250 / 500", "5.5.0", {0}, {1}},
    {"MAIL refused", {{.mail = "550 5.7.1 not you"}}, "",
     "a@hop0.example b@hop0.example", "550 550 / 554", "5.5.1", {0}, {1}},
    {"MAIL refused, and gone", {{.mail = "bye 550 5.7.1 not you"}}, "",
     "a@hop0.example b@hop0.example", "550 550 / 554", "5.5.1", {0}, {1}},
    {"MAIL refused, and gone, without PIPELINING",
     {{.ehlo = "250 hop", .mail = "bye 550 5.7.1 not you"}}, "",
     "a@hop0.example b@hop0.example", "550 550 / 554", "5.5.1", {0}, {1}},
    {"354 to MAIL", {{.mail = "354 go"}}, "",
     "a@hop0.example", "500 / 554", "5.5.1", {0}, {1}},
    {"354 to RCPT", {{.rcpt = "354 go"}}, "",
     "a@hop0.example", "500 / 554", "5.5.1", {0}, {1}},
    {"354 to the end of data", {{.dot = "354 go on"}}, "",
     "a@hop0.example", "250 / 354 / 500", "5.5.0", {1}, {1}},
    {"no answer to RCPT in time", {{.rcpt = "stall"}, {0}}, "timeouts = { reply = \"2s\"; };",
     "a@hop0.example b@hop1.example", "451 250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"421 at RCPT is none of ours", {{.rcpt = "421 4.3.2 bye"}}, "",
     "a@hop0.example b@hop0.example", "451 451 / 554", "5.5.1", {0}, {1}},
    {"no enhanced code", {{.dot = "250 fine"}}, "",
     "a@hop0.example", "250 / 354 / 250", "2.0.0", {1}, {1}},
    {"nobody there", {{0}}, "",
     "a@dead.example b@hop0.example", "451 250 / 354 / 250", "2.0.0", {1}, {1}},
    {"next host after a bad greeting", {{.banner = "554 5.7.1 no"}, {0}}, "",
     "a@two.example", "250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"next host after EHLO and HELO refused", {{.ehlo = "421 4.3.2 busy"}, {0}}, "",
     "a@two.example", "250 / 354 / 250", "2.0.0", {0, 1}, {1, 1}},
    {"bad greeting everywhere", {{.banner = "554 5.7.1 no"}, {.banner = "421 4.3.2 busy"}}, "",
     "a@two.example", "451 / 554", "5.5.1", {0}, {1, 1}},
    {"ourselves", {{0}}, "",
     "a@loop.example", "554 / 554", "5.5.1", {0}, {0}},
    {"too many next hops", {{0}}, "limits = { next_hops = 2; };",
     "a@hop0.example b@hop1.example c@hop2.example d@hop0.example", "250 250 452 250 / 354 / 250",
     "2.0.0", {1, 1, 0}, {1, 1, 0}},
    {"without PIPELINING", {{.ehlo = "250-hop\r\n250 8BITMIME"}, {.ehlo = "250 hop"}}, "",
     "a@hop0.example b@hop1.example c@hop0.example", "250 250 250 / 354 / 250", "2.0.0", {1, 1},
     {1, 1}},
    {"no greeting, side by side",
     {{.banner = "await"}, {.banner = "await"}, {.banner = "await"}, {0}},
     "timeouts = { greeting = \"9s\"; };",
     "a@hop0.example b@hop1.example c@hop2.example d@hop3.example", "451 451 451 250 / 354 / 250",
     "2.0.0", {0, 0, 0, 1}, {1, 1, 1, 1}},
};
/* clang-format on */

/* The client has already begun to send: the reply to DATA becomes the final one. */
static char *when_early(const char *codes)
{
    bool refused = strstr(codes, "250") != NULL && strstr(codes, "/ 354") == NULL;
    g_auto(GStrv) parts = g_strsplit(codes, "/", 2);
    return refused ? g_strjoinv("/ 354 /", parts) : g_strdup(codes);
}

static void check_case(size_t i, bool early)
{
    struct world world;
    unsigned silent = 0;

    for (int k = 0; k < HOPS; k++)
        silent += g_strcmp0(cases[i].scripts[k].banner, "await") == 0;
    atomic_store(&awaiting_most, 0);
    atomic_store(&awaiting_all, silent);
    open_world(&world, cases[i].scripts, cases[i].more);
    world.early = early;
    g_autofree char *codes = transact(&world, cases[i].recipients);
    g_autofree char *expected = early ? when_early(cases[i].codes) : g_strdup(cases[i].codes);
    g_assert_cmpstr(codes, ==, expected);
    const struct reply *last = world.final.code != 0 ? &world.final : &world.data;
    g_assert_cmpstr(last->enhanced, ==, cases[i].enhanced);
    /* Silent next hops are waited for in parallel. */
    g_assert_cmpuint(atomic_load(&awaiting_most), ==, silent);
    close_world(&world);
    for (int k = 0; k < HOPS; k++) {
        g_assert_cmpint(hops[k].dots, ==, cases[i].dots[k]);
        g_assert_cmpint(hops[k].connections, ==, cases[i].connections[k]);
    }
}

static void test_case(gconstpointer data)
{
    check_case((size_t)data, false);
    check_case((size_t)data, true);
}

static void test_message(void)
{
    struct world world;
    open_world(&world, NULL, "");
    g_autofree char *codes = transact(&world, "a@hop0.example b@hop1.example");
    g_assert_cmpstr(codes, ==, "250 250 / 354 / 250");
    g_assert_cmpstr(world.final.text, ==, "taken\n");
    for (int i = 0; i < 2; i++) {
        pthread_mutex_lock(&hops[i].lock);
        g_assert_cmpstr(hops[i].message->str, ==, "Subject: x\r\n\r\n..dots\r\nend\r\n");
        pthread_mutex_unlock(&hops[i].lock);
    }
    close_world(&world);
}

/* Later messages use the first one's connection. RSET comes first if the last transaction did not end properly, or some
 * time ago, and then shows that the connection is dead. */
static void test_reuse(void)
{
    static const struct {
        struct script script;
        int64_t pause_ms;
        const char *codes;
        unsigned connections, resets, dots;
    } tries[] = {
        {{0}, 0, "250 / 354 / 250", 1, 0, 3},
        {{.dot = "554 5.6.0 no"}, 0, "250 / 354 / 554", 1, 0, 3},
        {{0}, 1000, "250 / 354 / 250", 1, 2, 3},
        {{.rset = "close"}, 1000, "250 / 354 / 250", 3, 2, 3},
        {{.data = "554 5.7.1 no"}, 0, "250 / 554", 1, 2, 0},
        {{.data = "554 5.7.1 no", .rset = "bye 421 4.3.2 no"}, 0, "250 / 554", 3, 2, 0},
    };
    struct world world;

    for (size_t k = 0; k < G_N_ELEMENTS(tries); k++) {
        const struct script scripts[HOPS] = {tries[k].script};
        open_world(&world, scripts, "");
        for (int i = 0; i < 3; i++) {
            g_autofree char *codes = transact(&world, "a@hop0.example");
            g_assert_cmpstr(codes, ==, tries[k].codes);
            clock_advance_ms(tries[k].pause_ms);
        }
        pthread_mutex_lock(&hops[0].lock);
        g_assert_cmpint(hops[0].connections, ==, tries[k].connections);
        g_assert_cmpint(hops[0].resets, ==, tries[k].resets);
        g_assert_cmpint(hops[0].dots, ==, tries[k].dots);
        pthread_mutex_unlock(&hops[0].lock);
        close_world(&world);
    }
    open_world(&world, NULL, "reuse_for = 0;");
    for (int i = 0; i < 2; i++)
        g_free(transact(&world, "a@hop0.example"));
    close_world(&world);
    g_assert_cmpint(hops[0].connections, ==, 2);
}

static void ignore_call(struct wakeup *wakeup)
{
    (void)wakeup;
}

/* A next hop ends its connection at the second MAIL, while another session waits for the destination's only
 * place: the message goes over a fresh connection at that place. */
static void test_renewed_place(void)
{
    static const struct script tries[] = {
        {.second_mail = "close"},
        {.second_mail = "bye 421 4.7.0 one is enough"},
        {.second_mail = "close", .ehlo = "250 hop"},
        {.second_mail = "bye 421 4.7.0 one is enough", .ehlo = "250 hop"},
    };

    for (size_t k = 0; k < G_N_ELEMENTS(tries); k++) {
        const struct script scripts[HOPS] = {tries[k]};
        struct wakeup wakeup = {ignore_call};
        struct host_cache_claim claim = {.most = 1, .wakeup = &wakeup};
        struct world world;
        open_world(&world, scripts, "limits = { sessions_per_destination = 1; };");
        claim.generation = world.out->generation;
        route_key(routes_find(world.out->routes, "hop0.example"), "hop0.example", claim.key);
        for (int i = 0; i < 2; i++) {
            pthread_mutex_lock(&hops[0].lock);
            hops[0].host_cache = world.host_cache;
            hops[0].claim = i == 1 ? &claim : NULL;
            pthread_mutex_unlock(&hops[0].lock);
            g_autofree char *codes = transact(&world, "a@hop0.example");
            g_assert_cmpstr(codes, ==, "250 / 354 / 250");
        }
        pthread_mutex_lock(&hops[0].lock);
        g_assert_cmpint(hops[0].connections, ==, 2);
        g_assert_cmpint(hops[0].dots, ==, 2);
        pthread_mutex_unlock(&hops[0].lock);
        host_cache_disclaim(world.host_cache, &claim);
        close_world(&world);
    }
}

/* A host that was dead is not tried again for a while. */
static void test_dead(void)
{
    static const struct script stalls[HOPS] = {{.banner = "stall"}};
    struct world world;

    open_world(&world, stalls, "timeouts = { greeting = \"5s\"; };");
    for (int i = 0; i < 3; i++) {
        g_autofree char *codes = transact(&world, "a@hop0.example");
        g_assert_cmpstr(codes, ==, "451 / 554");
        g_assert_cmpstr(world.replies[0].enhanced, ==, i == 0 ? "4.4.2" : "4.4.1");
    }
    g_assert_nonnull(strstr(world.replies[0].text, "no greeting; not tried again"));
    close_world(&world);
    g_assert_cmpint(hops[0].connections, ==, 1);
}

/* A shortage of ours does not count against the host: it is tried again at once. */
static void test_no_ports(void)
{
    struct world world;

    open_world(&world, NULL, "");
    atomic_store(&no_ports, true);
    g_autofree char *before = transact(&world, "a@hop0.example");
    g_assert_true(g_str_has_prefix(before, "451 "));
    atomic_store(&no_ports, false);
    world.courier->ops->reset(world.courier);
    g_autofree char *after = transact(&world, "a@hop0.example");
    g_assert_cmpstr(after, ==, "250 / 354 / 250");
    close_world(&world);
}

/* The session ends in mid-data: no next hop may see an end of data. */
static void test_abort(void)
{
    struct world world;
    struct reply reply;
    char part[] = "half a mess";
    struct iovec iov = {part, strlen(part)};

    open_world(&world, NULL, "");
    add(&world, "a@hop0.example");
    add(&world, "b@hop1.example");
    world.courier->ops->send(world.courier, &world.envelope, world.recipients, 2, COURIER_DATA);
    world.courier->ops->recipient_reply(world.courier, &reply);
    world.courier->ops->recipient_reply(world.courier, &reply);
    world.courier->ops->data_reply(world.courier, &reply);
    g_assert_cmpint(reply.code, ==, 354);
    world.courier->ops->write(world.courier, &iov, 1);
    world.courier->ops->abort(world.courier);
    close_world(&world);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(hops[i].dots, ==, 0);
        g_assert_cmpint(hops[i].lost_in_data, ==, 1);
        g_assert_cmpint(hops[i].quits, ==, 0);
    }
}

/* The session ends before the next hops have answered: none sees an end of data, none is reused. */
static void test_abort_unheard(void)
{
    struct world world;
    struct reply reply;

    open_world(&world, NULL, "");
    add(&world, "a@hop0.example");
    add(&world, "b@hop1.example");
    world.courier->ops->send(world.courier, &world.envelope, world.recipients, 2, COURIER_DATA);
    world.courier->ops->recipient_reply(world.courier, &reply);
    world.courier->ops->recipient_reply(world.courier, &reply);
    g_assert_true(world.courier->ops->ask_data(world.courier));
    world.courier->ops->abort(world.courier);
    world.early = true;
    g_autofree char *codes = transact(&world, "a@hop0.example b@hop1.example");
    g_assert_cmpstr(codes, ==, "250 250 / 354 / 250");
    for (int i = 0; i < 2; i++) {
        pthread_mutex_lock(&hops[i].lock);
        g_assert_cmpstr(hops[i].message->str, ==, "Subject: x\r\n\r\n..dots\r\nend\r\n");
        pthread_mutex_unlock(&hops[i].lock);
    }
    close_world(&world);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(hops[i].connections, ==, 2);
        g_assert_cmpint(hops[i].dots, ==, 1);
        g_assert_cmpint(hops[i].resets, ==, 0);
    }
}

static void test_needs(void)
{
    /* The next hops have no SMTPUTF8, and a SIZE of 1000. */
    static const struct {
        bool asked, utf8;
        uint64_t size;
        const char *recipients, *codes, *enhanced;
    } needs[] = {
        {true, true, 0, "a@hop0.example", "553 / 554", "5.6.7"},
        {true, false, 0, "a@hop0.example", "250 / 354 / 250", ""},
        {true, false, 0, "\xc3\xa4@hop0.example", "553 / 554", "5.6.7"},
        {true, false, 0, "\xc3\xa4@hop0.example b@hop0.example", "553 250 / 354 / 250", "5.6.7"},
        {false, false, 1001, "a@hop0.example", "552 / 554", "5.3.4"},
        {false, false, 1000, "a@hop0.example", "250 / 354 / 250", ""}};
    for (size_t i = 0; i < G_N_ELEMENTS(needs); i++) {
        struct world world;
        open_world(&world, NULL, "");
        world.envelope.smtputf8 = needs[i].asked;
        world.envelope.is_utf8 = needs[i].utf8;
        world.envelope.size = needs[i].size;
        g_autofree char *codes = transact(&world, needs[i].recipients);
        g_assert_cmpstr(codes, ==, needs[i].codes);
        if (needs[i].enhanced[0] != '\0')
            g_assert_cmpstr(world.replies[0].enhanced, ==, needs[i].enhanced);
        close_world(&world);
    }
}

/* Only after its first piece does the header show that a next hop needs SMTPUTF8. */
static void test_header_needs(void)
{
    struct world world;
    struct reply reply;
    struct iovec iov = {(void *)"Subject: x\r\n", 12},
                 more = {(void *)"To: \xc3\xa4\r\n\r\nx\r\n", 13};

    open_world(&world, NULL, "");
    world.envelope.smtputf8 = true;
    add(&world, "a@hop0.example");
    world.courier->ops->send(world.courier, &world.envelope, world.recipients, 1, COURIER_DATA);
    world.courier->ops->recipient_reply(world.courier, &reply);
    g_assert_cmpint(reply.code, ==, 250);
    world.courier->ops->data_reply(world.courier, &reply);
    g_assert_cmpint(reply.code, ==, 354);
    g_assert_cmpint(world.courier->ops->write(world.courier, &iov, 1), ==, 0);
    world.envelope.is_utf8 = true;
    g_assert_cmpint(world.courier->ops->write(world.courier, &more, 1), ==, -1);
    world.courier->ops->end(world.courier, &reply);
    g_assert_cmpint(reply.code, ==, 553);
    g_assert_cmpstr(reply.enhanced, ==, "5.6.7");
    close_world(&world);
    g_assert_cmpint(hops[0].dots, ==, 0);
    g_assert_cmpint(hops[0].lost_in_data, ==, 1);
}

static void test_store(void)
{
    static const char one_waits[] = "a@hop0.example queued 451;b@hop1.example delivered 250;";
    static const struct {
        const char *name;
        struct script first;
        const char *left;
        const char *codes; /* NULL: both recipients are taken */
        uint64_t size;     /* announced by SIZE */
        int syncs;         /* that go well, 0: all; each look at the disk is two */
    } tries[] = {
        {.name = "agree", .left = ""},
        {.name = "mixed", .first = {.dot = "451 4.7.1 later"}, .left = one_waits},
        {.name = "mixed, for good",
         .first = {.dot = "550 5.7.1 spam"},
         .left = "notice s@sender.example;"},
        {.name = "one lost at DATA", .first = {.data = "close"}, .left = one_waits},
        {.name = "one lost at the end", .first = {.dot = "close"}, .left = one_waits},
        {.name = "slower than the live deadline", .first = {.dot = "stall"}, .left = one_waits},
        {.name = "the disk fails in the end",
         .first = {.dot = "550 5.7.1 spam"},
         .left = "",
         .codes = "250 250 / 354 / 451",
         .syncs = 4},
        {.name = "no room to begin with",
         .first = {.ehlo = "250 hop"},
         .left = "",
         .codes = "250 250 / 452",
         .size = UINT64_C(1) << 62},
    };
    for (size_t k = 0; k < 2 * G_N_ELEMENTS(tries); k++) {
        const size_t i = k / 2;
        struct script scripts[HOPS] = {tries[i].first, {.ehlo = "250 hop"}};
        struct world world;
        g_test_message("%s", tries[i].name);
        open_world(&world, scripts, SHORT_DEADLINE);
        world.envelope.size = tries[i].size;
        world.early = k % 2 == 1;
        if (tries[i].syncs > 0)
            atomic_store(&good_syncs, tries[i].syncs);
        g_autofree char *codes = transact(&world, "a@hop0.example b@hop1.example");
        g_assert_cmpstr(codes, ==, tries[i].codes != NULL ? tries[i].codes : "250 250 / 354 / 250");
        atomic_store(&good_syncs, INT_MAX);
        wait_for_spool(tries[i].left);
        g_assert_cmpuint(close_world(&world), ==, tries[i].left[0] != '\0' ? 2 : 0);
    }
}

/* The disk fails before DATA, before the end of data, or when the rest is to be stored. */
/* Before a message is stored, the hosts of its recipients are looked up, and forgotten again. */
static void test_store_memory(void)
{
    enum { TIMES = 1000, MOST_OCTETS = 100 * TIMES };
    struct world world;
    struct reply reply;
    size_t before = 0;

    open_world(&world, NULL, "");
    struct courier *courier = courier_spool_new(world.out);
    add(&world, "a@[8.8.8.8]");
    for (int i = 0; i <= TIMES; i++) {
        courier->ops->send(courier, &world.envelope, world.recipients, 1, COURIER_NOTHING);
        courier->ops->recipient_reply(courier, &reply);
        g_assert_cmpint(reply.code, ==, 250);
        courier->ops->reset(courier);
        if (i == 0) /* the first use may allocate for good */
            before = mallinfo2().uordblks;
    }
    g_assert_cmpuint(mallinfo2().uordblks, <, before + MOST_OCTETS);
    courier->ops->free(courier);
    close_world(&world);
}

/* A recipient that can have no host is refused before the message is stored, but not under soft_bounce. */
static void test_store_certain(void)
{
    static const struct {
        const char *more;
        int code;
    } settings[] = {{"", 550}, {"soft_bounce = true;", 250}};

    for (size_t i = 0; i < G_N_ELEMENTS(settings); i++) {
        struct world world;
        struct reply reply;
        open_world(&world, NULL, settings[i].more);
        struct courier *courier = courier_spool_new(world.out);
        add(&world, "a@[10.0.0.1]");
        courier->ops->send(courier, &world.envelope, world.recipients, 1, COURIER_NOTHING);
        courier->ops->recipient_reply(courier, &reply);
        g_assert_cmpint(reply.code, ==, settings[i].code);
        courier->ops->free(courier);
        close_world(&world);
    }
}

static void test_disk(void)
{
    static const struct {
        const char *name;
        struct script first;
        int syncs;
        const char *codes;
        unsigned dots;
    } tries[] = {
        {"before DATA", {0}, 0, "250 250 / 451", 0},
        {"before the end", {0}, 2, "250 250 / 354 / 451", 0},
        {"before the end, one refused DATA", {.data = "554 5.7.1 no"}, 2, "250 250 / 354 / 451", 0},
        {"after it, and all agree", {0}, 4, "250 250 / 354 / 250", 1},
        {"after it, and all agree in the end",
         {.dot = "late 250 2.0.0 ok"},
         4,
         "250 250 / 354 / 250",
         1},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(tries); i++) {
        struct script scripts[HOPS] = {tries[i].first};
        struct world world;
        g_test_message("%s", tries[i].name);
        open_world(&world, scripts, SHORT_DEADLINE);
        atomic_store(&good_syncs, tries[i].syncs);
        g_autofree char *codes = transact(&world, "a@hop0.example b@hop1.example");
        g_assert_cmpstr(codes, ==, tries[i].codes);
        g_assert_cmpuint(close_world(&world), ==, 0);
        for (int k = 0; k < 2; k++)
            g_assert_cmpint(hops[k].dots, ==, tries[i].dots);
    }
}

static void begin_data(struct world *world)
{
    const struct courier_ops *ops = world->courier->ops;
    struct reply reply;

    add(world, "a@hop0.example");
    add(world, "b@hop1.example");
    ops->send(world->courier, &world->envelope, world->recipients, 2, COURIER_DATA);
    ops->recipient_reply(world->courier, &reply);
    ops->recipient_reply(world->courier, &reply);
    ops->data_reply(world->courier, &reply);
    g_assert_cmpint(reply.code, ==, 354);
}

/* The disk fills up in mid-message: nobody has a copy. */
static void test_disk_full(void)
{
    struct rlimit before, none;
    struct world world;
    struct reply reply;
    struct iovec iov = {(void *)TEXT, strlen(TEXT)};

    signal(SIGXFSZ, SIG_IGN);
    open_world(&world, NULL, "");
    begin_data(&world);
    const struct courier_ops *ops = world.courier->ops;
    g_assert_cmpint(ops->write(world.courier, &iov, 1), ==, 0);
    getrlimit(RLIMIT_FSIZE, &before);
    none = before;
    none.rlim_cur = 0;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &none), ==, 0);
    int result = ops->write(world.courier, &iov, 1);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &before), ==, 0);
    g_assert_cmpint(result, ==, -1);
    ops->end(world.courier, &reply);
    g_assert_cmpint(reply.code, ==, 452);
    g_assert_cmpuint(close_world(&world), ==, 0);
    for (int k = 0; k < 2; k++) {
        g_assert_cmpint(hops[k].dots, ==, 0);
        g_assert_cmpint(hops[k].lost_in_data, ==, 1);
    }
}

/* A next hop that has not answered is handed over with the message, and may still answer. */
static void test_pending(void)
{
    static const struct script scripts[HOPS] = {{.dot = "late 250 2.0.0 ok"},
                                                {.dot = "late 550 5.7.1 no"}};
    struct world world;

    open_world(&world, scripts, SHORT_DEADLINE);
    g_autofree char *codes = transact(&world, "a@hop0.example b@hop1.example c@hop2.example");
    g_assert_cmpstr(codes, ==, "250 250 250 / 354 / 250");
    wait_for_spool("notice s@sender.example;");
    close_world(&world);
    for (int k = 0; k < 3; k++)
        g_assert_cmpint(hops[k].dots, ==, 1);
}

/* As many recipients as there may be at it: none is sent the message once more. */
static void test_pending_crowd(void)
{
    static const struct script scripts[HOPS] = {{.dot = "late 250 2.0.0 ok"}};
    GString *recipients = g_string_new("b@hop1.example");
    struct world world;

    for (int i = 1; i < RECIPIENTS_MAX; i++)
        g_string_append_printf(recipients, " a%d@hop0.example", i);
    open_world(&world, scripts, SHORT_DEADLINE);
    g_autofree char *codes = transact(&world, recipients->str);
    g_assert_true(g_str_has_suffix(codes, "/ 354 / 250"));
    wait_for_spool("");
    close_world(&world);
    g_assert_cmpint(hops[0].dots, ==, 1);
    g_string_free(recipients, TRUE);
}

/* The daemon ends: what next hops answer meanwhile is set down, though there is one thread and the first
 * of them never answers. */
static void test_end_pending(void)
{
    static const struct script scripts[HOPS] = {
        {.dot = "stall"}, {.dot = "late 250 2.0.0 ok"}, {.dot = "late 452 4.2.2 full"}};
    struct world world;

    open_world(&world, scripts, SHORT_DEADLINE "deliveries = 1;");
    g_autofree char *codes =
        transact(&world, "a@hop0.example b@hop1.example c@hop2.example d@hop3.example");
    g_assert_cmpstr(codes, ==, "250 250 250 250 / 354 / 250");
    /* An operator's order: a delivery waits for it until the end begins. */
    queue_retry(delivery_queue(spooler_pool(world.out->spooler)), only_id());
    spooler_wind_down(world.out->spooler, deadline_in_ms(60000));
    wait_for_spool("a@hop0.example queued 451;b@hop1.example delivered 250;"
                   "c@hop2.example queued 452;d@hop3.example delivered 250;");
    close_world(&world);
    for (int k = 0; k < HOPS; k++)
        g_assert_cmpint(hops[k].dots, ==, 1);
}

/* The same where a session hands them over when the end has begun, long before its live deadline. */
static void test_end_live(void)
{
    static const struct script scripts[HOPS] = {{.dot = "late 250 2.0.0 ok"},
                                                {.dot = "late 250 2.0.0 ok"}};
    struct world world;

    open_world(&world, scripts, "");
    spooler_wind_down(world.out->spooler, deadline_in_ms(0));
    g_autofree char *codes = transact(&world, "a@hop0.example b@hop1.example");
    g_assert_cmpstr(codes, ==, "250 250 / 354 / 250");
    g_assert_true(g_str_has_prefix(world.final.text, "Ok, delivered in part"));
    wait_for_spool("");
    close_world(&world);
    for (int k = 0; k < 2; k++)
        g_assert_cmpint(hops[k].dots, ==, 1);
}

/* A sender has its answer, but has not come to tell of it when the daemon ends: it is set down. */
static void test_end_untold(void)
{
    static const struct script scripts[HOPS] = {{.dot = "gated 250 2.0.0 ok"}};
    struct world world;
    bool has_answered = false;

    atomic_store(&gate_is_open, false);
    open_world(&world, scripts, SHORT_DEADLINE);
    g_autofree char *codes = transact(&world, "a@hop0.example b@hop1.example");
    g_assert_cmpstr(codes, ==, "250 250 / 354 / 250");
    struct spooler *spooler = world.out->spooler;
    pthread_mutex_lock(&spooler->lock);
    struct awaited *awaited = spooler->awaited;
    g_assert_nonnull(awaited);
    sender_set_wakeup(awaited->target->sender, NULL);
    atomic_store(&gate_is_open, true);
    for (int i = 0; i < 600 && !has_answered; i++)
        has_answered = target_wait(awaited->target, deadline_in_ms(100));
    pthread_mutex_unlock(&spooler->lock);
    g_assert_true(has_answered);
    g_assert_cmpuint(close_world(&world), ==, 0);
    for (int k = 0; k < 2; k++)
        g_assert_cmpint(hops[k].dots, ==, 1);
}

/* A next hop that reads nothing holds up neither the client nor another next hop. */
static void test_stalled(void)
{
    static const struct script scripts[HOPS] = {{.data = "deaf 354 go"}};
    static char block[65536];
    struct iovec iov = {block, sizeof block};
    struct world world;
    struct reply reply;

    for (size_t i = 0; i < sizeof block; i++)
        block[i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : 'x';
    open_world(&world, scripts, SHORT_DEADLINE);
    begin_data(&world);
    const struct courier_ops *ops = world.courier->ops;
    for (int i = 0; i < 256; i++) /* more than the buffers of a connection hold */
        g_assert_cmpint(ops->write(world.courier, &iov, 1), ==, 0);
    atomic_store(&client_waits, true);
    ops->end(world.courier, &reply);
    atomic_store(&client_waits, false);
    g_assert_cmpint(reply.code, ==, 250);
    /* The other gets all of it in time or, on a slow machine, while this one still reads nothing. */
    wait_for_spool("a@hop0.example queued 451;b@hop1.example delivered 250;");
    close_world(&world);
    g_assert_cmpint(hops[0].dots, ==, 0);
    g_assert_cmpint(hops[1].dots, ==, 1);
}

/* The limit of sessions holds, and a free place is taken. */
static void test_places(void)
{
    struct error err = {""};
    struct host_cache *host_cache = host_cache_new(&err);
    struct remote kept;
    struct deadline soon = deadline_in_ms(50);

    g_assert_cmpint(host_cache_enter(host_cache, "a", 1, 2, soon, &kept), ==, HOST_CACHE_NEW);
    g_assert_cmpint(host_cache_enter(host_cache, "a", 1, 2, soon, &kept), ==, HOST_CACHE_NEW);
    g_assert_cmpint(host_cache_enter(host_cache, "b", 1, 2, soon, &kept), ==, HOST_CACHE_NEW);
    g_assert_cmpint(host_cache_enter(host_cache, "a", 1, 2, soon, &kept), ==, HOST_CACHE_FULL);
    host_cache_leave(host_cache, "a");
    g_assert_cmpint(host_cache_enter(host_cache, "a", 1, 2, soon, &kept), ==, HOST_CACHE_NEW);
    host_cache_leave(host_cache, "a");
    host_cache_leave(host_cache, "a");
    host_cache_leave(host_cache, "b");
    host_cache_free(host_cache);
}

/* Six hundred a minute: one per 100 ms, for each destination separately. */
struct waker {
    struct wakeup base;
    unsigned calls;
};

static void count_call(struct wakeup *wakeup)
{
    ((struct waker *)wakeup)->calls++;
}

/* Waiters get places in the order of asking, before any newcomer. */
static void test_claims(void)
{
    struct error err = {""};
    struct host_cache *host_cache = host_cache_new(&err);
    struct waker wakers[3] = {{{count_call}, 0}, {{count_call}, 0}, {{count_call}, 0}};
    struct host_cache_claim claims[3];
    struct deadline soon = deadline_in_ms(50);
    struct remote kept;

    for (int i = 0; i < 3; i++)
        claims[i] = (struct host_cache_claim){
            .key = "a", .generation = 1, .most = 1, .wakeup = &wakers[i].base};
    g_assert_cmpint(host_cache_claim(host_cache, &claims[0]), ==, 0);
    g_assert_cmpint(host_cache_redeem(host_cache, &claims[0], &kept), ==, HOST_CACHE_NEW);
    for (int i = 0; i < 3; i++)
        g_assert_cmpint(host_cache_claim(host_cache, &claims[i]), >, 0);
    g_assert_cmpint(host_cache_enter(host_cache, "b", 1, 1, soon, &kept), ==, HOST_CACHE_NEW);
    host_cache_leave(host_cache, "b");
    host_cache_disclaim(host_cache, &claims[1]);
    host_cache_leave(host_cache, "a");
    g_assert_cmpint(wakers[0].calls + 2 * wakers[1].calls + 4 * wakers[2].calls, ==, 1);
    g_assert_cmpint(host_cache_claim(host_cache, &claims[0]), ==, 0);
    g_assert_cmpint(host_cache_enter(host_cache, "a", 1, 1, soon, &kept), ==, HOST_CACHE_FULL);
    /* A place that is given up unused goes to the next one. */
    host_cache_disclaim(host_cache, &claims[0]);
    g_assert_cmpint(wakers[2].calls, ==, 1);
    g_assert_cmpint(host_cache_redeem(host_cache, &claims[2], &kept), ==, HOST_CACHE_NEW);
    host_cache_leave(host_cache, "a");
    host_cache_free(host_cache);
}

static void note_place(void *context, const char *key)
{
    g_assert_cmpstr(key, ==, "a");
    ((struct waker *)context)->calls++;
}

/* Stored mail does not wait for a place, but has one kept for it when its turn comes. */
static void test_stored_claims(void)
{
    struct error err = {""};
    struct host_cache *host_cache = host_cache_new(&err);
    struct waker wakers[2] = {{{count_call}, 0}, {{count_call}, 0}}, places = {{NULL}, 0};
    struct host_cache_claim claims[2];
    struct deadline soon = deadline_in_ms(50), late = deadline_in_ms(60000);
    struct remote kept;

    host_cache_on_place(host_cache, note_place, &places);
    for (int i = 0; i < 2; i++)
        claims[i] = (struct host_cache_claim){
            .key = "a", .generation = 1, .most = 1, .wakeup = &wakers[i].base};
    g_assert_cmpint(host_cache_enter_stored(host_cache, "a", 1, 1, &kept), ==, HOST_CACHE_NEW);
    g_assert_cmpint(host_cache_claim(host_cache, &claims[0]), >, 0);
    for (int i = 0; i < 2; i++) /* several messages wait as one */
        g_assert_cmpint(host_cache_enter_stored(host_cache, "a", 1, 1, &kept), ==, HOST_CACHE_FULL);
    g_assert_cmpint(host_cache_claim(host_cache, &claims[1]), >, 0);
    host_cache_leave(host_cache, "a");
    g_assert_cmpint(host_cache_redeem(host_cache, &claims[0], &kept), ==, HOST_CACHE_NEW);
    g_assert_cmpuint(places.calls, ==, 0);
    host_cache_leave(host_cache, "a");
    g_assert_cmpuint(places.calls, ==, 1);
    g_assert_cmpuint(wakers[1].calls, ==, 0);
    g_assert_cmpint(host_cache_enter(host_cache, "a", 1, 1, soon, &kept), ==, HOST_CACHE_FULL);
    g_assert_cmpint(host_cache_enter_stored(host_cache, "a", 1, 1, &kept), ==, HOST_CACHE_NEW);
    g_assert_cmpint(host_cache_enter_stored(host_cache, "a", 1, 1, &kept), ==, HOST_CACHE_FULL);
    host_cache_leave(host_cache, "a");
    g_assert_cmpint(host_cache_redeem(host_cache, &claims[1], &kept), ==, HOST_CACHE_NEW);
    /* Nobody comes for the place: it is not kept for long. */
    host_cache_leave(host_cache, "a");
    g_assert_cmpuint(places.calls, ==, 2);
    g_assert_cmpint(host_cache_enter(host_cache, "a", 1, 1, soon, &kept), ==, HOST_CACHE_FULL);
    clock_advance_ms(HOST_CACHE_STORED_KEEP_MS);
    g_assert_cmpint(host_cache_enter(host_cache, "a", 1, 1, late, &kept), ==, HOST_CACHE_NEW);
    /* A reload allows more connections, and then one is left while stored mail waits. */
    g_assert_cmpint(host_cache_enter_stored(host_cache, "a", 1, 1, &kept), ==, HOST_CACHE_FULL);
    g_assert_cmpint(host_cache_enter(host_cache, "a", 2, 3, soon, &kept), ==, HOST_CACHE_NEW);
    g_assert_cmpint(host_cache_enter(host_cache, "a", 2, 3, soon, &kept), ==, HOST_CACHE_NEW);
    g_assert_cmpint(host_cache_enter_stored(host_cache, "a", 2, 3, &kept), ==, HOST_CACHE_FULL);
    host_cache_leave(host_cache, "a");
    g_assert_cmpuint(places.calls, ==, 3);
    host_cache_leave(host_cache, "a");
    host_cache_leave(host_cache, "a");
    host_cache_free(host_cache);
}

/* A place held for a recipient that is then refused is given back at once. */
static void test_claim_unused(void)
{
    struct world world;
    struct remote kept;
    struct reply reply;
    char key[ROUTE_KEY_MAX];

    open_world(&world, NULL, "limits = { next_hops = 1; };");
    const struct courier_ops *ops = world.courier->ops;
    add(&world, "a@hop0.example");
    add(&world, "b@hop1.example");
    for (int i = 0; i < 2; i++)
        g_assert_cmpint(ops->prepare(world.courier, &world.client, &world.recipients[i], NULL), ==,
                        0);
    ops->send(world.courier, &world.envelope, world.recipients, 2, COURIER_NOTHING);
    for (int i = 0; i < 2; i++) {
        ops->recipient_reply(world.courier, &reply);
        g_assert_cmpint(reply.code, ==, i == 0 ? 250 : 452);
    }
    route_key(routes_find(world.out->routes, "hop1.example"), "hop1.example", key);
    g_assert_cmpint(host_cache_enter(world.host_cache, key, 1, 1, deadline_in_ms(0), &kept), ==,
                    HOST_CACHE_NEW);
    host_cache_leave(world.host_cache, key);
    close_world(&world);
}

/* Lists the conversations: the longest in its phase first, at most as many as asked for, none that is over. */
static void test_talks(void)
{
    static const char *const keys[] = {"a", "b", "c"};
    struct error err = {""};
    struct host_cache *host_cache = host_cache_new(&err);
    struct talks *talks = talks_new(NULL, &err);
    struct talk one[3] = {{0}};
    size_t count, total;

    for (size_t i = 0; i < 3; i++)
        talks_begin(talks, &one[i], keys[i], i == 0 ? "kept.a[192.0.2.2]:25" : NULL);
    talks_begin(talks, &one[1], "twice", NULL);
    talks_set_host(talks, &one[1], "mx.b[192.0.2.1]:25");
    g_assert_cmpint(atomic_load(&one[0].at) & 15, ==, TALK_ENVELOPE);
    g_assert_cmpint(atomic_load(&one[2].at) & 15, ==, TALK_LOOKUP);
    atomic_store(&one[0].at, (uint64_t)(deadline_now_ms() - 30000) << 4 | TALK_TLS);
    atomic_store(&one[1].at, (uint64_t)(deadline_now_ms() - 60000) << 4 | TALK_DATA);
    atomic_store(&one[2].at, (uint64_t)(deadline_now_ms() + 60000) << 4 | TALK_REPLY);
    struct talk_note *notes = talks_list(talks, host_cache, 2, &count, &total);
    g_assert_cmpuint(total, ==, 3);
    g_assert_cmpuint(count, ==, 2);
    free(notes);
    notes = talks_list(talks, host_cache, 10, &count, &total);
    g_assert_cmpuint(count, ==, 3);
    g_assert_cmpstr(notes[0].destination, ==, "b");
    g_assert_cmpstr(notes[0].host, ==, "mx.b[192.0.2.1]:25");
    g_assert_cmpstr(talk_phase_name(notes[0].phase), ==, "data");
    g_assert_cmpint(notes[0].for_ms, >=, 60000);
    for (size_t i = 0; i < 3; i++)
        g_assert_cmpint(notes[i].for_ms, >=, 0);
    g_assert_cmpstr(notes[1].host, ==, "kept.a[192.0.2.2]:25");
    g_assert_cmpstr(talk_phase_name(notes[1].phase), ==, "tls");
    free(notes);
    talk_set_phase(&one[1], TALK_DATA); /* as before: the time goes on */
    notes = talks_list(talks, host_cache, 10, &count, &total);
    g_assert_cmpint(notes[0].for_ms, >=, 60000);
    free(notes);
    /* Ends one from the middle, from either end, and one that is already over. */
    talks_end(talks, &one[1]);
    talks_end(talks, &one[1]);
    talks_end(talks, &one[0]);
    notes = talks_list(talks, host_cache, 10, &count, &total);
    g_assert_cmpuint(count, ==, 1);
    g_assert_cmpstr(notes[0].destination, ==, "c");
    g_assert_cmpstr(notes[0].host, ==, "");
    free(notes);
    talks_end(talks, &one[2]);
    notes = talks_list(talks, host_cache, 10, &count, &total);
    g_assert_cmpuint(total, ==, 0);
    free(notes);
    /* Without a list they do nothing. */
    talks_begin(NULL, &one[0], "a", NULL);
    talks_set_host(NULL, &one[0], "x");
    talk_set_phase(&one[0], TALK_TLS);
    talks_end(NULL, &one[0]);
    talks_free(talks);
    host_cache_free(host_cache);
}

static void test_turns(void)
{
    struct error err = {""};
    struct host_cache *host_cache = host_cache_new(&err);
    struct deadline late = deadline_in_ms(60000);
    struct deadline turn;
    int64_t began_ms = deadline_now_ms();

    for (int i = 0; i < 3; i++)
        g_assert_true(host_cache_take_turn(host_cache, "a", 600, late, &turn));
    g_assert_cmpint(deadline_now_ms() - began_ms, >=, 200);
    /* Too late for the deadline: no turn is taken, so a later caller does not wait longer for it. */
    g_assert_false(host_cache_take_turn(host_cache, "a", 1, deadline_in_ms(0), &turn));
    g_assert_true(host_cache_take_turn(host_cache, "b", 1, deadline_in_ms(0), &turn));
    g_assert_false(host_cache_take_turn(host_cache, "b", 1, deadline_in_ms(50000), &turn));
    g_assert_true(host_cache_take_turn(host_cache, "a", 600, late, &turn));
    host_cache_free(host_cache);
}

static struct host_cache_claim *turn_new(unsigned rate)
{
    struct host_cache_claim *claim = g_new0(struct host_cache_claim, 1);
    *claim = (struct host_cache_claim){.key = "a", .generation = 1, .most = 9, .rate = rate};
    return claim;
}

static void turn_free(struct host_cache *host_cache, struct host_cache_claim *claim)
{
    host_cache_disclaim(host_cache, claim);
    g_free(claim);
}

/* Claims wait for their turn elsewhere, and are told when to come again. */
static void test_claimed_turns(void)
{
    struct error err = {""};
    struct host_cache *host_cache = host_cache_new(&err);
    struct host_cache_claim *first = turn_new(6), *second = turn_new(6), *third = turn_new(6),
                            *fast = turn_new(600);
    struct deadline turn;
    struct remote kept;

    g_assert_cmpint(host_cache_claim(host_cache, first), ==, 0);
    g_assert_true(host_cache_has_turn(host_cache, first));
    g_assert_cmpint(host_cache_redeem(host_cache, first, &kept), ==, HOST_CACHE_NEW);
    const int64_t turn_ms = host_cache_claim(host_cache, second);
    g_assert_cmpint(turn_ms, >, deadline_now_ms());
    g_assert_cmpint(host_cache_claim(host_cache, second), ==, turn_ms);
    g_assert_false(host_cache_has_turn(host_cache, second));
    g_assert_cmpint(host_cache_claim(host_cache, third), ==, turn_ms + 10000);
    /* Given up, the last turn goes to who comes next; it is too late for one behind that. */
    turn_free(host_cache, third);
    third = turn_new(6);
    g_assert_cmpint(host_cache_claim(host_cache, third), ==, turn_ms + 10000);
    g_assert_cmpint(host_cache_claim(host_cache, fast), ==, 0);
    g_assert_false(host_cache_has_turn(host_cache, fast));
    g_assert_cmpint(host_cache_redeem(host_cache, fast, &kept), ==, HOST_CACHE_FULL);
    turn_free(host_cache, fast);
    /* The place comes behind the turn. */
    strcpy(first->key, "b");
    first->rate = 600;
    g_assert_true(host_cache_take_turn(host_cache, "b", 600, deadline_in_ms(0), &turn));
    for (int64_t until_ms; (until_ms = host_cache_claim(host_cache, first)) != 0;)
        clock_advance_ms(MAX(until_ms - deadline_now_ms(), 0));
    g_assert_true(host_cache_has_turn(host_cache, first));
    g_assert_cmpint(host_cache_redeem(host_cache, first, &kept), ==, HOST_CACHE_NEW);
    host_cache_leave(host_cache, "a");
    host_cache_leave(host_cache, "b");
    turn_free(host_cache, first);
    turn_free(host_cache, second);
    turn_free(host_cache, third);
    host_cache_free(host_cache);
}

/* A delivery that comes back has its turn then, however many sessions have come in between. */
static void test_booked_turns(void)
{
    struct error err = {""};
    struct host_cache *host_cache = host_cache_new(&err);
    struct host_cache_claim *first = turn_new(60), *second = turn_new(600), *third = turn_new(6);
    struct deadline turn, again;
    struct remote kept;

    g_assert_true(host_cache_book_turn(host_cache, "b", 60, &turn));
    g_assert_cmpint(host_cache_claim(host_cache, first), ==, 0);
    g_assert_cmpint(host_cache_redeem(host_cache, first, &kept), ==, HOST_CACHE_NEW);
    host_cache_leave(host_cache, "a");
    const int64_t second_ms = host_cache_claim(host_cache, second);
    g_assert_false(host_cache_book_turn(host_cache, "a", 600, &turn));
    g_assert_cmpint(turn.at_ms, ==, second_ms + 100);
    /* It is the same for all deliveries, and sessions come behind it. */
    g_assert_false(host_cache_book_turn(host_cache, "a", 600, &again));
    g_assert_cmpint(again.at_ms, ==, turn.at_ms);
    const int64_t third_ms = host_cache_claim(host_cache, third);
    g_assert_cmpint(third_ms, ==, turn.at_ms + 100);
    clock_advance_ms(deadline_left_ms(turn));
    g_assert_true(host_cache_book_turn(host_cache, "a", 600, &again));
    g_assert_cmpint(again.at_ms, ==, turn.at_ms);
    /* Not used for want of a place, it is still there. */
    host_cache_return_turn(host_cache, "a", 600, again);
    g_assert_true(host_cache_book_turn(host_cache, "a", 600, &again));
    g_assert_cmpint(again.at_ms, ==, turn.at_ms);
    /* The next one comes behind the session. Two of them do not follow each other while sessions wait. */
    g_assert_false(host_cache_book_turn(host_cache, "a", 6, &turn));
    g_assert_cmpint(turn.at_ms, ==, third_ms + 10000);
    turn_free(host_cache, first);
    turn_free(host_cache, second);
    turn_free(host_cache, third);
    host_cache_free(host_cache);
}

static void count_notes(void *context, const struct remote_note *note)
{
    g_assert_cmpint(note->left_ms, >, 0);
    ++*(unsigned *)context;
}

static void count_listed(void *context, const struct remote_note *note)
{
    (void)note;
    ++*(unsigned *)context;
}

static void test_marks(void)
{
    struct error err = {""};
    struct host_cache *host_cache = host_cache_new(&err);
    char reason[REMOTE_REASON_MAX];
    struct address address;
    struct remote_host host = {"a.example", "mx.example", &address, 1};
    unsigned notes = 0;

    g_assert_cmpint(address_parse_endpoint(&address, "192.0.2.1:25", 25), ==, 0);
    g_assert_false(host_cache_is_marked(host_cache, REMOTE_DEAD, &host, reason));
    host_cache_mark(host_cache, REMOTE_DEAD, &host, "no route", 60000);
    g_assert_true(host_cache_is_marked(host_cache, REMOTE_DEAD, &host, reason));
    g_assert_cmpstr(reason, ==, "no route");
    g_assert_false(host_cache_is_marked(host_cache, REMOTE_TLS_FAILED, &host, NULL));
    /* Another destination with the same host. */
    host.destination = "b.example";
    g_assert_false(host_cache_is_marked(host_cache, REMOTE_DEAD, &host, NULL));
    host.destination = "a.example";
    address.port = 26;
    g_assert_false(host_cache_is_marked(host_cache, REMOTE_DEAD, &host, NULL));
    host_cache_list(host_cache, count_notes, &notes);
    g_assert_cmpuint(notes, ==, 1);
    /* More than fit: the oldest are dropped, and nothing breaks. */
    for (unsigned i = 0; i < 3000; i++) {
        address.ip[2] = (uint8_t)(i >> 8);
        address.ip[3] = (uint8_t)i;
        host_cache_mark(host_cache, REMOTE_DEAD, &host, "x", 60000 + i);
        g_assert_true(host_cache_is_marked(host_cache, REMOTE_DEAD, &host, NULL));
    }
    host_cache_mark(host_cache, REMOTE_TLS_FAILED, &host, "x", 1);
    clock_advance_ms(2);
    g_assert_false(host_cache_is_marked(host_cache, REMOTE_TLS_FAILED, &host, NULL));
    host_cache_forget_dead(host_cache);
    notes = 0;
    host_cache_list(host_cache, count_notes, &notes);
    g_assert_cmpuint(notes, ==, 0);
    host_cache_free(host_cache);
}

/* After a refused log-in only one is tried again each time the wait is over, whoever asks. */
static void test_refused_logins(void)
{
    struct error err = {""};
    struct host_cache *host_cache = host_cache_new(&err);
    char reason[REMOTE_REASON_MAX];
    struct address address, another;
    struct remote_host host = {"route", "smtp.example", &address, 1};
    unsigned notes = 0;

    g_assert_cmpint(address_parse_endpoint(&address, "192.0.2.1:587", 25), ==, 0);
    g_assert_cmpint(address_parse_endpoint(&another, "[2001:db8::1]:465", 25), ==, 0);
    g_assert_true(host_cache_may_log_in(host_cache, &host, 600000, reason));
    g_assert_true(host_cache_may_log_in(host_cache, &host, 600000, reason));
    host_cache_mark(host_cache, REMOTE_LOGIN_REFUSED, &host, "535 no", 600000);
    g_assert_false(host_cache_may_log_in(host_cache, &host, 600000, reason));
    g_assert_cmpstr(reason, ==, "535 no");
    host.address = &another;
    g_assert_false(host_cache_may_log_in(host_cache, &host, 600000, reason));
    host.name = "other.example";
    g_assert_true(host_cache_may_log_in(host_cache, &host, 600000, reason));
    host.name = "smtp.example";
    /* A configuration with another password, and then sessions that still have the old one. */
    host.generation = 2;
    g_assert_true(host_cache_may_log_in(host_cache, &host, 600000, reason));
    host.generation = 1;
    clock_advance_ms(600001);
    /* What expires in the meantime does not take its place. */
    host_cache_mark(host_cache, REMOTE_DEAD, &host, "no route", 1);
    g_assert_true(host_cache_may_log_in(host_cache, &host, 600000, reason));
    g_assert_false(host_cache_may_log_in(host_cache, &host, 600000, reason));
    clock_advance_ms(600001);
    host_cache_list(host_cache, count_listed, &notes);
    g_assert_cmpuint(notes, ==, 1);
    host.generation = 2;
    host_cache_logged_in(host_cache, &host);
    host_cache_list(host_cache, count_listed, &notes);
    g_assert_cmpuint(notes, ==, 1);
    host_cache_mark(host_cache, REMOTE_LOGIN_REFUSED, &host, "535 no", 600000);
    host_cache_forget_dead(host_cache);
    g_assert_true(host_cache_may_log_in(host_cache, &host, 600000, reason));
    g_assert_true(host_cache_may_log_in(host_cache, &host, 600000, reason));
    host_cache_free(host_cache);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_level(LOG_LEVEL_ERROR);
    folder = g_dir_make_tmp("postern-fanout-XXXXXX", NULL);
    spool_folder = g_build_filename(folder, "spool", NULL);
    all_over = eventfd(0, EFD_CLOEXEC);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdup_printf("/fanout/replies/%s", cases[i].name);
        g_test_add_data_func(path, (gconstpointer)i, test_case);
    }
    g_test_add_func("/fanout/message", test_message);
    g_test_add_func("/fanout/reuse", test_reuse);
    g_test_add_func("/fanout/renewed-place", test_renewed_place);
    g_test_add_func("/fanout/dead", test_dead);
    g_test_add_func("/fanout/abort", test_abort);
    g_test_add_func("/fanout/abort unheard", test_abort_unheard);
    g_test_add_func("/fanout/needs", test_needs);
    g_test_add_func("/fanout/header needs", test_header_needs);
    g_test_add_func("/fanout/store", test_store);
    g_test_add_func("/fanout/store, memory", test_store_memory);
    g_test_add_func("/fanout/store, certain", test_store_certain);
    g_test_add_func("/fanout/disk", test_disk);
    g_test_add_func("/fanout/full disk", test_disk_full);
    g_test_add_func("/fanout/pending", test_pending);
    g_test_add_func("/fanout/pending, many recipients", test_pending_crowd);
    g_test_add_func("/fanout/pending at the end", test_end_pending);
    g_test_add_func("/fanout/live at the end", test_end_live);
    g_test_add_func("/fanout/untold at the end", test_end_untold);
    g_test_add_func("/fanout/stalled", test_stalled);
    g_test_add_func("/fanout/no ports", test_no_ports);
    g_test_add_func("/host_cache/places", test_places);
    g_test_add_func("/host_cache/claims", test_claims);
    g_test_add_func("/host_cache/claims of stored mail", test_stored_claims);
    g_test_add_func("/host_cache/claim unused", test_claim_unused);
    g_test_add_func("/talks", test_talks);
    g_test_add_func("/host_cache/turns", test_turns);
    g_test_add_func("/host_cache/claimed turns", test_claimed_turns);
    g_test_add_func("/host_cache/booked turns", test_booked_turns);
    g_test_add_func("/host_cache/marks", test_marks);
    g_test_add_func("/host_cache/refused logins", test_refused_logins);
    int result = g_test_run();
    g_autofree char *file = g_build_filename(folder, "relay.conf", NULL);
    g_remove(file);
    g_rmdir(folder);
    g_free(folder);
    g_free(spool_folder);
    close(all_over);
    return result;
}
