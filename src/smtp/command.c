/* smtp/command.c - parses lines into commands: verbs, arguments, MAIL and RCPT parameters
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/command.h"

#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/utf8.h"
#include "smtp/xclient.h"

static const char *const command_names[] = {
    [COMMAND_HELO] = "HELO", [COMMAND_EHLO] = "EHLO",         [COMMAND_MAIL] = "MAIL",
    [COMMAND_RCPT] = "RCPT", [COMMAND_DATA] = "DATA",         [COMMAND_RSET] = "RSET",
    [COMMAND_NOOP] = "NOOP", [COMMAND_QUIT] = "QUIT",         [COMMAND_VRFY] = "VRFY",
    [COMMAND_HELP] = "HELP", [COMMAND_STARTTLS] = "STARTTLS", [COMMAND_XCLIENT] = "XCLIENT",
    [COMMAND_BDAT] = "BDAT", [COMMAND_AUTH] = "AUTH",         [COMMAND_EXPN] = "EXPN",
    [COMMAND_ETRN] = "ETRN",
};

static bool command_is_word(const char *text, size_t len, const char *word)
{
    return strlen(word) == len && strncasecmp(text, word, len) == 0;
}

bool command_is_listed(const char *list, const char *word, size_t len)
{
    for (const char *at = list; *at != '\0';) {
        size_t listed = strcspn(at, " ");
        if (listed == len && strncasecmp(at, word, len) == 0)
            return true;
        at += listed + strspn(at + listed, " ");
    }
    return false;
}

static enum command_verb command_find_verb(const char *text, size_t len)
{
    static const char *const http[] = {"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS"};
    for (int verb = 0; verb < COMMAND_HTTP; verb++) {
        if (len > 0 && (*text & ~32) == *command_names[verb] &&
            command_is_word(text, len, command_names[verb]))
            return (enum command_verb)verb;
    }
    for (size_t i = 0; i < sizeof http / sizeof http[0]; i++) {
        if (command_is_word(text, len, http[i]))
            return COMMAND_HTTP;
    }
    return COMMAND_UNKNOWN;
}

static bool command_is_clean(const char *text, size_t len, bool controls)
{
    if (utf8_is_printable_ascii(text, len))
        return true;
    for (size_t i = 0; i < len; i++) {
        bool control = ((unsigned char)text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f;
        if (text[i] == '\0' || (control && !controls))
            return false;
    }
    return utf8_is_valid(text, len);
}

static bool command_is_blank(char octet)
{
    return octet == ' ' || octet == '\t';
}

bool command_parse(struct command *command, const char *line, size_t len)
{
    const char *start = line, *end = line + len, *verb;

    while (start < end && command_is_blank(*start))
        start++;
    while (end > start && (command_is_blank(end[-1]) || end[-1] == '\r'))
        end--;
    for (verb = start; start < end && !command_is_blank(*start);)
        start++;
    command->verb = command_find_verb(verb, (size_t)(start - verb));
    if (!command_is_clean(verb, (size_t)(end - verb),
                          command->verb == COMMAND_HELO || command->verb == COMMAND_EHLO))
        return false;
    while (start < end && command_is_blank(*start))
        start++;
    command->argument = start;
    command->argument_len = (size_t)(end - start);
    return true;
}

/* One " keyword[=value]" of a command's parameters. */
struct parameter {
    const char *keyword, *value;
    size_t keyword_len, value_len;
};

/* Reads the next parameter and moves *at past it. False if there is none left. */
static bool parameter_next(const char **at, const char *end, struct parameter *parameter)
{
    while (*at < end && command_is_blank(**at))
        ++*at;
    if (*at == end)
        return false;
    const char *start = *at;
    while (*at < end && !command_is_blank(**at))
        ++*at;
    const char *equals = memchr(start, '=', (size_t)(*at - start));
    parameter->keyword = start;
    parameter->keyword_len = (size_t)((equals != NULL ? equals : *at) - start);
    parameter->value = equals != NULL ? equals + 1 : NULL;
    parameter->value_len = equals != NULL ? (size_t)(*at - parameter->value) : 0;
    return true;
}

static bool parameter_is(const struct parameter *parameter, const char *word)
{
    return command_is_word(parameter->keyword, parameter->keyword_len, word);
}

static bool parameter_is_value(const struct parameter *parameter, const char *word)
{
    return parameter->value != NULL &&
           command_is_word(parameter->value, parameter->value_len, word);
}

/* RFC 1870 4, RFC 3030 2: digits. An absurdly large number becomes INT64_MAX. */
static bool command_parse_size(const char *text, size_t len, uint64_t *size)
{
    uint64_t value = 0;
    if (len == 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value > (INT64_MAX - 9) / 10 ? INT64_MAX : value * 10 + (uint64_t)(text[i] - '0');
    }
    *size = value;
    return true;
}

