/* relayctl/missed.c - relayctl missed: which senders were told to try again, and which have
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "base/i18n.h"
#include "config/config.h"
#include "server/control-client.h"
#include "relayctl/subcommand.h"
#include "relayctl/json.h"

#define HOURS_MAX 1e6
#define GIVEN_UP_S (5 * 86400) /* how long senders keep trying (RFC 5321 4.5.4.1) */

/* One line of relay-in's answer (relay-in/main.c); every width fits the longest value. */
struct missed_row {
    char state[16], reason[16], sender[128], recipient[128], client[128];
    int64_t first, last, settled;
    unsigned tries;
    int named;
};

/* The totals over all rows. */
struct missed_sum {
    unsigned all, came_back, refused, pending, given_up;
    int64_t first, last, last_back;
};

static bool missed_read_row(FILE *answer, struct missed_row *row)
{
    return fscanf(answer,
                  " missed %15s %" SCNd64 " %" SCNd64 " %" SCNd64 " %u %15s %d %127s %127s %127s",
                  row->state, &row->first, &row->last, &row->settled, &row->tries, row->reason,
                  &row->named, row->sender, row->recipient, row->client) == 10;
}

static const char *missed_time(int64_t seconds, char out[32])
{
    time_t when = (time_t)seconds;
    struct tm tm;
    if (localtime_r(&when, &tm) == NULL || strftime(out, 32, "%Y-%m-%d %H:%M", &tm) == 0)
        strcpy(out, "?");
    return out;
}

/* A client that tried only once and has no name is hardly a mail server. */
static bool missed_is_doubtful(const struct missed_row *row)
{
    return row->tries == 1 && !row->named;
}

/* "pending" becomes "given-up" after GIVEN_UP_S. */
static const char *missed_state(const struct missed_row *row, int64_t now)
{
    bool old = strcmp(row->state, "pending") == 0 && now - row->first > GIVEN_UP_S;
    return old ? "given-up" : row->state;
}

static void missed_add(struct missed_sum *sum, const struct missed_row *row, int64_t now)
{
    const char *state = missed_state(row, now);

    sum->all++;
    sum->came_back += strcmp(state, "came-back") == 0;
    sum->refused += strcmp(state, "refused") == 0;
    sum->pending += strcmp(state, "pending") == 0;
    sum->given_up += strcmp(state, "given-up") == 0;
    if (sum->first == 0 || row->first < sum->first)
        sum->first = row->first;
    if (row->last > sum->last)
        sum->last = row->last;
    if (row->settled > sum->last_back)
        sum->last_back = row->settled;
}

static void missed_print_json(const struct missed_row *row, int64_t now)
{
    printf("{\"state\": ");
    json_string(stdout, missed_state(row, now), strlen(missed_state(row, now)));
    json_member(stdout, "sender", row->sender);
    json_member(stdout, "recipient", row->recipient);
    json_member(stdout, "client", row->client);
    json_member(stdout, "reason", row->reason);
    printf(", \"first\": %" PRId64 ", \"last\": %" PRId64 ", \"settled\": %" PRId64
           ", \"tries\": %u, \"probably_spam\": %s}\n",
           row->first, row->last, row->settled, row->tries,
           missed_is_doubtful(row) ? "true" : "false");
}

static void missed_print(const struct missed_row *row, int64_t now)
{
    char first[32];
    printf(_("  %s  %s to %s, from %s, %u tries%s%s\n"), missed_time(row->first, first),
           strcmp(row->sender, "-") == 0 ? _("a notice") : row->sender, row->recipient, row->client,
           row->tries, strcmp(missed_state(row, now), "given-up") == 0 ? _(", given up since") : "",
           missed_is_doubtful(row) ? _(", probably spam") : "");
}

static void missed_print_sum(const struct missed_sum *sum)
{
    char first[32], last[32], back[32];

    if (sum->all == 0) {
        printf(_("Nobody was put off by this relay in the last 14 days.\n"));
        return;
    }
    printf(_("From %s to %s, %u messages to single recipients were put off: "),
           missed_time(sum->first, first), missed_time(sum->last, last), sum->all);
    if (sum->last_back != 0)
        printf(_("%u have come back (last %s), "), sum->came_back,
               missed_time(sum->last_back, back));
    else
        printf(_("%u have come back, "), sum->came_back);
    printf(_("%u were refused then, %u have not come back%s\n"), sum->refused,
           sum->pending + sum->given_up, sum->pending + sum->given_up > 0 ? ":" : ".");
}

/* The totals are printed first, so the rows to show are kept until then. */
static int missed_show(FILE *answer, int64_t since, bool all, bool json)
{
    struct missed_row row, *rows = NULL;
    struct missed_sum sum = {.all = 0};
    size_t count = 0;
    int64_t now = (int64_t)time(NULL);

    while (missed_read_row(answer, &row)) {
        if (row.last < since)
            continue;
        missed_add(&sum, &row, now);
        if (json) {
            missed_print_json(&row, now);
        } else if (all || strcmp(row.state, "pending") == 0) {
            struct missed_row *more = realloc(rows, (count + 1) * sizeof *rows);
            if (more == NULL)
                break;
            rows = more;
            rows[count++] = row;
        }
    }
    if (!json)
        missed_print_sum(&sum);
    for (size_t i = 0; i < count; i++)
        missed_print(&rows[i], now);
    free(rows);
    return EX_OK;
}

/* Takes hours, a fraction too, for the time that they go back to. */
static bool missed_take_since(void *context, int tag, char *value)
{
    char *end;
    double hours = strtod(value, &end);

    (void)tag;
    if (end == value || *end != '\0' || !(hours >= 0 && hours <= HOURS_MAX))
        return false;
    *(int64_t *)context = (int64_t)time(NULL) - (int64_t)(hours * 3600);
    return true;
}

static int missed_run(struct subcommand_line *line)
{
    const char *file = config_default_file;
    int64_t since = 0;
    bool json = false, all = false;
    const struct subcommand_option options[] = {
        {"config", 'c', .text = &file},
        {"all", .flag = &all},
        {"since", .take = missed_take_since, .context = &since},
        {"json", .flag = &json},
        {.name = NULL},
    };
    int status;

    if (!subcommand_parse(line, options, &status))
        return status;
    struct config *config = config_load(file, subcommand_report, NULL);
    if (config == NULL)
        return EX_CONFIG;
    FILE *answer = subcommand_ask("missed", config, "relay-in", "missed", CONTROL_AT_HAND_S);
    config_unref(config);
    if (answer == NULL)
        return EX_UNAVAILABLE;
    status = missed_show(answer, since, all, json);
    fclose(answer);
    return status;
}

const struct subcommand missed_subcommand = {
    .name = "missed",
    .summary = N_("show senders put off in an outage, and which have come back"),
    .help = {N_(
        "Usage: relayctl missed [OPTION...]\n"
        "Shows senders that got 4xx while the mail server could not be reached, and have not\n"
        "come back.\n\n"
        "  -c, --config FILE           names relay-in's socket (default %s)\n"
        "      --all                   also those that have come back\n"
        "      --since HOURS           only those put off in the last HOURS hours\n"
        "      --json                  all of them, for programs\n")},
    .run = missed_run,
};
