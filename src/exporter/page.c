/* exporter/page.c - the page: the state of both daemons at a glance
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "exporter/page.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/i18n.h"
#include "exporter/plot.h"
#include "server/control-client.h"

#define PAGE_DAY 86400
#define PAGE_QUEUE_MAX 5000 /* messages; a longer queue is counted but not listed */
#define PAGE_DESTINATIONS_MAX 12
#define PAGE_MISSED_MAX 20
#define PAGE_TEXT_MAX 512

const char page_style[] =
    ":root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--dim:#667085;--line:#e3e6ea;"
    "--good:#2f8f5b;--wait:#d99a1c;--bad:#cf3f3f;--kept:#4a78c2;--plain:#4a78c2}"
    "@media(prefers-color-scheme:dark){:root{--back:#14171b;--text:#e6e8eb;--dim:#98a2b3;"
    "--line:#2b3036;--good:#4fb783;--wait:#e3b04b;--bad:#e46a6a;--kept:#7aa2e3;--plain:#7aa2e3}}"
    "*{box-sizing:border-box}"
    "body{margin:0 auto;max-width:1320px;padding:1rem;background:var(--back);color:var(--text);"
    "font:15px/1.45 system-ui,sans-serif}"
    "h1{font-size:1.25rem;margin:.2rem 0}h2{font-size:1rem;margin:1.4rem 0 .4rem}"
    ".verdict{display:inline-block;padding:.1rem .6rem;border-radius:1rem;color:#fff}"
    ".verdict.good{background:var(--good)}.verdict.wait{background:#9a6700}"
    ".verdict.bad{background:var(--bad)}"
    ".dim,.axis,.time{color:var(--dim);fill:var(--dim)}"
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:"
    "1rem}"
    "section{border:1px solid var(--line);border-radius:.5rem;padding:.7rem 1rem;min-width:0}"
    "section h2{margin-top:0}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem .8rem;margin:0}"
    "dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}"
    ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,28rem),1fr));gap:"
    "1rem}"
    "figure{margin:0;border:1px solid var(--line);border-radius:.5rem;padding:.6rem}"
    "figcaption{font-size:.85rem}svg{width:100%;height:auto;display:block}"
    "text{font-size:10px}.axis{text-anchor:end}.time.end{text-anchor:end}"
    ".grid{stroke:var(--line);fill:none}.line{fill:none;stroke-width:1.6;stroke-linecap:round}"
    "rect.good{fill:var(--good)}rect.wait{fill:var(--wait)}rect.bad{fill:var(--bad)}"
    "rect.kept{fill:var(--kept)}rect.plain{fill:var(--plain)}"
    ".line.plain{stroke:var(--plain)}.line.wait{stroke:var(--wait)}"
    ".key{margin-left:.8rem;white-space:nowrap;color:var(--dim)}"
    ".key i{display:inline-block;width:.7em;height:.7em;border-radius:2px;margin-right:.3em}"
    "i.good{background:var(--good)}i.wait{background:var(--wait)}i.bad{background:var(--bad)}"
    "i.kept{background:var(--kept)}i.plain{background:var(--plain)}"
    "ul.problems{margin:.4rem 0;padding-left:1.1rem}ul.problems li{overflow-wrap:anywhere}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;min-width:34rem;font-size:.9rem}"
    "td,th{text-align:left;padding:.25rem .7rem .25rem 0;border-top:1px solid var(--line);"
    "vertical-align:top}td.n,th.n{text-align:right}";

/* Problems go to the top of the page, so they are collected first. */
struct page_problems {
    bool failed;
    FILE *out; /* list items */
    size_t count;
};

static void page_text(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
        }
    }
}

