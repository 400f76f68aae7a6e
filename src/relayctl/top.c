/* relayctl/top.c - relayctl top: live numbers, sessions and next hops, once a second
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
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
#include "base/utf8.h"
#include "config/config.h"
#include "relayctl/subcommand.h"
#include "server/control-client.h"
#include "server/stats-read.h"

#define INTERVAL_MS 1000
#define ROWS_USUAL 24
#define COLUMNS_USUAL 200
#define TABLE_LINE_MAX 512

/* The counts at the previous picture, for rates. */
struct top_daemon {
    bool away; /* it did not answer: it is asked for nothing else in this picture */
    bool known;
    int64_t at_ms;
    double connections, messages, octets;
};

struct top {
    const struct config *config;
    bool terminal; /* clear the screen between pictures */
    unsigned rows; /* rows of the screen that are left */
    unsigned columns;
    unsigned tables; /* that are to come yet, and share the rows that are left */
    struct top_daemon daemons[2];
};

/* Others have chosen some of it, in their DNS for instance: nothing that a terminal could take for an
 * order, and no more than fits into a line. */
static void top_put_line(const char *text, unsigned columns)
{
    size_t len = strlen(text), step;

    for (size_t at = 0; at < len && columns > 0; at += step, columns--) {
        uint32_t character = utf8_decode(text + at, len - at, &step);
        bool shown = step > 0 && utf8_is_visible(character);
        step += step == 0;
        if (shown)
            fwrite(text + at, 1, step, stdout);
        else
            putchar('?');
    }
    putchar('\n');
}

/* Prints a line unless the screen is full. */
__attribute__((format(printf, 2, 3))) static void top_print(struct top *top, const char *format,
                                                            ...)
{
    char line[TABLE_LINE_MAX + 128];
    va_list arguments;

    if (top->rows == 0)
        return;
    top->rows--;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    top_put_line(line, top->columns);
}

