/* exporter/main.c - postern-exporter: metrics and a page, from what the daemons report
 *
 * A separate process, so that the mail daemons contain no HTTP. It asks their control sockets and
 * nothing else. GNU libmicrohttpd serves requests; one more thread samples every ten seconds, for the
 * plots. It changes nothing, and takes no input but the path and the Accept header of a request.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <config.h>
#include <errno.h>
#include <getopt.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/condition.h"
#include "base/i18n.h"
#include "base/log.h"
#include "config/config.h"
#include "exporter/exposition.h"
#include "exporter/page.h"
#include "net/listener.h"
#include "server/sdnotify.h"

#define EXPORTER_STEP_MS 10000
#define EXPORTER_CONNECTIONS 32
#define EXPORTER_TIMEOUT_S 15
#define EXPORTER_LISTENERS_MAX CONFIG_HOSTS_MAX

/* Everything main() owns. */
struct exporter {
    struct config *config;
    struct history *history;
    struct MHD_Daemon *listeners[EXPORTER_LISTENERS_MAX];
    size_t listener_count;
    pthread_t sampler;
    pthread_mutex_t lock;
    pthread_cond_t ending;
    bool ends;
};

/* What both daemons report now. */
struct exporter_look {
    struct stats in, out;
    bool in_up, out_up;
    struct error in_why, out_why;
};

static bool exporter_ask(const struct exporter *exporter, unsigned daemon, struct stats *stats,
                         struct error *why)
{
    switch (stats_ask(stats, exporter->config->control, daemon, why)) {
    case CONTROL_ANSWERED:
        return true;
    case CONTROL_DOWN:
        error_set(why, _("it is not running"));
        return false;
    case CONTROL_REFUSED:
        break;
    }
    return false;
}

static void exporter_take_look(const struct exporter *exporter, struct exporter_look *look)
{
    *look = (struct exporter_look){0};
    look->in_up = exporter_ask(exporter, COUNTERS_IN, &look->in, &look->in_why);
    look->out_up = exporter_ask(exporter, COUNTERS_OUT, &look->out, &look->out_why);
}

static void exporter_end_look(struct exporter_look *look)
{
    stats_free(&look->in);
    stats_free(&look->out);
}

/* The sampler's thread. */
static void *exporter_sample(void *context)
{
    struct exporter *exporter = context;

    pthread_mutex_lock(&exporter->lock);
    while (!exporter->ends) {
        struct exporter_look look;
        pthread_mutex_unlock(&exporter->lock);
        exporter_take_look(exporter, &look);
        history_add(exporter->history, (int64_t)time(NULL), look.in_up ? &look.in : NULL,
                    look.out_up ? &look.out : NULL);
        exporter_end_look(&look);
        pthread_mutex_lock(&exporter->lock);
        struct deadline next = deadline_in_ms(EXPORTER_STEP_MS);
        while (!exporter->ends && condition_wait(&exporter->ending, &exporter->lock, next))
            ;
    }
    pthread_mutex_unlock(&exporter->lock);
    return NULL;
}

