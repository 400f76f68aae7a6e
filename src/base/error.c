/* base/error.c - an error on its way up to the one place that prints it
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

void error_set(struct error *err, const char *format, ...)
{
    va_list arguments;
    if (err == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(err->text, sizeof err->text, format, arguments);
    va_end(arguments);
}
