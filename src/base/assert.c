/* base/assert.c - conditions that only a bug of ours can break
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/assert.h"

#include <stdlib.h>

#include "base/log.h"

void assert_failed(const char *condition, const char *file, int line)
{
    struct log_line text;
    log_begin(&text, LOG_LEVEL_ERROR, "event=bug");
    log_str(&text, "expected", condition);
    log_str(&text, "file", file);
    log_int(&text, "line", line);
    log_str(&text, "hint", "please report this; the service manager starts the daemon again");
    log_end(&text);
    abort();
}
