/* relayctl/top.c - relayctl top: live numbers and sessions, once a second
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/i18n.h"
#include "config/config.h"
#include "relayctl/commands.h"
#include "server/control-client.h"
#include "server/stats-read.h"

#define INTERVAL_MS 1000
#define ROWS_USUAL 24

/* What was counted a second ago, for rates. */
struct top_daemon {
    bool known;
    int64_t at_ms;
    double connections, messages, octets;
};

struct top {
    const struct config *config;
    bool terminal; /* the screen is cleared between two pictures */
    unsigned rows; /* left of the screen */
    struct top_daemon daemons[2];
};

/* A line, unless the screen is full. */
__attribute__((format(printf, 2, 3))) static void top_print(struct top *top, const char *format,
                                                            ...)
{
    char line[512];
    va_list arguments;

    if (top->rows == 0)
        return;
    top->rows--;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    printf("%.*s\n", 200, line);
}

static unsigned top_screen_rows(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 4 ? size.ws_row - 1u
                                                                           : ROWS_USUAL;
}

static double top_messages(const struct stats *stats)
{
    return stats_value(stats, COUNTER_MESSAGES_DELIVERED, NULL) +
           stats_value(stats, COUNTER_MESSAGES_STORED, NULL) +
           stats_value(stats, COUNTER_MESSAGES_DEFERRED, NULL) +
           stats_value(stats, COUNTER_MESSAGES_REFUSED, NULL);
}

static void top_show_numbers(struct top *top, struct top_daemon *before, const struct stats *stats)
{
    struct top_daemon now = {true, deadline_now_ms(), stats_value(stats, COUNTER_CONNECTIONS, NULL),
                             top_messages(stats), stats_value(stats, COUNTER_OCTETS, NULL)};
    double seconds = before->known ? (double)(now.at_ms - before->at_ms) / 1000 : 0;
    double working = stats_value(stats, COUNTER_OPEN_WORKING, NULL);

    if (seconds <= 0)
        seconds = 1e9; /* nothing is known of a rate */
    top_print(
        top,
        _("%s: %.0f connected, %.0f at work of %.0f workers; %.1f connections/s, %.1f "
          "messages/s, %.2f MB/s%s"),
        stats_program(stats->daemon), working + stats_value(stats, COUNTER_OPEN_WAITING, NULL),
        working, stats_value(stats, COUNTER_WORKERS, NULL),
        (now.connections - before->connections) / seconds,
        (now.messages - before->messages) / seconds, (now.octets - before->octets) / seconds / 1e6,
        stats_value(stats, COUNTER_STRESSED, NULL) > 0 ? _(", STRESS") : "");
    *before = now;
}

/* "INDEX STATUS EPOCH MS NAME TEXT". */
static void top_show_backends(struct top *top, const struct stats *stats)
{
    char index[16], word[16], name[256];
    const char *line;

    for (size_t i = 0; (line = stats_line(stats, "backend", i)) != NULL; i++) {
        if (sscanf(line, "%15s %15s %*s %*s %255s", index, word, name) != 3)
            continue;
        top_print(top, _("  backend %s %s, %.0f of %.0f sessions, %.0f spares"), name, word,
                  stats_value(stats, COUNTER_BACKEND_SESSIONS, index),
                  stats_value(stats, COUNTER_BACKEND_LIMIT, index),
                  stats_value(stats, COUNTER_BACKEND_SPARES, index));
    }
    if (stats->daemon == COUNTERS_OUT)
        top_print(top, _("  spool %.0f messages, the oldest for %.0f s"),
                  stats_value(stats, COUNTER_SPOOL_MESSAGES, NULL),
                  stats_value(stats, COUNTER_SPOOL_OLDEST, NULL));
}

static void top_show_sessions(struct top *top, const char *program)
{
    char client[64], state[16];
    double seconds;
    struct error err;
    FILE *answer;

    if (control_ask(top->config->control, program, "sessions", &answer, &err) != CONTROL_ANSWERED)
        return;
    while (fscanf(answer, " session %63s %15s %lf", client, state, &seconds) == 3)
        top_print(top, "  %-48s %-9s %8.1f s", client, state, seconds);
    fclose(answer);
}

static void top_show(struct top *top, unsigned daemon)
{
    const char *program = stats_program(daemon);
    struct stats stats;
    struct error err;

    switch (stats_ask(&stats, top->config->control, daemon, &err)) {
    case CONTROL_ANSWERED:
        top_show_numbers(top, &top->daemons[daemon == COUNTERS_OUT], &stats);
        top_show_backends(top, &stats);
        stats_free(&stats);
        top_show_sessions(top, program);
        break;
    case CONTROL_DOWN:
        top_print(top, _("%s does not run, or has no control socket"), program);
        break;
    case CONTROL_REFUSED:
        top_print(top, "%s: %s", program, err.text);
        break;
    }
}

/* One picture. False when nobody looks any more. */
static bool top_draw(struct top *top)
{
    char clock[16] = "";
    time_t now = time(NULL);
    struct tm tm;

    if (localtime_r(&now, &tm) != NULL)
        strftime(clock, sizeof clock, "%H:%M:%S", &tm);
    top->rows = top->terminal ? top_screen_rows() : 1000;
    if (top->terminal)
        printf("\033[H\033[J");
    top_print(top, _("%s  (Ctrl-C ends)"), clock);
    if (top->config->parts & CONFIG_PART_IN)
        top_show(top, COUNTERS_IN);
    if (top->config->parts & CONFIG_PART_OUT)
        top_show(top, COUNTERS_OUT);
    return fflush(stdout) == 0 && !ferror(stdout);
}

static void top_report(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

static int top_run(const struct config *config, long count)
{
    struct top top = {.config = config, .terminal = isatty(STDOUT_FILENO) == 1};

    for (long i = 0; count == 0 || i < count; i++) {
        if (i > 0)
            poll(NULL, 0, INTERVAL_MS);
        if (!top_draw(&top))
            return EX_IOERR;
    }
    return EX_OK;
}

int top_main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"config", required_argument, NULL, 'c'},
        {"count", required_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *file = config_default_file;
    long count = 0;
    int letter;

    while ((letter = getopt_long(argc, argv, "c:", long_options, NULL)) != -1) {
        if (letter == 'h') {
            printf(_("Usage: relayctl top [OPTION...]\n"
                     "Shows live numbers and the connections of clients, once a second.\n\n"
                     "  -c, --config FILE           where the daemons' sockets are (default %s)\n"
                     "      --count NUMBER          end after so many pictures\n"),
                   config_default_file);
            return EX_OK;
        }
        if (letter != 'c' && letter != 'n')
            return EX_USAGE;
        if (letter == 'c')
            file = optarg;
        else
            count = strtol(optarg, NULL, 10);
    }
    if (optind < argc || count < 0) {
        fprintf(stderr, _("relayctl top: what is \"%s\"? See --help.\n"),
                optind < argc ? argv[optind] : "--count");
        return EX_USAGE;
    }
    struct config *config = config_load(file, top_report, NULL);
    int status = config != NULL ? top_run(config, count) : EX_CONFIG;
    config_unref(config);
    return status;
}
