/* The bell's protocol (db/migrations: bell, writers are known by their lock, nothing is left at the end) for Spin: writers, each one
 * transaction that commits or rolls back, and two runs of the task at once. At rest no committed row is left due.
 *
 *   -DTROUBLE  one run may be killed, one may give up waiting, and one may be relieved by another that begins
 *   -DAGAIN    one writer may write what the other has committed once more, and a job is there to begin with
 *
 * Each multiplies the states, so each is checked with two writers, and the calm protocol with three.
 *
 * A run claims rows, and others skip these, until it has judged them or the server has noticed that it is dead; by then its
 * job may be another's. (A worker that was stopped keeps AWAKE too: rows that rely on it then are the sweep's.) Rows that a
 * writer has written and not committed are skipped as well. That a run waits for those who have claimed rows is for thrift: it
 * would find these rows left, and ring, until they are judged.
 *
 * A commit is two steps, as in PostgreSQL: visible first, its locks free a moment later. A writer in a strict isolation level
 * does not look at the queue. bell.test.ts runs it; each of these variants is wrong, and must be refuted:
 *
 *   -DEND_AT_ONCE      the run ends at the first empty claim
 *   -DASK_AT_START     the run asks who has written when it starts
 *   -DASK_AWAKE        the run asks who has written while it is still awake
 *   -DRELIEVE_AT_ONCE  a run that begins relieves one that is still awake
 *   -DRELY_ON_RINGER   a writer relies on another that is adding a job
 *   -DSTRICT_LOOKS     a writer with an old snapshot believes the job it sees
 *   -DTRUST_LAST_LOOK  (with AGAIN) the run does not ask at its end whether a row that it could not claim is left
 */
#if defined(TROUBLE) || defined(AGAIN)
#define N 2
#else
#define N 3
#endif
#define NOBODY 255
#define FREE 0
#define UNCOMMITTED 1
#define READY 2
#define LOCKED 3

bool writes[N];              /* holds the lock on the table */
byte row[N];                 /* 0 none, 1 written, 2 committed and due, 3 judged, 4 and 5 claimed by run 0 and 1, 6 due and written again */
byte job[N];                 /* of each writer */
byte rung;                   /* jobs that are ready and of no writer */
byte awake = NOBODY;         /* the run that holds AWAKE */
byte ring = NOBODY;          /* the writer that holds RING */
bool claims[2];              /* the run has claimed rows */
bool waits[2];               /* the run waits for writers */
bool relieved[2];
#ifdef TROUBLE
bool may_be_killed = true;
bool may_give_up = true;
#endif
byte over = 0;

#define IS_DUE(r) (r == 2 || r >= 4)
#define CLAIMERS (8 * claims[0] + 16 * claims[1])
#define CLAIMER_OF(seen) ((claims[0] && (seen & 8)) || (claims[1] && (seen & 16)))
#if N == 3
#define A_JOB_IS_READY (rung || job[0] == READY || job[1] == READY || job[2] == READY)
#define OPEN_OF(seen) ((writes[0] && (seen & 1)) || (writes[1] && (seen & 2)) || (writes[2] && (seen & 4)) || CLAIMER_OF(seen))
#define WRITERS (writes[0] + 2 * writes[1] + 4 * writes[2] + CLAIMERS)
#define A_ROW_IS_LEFT (row[0] == 2 || row[1] == 2 || row[2] == 2)
#define A_ROW_IS_DUE (IS_DUE(row[0]) || IS_DUE(row[1]) || IS_DUE(row[2]))
#else
#define A_JOB_IS_READY (rung || job[0] == READY || job[1] == READY)
#define OPEN_OF(seen) ((writes[0] && (seen & 1)) || (writes[1] && (seen & 2)) || CLAIMER_OF(seen))
#define WRITERS (writes[0] + 2 * writes[1] + CLAIMERS)
#define A_ROW_IS_LEFT (row[0] == 2 || row[1] == 2)
#define A_ROW_IS_DUE (IS_DUE(row[0]) || IS_DUE(row[1]))
#endif

