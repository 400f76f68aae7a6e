/* dns/resolver-context.c - makes libunbound contexts, set up for a small machine
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "dns/resolver-internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unbound.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"
#include "base/thread.h"
#include "dns/name.h"

#define DEFAULT_RESOLV_CONF "/etc/resolv.conf"
#define DNS_PORT 53
#define DNS_HEADER_OCTETS 12
#define PLAIN_TIMEOUT_MS 2000
#define MAKING_STACK_SIZE (2 * 1024 * 1024)

/* Upper bounds for a 1 GB machine that also does other work; memory is only taken as needed.
 * "outgoing-range" is the number of questions on the wire, each from its own port. If it is too
 * small, a few domains with dead name servers hold up all others. Each costs 1 KiB. */
static const struct setting {
    const char *name, *value;
} settings[] = {
    {"msg-cache-size:", "512k"},
    {"msg-cache-slabs:", "1"},
    {"rrset-cache-size:", "1m"},
    {"rrset-cache-slabs:", "1"},
    {"key-cache-size:", "256k"},
    {"key-cache-slabs:", "1"},
    {"neg-cache-size:", "128k"},
    {"infra-cache-numhosts:", "1000"},
    {"infra-cache-slabs:", "1"},
    /* After an outage, name servers are asked again this many seconds later. libunbound would fail all
     * questions for up to a quarter of an hour more. With less, a dead name server beside a good one would
     * be asked more often. */
    {"infra-host-ttl:", "60"},
    {"outgoing-range:", "512"},
    {"outgoing-num-tcp:", "8"},
    {"num-queries-per-thread:", "1024"},
    /* The local stub of systemd-resolved, and private clients' own reverse zones. */
    {"do-not-query-localhost:", "no"},
    {"unblock-lan-zones:", "yes"},
    {"insecure-lan-zones:", "yes"},
};

int resolver_trust_anchor(const struct resolver_config *config, const char **file,
                          struct error *err)
{
    static const char *const standard[] = {"/usr/share/dns/root.key", "/var/lib/unbound/root.key"};

    *file = NULL;
    if (config->trust_anchor_file == NULL) {
        for (size_t i = 0; i < sizeof standard / sizeof standard[0] && *file == NULL; i++)
            *file = access(standard[i], R_OK) == 0 ? standard[i] : NULL;
        return 0;
    }
    if (config->trust_anchor_file[0] == '\0')
        return 0;
    if (access(config->trust_anchor_file, R_OK) != 0) {
        error_set(err,
                  _("trust anchor %s cannot be read: %s; install dns-root-data or give a file with "
                    "the root's keys"),
                  config->trust_anchor_file, strerror(errno));
        return -1;
    }
    *file = config->trust_anchor_file;
    return 0;
}

bool resolver_may_downgrade(const struct resolver_config *config)
{
    return !config->recurse && (config->trust_anchor_optional || config->trust_anchor_file == NULL);
}

static int resolver_failed(int result, const char *what, struct error *err)
{
    if (result == 0)
        return 0;
    error_set(err, _("the DNS resolver does not accept %s: %s"), what, ub_strerror(result));
    return -1;
}

static const char *resolver_resolv_conf_of(const struct resolver_config *config)
{
    return config->resolv_conf != NULL ? config->resolv_conf : DEFAULT_RESOLV_CONF;
}

static struct resolver_file resolver_look_at(const char *path)
{
    struct stat st;
    if (path == NULL || stat(path, &st) != 0)
        return (struct resolver_file){.size = 0};
    return (struct resolver_file){st.st_mtim, st.st_size, st.st_ino};
}

void resolver_look_at_files(const struct resolver_config *config, struct resolver_file *resolv_conf,
                            struct resolver_file *anchor)
{
    bool asks_file = config->server_count == 0 && !config->recurse;
    const char *path = NULL;
    struct error err;

