/* smtp/courier.c - makes and copies the values that sessions and couriers exchange
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/courier.h"

#include <stdlib.h>
#include <string.h>

struct envelope *envelope_new(void)
{
    struct envelope *envelope = malloc(sizeof *envelope);

    if (envelope == NULL)
        return NULL;
    envelope->client = NULL;
    path_clear(&envelope->sender);
    envelope->size = 0;
    envelope->body = MAIL_BODY_7BIT;
    envelope->smtputf8 = envelope->is_utf8 = false;
    envelope->requiretls = envelope->tls_optional = false;
    envelope->ret = MAIL_RET_NONE;
    envelope->envid[0] = '\0';
    envelope->id = NULL;
    return envelope;
}

void recipient_copy(struct recipient *to, const struct recipient *from)
{
    path_copy(&to->path, &from->path);
    to->notify = from->notify;
    strcpy(to->orcpt, from->orcpt);
}
