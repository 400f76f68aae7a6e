/* tests/unit/dns-server.c - a name server with a scripted answer for each name
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "dns-server.h"

#include <arpa/inet.h>
#include <glib.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dns/name.h"

#define MESSAGE_MAX 16384
#define UDP_MAX 1232
#define TYPE_SOA 6
#define TYPE_OPT 41
#define TYPE_RRSIG 46

struct dns_server {
    const struct dns_row *rows;
    size_t count;
    int udp, tcp, stop;
    struct address address;
    enum dns_server_edns edns;
    pthread_t thread;
    atomic_bool strips;
    pthread_mutex_t lock; /* not GLib's, which the thread sanitizer does not see */
    GArray *asked; /* struct asked */
};

struct asked {
    char name[DNS_NAME_MAX];
    int type;
};

struct message {
    uint8_t octets[MESSAGE_MAX];
    size_t len;
    unsigned records;
};

static void put(struct message *message, const void *octets, size_t len)
{
    g_assert_cmpuint(message->len + len, <=, sizeof message->octets);
    memcpy(message->octets + message->len, octets, len);
    message->len += len;
}

static void put16(struct message *message, unsigned value)
{
    uint8_t octets[] = {(uint8_t)(value >> 8), (uint8_t)value};
    put(message, octets, 2);
}

static void put_name(struct message *message, const char *name)
{
    gchar **labels = g_strsplit(name, ".", -1);
    for (size_t i = 0; labels[i] != NULL; i++) {
        uint8_t len = (uint8_t)strlen(labels[i]);
        if (len == 0)
            continue;
        put(message, &len, 1);
        put(message, labels[i], len);
    }
    put(message, "", 1);
    g_strfreev(labels);
}

static void put_data(struct message *message, int type, const char *text)
{
    uint8_t ip[16];
    if (text[0] == '\\') {
        for (const char *at = text + 1; at[0] != '\0'; at += 2) {
            uint8_t octet = (uint8_t)(g_ascii_xdigit_value(at[0]) << 4 | g_ascii_xdigit_value(at[1]));
            put(message, &octet, 1);
        }
    } else if (type == DNS_TYPE_A) {
        g_assert_cmpint(inet_pton(AF_INET, text, ip), ==, 1);
        put(message, ip, 4);
    } else if (type == DNS_TYPE_AAAA) {
        g_assert_cmpint(inet_pton(AF_INET6, text, ip), ==, 1);
        put(message, ip, 16);
    } else if (type == DNS_TYPE_MX) {
        gchar *name;
        put16(message, (unsigned)g_ascii_strtoull(text, &name, 10));
        put_name(message, name + 1);
    } else if (type == DNS_TYPE_TXT) {
        uint8_t len = (uint8_t)strlen(text);
        put(message, &len, 1);
        put(message, text, len);
    } else {
        put_name(message, text);
    }
}

size_t dns_server_data(int type, const char *text, uint8_t *out, size_t size)
{
    struct message *message = g_new0(struct message, 1);
    put_data(message, type, text);
    size_t len = message->len;
    g_assert_cmpuint(len, <=, size);
    memcpy(out, message->octets, len);
    g_free(message);
    return len;
}

static void put_record(struct message *message, const char *name, int type, const char *text)
{
    put_name(message, name);
    put16(message, (unsigned)type), put16(message, 1);
    put16(message, 0), put16(message, 300);
    size_t length_at = message->len;
    put16(message, 0);
    put_data(message, type, text);
    size_t len = message->len - length_at - 2;
    message->octets[length_at] = (uint8_t)(len >> 8);
    message->octets[length_at + 1] = (uint8_t)len;
    message->records++;
}

static void put_records(struct message *message, const struct dns_row *row)
{
    const char *records = g_str_has_prefix(row->answer, "!TC ") ? row->answer + 4 : row->answer;
    gchar **list = g_strsplit(records, "|", -1);
    for (size_t i = 0; list[i] != NULL; i++)
        put_record(message, row->name, row->type, list[i]);
    g_strfreev(list);
}

/* The row for the question, or the name's CNAME. *known: the name is in some row. */
static const struct dns_row *find(const struct dns_server *server, const char *name, int type,
                                  bool *known)
{
    const struct dns_row *alias = NULL;
    *known = false;
    for (size_t i = 0; i < server->count; i++) {
        const struct dns_row *row = &server->rows[i];
        if (!dns_name_equal(row->name, name))
            continue;
        *known = true;
        if (row->type == type)
            return row;
        if (row->type == DNS_TYPE_CNAME)
            alias = row;
    }
    return alias;
}

static void put_signature(const struct dns_server *server, struct message *message,
                          const struct dns_row *signed_row)
{
    for (size_t i = 0; i < server->count && !atomic_load(&server->strips); i++) {
        const struct dns_row *row = &server->rows[i];
        gchar *covered = g_strdup_printf("\\%04x", (unsigned)signed_row->type);
        if (row->type == TYPE_RRSIG && dns_name_equal(row->name, signed_row->name) &&
            g_str_has_prefix(row->answer, covered))
            put_records(message, row);
        g_free(covered);
    }
}

