/* server/expiry.c - warns about expiring certificates, in time and repeatedly
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/expiry.h"

#include <time.h>

#include "base/log.h"

#define DAY_S 86400

long long expiry_stage(long long seconds_left)
{
    static const int days[] = {1, 3, 7, 14, 30};

    if (seconds_left <= 0)
        return seconds_left / DAY_S - 1;
    for (size_t i = 0; i < sizeof days / sizeof *days; i++) {
        if (seconds_left <= (long long)days[i] * DAY_S)
            return days[i];
    }
    return 0;
}

static void expiry_log(const struct tls_server_certificate *certificate, long long left)
{
    struct log_line line;
    struct tm tm;
    char date[32] = "?";
    time_t expiry = (time_t)certificate->expiry;

    if (gmtime_r(&expiry, &tm) != NULL)
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (left > 0)
        log_begin(&line, LOG_LEVEL_WARNING, "event=certificate-expires");
    else
        log_begin(&line, LOG_LEVEL_ERROR, "event=certificate-expired");
    log_str(&line, "name", certificate->name);
    log_str(&line, "file", certificate->file);
    log_str(&line, "date", date);
    log_int(&line, "days", left / DAY_S);
    log_str(&line, "hint", "renew it; changed files are noticed");
    log_end(&line);
}

void expiry_look(struct expiry *expiry, const struct tls_server *tls, long long now)
{
    const struct tls_server_certificate *certificates;
    size_t count = tls != NULL ? tls_server_certificates(tls, &certificates) : 0;

    for (size_t i = 0; i < count && i < EXPIRY_CERTIFICATES_MAX; i++) {
        long long left = certificates[i].expiry - now, stage = expiry_stage(left);
        if (certificates[i].expiry == 0 || stage == expiry->stages[i])
            continue;
        expiry->stages[i] = stage;
        if (stage != 0)
            expiry_log(&certificates[i], left);
    }
}