    if (resolver_trust_anchor(config, &path, &err) != 0)
        path = NULL;
    *resolv_conf = resolver_look_at(asks_file ? resolver_resolv_conf_of(config) : NULL);
    *anchor = resolver_look_at(path);
}

bool resolver_same_file(const struct resolver_file *a, const struct resolver_file *b)
{
    return a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec &&
           a->size == b->size && a->inode == b->inode;
}

/* Accepts any scope after a link-local address: the C library checks it. */
static bool resolver_is_server(const char *text)
{
    char ip[ADDRESS_TEXT_MAX];
    struct address address;
    size_t len = strcspn(text, "%");

    if (len >= sizeof ip || strlen(text) >= RESOLVER_SERVER_TEXT)
        return false;
    memcpy(ip, text, len);
    ip[len] = '\0';
    return address_parse_ip(&address, ip) == 0;
}

static void resolver_take_server(const char *file, const char *text,
                                 struct resolver_servers *servers)
{
    struct log_line line;

    if (servers->count == RESOLVER_SERVERS_MAX)
        return;
    if (resolver_is_server(text)) {
        strcpy(servers->items[servers->count++], text);
        return;
    }
    log_begin(&line, LOG_LEVEL_WARNING, "event=dns-server-ignored");
    log_str(&line, "file", file);
    log_str(&line, "nameserver", text);
    log_str(&line, "hint", "expected an IP address");
    log_end(&line);
}

int resolver_read_servers(const char *file, struct resolver_servers *servers)
{
    static const char blank[] = " \t\r\n";
    char *line = NULL, *rest;
    size_t size = 0;
    FILE *in = fopen(file, "re");

    servers->count = 0;
    if (in == NULL)
        return -1;
    while (getline(&line, &size, in) >= 0) {
        const char *keyword = strtok_r(line, blank, &rest);
        const char *value = strtok_r(NULL, blank, &rest);
        if (keyword != NULL && value != NULL && strcmp(keyword, "nameserver") == 0)
            resolver_take_server(file, value, servers);
    }
    free(line);
    int result = ferror(in) ? -1 : 0;
    fclose(in);
    return result;
}

static int resolver_set_resolv_conf(struct ub_ctx *ctx, const char *file, struct error *err)
{
    struct resolver_servers servers;

    if (resolver_read_servers(file, &servers) != 0) {
        error_set(err, "%s: %s", file, strerror(errno));
        return -1;
    }
    if (servers.count == 0)
        strcpy(servers.items[servers.count++], "127.0.0.1");
    for (size_t i = 0; i < servers.count; i++) {
        if (resolver_failed(ub_ctx_set_fwd(ctx, servers.items[i]), servers.items[i], err) != 0)
            return -1;
    }
    return 0;
}

static int resolver_set_servers(struct ub_ctx *ctx, const struct resolver_config *config,
                                struct error *err)
{
    const char *file = resolver_resolv_conf_of(config);
    char ip[ADDRESS_TEXT_MAX], server[ADDRESS_TEXT_MAX + 8];

    for (size_t i = 0; i < config->server_count; i++) {
        const struct address *address = &config->servers[i];
        snprintf(server, sizeof server, "%s@%u", address_format_ip(address, ip),
                 address->port != 0 ? address->port : DNS_PORT);
        if (resolver_failed(ub_ctx_set_fwd(ctx, server), server, err) != 0)
            return -1;
    }
    if (config->server_count > 0 || config->recurse || access(file, F_OK) != 0)
        return 0;
    return resolver_set_resolv_conf(ctx, file, err);
}

static void resolver_ignore_result(void *context, int error, struct ub_result *result)
{
    (void)context, (void)error;
    if (result != NULL)
        ub_resolve_free(result);
}

static int resolver_set_up(struct ub_ctx *ctx, const struct resolver_config *config,
                           struct error *err)
{
    const char *anchor;

