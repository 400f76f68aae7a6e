/* server/admission.h - who may come in: lists, limits
 *
 * On the gate's thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_ADMISSION_H
#define POSTERN_SERVER_ADMISSION_H

#include "server/connection.h"

/* What is known of a client before it has said anything. Under REPLY_OK it is counted among its
 * connections: by connection_close(), or by clients_leave() where there is none. */
struct admission {
    enum own_reply why; /* it may not come in; has been logged */
    bool allowed;       /* no limits hold for it */
    const struct session_deferral *deferral;
};

/* By lists, and then by the limits, which count the client from here on if `why` is REPLY_OK. A refusal is
 * logged and counted. */
struct admission admission_judge(struct connections *all, const struct service *service,
                                 const struct address *client);

/* A load balancer that speaks for itself. Its look whether we are well is answered, whatever address
 * it has. Mail behind it would go on in its own name, which the backend may trust. */
struct admission admission_judge_balancer(struct connections *all, const struct service *service,
                                          const struct address *balancer);

/* May anybody connect from `peer`, to a listener like this? REPLY_OK, or why not, with what is to be
 * told: nothing at all to a stranger at a listener for load balancers (REPLY_CLOSING). */
enum own_reply admission_check_peer(struct connections *all, const struct service *service,
                                    const struct listen_spec *spec, const struct address *peer);

/* In Postfix's words, for those who count them. */
void admission_log_refusal(const struct address *client, const struct reply *reply);

#endif