static enum parameter_result command_take_body(const struct parameter *parameter,
                                               enum mail_body *body)
{
    if (parameter_is_value(parameter, "7BIT"))
        *body = MAIL_BODY_7BIT;
    else if (parameter_is_value(parameter, "8BITMIME"))
        *body = MAIL_BODY_8BITMIME;
    else if (parameter_is_value(parameter, "BINARYMIME"))
        *body = MAIL_BODY_BINARYMIME;
    else
        return PARAMETER_BAD_VALUE;
    return PARAMETER_OK;
}

static enum parameter_result command_take_flag(const struct parameter *parameter, bool *flag)
{
    *flag = true;
    return parameter->value == NULL ? PARAMETER_OK : PARAMETER_BAD_VALUE;
}

static enum parameter_result command_take_ret(const struct parameter *parameter,
                                              struct mail_parameters *out)
{
    if (out->ret != MAIL_RET_NONE ||
        (!parameter_is_value(parameter, "FULL") && !parameter_is_value(parameter, "HDRS")))
        return PARAMETER_BAD_VALUE;
    out->ret = parameter_is_value(parameter, "FULL") ? MAIL_RET_FULL : MAIL_RET_HDRS;
    out->dsn = true;
    return PARAMETER_OK;
}

static enum parameter_result command_take_envid(const struct parameter *parameter,
                                                struct mail_parameters *out)
{
    struct buffer envid;

    buffer_init(&envid, out->envid, sizeof out->envid);
    if (out->envid_said || parameter->value_len == 0 ||
        !xtext_repair(&envid, parameter->value, parameter->value_len))
        return PARAMETER_BAD_VALUE;
    if (envid.overflow)
        out->envid[0] = '\0';
    out->envid_said = out->dsn = true;
    return PARAMETER_OK;
}

/* In the order of the bits. */
static const char *const notify_words[] = {"NEVER", "SUCCESS", "FAILURE", "DELAY"};

unsigned command_parse_notify(const char *text, size_t len)
{
    unsigned notify = 0;

    while (len > 0) {
        const char *comma = memchr(text, ',', len);
        size_t word_len = comma != NULL ? (size_t)(comma - text) : len, which = 0;
        while (which < 4 && word_len > 0 && !command_is_word(text, word_len, notify_words[which]))
            which++;
        if (which == 4)
            return 0;
        notify |= word_len > 0 ? 1u << which : 0;
        if (comma == NULL)
            break;
        text += word_len + 1;
        len -= word_len + 1;
    }
    return (notify & NOTIFY_NEVER) && notify != NOTIFY_NEVER ? 0 : notify;
}

const char *command_format_notify(unsigned notify, char out[NOTIFY_MAX + 1])
{
    struct buffer text;

    buffer_init(&text, out, NOTIFY_MAX + 1);
    for (size_t i = 0; i < sizeof notify_words / sizeof *notify_words; i++) {
        if (notify & 1u << i)
            buffer_join(&text, text.len > 0 ? "," : "", notify_words[i], NULL);
    }
    return out;
}

static enum parameter_result command_take_notify(const struct parameter *parameter,
                                                 struct rcpt_parameters *out)
{
    if (out->notify != 0)
        return PARAMETER_BAD_VALUE;
    out->notify = command_parse_notify(parameter->value, parameter->value_len);
    out->dsn = true;
    return out->notify != 0 ? PARAMETER_OK : PARAMETER_BAD_VALUE;
}

/* Writes the form of RFC 6533 3 that needs no SMTPUTF8. Characters that are already encoded stay so. */
static bool command_put_utf8_xtext(struct buffer *out, const char *text, size_t len)
{
    for (size_t at = 0, step; at < len; at += step) {
        uint32_t character = utf8_decode(text + at, len - at, &step);
        bool escaped =
            text[at] == '\\' && at + 2 < len && text[at + 1] == 'x' && text[at + 2] == '{';
        if (step == 0 || character <= 0x20 || character == 0x7f)
            return false;
        if (character > 0x7f || character == '+' || character == '=' ||
            (character == '\\' && !escaped))
            buffer_printf(out, "\\x{%X}", character);
        else
            buffer_add(out, text + at, 1);
    }
    return true;
}

/* RFC 3461 4.2: an address type, ";" and xtext. */
static bool command_put_orcpt(struct buffer *out, const char *text, size_t len)
{
    const char *semicolon = len > 0 ? memchr(text, ';', len) : NULL;
    size_t type_len = semicolon != NULL ? (size_t)(semicolon - text) : 0;

    if (type_len == 0)
        return false;
    for (const char *at = text; at < semicolon; at++) {
        if (!((*at | 32) >= 'a' && (*at | 32) <= 'z') && !(*at >= '0' && *at <= '9') &&
            *at != '-' && *at != '_')
            return false;
    }
    buffer_add(out, text, type_len + 1);
    return command_is_word(text, type_len, "utf-8")
               ? command_put_utf8_xtext(out, semicolon + 1, len - type_len - 1)
               : xtext_repair(out, semicolon + 1, len - type_len - 1);
}

