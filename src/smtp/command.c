/* smtp/command.c - lines become commands: verbs, arguments, MAIL and RCPT parameters
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/command.h"

#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "smtp/xclient.h"

static const char *const names[] = {
    [COMMAND_HELO] = "HELO", [COMMAND_EHLO] = "EHLO",         [COMMAND_MAIL] = "MAIL",
    [COMMAND_RCPT] = "RCPT", [COMMAND_DATA] = "DATA",         [COMMAND_RSET] = "RSET",
    [COMMAND_NOOP] = "NOOP", [COMMAND_QUIT] = "QUIT",         [COMMAND_VRFY] = "VRFY",
    [COMMAND_HELP] = "HELP", [COMMAND_STARTTLS] = "STARTTLS", [COMMAND_XCLIENT] = "XCLIENT",
    [COMMAND_BDAT] = "BDAT", [COMMAND_AUTH] = "AUTH",         [COMMAND_EXPN] = "EXPN",
    [COMMAND_ETRN] = "ETRN",
};

static bool is_word(const char *text, size_t len, const char *word)
{
    return strlen(word) == len && strncasecmp(text, word, len) == 0;
}

static enum command_verb find_verb(const char *text, size_t len)
{
    static const char *const http[] = {"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS"};
    for (int verb = 0; verb < COMMAND_HTTP; verb++) {
        if (is_word(text, len, names[verb]))
            return (enum command_verb)verb;
    }
    for (size_t i = 0; i < sizeof http / sizeof http[0]; i++) {
        if (is_word(text, len, http[i]))
            return COMMAND_HTTP;
    }
    return COMMAND_UNKNOWN;
}

static bool is_clean(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (((unsigned char)text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f)
            return false;
    }
    return utf8_is_valid(text, len);
}

static bool is_blank(char octet)
{
    return octet == ' ' || octet == '\t';
}

enum command_result command_parse(struct command *command, const char *line, size_t len)
{
    if (!is_clean(line, len))
        return COMMAND_GARBAGE;
    size_t verb_len = 0;
    while (verb_len < len && !is_blank(line[verb_len]))
        verb_len++;
    command->verb = find_verb(line, verb_len);
    const char *start = line + verb_len, *end = line + len;
    while (start < end && is_blank(*start))
        start++;
    while (end > start && is_blank(end[-1]))
        end--;
    command->argument = start;
    command->argument_len = (size_t)(end - start);
    return COMMAND_OK;
}

/* One " keyword[=value]" of a command's parameters. */
struct parameter {
    const char *keyword, *value;
    size_t keyword_len, value_len;
};

/* Moves *at behind it. False when there is none left. */
static bool next_parameter(const char **at, const char *end, struct parameter *parameter)
{
    while (*at < end && is_blank(**at))
        ++*at;
    if (*at == end)
        return false;
    const char *start = *at;
    while (*at < end && !is_blank(**at))
        ++*at;
    const char *equals = memchr(start, '=', (size_t)(*at - start));
    parameter->keyword = start;
    parameter->keyword_len = (size_t)((equals != NULL ? equals : *at) - start);
    parameter->value = equals != NULL ? equals + 1 : NULL;
    parameter->value_len = equals != NULL ? (size_t)(*at - parameter->value) : 0;
    return true;
}

static bool keyword_is(const struct parameter *parameter, const char *word)
{
    return is_word(parameter->keyword, parameter->keyword_len, word);
}

static bool value_is(const struct parameter *parameter, const char *word)
{
    return parameter->value != NULL && is_word(parameter->value, parameter->value_len, word);
}

/* RFC 1870 4, RFC 3030 2: 1*20DIGIT; beyond 2^63 nobody means it. */
static bool parse_size(const char *text, size_t len, uint64_t *size)
{
    uint64_t value = 0;
    if (len == 0 || len > 20)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || value > (INT64_MAX - 9) / 10)
            return false;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    *size = value;
    return true;
}

static enum parameter_result take_size(const struct parameter *parameter, uint64_t *size)
{
    return parse_size(parameter->value, parameter->value_len, size) ? PARAMETER_OK
                                                                    : PARAMETER_BAD_VALUE;
}

static enum parameter_result take_body(const struct parameter *parameter, enum mail_body *body)
{
    if (*body != MAIL_BODY_NONE)
        return PARAMETER_BAD_VALUE;
    if (value_is(parameter, "7BIT"))
        *body = MAIL_BODY_7BIT;
    else if (value_is(parameter, "8BITMIME"))
        *body = MAIL_BODY_8BITMIME;
    else if (value_is(parameter, "BINARYMIME"))
        *body = MAIL_BODY_BINARYMIME;
    else
        return PARAMETER_BAD_VALUE;
    return PARAMETER_OK;
}

static enum parameter_result take_text(const struct parameter *parameter, const char **text,
                                       size_t *len)
{
    if (*text != NULL || parameter->value_len == 0)
        return PARAMETER_BAD_VALUE;
    *text = parameter->value;
    *len = parameter->value_len;
    return PARAMETER_OK;
}

static bool is_xtext(const char *text, size_t len, size_t max)
{
    char decoded[ORCPT_MAX + 1];
    return len > 0 && len <= max && xtext_decode(text, len, decoded, sizeof decoded) >= 0;
}

/* RFC 3461 4.1: NEVER alone, or a list of the others. */
static bool is_notify(const char *text, size_t len)
{
    const char *end = text + len;
    if (len > NOTIFY_MAX)
        return false;
    if (is_word(text, len, "NEVER"))
        return true;
    for (const char *word = text;; word++) {
        const char *comma = memchr(word, ',', (size_t)(end - word));
        size_t word_len = (size_t)((comma != NULL ? comma : end) - word);
        if (!is_word(word, word_len, "SUCCESS") && !is_word(word, word_len, "FAILURE") &&
            !is_word(word, word_len, "DELAY"))
            return false;
        if (comma == NULL)
            return true;
        word = comma;
    }
}

