/* relayctl/status.c - relayctl status: is everything fine? On one screen
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "base/i18n.h"
#include "config/config.h"
#include "net/certificate.h"
#include "net/listener.h"
#include "relayctl/subcommand.h"
#include "server/doctor-last.h"
#include "relayctl/json.h"
#include "server/stats-read.h"
#include "relayctl/tunnel.h"

#define PROBLEMS_MAX 32
#define PROBLEM_TEXT_MAX 400

#define SPOOL_OLD_S (4 * 3600)
#define MISSED_OLD_S 86400
#define DOCTOR_OLD_S (2 * 86400) /* postern-doctor.timer runs once a day */
#define DEFERRED_SHARE 20        /* percent, of at least as many deliveries */

enum status_level { STATUS_FINE, STATUS_WARNING, STATUS_FAILURE };

/* The problems found. `level` is that of the worst, and the exit status. */
struct status {
    const struct config *config;
    int64_t now;
    bool json;
    enum status_level level;
    char problems[PROBLEMS_MAX][PROBLEM_TEXT_MAX];
    size_t problem_count;
};

__attribute__((format(printf, 3, 4))) static void
status_complain(struct status *status, enum status_level level, const char *format, ...)
{
    va_list arguments;

    if (level > status->level)
        status->level = level;
    if (status->problem_count == PROBLEMS_MAX)
        return;
    va_start(arguments, format);
    vsnprintf(status->problems[status->problem_count++], PROBLEM_TEXT_MAX, format, arguments);
    va_end(arguments);
}

/* "3 d", "2 h", "5 min", "12 s". */
static const char *status_span(int64_t seconds, char out[32])
{
    if (seconds >= 2 * 86400)
        snprintf(out, 32, _("%" PRId64 " d"), seconds / 86400);
    else if (seconds >= 2 * 3600)
        snprintf(out, 32, _("%" PRId64 " h"), seconds / 3600);
    else if (seconds >= 120)
        snprintf(out, 32, _("%" PRId64 " min"), seconds / 60);
    else
        snprintf(out, 32, _("%" PRId64 " s"), seconds > 0 ? seconds : 0);
    return out;
}

