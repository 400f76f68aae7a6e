/* tests/fuzz/fuzz-command.c - command lines, MAIL and RCPT
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct command command;
    struct path path;
    struct mail_parameters mail;
    struct rcpt_parameters rcpt;
    if (!command_parse(&command, (const char *)data, size))
        return 0;
    if (command_parse_mail(&command, &path, &mail) == PARAMETER_OK &&
        (strlen(path.mailbox) > PATH_MAX_OCTETS || strpbrk(path.mailbox, "\r\n") != NULL))
        abort();
    if (command_parse_rcpt(&command, &path, &rcpt) == PARAMETER_OK &&
        (path.mailbox[0] == '\0' || strpbrk(path.mailbox, "\r\n") != NULL))
        abort();
    path_is_helo_name(command.argument, command.argument_len);
    return 0;
}