/* RFC 3461 4.2: an address type, ";" and xtext; RFC 6533 3 has UTF-8 in place of that. */
static bool is_orcpt(const char *text, size_t len)
{
    const char *semicolon = memchr(text, ';', len);
    if (semicolon == NULL || semicolon == text || len > ORCPT_MAX)
        return false;
    for (const char *at = text; at < semicolon; at++) {
        if (!((*at | 32) >= 'a' && (*at | 32) <= 'z') && !(*at >= '0' && *at <= '9') && *at != '-')
            return false;
    }
    size_t rest = len - (size_t)(semicolon + 1 - text);
    return is_xtext(semicolon + 1, rest, ORCPT_MAX) ||
           (is_word(text, (size_t)(semicolon - text), "utf-8") && rest > 0);
}

static enum parameter_result take_mail(const struct parameter *parameter,
                                       struct mail_parameters *out)
{
    if (keyword_is(parameter, "SIZE"))
        return take_size(parameter, &out->size);
    if (keyword_is(parameter, "BODY"))
        return take_body(parameter, &out->body);
    if (keyword_is(parameter, "SMTPUTF8")) {
        if (parameter->value != NULL || out->smtputf8)
            return PARAMETER_BAD_VALUE;
        out->smtputf8 = true;
        return PARAMETER_OK;
    }
    if (keyword_is(parameter, "REQUIRETLS")) {
        if (parameter->value != NULL || out->requiretls)
            return PARAMETER_BAD_VALUE;
        out->requiretls = true;
        return PARAMETER_OK;
    }
    if (keyword_is(parameter, "RET"))
        return value_is(parameter, "FULL") || value_is(parameter, "HDRS")
                   ? take_text(parameter, &out->ret, &out->ret_len)
                   : PARAMETER_BAD_VALUE;
    if (keyword_is(parameter, "ENVID"))
        return is_xtext(parameter->value, parameter->value_len, ENVID_MAX)
                   ? take_text(parameter, &out->envid, &out->envid_len)
                   : PARAMETER_BAD_VALUE;
    if (keyword_is(parameter, "AUTH"))
        return take_text(parameter, &out->auth, &out->auth_len);
    return PARAMETER_UNKNOWN;
}

static enum parameter_result take_rcpt(const struct parameter *parameter,
                                       struct rcpt_parameters *out)
{
    if (keyword_is(parameter, "NOTIFY"))
        return parameter->value_len > 0 && is_notify(parameter->value, parameter->value_len)
                   ? take_text(parameter, &out->notify, &out->notify_len)
                   : PARAMETER_BAD_VALUE;
    if (keyword_is(parameter, "ORCPT"))
        return parameter->value_len > 0 && is_orcpt(parameter->value, parameter->value_len)
                   ? take_text(parameter, &out->orcpt, &out->orcpt_len)
                   : PARAMETER_BAD_VALUE;
    return PARAMETER_UNKNOWN;
}

static enum parameter_result path_outcome(enum path_result result)
{
    return result == PATH_OK
               ? PARAMETER_OK
               : (result == PATH_SYNTAX ? PARAMETER_PATH_SYNTAX : PARAMETER_PATH_LENGTH);
}

/* Finds the path behind "FROM:" or "TO:"; *rest is where the parameters begin. */
static enum parameter_result take_path(const struct command *command, const char *prefix,
                                       struct path *path, const char **rest)
{
    const char *at = command->argument, *end = at + command->argument_len;
    size_t prefix_len = strlen(prefix), used = 0;

    if (command->argument_len < prefix_len || strncasecmp(at, prefix, prefix_len) != 0)
        return PARAMETER_PREFIX;
    at += prefix_len;
    while (at < end && is_blank(*at))
        at++;
    enum parameter_result result =
        path_outcome(prefix[0] == 'F' ? path_parse_reverse(path, at, (size_t)(end - at), &used)
                                      : path_parse_forward(path, at, (size_t)(end - at), &used));
    *rest = at + used;
    if (result == PARAMETER_OK && *rest < end && !is_blank(**rest))
        return PARAMETER_PATH_SYNTAX;
    return result;
}

enum parameter_result command_parse_mail(const struct command *command, struct path *path,
                                         struct mail_parameters *parameters)
{
    const char *at = NULL, *end = command->argument + command->argument_len;
    struct parameter parameter;

    memset(parameters, 0, sizeof *parameters);
    enum parameter_result result = take_path(command, "FROM:", path, &at);
    while (result == PARAMETER_OK && next_parameter(&at, end, &parameter))
        result = take_mail(&parameter, parameters);
    return result;
}

enum parameter_result command_parse_rcpt(const struct command *command, struct path *path,
                                         struct rcpt_parameters *parameters)
{
    const char *at = NULL, *end = command->argument + command->argument_len;
    struct parameter parameter;

    memset(parameters, 0, sizeof *parameters);
    enum parameter_result result = take_path(command, "TO:", path, &at);
    while (result == PARAMETER_OK && next_parameter(&at, end, &parameter))
        result = take_rcpt(&parameter, parameters);
    return result;
}

bool command_parse_bdat(const struct command *command, uint64_t *size, bool *last)
{
    const char *at = command->argument, *end = at + command->argument_len;
    while (at < end && !is_blank(*at))
        at++;
    if (!parse_size(command->argument, (size_t)(at - command->argument), size))
        return false;
    while (at < end && is_blank(*at))
        at++;
    *last = is_word(at, (size_t)(end - at), "LAST");
    return *last || at == end;
}
