/* tests/model/decisions.c - writes the table of relay-out/decide as the model reads it
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdio.h>

#include "relay-out/decide.h"

/* A list of outcomes of which each one that is present stands once. */
static enum decision ask(unsigned present)
{
    enum hop_outcome outcomes[HOP_OUTCOMES];
    size_t count = 0, which;
    for (unsigned i = 0; i < HOP_OUTCOMES; i++) {
        if (present & 1U << i)
            outcomes[count++] = (enum hop_outcome)i;
    }
    return decide_final(outcomes, count, &which);
}

int main(void)
{
    printf("/* By tests/model/decisions. */\n");
    printf("#define TAKEN %d\n#define DEFERRED %d\n#define REFUSED %d\n#define UNDECIDED %d\n",
           HOP_TAKEN, HOP_DEFERRED, HOP_REFUSED, HOP_UNDECIDED);
    printf("#define DECISION_TAKEN %d\n#define DECISION_DEFERRED %d\n"
           "#define DECISION_REFUSED %d\n#define DECISION_STORE %d\n",
           DECISION_TAKEN, DECISION_DEFERRED, DECISION_REFUSED, DECISION_STORE);
    printf("inline decide(present, decision) {\n    if\n");
    for (unsigned present = 1; present < 1U << HOP_OUTCOMES; present++)
        printf("    :: present == %u -> decision = %d\n", present, ask(present));
    printf("    fi\n}\n");
    return 0;
}