/* Writes the answer section. Returns the rcode, -1 for silence, or -2 for a truncated answer. */
static int answer_question(const struct dns_server *server, struct message *message,
                           const char *name, int type, bool udp)
{
    bool known = true;
    for (unsigned i = 0; i < 16; i++) {
        const struct dns_row *row = find(server, name, type, &known);
        if (row == NULL)
            return known ? 0 : 3;
        if (strcmp(row->answer, "!DROP") == 0)
            return -1;
        if (strcmp(row->answer, "!NXDOMAIN") == 0)
            return 3;
        if (strcmp(row->answer, "!SERVFAIL") == 0)
            return 2;
        if (strcmp(row->answer, "!REFUSED") == 0)
            return 5;
        if (udp && g_str_has_prefix(row->answer, "!TC "))
            return -2;
        put_records(message, row);
        put_signature(server, message, row);
        if (row->type == type || type == DNS_TYPE_CNAME)
            return 0;
        name = row->answer;
    }
    return 0;
}

static void note(struct dns_server *server, const char *name, int type)
{
    struct asked asked = {.type = type};
    g_strlcpy(asked.name, name, sizeof asked.name);
    pthread_mutex_lock(&server->lock);
    g_array_append_val(server->asked, asked);
    pthread_mutex_unlock(&server->lock);
}

static void put_soa(struct message *message, const char *name)
{
    const char *dot = strchr(name, '.');
    static const uint8_t numbers[20] = {0, 0, 0, 1, 0, 0, 14, 16, 0, 0, 3, 132, 0, 9, 58, 128,
                                        0, 0, 0, 60};
    put_name(message, dot != NULL ? dot + 1 : name);
    put16(message, TYPE_SOA), put16(message, 1);
    put16(message, 0), put16(message, 60);
    put16(message, 4 + sizeof numbers);
    put_name(message, "a"), put(message, "", 1); /* "a." and "." */
    put(message, numbers, sizeof numbers);
}

const struct address *dns_server_address(const struct dns_server *server)
{
    return &server->address;
}

void dns_server_set_edns(struct dns_server *server, enum dns_server_edns edns)
{
    pthread_mutex_lock(&server->lock);
    server->edns = edns;
    pthread_mutex_unlock(&server->lock);
}

void dns_server_set_stripping(struct dns_server *server, bool strips)
{
    atomic_store(&server->strips, strips);
}

/* Builds the reply and returns its length; 0: send none. */
static size_t reply_to(struct dns_server *server, const uint8_t *query, size_t len, bool udp,
                       struct message *message)
{
    char name[DNS_NAME_MAX];
    size_t end = 12;
    if (len < 17)
        return 0;
    while (end < len && query[end] != 0)
        end += query[end] + 1u;
    g_assert_cmpuint(end + 5, <=, len);
    g_assert_cmpint(dns_name_read(query + 12, end - 12 + 1, name), ==, 0);
    int type = query[end + 1] << 8 | query[end + 2];
    note(server, name, type);
    message->len = message->records = 0;
    put(message, query, end + 5);
    pthread_mutex_lock(&server->lock);
    enum dns_server_edns edns = server->edns;
    pthread_mutex_unlock(&server->lock);
    bool knows = edns == DNS_SERVER_EDNS, asks = query[11] > 0; /* additional records */
    if (asks && edns == DNS_SERVER_EDNS_DROPPED)
        return 0;
    int rcode = asks && edns == DNS_SERVER_EDNS_UNKNOWN
                    ? 1
                    : answer_question(server, message, name, type, udp);
    if (rcode == -1)
        return 0;
    bool cut = rcode == -2 || (udp && message->len > UDP_MAX - 200);
    if (cut)
        message->len = end + 5, message->records = 0, rcode = 0;
    bool negative = !cut && message->records == 0;
    if (negative)
        put_soa(message, name);
    static const uint8_t options[] = {0, 0, TYPE_OPT, UDP_MAX >> 8, UDP_MAX & 255, 0, 0, 0x80, 0, 0, 0};
    if (knows)
        put(message, options, sizeof options);
    uint8_t header[] = {(uint8_t)(0x81 | (cut ? 2 : 0)),
                        (uint8_t)(0x80 | rcode),
                        0,
                        1,
                        0,
                        (uint8_t)message->records,
                        0,
                        negative,
                        0,
                        knows};
    memcpy(message->octets + 2, header, sizeof header);
    return message->len;
}

static void serve_udp(struct dns_server *server, struct message *message)
{
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    uint8_t query[512 * 3];
    ssize_t len = recvfrom(server->udp, query, sizeof query, 0, (struct sockaddr *)&from, &from_len);
    if (len > 0 && reply_to(server, query, (size_t)len, true, message) > 0)
        sendto(server->udp, message->octets, message->len, 0, (struct sockaddr *)&from, from_len);
}