__attribute__((format(printf, 3, 4))) static void
page_complain(struct page_problems *problems, bool failed, const char *format, ...)
{
    char text[PAGE_TEXT_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fputs("<li>", problems->out);
    page_text(problems->out, text);
    fputs("</li>\n", problems->out);
    problems->failed = problems->failed || failed;
    problems->count++;
}

__attribute__((format(printf, 3, 4))) static void page_row(FILE *out, const char *what,
                                                           const char *format, ...)
{
    char text[PAGE_TEXT_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fputs("<dt>", out);
    page_text(out, what);
    fputs("</dt><dd>", out);
    page_text(out, text);
    fputs("</dd>\n", out);
}

static const char *page_span(int64_t seconds, char out[32])
{
    if (seconds >= 2 * PAGE_DAY)
        snprintf(out, 32, _("%" PRId64 " d"), seconds / PAGE_DAY);
    else if (seconds >= 7200)
        snprintf(out, 32, _("%" PRId64 " h"), seconds / 3600);
    else
        snprintf(out, 32, _("%" PRId64 " min"), seconds > 0 ? seconds / 60 : 0);
    return out;
}

static unsigned long long page_number(double value)
{
    return (unsigned long long)(value + 0.5);
}

/* "INDEX STATUS EPOCH MS NAME TEXT". */
static void page_backend(FILE *out, const struct page *page, const char *line,
                         struct page_problems *problems)
{
    char index[16], word[16], name[256], span[32];
    int64_t since, ms;
    int used = 0;

    if (sscanf(line, "%15s %15s %" SCNd64 " %" SCNd64 " %255s %n", index, word, &since, &ms, name,
               &used) < 5)
        return;
    page_span(page->now - since, span);
    if (strcmp(word, "down") == 0)
        page_complain(problems, true, _("The mail server %s has been down for %s: %s"), name, span,
                      line + used);
    if (strcmp(word, "up") == 0 && ms >= 0)
        page_row(out, _("mail server"), _("%s, up for %s, connects in %" PRId64 " ms"), name, span,
                 ms);
    else
        page_row(out, _("mail server"), "%s, %s, %s", name, word, span);
}

static void page_common(FILE *out, const struct page *page, const struct stats *stats,
                        struct page_problems *problems)
{
    const char *version = stats_line(stats, "daemon", 0), *since = stats_line(stats, "since", 0);
    char span[32];

    page_row(out, _("version"), _("%s, up for %s"), version != NULL ? version : "?",
             page_span(page->now - (since != NULL ? strtoll(since, NULL, 10) : 0), span));
    if (stats_line(stats, "reload", 0) != NULL)
        page_complain(problems, true,
                      _("%s: the last reload failed, and the old configuration is in force"),
                      stats_program(stats->daemon));
    if (stats_line(stats, "reread", 0) != NULL)
        page_complain(problems, false,
                      _("%s: the certificate's files have changed but cannot be loaded"),
                      stats_program(stats->daemon));
    const char *login = stats_line(stats, "login-refused", 0);
    if (login != NULL)
        page_complain(problems, true, _("a smarthost refuses our log-in: %s"), login);
    if (stats_value(stats, COUNTER_STRESSED, NULL) > 0)
        page_complain(problems, false, _("%s is under stress: few workers or connections are free"),
                      stats_program(stats->daemon));
    page_row(out, _("clients"), _("%llu of %llu connected, %llu active"),
             page_number(stats_open(stats)),
             page_number(stats_value(stats, COUNTER_OPEN_LIMIT, NULL)),
             page_number(stats_value(stats, COUNTER_OPEN_WORKING, NULL)));
    page_row(out, _("today"), _("%llu delivered, %llu deferred, %llu refused"),
             page_number(stats_today(stats, COUNTER_MESSAGES_DELIVERED)),
             page_number(stats_today(stats, COUNTER_MESSAGES_DEFERRED)),
             page_number(stats_today(stats, COUNTER_MESSAGES_REFUSED)));
}

static void page_down(FILE *out, const char *program, const char *why,
                      struct page_problems *problems)
{
    fprintf(out, "<p class=\"dim\">");
    page_text(out, why);
    fprintf(out, "</p>");
    page_complain(problems, true, "%s: %s", program, why);
}

static void page_of_in(FILE *out, const struct page *page, struct page_problems *problems)
{
    const char *line;

    fprintf(out, "<section><h2>relay-in</h2>");
    if (page->in == NULL) {
        page_down(out, "relay-in", page->in_why, problems);
    } else {
        fprintf(out, "<dl>");
        page_common(out, page, page->in, problems);
        for (size_t i = 0; (line = stats_line(page->in, "backend", i)) != NULL; i++)
            page_backend(out, page, line, problems);
        fprintf(out, "</dl>");
    }
    fprintf(out, "</section>\n");
}

static void page_of_out(FILE *out, const struct page *page, struct page_problems *problems)
{
    char span[32];

    fprintf(out, "<section><h2>relay-out</h2>");
    if (page->out == NULL) {
        page_down(out, "relay-out", page->out_why, problems);
        fprintf(out, "</section>\n");
        return;
    }
    double messages = stats_spooled(page->out);
    double oldest = stats_value(page->out, COUNTER_SPOOL_OLDEST, NULL);
    const char *refusal = stats_line(page->out, "refusal", 0);
    fprintf(out, "<dl>");
    page_common(out, page, page->out, problems);
    page_row(out, _("spool"), messages > 0 ? _("%llu messages, the oldest %s old") : _("empty"),
             page_number(messages), page_span((int64_t)oldest, span));
    if (messages > 0 && oldest > 4 * 3600)
        page_complain(problems, false, _("The oldest message has been in the spool for %s"),
                      page_span((int64_t)oldest, span));
    if (refusal != NULL && strchr(refusal, ' ') != NULL)
        page_row(out, _("last refusal"), _("%s ago: %s"),
                 page_span(page->now - strtoll(refusal, NULL, 10), span), strchr(refusal, ' ') + 1);
    fprintf(out, "</dl></section>\n");
}

static void page_certificates(FILE *out, const struct page *page, struct page_problems *problems)
{
    const struct stats *stats = page->in != NULL ? page->in : page->out;
    const char *line;

    if (stats == NULL || stats_line(stats, "certificate", 0) == NULL)
        return;
    fprintf(out, "<section><h2>%s</h2><dl>", _("Certificates"));
    for (size_t i = 0; (line = stats_line(stats, "certificate", i)) != NULL; i++) {
        char file[512], name[256], date[32] = "?";
        int64_t expiry;
        struct tm parts;
        if (sscanf(line, "%*s %" SCNd64 " %511s %255s", &expiry, file, name) != 3)
            continue;
        long long days = (expiry - page->now) / PAGE_DAY;
        time_t when = (time_t)expiry;
        if (gmtime_r(&when, &parts) != NULL)
            strftime(date, sizeof date, "%Y-%m-%d", &parts);
        page_row(out, name, _("until %s, %lld days"), date, days);
        if (expiry <= page->now)
            page_complain(problems, true, _("The certificate for %s has expired"), name);
        else if (days < 14)
            page_complain(problems, false, _("The certificate for %s expires in %lld days"), name,
                          days);
    }
    fprintf(out, "</dl></section>\n");
}

/* Fills the columns of a plot from the steps in their time. */
static void page_fill(struct plot *plot, const struct page *page, enum history_ring ring,
                      int64_t step, const enum history_value *values)
{
    int64_t end = page->now - page->now % step + step;

    for (size_t c = 0; c < plot->columns; c++) {
        double sums[HISTORY_VALUES];
        int64_t from = end - (int64_t)(plot->columns - c) * step;
        plot->known[c] = history_sum(page->history, ring, from, from + step, sums) > 0;
        for (size_t s = 0; s < plot->series_count; s++) {
            double value = sums[values[s]];
            if (values[s] == HISTORY_TIME)
                value = sums[HISTORY_TIMED] > 0 ? value / sums[HISTORY_TIMED] : 0;
            if (values[s] == HISTORY_TRIES_PUT_OFF)
                value = sums[HISTORY_TRIES] > 0 ? 100 * value / sums[HISTORY_TRIES] : 0;
            plot->series[s].values[c] = value;
        }
    }
}

static void page_plots(FILE *out, const struct page *page, enum history_ring ring, int64_t step,
                       size_t columns, const char *from)
{
    static const struct {
        const char *title, *unit;
        bool lines;
        size_t count;
        enum history_value values[4];
        const char *names[4], *styles[4];
    } plots[] = {
        {N_("Incoming messages"),
         "",
         false,
         3,
         {HISTORY_IN_DELIVERED, HISTORY_IN_DEFERRED, HISTORY_IN_REFUSED},
         {N_("delivered"), N_("deferred"), N_("refused")},
         {"good", "wait", "bad"}},
        {N_("Outgoing messages"),
         "",
         false,
         4,
         {HISTORY_OUT_DELIVERED, HISTORY_OUT_STORED, HISTORY_OUT_DEFERRED, HISTORY_OUT_REFUSED},
         {N_("delivered"), N_("stored"), N_("deferred"), N_("refused")},
         {"good", "kept", "wait", "bad"}},
        {N_("Time from MAIL to the last reply, on average"),
         " s",
         true,
         1,
         {HISTORY_TIME},
         {""},
         {"plain"}},
        {N_("Deferred deliveries"), " %", true, 1, {HISTORY_TRIES_PUT_OFF}, {""}, {"wait"}},
        {N_("Messages in the spool"), "", true, 1, {HISTORY_SPOOL}, {""}, {"plain"}},
    };
    struct plot *plot = malloc(sizeof *plot);

    fprintf(out, "<div class=\"plots\">");
    for (size_t i = 0; plot != NULL && i < sizeof plots / sizeof *plots; i++) {
        *plot = (struct plot){.title = _(plots[i].title),
                              .unit = plots[i].unit,
                              .lines = plots[i].lines,
                              .columns = columns,
                              .series_count = plots[i].count,
                              .from = from,
                              .to = _("now")};
        for (size_t s = 0; s < plots[i].count; s++) {
            plot->series[s].name = plots[i].names[s][0] != '\0' ? _(plots[i].names[s]) : "";
            plot->series[s].style = plots[i].styles[s];
        }
        page_fill(plot, page, ring, step, plots[i].values);
        plot_write(out, plot);
    }
    free(plot);
    fprintf(out, "</div>\n");
}

struct page_destination {
    char domain[256];
    unsigned recipients;
    char reply[256];
};

static int page_compare(const void *a, const void *b)
{
    const struct page_destination *left = a, *right = b;
    return (left->recipients < right->recipients) - (left->recipients > right->recipients);
}

/* Finds or adds the recipient's destination. Destinations that do not fit are left out. */
static struct page_destination *page_destination(struct page_destination *all, size_t *count,
                                                 size_t max, const char *domain)
{
    for (size_t i = 0; i < *count; i++) {
        if (strcasecmp(all[i].domain, domain) == 0)
            return &all[i];
    }
    if (*count == max)
        return NULL;
    snprintf(all[*count].domain, sizeof all[*count].domain, "%s", domain);
    return &all[(*count)++];
}

/* Reads relay-out's answer to "queue list": envelopes as in postern-spool(5). */
static size_t page_read_queue(FILE *answer, struct page_destination *all, size_t max)
{
    char *line = NULL, domain[256] = "", reply[256] = "";
    size_t size = 0, count = 0;
    bool waits = false;

    for (;;) {
        bool got = getline(&line, &size, answer) >= 0;
        bool next = !got || line[0] != ' ';
        if (next && domain[0] != '\0' && waits) {
            struct page_destination *one = page_destination(all, &count, max, domain);
            if (one != NULL) {
                one->recipients++;
                if (reply[0] != '\0')
                    memcpy(one->reply, reply, sizeof reply);
            }
        }
        if (!got)
            break;
        line[strcspn(line, "\r\n")] = '\0';
        if (next) {
            domain[0] = reply[0] = '\0';
            waits = false;
            const char *at = strncmp(line, "recipient <", 11) == 0 ? strrchr(line, '@') : NULL;
            if (at != NULL)
                snprintf(domain, sizeof domain, "%.*s", (int)strcspn(at + 1, ">"), at + 1);
        } else if (strncmp(line, " state queued", 13) == 0) {
            waits = true;
        } else if (strncmp(line, " reply ", 7) == 0) {
            snprintf(reply, sizeof reply, "%.*s", (int)sizeof reply - 1, line + 7);
        }
    }
    free(line);
    qsort(all, count, sizeof *all, page_compare);
    return count;
}

static void page_queue(FILE *out, const struct page *page)
{
    const size_t max = 1000;
    double messages = page->out != NULL ? stats_spooled(page->out) : 0;
    struct error err;
    FILE *answer;

    if (messages < 1)
        return;
    fprintf(out, "<h2>%s</h2>\n", _("Waiting in the spool"));
    if (messages > PAGE_QUEUE_MAX) {
        fprintf(out, "<p>%s</p>\n", _("Too many to list here: relayctl queue count --by-domain"));
        return;
    }
    struct page_destination *all = calloc(max, sizeof *all);
    if (all == NULL || control_ask(page->folder, "relay-out", "queue list", CONTROL_PATIENCE_S,
                                   &answer, &err) != CONTROL_ANSWERED) {
        free(all);
        return;
    }
    size_t count = page_read_queue(answer, all, max);
    fclose(answer);
    fprintf(out,
            "<div class=\"scroll\"><table><tr><th>%s</th><th class=\"n\">%s</th><th>%s</th></tr>\n",
            _("destination"), _("recipients"), _("last reply"));
    for (size_t i = 0; i < count && i < PAGE_DESTINATIONS_MAX; i++) {
        fprintf(out, "<tr><td>");
        page_text(out, all[i].domain);
        fprintf(out, "</td><td class=\"n\">%u</td><td>", all[i].recipients);
        page_text(out, all[i].reply);
        fprintf(out, "</td></tr>\n");
    }
    fprintf(out, "</table></div>\n");
    if (count > PAGE_DESTINATIONS_MAX)
        fprintf(out, _("<p class=\"dim\">and %zu more destinations</p>\n"),
                count - PAGE_DESTINATIONS_MAX);
    free(all);
}

/* One line of relay-in's ledger: "missed STATE FIRST LAST SETTLED TRIES REASON NAMED SENDER RECIPIENT
 * CLIENT". False if it is another kind of line. */
static bool page_missed_row(FILE *out, const struct page *page, const char *line)
{
    char state[16], reason[32], sender[300], recipient[300], client[100], span[32];
    int64_t last;
    unsigned tries;

    if (sscanf(line, "missed %15s %*s %" SCNd64 " %*s %u %31s %*s %299s %299s %99s", state, &last,
               &tries, reason, sender, recipient, client) != 7 ||
        strcmp(state, "pending") != 0)
        return false;
    const char *const cells[] = {sender, recipient, client, reason,
                                 page_span(page->now - last, span)};
    fprintf(out, "<tr>");
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        fprintf(out, "<td>");
        page_text(out, cells[i]);
        fprintf(out, "</td>");
    }
    fprintf(out, "<td class=\"n\">%u</td></tr>\n", tries);
    return true;
}

/* Lists the mail whose senders were told to try again and have not. */
static void page_missed(FILE *out, const struct page *page)
{
    double pending = page->in != NULL ? stats_value(page->in, COUNTER_MISSED_PENDING, NULL) : 0;
    char *line = NULL;
    size_t size = 0, shown = 0;
    struct error err;
    FILE *answer;

    if (pending < 1 || control_ask(page->folder, "relay-in", "missed", CONTROL_AT_HAND_S, &answer,
                                   &err) != CONTROL_ANSWERED)
        return;
    fprintf(out,
            "<h2>%s</h2>\n<div class=\"scroll\"><table><tr><th>%s</th><th>%s</th><th>%s</th>"
            "<th>%s</th><th>%s</th><th class=\"n\">%s</th></tr>\n",
            _("Put off and not back yet"), _("sender"), _("recipient"), _("client"), _("why"),
            _("ago"), _("tries"));
    while (shown < PAGE_MISSED_MAX && getline(&line, &size, answer) >= 0) {
        if (page_missed_row(out, page, line))
            shown++;
    }
    fprintf(out, "</table></div>\n");
    if (page_number(pending) > shown)
        fprintf(out, _("<p class=\"dim\">%llu in all: relayctl missed</p>\n"),
                page_number(pending));
    free(line);
    fclose(answer);
}

static void page_head(FILE *out, const struct page *page, const struct page_problems *problems,
                      const char *list)
{
    char at[64] = "";
    struct tm parts;
    time_t now = (time_t)page->now;

    if (localtime_r(&now, &parts) != NULL)
        strftime(at, sizeof at, "%Y-%m-%d %H:%M:%S %Z", &parts);
    const char *style = problems->failed ? "bad" : problems->count > 0 ? "wait" : "good";
    const char *verdict = problems->failed      ? _("Something has failed")
                          : problems->count > 0 ? _("Worth a look")
                                                : _("All is well");
    fprintf(out,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
            "<meta http-equiv=\"refresh\" content=\"60\"><title>Postern: %s</title>"
            "<link rel=\"stylesheet\" href=\"/style.css\"></head><body>\n"
            "<h1>Postern <span class=\"verdict %s\">%s</span></h1><p class=\"dim\">%s</p>\n",
            verdict, style, verdict, at);
    if (problems->count > 0)
        fprintf(out, "<ul class=\"problems\">%s</ul>\n", list);
}

void page_write(FILE *out, const struct page *page)
{
    struct page_problems problems = {.out = NULL};
    char *list = NULL, *body = NULL;
    size_t list_size, body_size;

    problems.out = open_memstream(&list, &list_size);
    FILE *rest = open_memstream(&body, &body_size);
    if (problems.out == NULL || rest == NULL)
        goto out;
    fprintf(rest, "<div class=\"cards\">\n");
    page_of_in(rest, page, &problems);
    page_of_out(rest, page, &problems);
    page_certificates(rest, page, &problems);
    fprintf(rest, "</div>\n<h2>%s</h2>\n", _("Today"));
    page_plots(rest, page, HISTORY_DAY, 900, 96, _("24 hours ago"));
    fprintf(rest, "<h2>%s</h2>\n", _("This week"));
    page_plots(rest, page, HISTORY_WEEK, 3600, 168, _("7 days ago"));
    page_missed(rest, page);
    page_queue(rest, page);
    fprintf(rest, "<p class=\"dim\"><a href=\"/metrics\">/metrics</a></p></body></html>\n");
    fflush(problems.out);
    fflush(rest);
    page_head(out, page, &problems, list);
    fwrite(body, 1, body_size, out);
out:
    if (problems.out != NULL)
        fclose(problems.out);
    if (rest != NULL)
        fclose(rest);
    free(list);
    free(body);
}