proctype Writer(byte me) {
  bool strict; bool saw_a_job;
  if :: strict = false :: strict = true fi;
  /* The snapshot of a strict writer is taken here, before it writes. */
  saw_a_job = A_JOB_IS_READY;
  bool again = false;        /* what it writes is row 0, committed by the other */
  if
  :: atomic { writes[me] = true; row[me] = 1 }
#ifdef AGAIN
  :: atomic { me == 1 && row[0] == 2 -> again = true; writes[me] = true; row[0] = 6 }
#endif
  fi;

  if :: awake != NOBODY -> goto end :: else fi;
  if
  :: strict ->
#ifdef STRICT_LOOKS
     if :: saw_a_job -> goto end :: else fi;
#endif
     goto add
  :: else
  fi;
  byte look = 0;
  do
  :: look == 2 -> break
  :: else ->
     look++;
     if :: A_JOB_IS_READY -> goto end :: else fi;
     if :: ring == me -> break :: else fi;
     atomic { if :: ring == NOBODY -> ring = me :: else fi }
#ifdef RELY_ON_RINGER
     if :: ring != me -> goto end :: else fi;
#endif
  od;
add:
  job[me] = UNCOMMITTED;
end:
  if
  :: atomic { true -> if :: again -> row[0] = 2 :: else -> row[me] = 2 fi; if :: job[me] == UNCOMMITTED -> job[me] = READY :: else fi }
  :: atomic { true -> if :: again -> row[0] = 2 :: else -> row[me] = 0 fi; if :: job[me] == UNCOMMITTED -> job[me] = FREE :: else fi }
  fi;
  atomic { writes[me] = false; if :: ring == me -> ring = NOBODY :: else fi }
  over++
}

inline claim() {
  d_step {
    k = 0;
    do :: k < N -> if :: row[k] == 2 -> row[k] = 4 + me; claims[me] = true :: else fi; k++ :: else -> break od;
    k = 0
  }
}

/* What is claimed is judged; or due again, when its worker is dead. */
inline let_go_of_claims(becomes) {
  d_step {
    k = 0;
    do :: k < N -> if :: row[k] == 4 + me -> row[k] = becomes :: else fi; k++ :: else -> break od;
    k = 0;
    claims[me] = false
  }
}

/* Dies here, perhaps: AWAKE is free, and its job is unlocked for another run; its claims are free a moment later. */
#ifdef TROUBLE
#define PERHAPS_KILLED \
  if \
  :: atomic { may_be_killed -> may_be_killed = false; if :: awake == me -> awake = NOBODY :: else fi; \
              waits[me] = false; relieved[me] = false; if :: mine == N -> rung++ :: else -> job[mine] = READY fi; mine = 0; seen = 0 }; \
     let_go_of_claims(2); \
     goto again \
  :: true \
  fi
#else
#define PERHAPS_KILLED skip
#endif

proctype Run(byte me) {
  byte k; byte mine; byte seen;
again:
end_idle:
  atomic {
    A_JOB_IS_READY ->
    if
    :: job[0] == READY -> mine = 0
    :: job[1] == READY -> mine = 1
#if N == 3
    :: job[2] == READY -> mine = 2
#endif
    :: rung -> mine = N
    fi;
    if :: mine == N -> rung-- :: else -> job[mine] = LOCKED fi
  }
#ifdef TROUBLE
#ifdef RELIEVE_AT_ONCE
  relieved[1 - me] = true;
#else
  atomic { if :: waits[1 - me] -> relieved[1 - me] = true :: else fi }
#endif
#endif
#ifdef ASK_AT_START
  seen = WRITERS;
#endif
  if
  :: atomic { awake == NOBODY -> awake = me }
  :: true                    /* refused: another run has it, or a writer is looking at it */
  fi;
  claim();
  PERHAPS_KILLED;
  let_go_of_claims(3);
  claim();
  let_go_of_claims(3);
#ifdef ASK_AWAKE
  seen = WRITERS;
#endif
  atomic { if :: awake == me -> awake = NOBODY :: else fi }
#ifndef END_AT_ONCE
  waits[me] = true;
#ifndef ASK_AT_START
#ifndef ASK_AWAKE
  seen = WRITERS;
#endif
#endif
  if
  :: !OPEN_OF(seen) -> claim(); let_go_of_claims(3);
#ifndef TRUST_LAST_LOOK
     if :: A_ROW_IS_DUE && awake == NOBODY && !A_JOB_IS_READY -> rung++ :: else fi
#endif
#ifdef TROUBLE
  :: relieved[me]
  :: atomic { may_give_up && OPEN_OF(seen) -> may_give_up = false }
     if :: A_JOB_IS_READY :: else -> rung++ fi
#endif
  fi;
  PERHAPS_KILLED;
#endif
  atomic { if :: mine < N -> job[mine] = FREE :: else fi; mine = 0; seen = 0; waits[me] = false; relieved[me] = false };
  goto again
}

init {
  atomic {
#ifdef AGAIN
    rung = 1;
#endif
    run Writer(0); run Writer(1);
#if N == 3
    run Writer(2);
#endif
    run Run(0); run Run(1)
  }
  timeout;
  assert(over == N);
  assert(!A_ROW_IS_LEFT)
}