static void serve_tcp(struct dns_server *server, struct message *message)
{
    struct timeval second = {.tv_sec = 1};
    uint8_t query[1024], prefix[2];
    int fd = accept(server->tcp, NULL, NULL);
    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
    if (recv(fd, prefix, 2, MSG_WAITALL) == 2) {
        size_t len = (size_t)prefix[0] << 8 | prefix[1];
        if (len <= sizeof query && recv(fd, query, len, MSG_WAITALL) == (ssize_t)len &&
            reply_to(server, query, len, false, message) > 0) {
            prefix[0] = (uint8_t)(message->len >> 8), prefix[1] = (uint8_t)message->len;
            send(fd, prefix, 2, MSG_NOSIGNAL | MSG_MORE);
            send(fd, message->octets, message->len, MSG_NOSIGNAL);
        }
    }
    close(fd);
}

static void *serve(void *argument)
{
    struct dns_server *server = argument;
    struct message *message = g_new0(struct message, 1);
    struct pollfd fds[] = {{.fd = server->udp, .events = POLLIN},
                           {.fd = server->tcp, .events = POLLIN},
                           {.fd = server->stop, .events = POLLIN}};
    while (poll(fds, 3, -1) > 0 && fds[2].revents == 0) {
        if (fds[0].revents != 0)
            serve_udp(server, message);
        if (fds[1].revents != 0)
            serve_tcp(server, message);
    }
    g_free(message);
    return NULL;
}

/* Binds a port that is free on both UDP and TCP. */
static void bind_both(struct dns_server *server)
{
    struct sockaddr_storage sockaddr;
    socklen_t len = sizeof sockaddr;
    for (int attempt = 0; attempt < 50; attempt++) {
        address_parse_ip(&server->address, "127.0.0.1");
        server->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        server->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        len = address_to_sockaddr(&server->address, &sockaddr);
        g_assert_cmpint(bind(server->tcp, (struct sockaddr *)&sockaddr, len), ==, 0);
        getsockname(server->tcp, (struct sockaddr *)&sockaddr, &len);
        address_from_sockaddr(&server->address, (struct sockaddr *)&sockaddr);
        g_assert_cmpint(listen(server->tcp, 64), ==, 0);
        if (bind(server->udp, (struct sockaddr *)&sockaddr, len) == 0)
            return;
        close(server->tcp), close(server->udp);
    }
    g_error("no port is free on UDP and TCP");
}

struct dns_server *dns_server_open(const struct dns_row *rows, size_t count)
{
    struct dns_server *server = g_new0(struct dns_server, 1);
    int room = 1 << 20;
    sigset_t all, before;
    server->rows = rows;
    server->count = count;
    server->asked = g_array_new(FALSE, FALSE, sizeof(struct asked));
    pthread_mutex_init(&server->lock, NULL);
    bind_both(server);
    setsockopt(server->udp, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    server->stop = eventfd(0, EFD_CLOEXEC);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    g_assert_cmpint(pthread_create(&server->thread, NULL, serve, server), ==, 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return server;
}

void dns_server_close(struct dns_server *server)
{
    uint64_t one = 1;
    g_assert_cmpint(write(server->stop, &one, sizeof one), ==, sizeof one);
    pthread_join(server->thread, NULL);
    close(server->udp), close(server->tcp), close(server->stop);
    g_array_free(server->asked, TRUE);
    pthread_mutex_destroy(&server->lock);
    g_free(server);
}

unsigned dns_server_asked(struct dns_server *server, const char *name, int type)
{
    unsigned count = 0;
    pthread_mutex_lock(&server->lock);
    for (guint i = 0; i < server->asked->len; i++) {
        const struct asked *asked = &g_array_index(server->asked, struct asked, i);
        if (name == NULL || (asked->type == type && dns_name_equal(asked->name, name)))
            count++;
    }
    pthread_mutex_unlock(&server->lock);
    return count;
}

struct resolver *dns_server_resolver_with(struct dns_server *server, struct resolver_config *config)
{
    struct error err = {""};
    config->servers = &server->address;
    config->server_count = 1;
    struct resolver *resolver = resolver_new(config, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_nonnull(resolver);
    return resolver;
}

struct resolver *dns_server_resolver(struct dns_server *server, const char *anchor)
{
    struct resolver_config config = {.trust_anchor_file = anchor != NULL ? anchor : ""};
    return dns_server_resolver_with(server, &config);
}

void dns_bed_open(struct dns_bed *bed, const struct dns_row *rows, size_t count)
{
    bed->server = dns_server_open(rows, count);
    bed->resolver = dns_server_resolver(bed->server, NULL);
}

void dns_bed_close(struct dns_bed *bed)
{
    resolver_free(bed->resolver);
    dns_server_close(bed->server);
}
