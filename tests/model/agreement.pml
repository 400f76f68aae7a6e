/* tests/model/agreement.pml - one message, several next hops, one reply: nothing lost, nothing twice
 *
 * A client sends a message until it has a final reply. relay-out passes it to HOPS next hops live, decides
 * by the table that the code uses (decision.pml, written by tests/model/decisions), stores what is left
 * and delivers it later. A next hop takes, refuses or defers the message each time it is asked, and its
 * answer comes in time, late, or is lost; the disk fails, before the data or behind it; relay-out crashes
 * between any two steps.
 *
 * WRONG is set to try whether the model catches a mistake (see run.sh).
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#define HOPS 2
#define TRIES 2   /* of the client, before it gives up */
#define RETRIES 2 /* of a stored message */
#define CRASHES 1
#define NONE 255

/* Mistakes. */
#define RIGHT 0
#define IGNORES_UNDECIDED 1 /* who did not answer is taken to have deferred */
#define ANSWERS_FIRST 2     /* 250 before the rest is stored */
#define FORGETS_REFUSED 3   /* nobody is told of whom a next hop refused */
#define RECORDS_FIRST 4     /* a refusal is recorded before the notice is stored */
#define CHECKS_DISK_LATE 5  /* whether there is room is known behind the data only */
#define DOES_NOT_WAIT 6     /* who has not answered in time is asked again at once */
#define STORES_ALL 7        /* also those who have the message */
#define BOUNCES_AWAITED 8   /* its time is over: the sender is told while an answer is still to come */

#ifndef WRONG
#define WRONG RIGHT
#endif

#include "decision.pml"

/* A recipient in the spool. On disk there are queued ones and none; the rest is known to the process. */
#define ABSENT 0
#define RESERVED 1 /* on disk, and not to be delivered before the client's try is settled */
#define QUEUED 2
#define AWAITED 3 /* the answer to its delivery is still to come */
#define SETTLED 4

byte copies[HOPS];    /* of the message, at the next hop; 2: or more */
bool told[HOPS];      /* the sender knows that it did not arrive */
bool uncertain[HOPS]; /* an answer was lost there: SMTP has no remedy for that */
byte late[HOPS];      /* the verdict that is still to come; NONE: no answer ever comes */
bool disk_failed;     /* behind the data */
byte crashes, epoch;
bool client_done;
bool busy; /* A try, or a delivery, is under way: they do not meddle with each other in between. */

byte stored[TRIES * HOPS]; /* by the client's try and the next hop */
byte retries[TRIES * HOPS];

hidden byte h, k; /* of loops that nothing interrupts */

#define WAITS(i) (stored[i] == QUEUED || stored[i] == AWAITED)
#define STORED(t, h) stored[(t) * HOPS + (h)]
#define FAULT(h) (crashes > 0 || disk_failed || uncertain[h])
#define EACH(h, what) h = 0; do :: h < HOPS -> what; h++ :: else -> break od

/* A crash, of which all that is not on disk is gone. */
inline crash() {
    crashes++;
    epoch++;
    k = 0;
    do
    :: k < TRIES * HOPS ->
        if
        :: stored[k] == RESERVED || stored[k] == AWAITED -> stored[k] = QUEUED
        :: else -> skip
        fi;
        k++
    :: else -> break
    od
}

/* One step of the process that was started last; or it crashes before, or has crashed. CHOICE is one
 * with several outcomes. */
#define CRASH(gone) \
    :: d_step { epoch == mine && crashes < CRASHES -> crash() } skip; goto gone \
    :: epoch != mine -> goto gone
#define STEP(action, gone) if :: d_step { epoch == mine -> action } skip CRASH(gone) fi
#define CHOICE(action, gone) if :: atomic { epoch == mine -> action } CRASH(gone) fi

/* A next hop gets the end of data. What it does, and what is heard of it: */
inline hop_decides(n, verdict, heard) {
    if
    :: verdict = TAKEN; copies[n] = (copies[n] < 2 -> copies[n] + 1 : 2)
    :: verdict = REFUSED
    :: verdict = DEFERRED
    fi;
    if
    :: heard = verdict
    :: heard = UNDECIDED; late[n] = verdict
    :: heard = UNDECIDED; late[n] = NONE; uncertain[n] = uncertain[n] || verdict == TAKEN
    fi
}

inline tell(n) {
    assert(copies[n] == 0 || FAULT(n)); /* no bounce of what arrived */
    told[n] = true
}

/* The outcomes of a live try become a message in the spool: all who do not have it for sure. */
inline store_rest(t) {
    EACH(h,
        if
        :: outcome[h] == TAKEN && WRONG != STORES_ALL -> STORED(t, h) = SETTLED
        :: outcome[h] == REFUSED && WRONG == FORGETS_REFUSED -> STORED(t, h) = SETTLED
        :: else -> STORED(t, h) = RESERVED
        fi)
}

/* Whoever is left is the queue's now. */
inline accept(t) {
    EACH(h,
        if
        :: STORED(t, h) != RESERVED -> skip
        :: STORED(t, h) == RESERVED && outcome[h] == UNDECIDED && late[h] != NONE &&
           WRONG != DOES_NOT_WAIT -> STORED(t, h) = AWAITED
        :: else -> STORED(t, h) = QUEUED
        fi)
}

/* 250 is an obligation: each next hop has the message, or the disk has it. */
inline answer_250(t) {
    EACH(h, assert(copies[h] > 0 || told[h] || WAITS((t) * HOPS + h)))
}