static void top_measure_screen(struct top *top)
{
    struct winsize size = {0};

    top->rows = top->terminal ? ROWS_USUAL : 1000;
    top->columns = COLUMNS_USUAL;
    if (!top->terminal || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
        return;
    if (size.ws_row > 4)
        top->rows = size.ws_row - 1u;
    if (size.ws_col > 20)
        top->columns = size.ws_col;
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
    struct top_daemon now = {false,
                             true,
                             deadline_now_ms(),
                             stats_connections(stats),
                             top_messages(stats),
                             stats_value(stats, COUNTER_OCTETS, NULL)};
    double seconds = before->known ? (double)(now.at_ms - before->at_ms) / 1000 : 0;
    double working = stats_value(stats, COUNTER_OPEN_WORKING, NULL);

    if (seconds <= 0)
        seconds = 1e9; /* no rate is known yet: show 0 */
    top_print(
        top,
        _("%s: %.0f connected, %.0f of %.0f workers busy; %.1f connections/s, %.1f messages/s, "
          "%.2f MB/s%s"),
        stats_program(stats->daemon), stats_open(stats), working,
        stats_value(stats, COUNTER_WORKERS, NULL),
        (now.connections - before->connections) / seconds,
        (now.messages - before->messages) / seconds, (now.octets - before->octets) / seconds / 1e6,
        stats_value(stats, COUNTER_STRESSED, NULL) > 0 ? _(", STRESS") : "");
    *before = now;
}

/* "INDEX STATUS EPOCH MS NAME TEXT". */
static void top_show_backends(struct top *top, const struct stats *stats)
{
    char index[16], word[16], name[256], latency[64];
    const char *line;
    int64_t ms;

    for (size_t i = 0; (line = stats_line(stats, "backend", i)) != NULL; i++) {
        if (sscanf(line, "%15s %15s %*s %" SCNd64 " %255s", index, word, &ms, name) != 4)
            continue;
        latency[0] = '\0';
        if (ms >= 0)
            snprintf(latency, sizeof latency, _(", connects in %" PRId64 " ms"), ms);
        top_print(top, _("  backend %s %s, %.0f of %.0f sessions, %.0f spares%s"), name, word,
                  stats_value(stats, COUNTER_BACKEND_SESSIONS, index),
                  stats_value(stats, COUNTER_BACKEND_LIMIT, index),
                  stats_value(stats, COUNTER_BACKEND_SPARES, index), latency);
    }
    if (stats->daemon == COUNTERS_OUT)
        top_print(top, _("  spool %.0f messages, the oldest %.0f s old"), stats_spooled(stats),
                  stats_value(stats, COUNTER_SPOOL_OLDEST, NULL));
}

/* "CLIENT STATE SECONDS". */
static bool top_format_session(const char *line, char *out, size_t size)
{
    char client[64], state[16];
    double seconds;

    if (sscanf(line, "session %63s %15s %lf", client, state, &seconds) != 3)
        return false;
    snprintf(out, size, "  %-48s %-9s %8.1f s", client, state, seconds);
    return true;
}

/* "PHASE SECONDS DESTINATION HOST". */
static bool top_format_talk(const char *line, char *out, size_t size)
{
    char phase[16], destination[300], host[400];
    double seconds;

    if (sscanf(line, "talk %15s %lf %299s %399s", phase, &seconds, destination, host) != 4)
        return false;
    snprintf(out, size, "  %-30s %-9s %8.1f s  %s", destination, phase, seconds, host);
    return true;
}

/* What a daemon has a line for each of. Tables share what is left of the screen; what one does not need
 * the next may have. */
struct top_table {
    unsigned part, daemon;
    const char *request;
    const char *heading; /* marked with N_() */
    bool (*format)(const char *line, char *out, size_t size);
};

static const struct top_table top_tables[] = {
    {CONFIG_PART_IN, COUNTERS_IN, "sessions", N_("clients of relay-in"), top_format_session},
    {CONFIG_PART_OUT, COUNTERS_OUT, "sessions", N_("clients of relay-out"), top_format_session},
    {CONFIG_PART_OUT, COUNTERS_OUT, "talks", N_("next hops of relay-out"), top_format_talk},
};

/* Rows for those that are there; the others are counted. */
static void top_show_rows(struct top *top, const struct top_table *table, FILE *answer)
{
    unsigned room = top->rows / top->tables, shown = 0;
    unsigned long hidden = 0, more;
    char line[TABLE_LINE_MAX * 2], text[TABLE_LINE_MAX];

    room = room > 2 ? room - 2 : 0; /* heading, and how many more */
    while (fgets(line, sizeof line, answer) != NULL) {
        if (sscanf(line, "more %lu", &more) == 1)
            hidden += more;
        if (!table->format(line, text, sizeof text))
            continue;
        if (shown == 0 && room > 0)
            top_print(top, "%s:", _(table->heading));
        if (shown == room) {
            hidden++;
            continue;
        }
        top_print(top, "%s", text);
        shown++;
    }
    if (hidden > 0 && room > 0)
        top_print(top, _("  and %lu more"), hidden);
}

static void top_show_table(struct top *top, const struct top_table *table)
{
    struct error err;
    FILE *answer;

    /* A daemon that is away has been told of already. */
    if (top->daemons[table->daemon == COUNTERS_OUT].away)
        return;
    if (control_ask(top->config->control, stats_program(table->daemon), table->request,
                    CONTROL_AT_HAND_S, &answer, &err) != CONTROL_ANSWERED)
        return;
    top_show_rows(top, table, answer);
    fclose(answer);
}

static void top_show(struct top *top, unsigned daemon)
{
    const char *program = stats_program(daemon);
    struct stats stats;
    struct error err;

    enum control_result result = stats_ask(&stats, top->config->control, daemon, &err);
    top->daemons[daemon == COUNTERS_OUT].away = result != CONTROL_ANSWERED;
    switch (result) {
    case CONTROL_ANSWERED:
        top_show_numbers(top, &top->daemons[daemon == COUNTERS_OUT], &stats);
        top_show_backends(top, &stats);
        stats_free(&stats);
        break;
    case CONTROL_DOWN:
        top_print(top, _("%s does not run, or has no control socket"), program);
        break;
    case CONTROL_REFUSED:
        top_print(top, "%s: %s", program, err.text);
        break;
    }
}

/* Draws one picture. False if the reader is gone. */
static bool top_draw(struct top *top)
{
    const size_t count = sizeof top_tables / sizeof *top_tables;
    char clock[16] = "";
    time_t now = time(NULL);
    struct tm tm;

    if (localtime_r(&now, &tm) != NULL)
        strftime(clock, sizeof clock, "%H:%M:%S", &tm);
    top_measure_screen(top);
    if (top->terminal)
        printf("\033[H\033[J");
    top_print(top, _("%s  (Ctrl-C ends)"), clock);
    if (top->config->parts & CONFIG_PART_IN)
        top_show(top, COUNTERS_IN);
    if (top->config->parts & CONFIG_PART_OUT)
        top_show(top, COUNTERS_OUT);
    top->tables = 0;
    for (size_t i = 0; i < count; i++)
        top->tables += (top->config->parts & top_tables[i].part) != 0;
    for (size_t i = 0; i < count; i++) {
        if (!(top->config->parts & top_tables[i].part))
            continue;
        top_show_table(top, &top_tables[i]);
        top->tables--;
    }
    return fflush(stdout) == 0 && !ferror(stdout);
}

static int top_show_all(const struct config *config, uint64_t count)
{
    struct top top = {.config = config, .terminal = isatty(STDOUT_FILENO) == 1};

    for (uint64_t i = 0; count == 0 || i < count; i++) {
        if (i > 0)
            poll(NULL, 0, INTERVAL_MS);
        if (!top_draw(&top))
            return EX_IOERR;
    }
    return EX_OK;
}

static int top_run(struct subcommand_line *line)
{
    const char *file = config_default_file;
    uint64_t count = 0;
    const struct subcommand_option options[] = {
        {"config", 'c', .text = &file},
        {"count", .number = &count, .max = INT64_MAX},
        {.name = NULL},
    };
    int status;

    if (!subcommand_parse(line, options, &status))
        return status;
    struct config *config = config_load(file, subcommand_report, NULL);
    status = config != NULL ? top_show_all(config, count) : EX_CONFIG;
    config_unref(config);
    return status;
}

const struct subcommand top_subcommand = {
    .name = "top",
    .summary = N_("show live numbers and sessions, once a second"),
    .help = {N_("Usage: relayctl top [OPTION...]\n"
                "Shows live numbers and the connections of clients and next hops, once a "
                "second.\n\n"
                "  -c, --config FILE           names the daemons' sockets (default %s)\n"
                "      --count NUMBER          end after that many screens\n")},
    .run = top_run,
};