static enum MHD_Result exporter_send(struct MHD_Connection *connection, unsigned status,
                                     const char *type, char *text, size_t size,
                                     enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(size, text, mode);

    if (response == NULL) {
        if (mode == MHD_RESPMEM_MUST_FREE)
            free(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Content-Security-Policy", PAGE_POLICY);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result exporter_send_metrics(const struct exporter *exporter,
                                             struct MHD_Connection *connection)
{
    bool open = exposition_wants_openmetrics(
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Accept"));
    struct exporter_look look;
    char *text = NULL;
    size_t size;

    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return MHD_NO;
    exporter_take_look(exporter, &look);
    if (look.in_up)
        exposition_write(out, &look.in, NULL, open);
    if (look.out_up)
        exposition_write(out, &look.out, look.in_up ? &look.in : NULL, open);
    exposition_write_own(out, look.in_up, look.out_up, open);
    exporter_end_look(&look);
    fclose(out);
    return exporter_send(connection, MHD_HTTP_OK, open ? EXPOSITION_OPENMETRICS : EXPOSITION_TEXT,
                         text, size, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result exporter_send_page(struct exporter *exporter,
                                          struct MHD_Connection *connection)
{
    struct exporter_look look;
    char *text = NULL;
    size_t size;

    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return MHD_NO;
    exporter_take_look(exporter, &look);
    const struct page page = {.folder = exporter->config->control,
                              .in = look.in_up ? &look.in : NULL,
                              .out = look.out_up ? &look.out : NULL,
                              .in_why = look.in_why.text,
                              .out_why = look.out_why.text,
                              .history = exporter->history,
                              .now = (int64_t)time(NULL)};
    page_write(out, &page);
    exporter_end_look(&look);
    fclose(out);
    return exporter_send(connection, MHD_HTTP_OK, "text/html; charset=utf-8", text, size,
                         MHD_RESPMEM_MUST_FREE);
}

/* An MHD_AccessHandlerCallback. */
static enum MHD_Result exporter_answer(void *context, struct MHD_Connection *connection,
                                       const char *url, const char *method, const char *version,
                                       const char *data, size_t *data_size, void **state)
{
    static char not_found[] = "There is / and /metrics.\n", only_get[] = "Only GET.\n";
    static int seen;
    struct exporter *exporter = context;

    (void)version;
    (void)data;
    bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    /* Once its body comes, a request can no longer be refused. */
    if (!get)
        return exporter_send(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", only_get,
                             sizeof only_get - 1, MHD_RESPMEM_PERSISTENT);
    if (*state == NULL) { /* only the headers so far */
        *state = &seen;
        return MHD_YES;
    }
    if (*data_size > 0) /* GET has no body: close */
        return MHD_NO;
    if (strcmp(url, "/metrics") == 0)
        return exporter_send_metrics(exporter, connection);
    if (strcmp(url, "/") == 0)
        return exporter_send_page(exporter, connection);
    if (strcmp(url, "/style.css") == 0)
        return exporter_send(connection, MHD_HTTP_OK, "text/css", (char *)page_style,
                             strlen(page_style), MHD_RESPMEM_PERSISTENT);
    return exporter_send(connection, MHD_HTTP_NOT_FOUND, "text/plain", not_found,
                         sizeof not_found - 1, MHD_RESPMEM_PERSISTENT);
}

static int exporter_listen(struct exporter *exporter)
{
    const struct host_list *hosts = &exporter->config->exporter.listen;

    for (size_t i = 0; i < hosts->count; i++) {
        const struct listen_spec spec = {.address = hosts->items[i]};
        char text[ADDRESS_TEXT_MAX];
        struct error err;
        /* Unlike MHD's own, it may have the address of a tunnel that is not up yet. */
        int fd = listener_open(&spec, &err);
        if (fd < 0) {
            fprintf(stderr, "postern-exporter: %s\n", err.text);
            return -1;
        }
        address_format_endpoint(&spec.address, text);
        struct MHD_Daemon *made = MHD_start_daemon(
            MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, exporter_answer,
            exporter, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
            (unsigned)EXPORTER_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
            (unsigned)EXPORTER_TIMEOUT_S, MHD_OPTION_END);
        if (made == NULL) {
            fprintf(stderr, "postern-exporter: %s: %s\n", text, strerror(errno));
            close(fd);
            return -1;
        }
        exporter->listeners[exporter->listener_count++] = made;
        log_write(LOG_LEVEL_INFO, "event=listen address=%s", text);
    }
    return 0;
}

/* Waits for SIGTERM or SIGINT, which all threads block. */
static void exporter_wait(const sigset_t *signals)
{
    int number;

    sdnotify_send("READY=1");
    while (sigwait(signals, &number) != 0)
        ;
    sdnotify_send("STOPPING=1");
}

static int exporter_run(struct exporter *exporter)
{
    const char *folder = exporter->config->exporter.state;
    char file[4096];
    struct error err;
    sigset_t signals;
    int status = EX_UNAVAILABLE;

    snprintf(file, sizeof file, "%s/history", folder);
    exporter->history = history_open(folder[0] != '\0' ? file : NULL, &err);
    if (exporter->history == NULL) {
        fprintf(stderr, "postern-exporter: %s\n", err.text);
        return EX_CANTCREAT;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    pthread_mutex_init(&exporter->lock, NULL);
    condition_init(&exporter->ending);
    if (pthread_create(&exporter->sampler, NULL, exporter_sample, exporter) == 0) {
        if (exporter_listen(exporter) == 0) {
            exporter_wait(&signals);
            status = EX_OK;
        }
        while (exporter->listener_count > 0)
            MHD_stop_daemon(exporter->listeners[--exporter->listener_count]);
        pthread_mutex_lock(&exporter->lock);
        exporter->ends = true;
        pthread_cond_signal(&exporter->ending);
        pthread_mutex_unlock(&exporter->lock);
        pthread_join(exporter->sampler, NULL);
    }
    pthread_cond_destroy(&exporter->ending);
    pthread_mutex_destroy(&exporter->lock);
    history_close(exporter->history);
    return status;
}

static void exporter_report(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

static int exporter_print_help(void)
{
    printf(_("Usage: postern-exporter [-c FILE]\n"
             "Serves /metrics for Prometheus and a page that shows the state of the relays.\n\n"
             "  -c, --config FILE   configuration file (%s): exporter.listen, control\n"
             "  -h, --help\n"
             "  -V, --version\n"),
           config_default_file);
    return EX_OK;
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"config", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    struct exporter exporter = {0};
    const char *file = config_default_file;
    int letter;

    i18n_init();
    signal(SIGPIPE, SIG_IGN);
    while ((letter = getopt_long(argc, argv, "c:hV", long_options, NULL)) != -1) {
        if (letter == 'h')
            return exporter_print_help();
        if (letter == 'V') {
            printf("postern-exporter (Postern) %s\n", PACKAGE_VERSION);
            return EX_OK;
        }
        if (letter != 'c')
            return EX_USAGE;
        file = optarg;
    }
    if (optind < argc) {
        fprintf(stderr, _("postern-exporter: unexpected argument \"%s\"; see --help\n"),
                argv[optind]);
        return EX_USAGE;
    }
    exporter.config = config_load_for(file, CONFIG_PART_EXPORTER, exporter_report, NULL);
    if (exporter.config == NULL)
        return EX_CONFIG;
    int status = exporter_run(&exporter);
    config_unref(exporter.config);
    return status;
}