inline live_outcome(n) {
    if
    :: hop_decides(n, verdict, outcome[n])
    :: outcome[n] = DEFERRED /* it never got that far */
    fi;
    if
    :: outcome[n] == UNDECIDED && WRONG == IGNORES_UNDECIDED -> outcome[n] = DEFERRED
    :: else -> skip
    fi;
    present = present | (1 << outcome[n]);
    verdict = 0;
    n++
}

/* The client's mail server, and the session that it has with relay-out. */
proctype client() {
    byte try, mine, n, decision, present, verdict;
    byte outcome[HOPS];
    bool disk_well;

    do
    :: d_step { try == TRIES && !busy -> EACH(h, tell(h)) } skip; /* its own patience is over */
        break
    :: atomic { try < TRIES && !busy -> busy = true; mine = epoch; if :: disk_well = true :: disk_well = false fi }
        /* Room for what may be left over is made before anybody gets the data: 452. */
        if
        :: !disk_well && WRONG != CHECKS_DISK_LATE -> goto next
        :: else -> skip
        fi;
        do
        :: n < HOPS -> CHOICE(live_outcome(n), next)
        :: n == HOPS -> break
        od;
        STEP(n = 0; decide(present, decision), next);
        if
        :: decision == DECISION_TAKEN -> STEP(answer_250(try), next); break
        :: decision == DECISION_REFUSED -> STEP(EACH(h, tell(h)), next); break
        :: decision == DECISION_DEFERRED -> goto next
        :: decision == DECISION_STORE -> skip
        fi;
        if
        :: WRONG == ANSWERS_FIRST -> STEP(skip, done)
        :: else -> skip
        fi;
        if
        :: !disk_well -> goto next /* CHECKS_DISK_LATE */
        :: atomic { disk_well -> disk_failed = true }; goto next
        :: disk_well -> STEP(store_rest(try), next)
        fi;
        /* The sender of those who were refused is told, and then that is recorded. */
        do
        :: n < HOPS && outcome[n] == REFUSED && WRONG != FORGETS_REFUSED ->
            if
            :: WRONG == RECORDS_FIRST -> STEP(STORED(try, n) = SETTLED, next)
            :: else -> skip
            fi;
            STEP(tell(n), next);
            STEP(STORED(try, n) = SETTLED; n++, next)
        :: n < HOPS && !(outcome[n] == REFUSED && WRONG != FORGETS_REFUSED) -> n++
        :: n == HOPS -> break
        od;
        STEP(accept(try), next);
        STEP(answer_250(try), next); /* or it is stored, and the client does not know */
        break;
next:   skip;
        d_step {
            try++;
            busy = false;
            n = 0; decision = 0; present = 0; verdict = 0;
            EACH(h, outcome[h] = 0)
        }
        skip
    od;
done:
    atomic { busy = false; client_done = true }
}

inline stored_outcome(i, n) {
    if
    :: stored[i] == AWAITED && WRONG == BOUNCES_AWAITED -> verdict = NONE; retries[i] = RETRIES
    :: stored[i] == AWAITED && WRONG != BOUNCES_AWAITED -> verdict = late[n]; late[n] = NONE
    :: stored[i] == QUEUED -> /* it is waited for as long as it takes */
        hop_decides(n, verdict, heard);
        if
        :: heard == UNDECIDED && late[n] == NONE -> verdict = NONE
        :: else -> late[n] = NONE
        fi
    fi
}

/* What is stored is delivered, one recipient after the other. */
proctype delivery() {
    byte i, n, mine, verdict, heard;

again:
    if
    :: d_step { !busy && WAITS(0) -> i = 0; mine = epoch; busy = true }
    :: d_step { !busy && !WAITS(0) && WAITS(1) -> i = 1; mine = epoch; busy = true }
    :: d_step { !busy && !WAITS(0) && !WAITS(1) && WAITS(2) -> i = 2; mine = epoch; busy = true }
    :: d_step { !busy && !WAITS(0) && !WAITS(1) && !WAITS(2) && WAITS(3) -> i = 3; mine = epoch; busy = true }
    :: client_done && !WAITS(0) && !WAITS(1) && !WAITS(2) && !WAITS(3) -> goto over
    fi;
    CHOICE(n = i % HOPS; stored_outcome(i, n), lost);
    if
    :: verdict == TAKEN -> skip
    :: verdict == REFUSED ->
        if
        :: WRONG == RECORDS_FIRST -> STEP(stored[i] = SETTLED, lost)
        :: else -> skip
        fi;
        STEP(tell(n), lost)
    :: verdict == DEFERRED || verdict == NONE ->
        STEP(retries[i]++; stored[i] = QUEUED, lost);
        if
        :: retries[i] < RETRIES -> goto lost
        :: else -> STEP(tell(n), lost)
        fi
    fi;
    STEP(stored[i] = SETTLED, lost);
lost:
    skip;
    d_step { i = 0; n = 0; verdict = 0; heard = 0; mine = 0; busy = false }
    skip;
    goto again;
over:
    skip
}

init {
    atomic { run client(); run delivery() }
    (_nr_pr == 1);
    atomic {
        EACH(h,
            assert(copies[h] > 0 || told[h]);               /* nothing lost */
            assert(copies[h] <= 1 || FAULT(h));             /* no copy twice */
            assert(copies[h] == 0 || !told[h] || FAULT(h))) /* no bounce of what arrived */
    }
}