__attribute__((format(printf, 2, 3))) static void status_row(const char *what, const char *format,
                                                             ...)
{
    va_list arguments;

    printf("  %-13s", what);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

static unsigned long long status_whole(double value)
{
    return (unsigned long long)(value + 0.5);
}

/* Does the daemon listen wherever the file says? A reload opens no listener. */
static bool status_listens(const struct status *status, const struct stats *stats)
{
    const struct listen_list *listen =
        stats->daemon == COUNTERS_OUT ? &status->config->out.listen : &status->config->in.listen;
    char text[LISTENER_TEXT_MAX];
    const char *line;

    for (size_t i = 0; i < listen->count; i++) {
        listener_format(&listen->items[i], text);
        size_t at = 0;
        while ((line = stats_line(stats, "listen", at)) != NULL && strcmp(line, text) != 0)
            at++;
        if (line == NULL)
            return false;
    }
    return true;
}

/* Shows the version, the start time, and whether the daemon runs with the current files. */
static void status_head(struct status *status, const struct stats *stats)
{
    const char *program = stats_program(stats->daemon), *line = stats_line(stats, "config", 0);
    const char *newer = stats_newer_file(stats);
    const char *version = stats_line(stats, "daemon", 0), *since = stats_line(stats, "since", 0);
    int64_t read_at = line != NULL ? strtoll(line, NULL, 10) : 0;
    char span[32], at[64] = "?";
    struct tm tm;
    time_t when = (time_t)read_at;

    if (localtime_r(&when, &tm) != NULL)
        strftime(at, sizeof at, "%Y-%m-%d %H:%M", &tm);
    if (!status->json)
        printf(_("%s, up for %s, configuration read %s\n"), version != NULL ? version : program,
               status_span(status->now - (since != NULL ? strtoll(since, NULL, 10) : 0), span), at);
    if (stats_line(stats, "reread", 0) != NULL)
        status_complain(
            status, STATUS_WARNING,
            _("%s: the certificate's files have changed but cannot be loaded, and the old "
              "ones are in use: relayctl check says why"),
            program);
    if (stats_line(stats, "reload", 0) != NULL)
        status_complain(status, STATUS_FAILURE,
                        _("%s: the last reload failed, and the old configuration is in force; "
                          "relayctl check says why"),
                        program);
    else if (newer != NULL)
        status_complain(status, STATUS_WARNING,
                        _("%s: %s is newer than the configuration in use: systemctl reload %s"),
                        program, newer, program);
    else if (!status_listens(status, stats))
        status_complain(status, STATUS_WARNING,
                        _("%s: a new address in listen is in use after a restart: "
                          "systemctl restart %s"),
                        program, program);
}

static void status_traffic(struct status *status, const struct stats *stats)
{
    double refused = 0, working = stats_value(stats, COUNTER_OPEN_WORKING, NULL),
           open = stats_open(stats);
    char stored[64] = "";

    for (enum counter why = COUNTER_REJECTED_EARLY; why <= COUNTER_REJECTED_PROXY; why++)
        refused += stats_today(stats, why);
    if (stats_value(stats, COUNTER_STRESSED, NULL) > 0)
        status_complain(status, STATUS_WARNING,
                        _("%s: under stress: few workers or connections are free"),
                        stats_program(stats->daemon));
    if (status->json)
        return;
    status_row(_("clients"), _("%llu of %llu connected, %llu of %llu workers busy"),
               status_whole(open), status_whole(stats_value(stats, COUNTER_OPEN_LIMIT, NULL)),
               status_whole(working), status_whole(stats_value(stats, COUNTER_WORKERS, NULL)));
    if (stats->daemon == COUNTERS_OUT)
        snprintf(stored, sizeof stored, _(", %llu stored"),
                 status_whole(stats_today(stats, COUNTER_MESSAGES_STORED)));
    status_row(
        _("today"),
        _("%llu delivered%s, %llu deferred, %llu refused, %llu broken off; %llu clients rejected"),
        status_whole(stats_today(stats, COUNTER_MESSAGES_DELIVERED)), stored,
        status_whole(stats_today(stats, COUNTER_MESSAGES_DEFERRED)),
        status_whole(stats_today(stats, COUNTER_MESSAGES_REFUSED)),
        status_whole(stats_today(stats, COUNTER_MESSAGES_ABORTED)), status_whole(refused));
}

/* "INDEX STATUS EPOCH MS NAME TEXT". */
static void status_backend(struct status *status, const struct stats *stats, const char *line)
{
    char index[16], word[16], name[256], span[32], latency[64] = "", reason[260] = "";
    int64_t since, ms;
    int used = 0;

    if (sscanf(line, "%15s %15s %" SCNd64 " %" SCNd64 " %255s %n", index, word, &since, &ms, name,
               &used) < 5)
        return;
    bool up = strcmp(word, "up") == 0;
    status_span(status->now - since, span);
    if (strcmp(word, "down") == 0)
        status_complain(status, STATUS_FAILURE, _("backend %s has been down for %s: %s"), name,
                        span, line + used);
    if (status->json)
        return;
    if (ms >= 0)
        snprintf(latency, sizeof latency, _(", connects in %" PRId64 " ms"), ms);
    if (strcmp(line + used, "-") != 0) /* none yet */
        snprintf(reason, sizeof reason, up ? _("; before: %.200s") : ": %.200s", line + used);
    status_row(_("backend"), _("%s %s for %s%s, %llu of %llu sessions, %llu spares%s"), name,
               up                          ? _("up")
               : strcmp(word, "down") == 0 ? _("DOWN")
                                           : _("not tried yet"),
               span, latency, status_whole(stats_value(stats, COUNTER_BACKEND_SESSIONS, index)),
               status_whole(stats_value(stats, COUNTER_BACKEND_LIMIT, index)),
               status_whole(stats_value(stats, COUNTER_BACKEND_SPARES, index)), reason);
}

static void status_tunnel(struct status *status)
{
    const struct host_list *hosts = &status->config->in.backend.hosts;
    struct tunnel tunnel;
    char span[32];

    if (hosts->count == 0 || !tunnel_find(&hosts->items[0], &tunnel))
        return;
    int64_t age = status->now - tunnel.handshake;
    if (tunnel.handshake == 0)
        status_complain(status, STATUS_WARNING, _("tunnel %s: there has been no handshake yet"),
                        tunnel.interface);
    else if (age > TUNNEL_HANDSHAKE_OLD_S)
        status_complain(status, STATUS_WARNING, _("tunnel %s: the last handshake was %s ago"),
                        tunnel.interface, status_span(age, span));
    if (status->json)
        printf(", \"tunnel\": {\"interface\": \"%s\", \"handshake\": %" PRId64 "}",
               tunnel.interface, tunnel.handshake);
    else if (tunnel.handshake != 0)
        status_row(_("tunnel"), _("%s, handshake %s ago"), tunnel.interface,
                   status_span(age, span));
}

/* "INDEX EPOCH FILE NAME". */
static void status_certificate(struct status *status, const char *line)
{
    char file[512], name[256];
    int64_t expiry;

    if (sscanf(line, "%*s %" SCNd64 " %511s %255s", &expiry, file, name) != 3)
        return;
    long long days = (expiry - status->now) / 86400;
    if (expiry <= status->now)
        status_complain(status, STATUS_FAILURE, _("the certificate for %s has expired (%s)"), name,
                        file);
    else if (days < CERTIFICATE_SOON_DAYS)
        status_complain(status, STATUS_WARNING,
                        _("the certificate for %s expires in %lld days (%s)"), name, days, file);
    if (!status->json)
        status_row(_("certificate"), _("%s, %lld days left (%s)"), name, days, file);
}

static void status_certificates(struct status *status, const struct stats *stats)
{
    const char *line;
    for (size_t i = 0; (line = stats_line(stats, "certificate", i)) != NULL; i++)
        status_certificate(status, line);
}

static void status_missed(struct status *status, const struct stats *stats)
{
    double pending = stats_value(stats, COUNTER_MISSED_PENDING, NULL),
           oldest = stats_value(stats, COUNTER_MISSED_OLDEST, NULL);
    char span[32];

    if (pending > 0 && oldest > MISSED_OLD_S)
        status_complain(status, STATUS_WARNING,
                        _("%llu messages that were put off have not come back, the oldest for %s: "
                          "relayctl missed"),
                        status_whole(pending), status_span((int64_t)oldest, span));
    if (!status->json && pending > 0)
        status_row(_("missed"), _("%llu put off and not back yet, the oldest %s ago"),
                   status_whole(pending), status_span((int64_t)oldest, span));
}

static void status_spool(struct status *status, const struct stats *stats)
{
    const struct config_out *out = &status->config->out;
    double messages = stats_spooled(stats), oldest = stats_value(stats, COUNTER_SPOOL_OLDEST, NULL),
           room = stats_value(stats, COUNTER_SPOOL_FREE, NULL);
    char span[32];

    if (out->spool[0] == '\0')
        return;
    if (messages > 0 && oldest > SPOOL_OLD_S)
        status_complain(status, STATUS_WARNING,
                        _("the oldest message has been in the spool for %s: relayctl queue list"),
                        status_span((int64_t)oldest, span));
    if (room < (double)out->spool_reserve)
        status_complain(status, STATUS_FAILURE,
                        _("the spool's file system is full: mail that needs the spool gets 452"));
    if (status->json)
        return;
    if (messages > 0)
        status_row(_("spool"), _("%llu messages, the oldest %s old; %.1f GB free"),
                   status_whole(messages), status_span((int64_t)oldest, span), room / 1e9);
    else
        status_row(_("spool"), _("empty; %.1f GB free"), room / 1e9);
}

/* "HOST REASON". It lasts until a log-in succeeds or relay-out is reloaded. */
static void status_login(struct status *status, const struct stats *stats)
{
    const char *line;

    for (size_t i = 0; (line = stats_line(stats, "login-refused", i)) != NULL; i++) {
        int host = (int)strcspn(line, " ");
        status_complain(status, STATUS_FAILURE,
                        _("the smarthost %.*s refuses our log-in (%s): put user and password_file "
                          "right, then systemctl reload relay-out"),
                        host, line, line[host] != '\0' ? line + host + 1 : "");
    }
}

static void status_deliveries(struct status *status, const struct stats *stats)
{
    double sent = stats_today(stats, COUNTER_SENT), put_off = stats_today(stats, COUNTER_PUT_OFF),
           bounced = stats_today(stats, COUNTER_BOUNCED), all = sent + put_off + bounced,
           share = all > 0 ? 100 * put_off / all : 0;
    const char *refusal = stats_line(stats, "refusal", 0);
    char span[32];

    if (all >= DEFERRED_SHARE && share > DEFERRED_SHARE)
        status_complain(
            status, STATUS_WARNING,
            _("%.0f %% of today's deliveries were deferred: relayctl hosts, queue list"), share);
    if (status->json)
        return;
    status_row(_("deliveries"), _("today %llu sent, %llu deferred (%.0f %%), %llu refused"),
               status_whole(sent), status_whole(put_off), share, status_whole(bounced));
    if (refusal != NULL && strchr(refusal, ' ') != NULL)
        status_row(_("last refusal"), _("%s ago: %s"),
                   status_span(status->now - strtoll(refusal, NULL, 10), span),
                   strchr(refusal, ' ') + 1);
}

/* Prints everything that the daemon reported, for programs. */
static void status_print_json(const struct stats *stats)
{
    static const char *const words[] = {"sample", "today"};
    static const char *const texts[] = {"daemon", "since",        "config",  "reread",
                                        "reload", "certificate",  "backend", "refusal",
                                        "listen", "login-refused"};
    const char *line;

    printf(", \"%s\": {\"running\": true", stats_program(stats->daemon));
    for (size_t word = 0; word < sizeof texts / sizeof *texts; word++) {
        printf(", \"%s\": [", texts[word]);
        for (size_t i = 0; (line = stats_line(stats, texts[word], i)) != NULL; i++) {
            printf("%s", i > 0 ? ", " : "");
            json_string(stdout, line, strlen(line));
        }
        printf("]");
    }
    for (size_t word = 0; word < 2; word++) {
        printf(", \"%s\": {", words[word]);
        for (size_t i = 0; (line = stats_line(stats, words[word], i)) != NULL; i++) {
            const char *value = strrchr(line, ' ');
            printf("%s", i > 0 ? ", " : "");
            json_string(stdout, line, (size_t)(value - line));
            printf(": %s", value + 1);
        }
        printf("}");
    }
    printf("}");
}

static void status_of_in(struct status *status, const struct stats *stats)
{
    const char *line;

    for (size_t i = 0; (line = stats_line(stats, "backend", i)) != NULL; i++)
        status_backend(status, stats, line);
    status_tunnel(status);
    status_missed(status, stats);
    status_certificates(status, stats);
}

static void status_of_out(struct status *status, const struct stats *stats)
{
    status_deliveries(status, stats);
    status_login(status, stats);
    status_spool(status, stats);
    /* relay-in, if configured, has the same ones, already shown. */
    if (!(status->config->parts & CONFIG_PART_IN))
        status_certificates(status, stats);
}

static void status_of(struct status *status, unsigned daemon)
{
    const char *program = stats_program(daemon);
    struct stats stats;
    struct error err;

    switch (stats_ask(&stats, status->config->control, daemon, &err)) {
    case CONTROL_ANSWERED:
        break;
    case CONTROL_DOWN:
        status_complain(status, STATUS_FAILURE, _("%s does not run, or has no control socket"),
                        program);
        if (status->json)
            printf(", \"%s\": {\"running\": false}", program);
        return;
    case CONTROL_REFUSED:
        status_complain(status, STATUS_FAILURE, "%s: %s", program, err.text);
        if (status->json)
            printf(", \"%s\": {\"running\": null}", program); /* there is no telling */
        return;
    }
    if (status->json)
        status_print_json(&stats);
    status_head(status, &stats);
    status_traffic(status, &stats);
    if (daemon == COUNTERS_IN)
        status_of_in(status, &stats);
    else
        status_of_out(status, &stats);
    stats_free(&stats);
}

/* The last findings may have been mended since, and old ones say nothing. */
static void status_doctor(struct status *status)
{
    struct doctor_last last;
    char file[PATH_MAX], span[32];

    doctor_last_file(status->config, file);
    if (!doctor_last_read(file, &last))
        return;
    if (status->json)
        printf(", \"doctor\": {\"time\": %" PRId64 ", \"failed\": %u, \"warnings\": %u}", last.at,
               last.failed, last.warnings);
    else
        status_row(_("last doctor"), _("%s ago: %u failed, %u warnings"),
                   status_span(status->now - last.at, span), last.failed, last.warnings);
    if (last.failed > 0 && status->now - last.at < DOCTOR_OLD_S)
        status_complain(status, STATUS_WARNING,
                        _("doctor failures %s ago: %u; relayctl doctor --quiet shows what is left, "
                          "relayctl doctor --changes notes what is mended"),
                        status_span(status->now - last.at, span), last.failed);
}

static void status_end(const struct status *status)
{
    static const char *const levels[] = {N_("all is well"), N_("warnings"), N_("FAILURES")};

    if (status->json) {
        printf(", \"problems\": [");
        for (size_t i = 0; i < status->problem_count; i++) {
            printf("%s", i > 0 ? ", " : "");
            json_string(stdout, status->problems[i], strlen(status->problems[i]));
        }
        printf("], \"status\": %d}\n", (int)status->level);
        return;
    }
    printf("%s%s\n", _(levels[status->level]), status->problem_count > 0 ? ":" : "");
    for (size_t i = 0; i < status->problem_count; i++)
        printf("  ! %s\n", status->problems[i]);
}

static int status_show(const struct config *config, bool json)
{
    struct status *status = calloc(1, sizeof *status);

    if (status == NULL)
        return EX_OSERR;
    status->config = config;
    status->now = (int64_t)time(NULL);
    status->json = json;
    if (json)
        printf("{\"time\": %" PRId64, status->now);
    if (config->parts & CONFIG_PART_IN)
        status_of(status, COUNTERS_IN);
    if (config->parts & CONFIG_PART_OUT)
        status_of(status, COUNTERS_OUT);
    status_doctor(status);
    status_end(status);
    int level = (int)status->level;
    free(status);
    return level;
}

static int status_run(struct subcommand_line *line)
{
    return subcommand_show(line, status_show);
}

const struct subcommand status_subcommand = {
    .name = "status",
    .summary = N_("show on one screen whether all is well"),
    .help = {N_(
        "Usage: relayctl status [OPTION...]\n"
        "Shows on one screen the state of the daemons, the mail server behind them, the tunnel,\n"
        "the spool and the certificates.\n\n"
        "  -c, --config FILE           names the daemons' sockets (default %s)\n"
        "      --json                  for programs, with all numbers\n\n"
        "Exit status: 0 all is well, 1 warnings, 2 failures.\n")},
    .run = status_run,
};