static enum parameter_result command_take_orcpt(const struct parameter *parameter,
                                                struct rcpt_parameters *out)
{
    struct buffer orcpt;

    buffer_init(&orcpt, out->orcpt, sizeof out->orcpt);
    if (out->orcpt_said || !command_put_orcpt(&orcpt, parameter->value, parameter->value_len))
        return PARAMETER_BAD_VALUE;
    if (orcpt.overflow)
        out->orcpt[0] = '\0';
    out->orcpt_said = out->dsn = true;
    return PARAMETER_OK;
}

static enum parameter_result command_take_mail(const struct parameter *parameter,
                                               struct mail_parameters *out)
{
    if (parameter_is(parameter, "SIZE"))
        return command_parse_size(parameter->value, parameter->value_len, &out->size)
                   ? PARAMETER_OK
                   : PARAMETER_BAD_VALUE;
    if (parameter_is(parameter, "BODY"))
        return command_take_body(parameter, &out->body);
    if (parameter_is(parameter, "SMTPUTF8"))
        return command_take_flag(parameter, &out->smtputf8);
    if (parameter_is(parameter, "REQUIRETLS"))
        return command_take_flag(parameter, &out->requiretls);
    if (parameter_is(parameter, "RET"))
        return command_take_ret(parameter, out);
    if (parameter_is(parameter, "ENVID"))
        return command_take_envid(parameter, out);
    if (parameter_is(parameter, "AUTH"))
        return parameter->value_len > 0 ? PARAMETER_OK : PARAMETER_BAD_VALUE;
    return PARAMETER_UNKNOWN;
}

static enum parameter_result command_take_rcpt(const struct parameter *parameter,
                                               struct rcpt_parameters *out)
{
    if (parameter_is(parameter, "NOTIFY"))
        return command_take_notify(parameter, out);
    if (parameter_is(parameter, "ORCPT"))
        return command_take_orcpt(parameter, out);
    return PARAMETER_UNKNOWN;
}

/* Reads the path after "FROM:" or "TO:"; *rest is where the parameters begin. */
static enum parameter_result command_take_path(const struct command *command, const char *prefix,
                                               struct path *path, const char **rest)
{
    const char *at = command->argument, *end = at + command->argument_len;
    size_t prefix_len = strlen(prefix), used = 0;

    if (command->argument_len < prefix_len || strncasecmp(at, prefix, prefix_len) != 0)
        return PARAMETER_BAD_VALUE;
    at += prefix_len;
    while (at < end && command_is_blank(*at))
        at++;
    bool valid = prefix[0] == 'F' ? path_parse_reverse(path, at, (size_t)(end - at), &used)
                                  : path_parse_forward(path, at, (size_t)(end - at), &used);
    *rest = at + used;
    return valid && (*rest == end || command_is_blank(**rest)) ? PARAMETER_OK : PARAMETER_BAD_PATH;
}

enum parameter_result command_parse_mail(const struct command *command, struct path *path,
                                         struct mail_parameters *parameters)
{
    const char *at = NULL, *end = command->argument + command->argument_len;
    struct parameter parameter;

    memset(parameters, 0, sizeof *parameters);
    enum parameter_result result = command_take_path(command, "FROM:", path, &at);
    while (result == PARAMETER_OK && parameter_next(&at, end, &parameter))
        result = command_take_mail(&parameter, parameters);
    return result;
}

enum parameter_result command_parse_rcpt(const struct command *command, struct path *path,
                                         struct rcpt_parameters *parameters)
{
    const char *at = NULL, *end = command->argument + command->argument_len;
    struct parameter parameter;

    memset(parameters, 0, sizeof *parameters);
    enum parameter_result result = command_take_path(command, "TO:", path, &at);
    while (result == PARAMETER_OK && parameter_next(&at, end, &parameter))
        result = command_take_rcpt(&parameter, parameters);
    return result;
}

bool command_parse_bdat(const struct command *command, uint64_t *size, bool *last)
{
    const char *at = command->argument, *end = at + command->argument_len;
    while (at < end && !command_is_blank(*at))
        at++;
    if (!command_parse_size(command->argument, (size_t)(at - command->argument), size) ||
        *size == INT64_MAX)
        return false;
    while (at < end && command_is_blank(*at))
        at++;
    *last = command_is_word(at, (size_t)(end - at), "LAST");
    return *last || at == end;
}
