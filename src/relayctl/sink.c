/* relayctl/sink.c - relayctl sink: listens, with one thread per connection
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/sink.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/i18n.h"
#include "relayctl/subcommand.h"

struct visit {
    struct sink *sink;
    int fd;
    struct address peer;
};

static void sink_leave(struct sink *sink)
{
    pthread_mutex_lock(&sink->lock);
    sink->connections--;
    bool enough = sink->options.count > 0 && sink->messages >= sink->options.count;
    pthread_cond_signal(&sink->changed);
    pthread_mutex_unlock(&sink->lock);
    if (enough) {
        /* Other threads may still be working, so free nothing. */
        fflush(NULL);
        _exit(EX_OK);
    }
}

static void *sink_visit_main(void *argument)
{
    struct visit visit = *(struct visit *)argument;
    free(argument);
    sink_serve(visit.sink, visit.fd, &visit.peer);
    sink_leave(visit.sink);
    return NULL;
}

/* At the limit, new connections wait in the backlog. */
static void sink_await_room(struct sink *sink)
{
    pthread_mutex_lock(&sink->lock);
    while (sink->connections >= sink->options.connections)
        pthread_cond_wait(&sink->changed, &sink->lock);
    sink->connections++;
    pthread_mutex_unlock(&sink->lock);
}

static void sink_accept_one(struct sink *sink, int listener, const pthread_attr_t *detached)
{
    struct sockaddr_storage sockaddr;
    socklen_t len = sizeof sockaddr;
    pthread_t thread;
    int fd = accept4(listener, (struct sockaddr *)&sockaddr, &len, SOCK_CLOEXEC);
    struct visit *visit = fd >= 0 ? malloc(sizeof *visit) : NULL;

    if (visit == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    *visit = (struct visit){.sink = sink, .fd = fd};
    address_from_sockaddr(&visit->peer, (struct sockaddr *)&sockaddr);
    sink_await_room(sink);
    if (pthread_create(&thread, detached, sink_visit_main, visit) != 0) {
        close(fd);
        free(visit);
        sink_leave(sink);
    }
}

static int sink_open_all(struct sink *sink, struct pollfd *fds)
{
    struct sink_options *options = &sink->options;
    struct error err;
    for (size_t i = 0; i < options->listen_count; i++) {
        fds[i] = (struct pollfd){.fd = listener_open(&options->listen[i], &err), .events = POLLIN};
        if (fds[i].fd < 0) {
            fprintf(stderr, "relayctl sink: %s\n", err.text);
            return -1;
        }
        /* The kernel has chosen a port if it was 0. */
        address_of_socket(&options->listen[i].address, fds[i].fd);
    }
    return 0;
}

/* Says where it listens. The ready file appears whole or not at all. */
static int sink_announce(const struct sink_options *options)
{
    char text[ADDRESS_TEXT_MAX], unfinished[SINK_PATH_MAX];
    FILE *file = NULL;

    if (options->ready_file != NULL) {
        snprintf(unfinished, sizeof unfinished, "%s.new", options->ready_file);
        file = fopen(unfinished, "we");
    }
    for (size_t i = 0; i < options->listen_count; i++) {
        address_format_endpoint(&options->listen[i].address, text);
        fprintf(stderr, _("relayctl sink: listening on %s\n"), text);
        if (file != NULL)
            fprintf(file, "%s\n", text);
    }
    if (options->ready_file == NULL ||
        (file != NULL && fclose(file) == 0 && rename(unfinished, options->ready_file) == 0))
        return 0;
    fprintf(stderr, "relayctl sink: %s: %s\n", options->ready_file, strerror(errno));
    return -1;
}

static int sink_load_tls(struct sink *sink)
{
    struct tls_pair pair = {sink->options.certificate, sink->options.key};
    struct tls_server_config config = {
        .pairs = &pair,
        .pair_count = 1,
        .priority = "NORMAL",
        .minimum_version = TLS_MIN_1_2,
    };
    struct error err;
    if (sink->options.certificate == NULL)
        return 0;
    sink->tls = tls_server_new(&config, NULL, &err);
    if (sink->tls == NULL)
        fprintf(stderr, "relayctl sink: %s\n", err.text);
    return sink->tls != NULL ? 0 : -1;
}

/* Runs until a signal or options.count ends it. */
static int sink_loop(struct sink *sink)
{
    struct pollfd fds[LISTENERS_MAX];
    pthread_attr_t detached;

    if (sink_load_tls(sink) != 0)
        return EX_CONFIG;
    if (sink_open_all(sink, fds) != 0 || sink_announce(&sink->options) != 0)
        return EX_UNAVAILABLE;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (;;) {
        if (poll(fds, sink->options.listen_count, -1) < 0 && errno != EINTR)
            return EX_OSERR;
        for (size_t i = 0; i < sink->options.listen_count; i++) {
            if (fds[i].revents != 0)
                sink_accept_one(sink, fds[i].fd, &detached);
        }
    }
}

int sink_run(struct subcommand_line *line)
{
    static struct sink sink; /* lives as long as its threads: as long as the process */
    int status = sink_parse_options(&sink.options, line);

    if (status >= 0)
        return status;
    pthread_mutex_init(&sink.lock, NULL);
    pthread_cond_init(&sink.changed, NULL);
    return sink_loop(&sink);
}
