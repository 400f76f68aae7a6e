/* exporter/exposition.c - the daemons' metrics in the form that Prometheus reads
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "exporter/exposition.h"

#include <string.h>

#include "base/i18n.h"

bool exposition_wants_openmetrics(const char *accept)
{
    return accept != NULL && strstr(accept, "application/openmetrics-text") != NULL;
}

/* HELP text may not contain an unescaped backslash or line end. */
static void exposition_escape(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\\')
            fputs("\\\\", out);
        else if (*text != '\n')
            fputc(*text, out);
    }
}

/* OpenMetrics names a counter family without its "_total". */
static int exposition_family_length(const char *name, const char *type, bool openmetrics)
{
    size_t len = strcspn(name, " "), ending = strlen("_total");
    bool cut = openmetrics && strncmp(type, "counter", 7) == 0 && len > ending &&
               strncmp(name + len - ending, "_total", ending) == 0;
    return (int)(cut ? len - ending : len);
}

/* Does the sample belong to this metric? A histogram's samples have an extra suffix. */
static bool exposition_belongs(const char *sample, const char *name, size_t len)
{
    static const char *const endings[] = {"", "_bucket", "_sum", "_count"};

    if (strncmp(sample, name, len) != 0)
        return false;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t more = strlen(endings[i]);
        if (strncmp(sample + len, endings[i], more) == 0 &&
            (sample[len + more] == '{' || sample[len + more] == ' '))
            return true;
    }
    return false;
}

static void exposition_head(FILE *out, const char *name, const char *type, const char *help,
                            bool openmetrics)
{
    int len = exposition_family_length(name, type, openmetrics);

    fprintf(out, "# HELP %.*s ", len, name);
    exposition_escape(out, help);
    fprintf(out, "\n# TYPE %.*s %.*s\n", len, name, (int)strcspn(type, " "), type);
}

/* Does a daemon tell this metric? */
static bool exposition_is_told(const struct stats *stats, const char *name)
{
    const char *line;
    size_t len = strcspn(name, " ") + 1;

    for (size_t m = 0; (line = stats_line(stats, "metric", m)) != NULL; m++) {
        if (strncmp(line, name, len) == 0)
            return true;
    }
    return false;
}

void exposition_write(FILE *out, const struct stats *stats, const struct stats *before,
                      bool openmetrics)
{
    const char *name, *sample;

    for (size_t m = 0; (name = stats_line(stats, "metric", m)) != NULL; m++) {
        const char *type = strchr(name, ' ');
        const char *help = type != NULL ? strchr(type + 1, ' ') : NULL;
        if (help == NULL || (before != NULL && exposition_is_told(before, name)))
            continue;
        exposition_head(out, name, type + 1, help + 1, openmetrics);
        for (size_t s = 0; (sample = stats_line(stats, "sample", s)) != NULL; s++) {
            if (exposition_belongs(sample, name, strcspn(name, " ")))
                fprintf(out, "%s\n", sample);
        }
    }
}

void exposition_write_own(FILE *out, bool in_up, bool out_up, bool openmetrics)
{
    exposition_head(out, "postern_exporter_daemon_up", "gauge",
                    _("1 if the daemon answers the exporter."), openmetrics);
    fprintf(out, "postern_exporter_daemon_up{daemon=\"relay-in\"} %d\n", in_up);
    fprintf(out, "postern_exporter_daemon_up{daemon=\"relay-out\"} %d\n", out_up);
    if (openmetrics)
        fputs("# EOF\n", out);
}