    /* Failures come back as results; standard error belongs to base/log. */
    ub_ctx_debugout(ctx, NULL);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        if (resolver_failed(ub_ctx_set_option(ctx, settings[i].name, settings[i].value),
                            settings[i].name, err) != 0)
            return -1;
    }
    if (resolver_set_servers(ctx, config, err) != 0 ||
        resolver_trust_anchor(config, &anchor, err) != 0)
        return -1;
    if (anchor != NULL && resolver_failed(ub_ctx_add_ta_file(ctx, anchor), anchor, err) != 0)
        return -1;
    if (resolver_failed(ub_ctx_async(ctx, 1), "threads", err) != 0)
        return -1;
    /* This finishes the context, which reads the files. "test." may be a zone of the operator's
     * own name servers (RFC 6761 6.2). */
    if (resolver_failed(ub_ctx_zone_remove(ctx, "test."), anchor != NULL ? anchor : "its settings",
                        err) != 0)
        return -1;
    /* The first question starts libunbound's thread. This one needs no server. */
    return resolver_failed(
        ub_resolve_async(ctx, "localhost.", DNS_TYPE_A, 1, NULL, resolver_ignore_result, NULL),
        "questions", err);
}

/* libunbound needs about 200 KiB of stack here, more than a worker can spare, and its own thread
 * inherits our signal mask. So this runs in a thread with a large stack and all signals blocked. It
 * waits only for local files. */
struct making {
    const struct resolver_config *config;
    struct ub_ctx *ctx;
    struct error *err;
};

static void *resolver_make(void *argument)
{
    struct making *making = argument;
    struct ub_ctx *ctx = ub_ctx_create();

    if (ctx == NULL) {
        error_set(making->err, _("out of memory"));
    } else if (resolver_set_up(ctx, making->config, making->err) == 0) {
        making->ctx = ctx;
    } else {
        ub_ctx_delete(ctx);
    }
    return NULL;
}

struct ub_ctx *resolver_context_new(const struct resolver_config *config, struct error *err)
{
    struct making making = {.config = config, .err = err};
    pthread_t thread;
    int failure = thread_start(&thread, MAKING_STACK_SIZE, resolver_make, &making);

    if (failure == 0)
        pthread_join(thread, NULL);
    else
        error_set(err, _("cannot start a thread: %s"), strerror(failure));
    return making.ctx;
}

/* Asks for the name servers of the root. Any answer will do. */
static bool resolver_is_answered_by(const struct address *server)
{
    static const uint8_t question[] = {0x50, 0x6f, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1};
    struct sockaddr_storage sockaddr;
    socklen_t len = address_to_sockaddr(server, &sockaddr);
    uint8_t answer[512];
    int fd = socket(server->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    if (fd < 0)
        return false;
    bool answered = connect(fd, (struct sockaddr *)&sockaddr, len) == 0 &&
                    send(fd, question, sizeof question, 0) == sizeof question &&
                    poll(&poll_fd, 1, PLAIN_TIMEOUT_MS) == 1 &&
                    recv(fd, answer, sizeof answer, 0) >= DNS_HEADER_OCTETS &&
                    memcmp(answer, question, 2) == 0;
    close(fd);
    return answered;
}

bool resolver_is_answered_without_edns(const struct resolver *resolver)
{
    const struct resolver_config *config = &resolver->config;
    struct resolver_servers servers;
    struct address server;
    bool answered = false;

    for (size_t i = 0; i < config->server_count && !answered; i++)
        answered = resolver_is_answered_by(&config->servers[i]);
    if (config->server_count > 0 || config->recurse)
        return answered;
    resolver_read_servers(resolver_resolv_conf_of(config), &servers);
    for (size_t i = 0; i < servers.count && !answered; i++)
        answered = address_parse_endpoint(&server, servers.items[i], DNS_PORT) == 0 &&
                   resolver_is_answered_by(&server);
    return answered;
}
