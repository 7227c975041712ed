/* The bell's protocol (db/migrations: bell) for Spin: writers, each one transaction that commits or rolls back, and two runs
 * of the task at once. At rest no committed row is left due. With -DTROUBLE one run may be killed and one may give up
 * waiting; that multiplies the states, so it is checked with two writers, and the calm protocol with three.
 *
 * A commit is two steps, as in PostgreSQL: visible first, its locks free a moment later. A writer in a strict isolation level
 * does not look at the queue. bell.test.ts runs it; each of these variants is wrong, and must be refuted:
 *
 *   -DEND_AT_ONCE      the run ends at the first empty claim
 *   -DX_AT_START       x is taken when the run starts
 *   -DX_LAST_FINISHED  x is one past the last finished transaction, as pg_snapshot_xmax() says
 *   -DRELY_ON_RINGER   a writer relies on another that is adding a job
 *   -DSTRICT_LOOKS     a writer with an old snapshot believes the job it sees
 */
#ifdef TROUBLE
#define N 2
#else
#define N 3
#endif
#define NOBODY 255
#define FREE 0
#define UNCOMMITTED 1
#define READY 2
#define LOCKED 3

byte next_xid = 1;
byte last_finished = 0;      /* the highest id of a transaction that is over */
byte xid[N];
bool in_flight[N];
byte row[N];                 /* 0 none, 1 written, 2 committed and due, 3 judged */
byte job[N + 1];             /* one place a writer, and one for a run that gives up */
byte awake = NOBODY;         /* the run that holds AWAKE */
byte ring = NOBODY;          /* the writer that holds RING */
#ifdef TROUBLE
bool may_be_killed = true;
bool may_give_up = true;
#endif
byte over = 0;

#if N == 3
#define A_JOB_IS_READY (job[0] == READY || job[1] == READY || job[2] == READY || job[3] == READY)
#define OPEN_BEFORE(x) ((in_flight[0] && xid[0] < x) || (in_flight[1] && xid[1] < x) || (in_flight[2] && xid[2] < x))
#define A_ROW_IS_LEFT (row[0] == 2 || row[1] == 2 || row[2] == 2)
#else
#define A_JOB_IS_READY (job[0] == READY || job[1] == READY || job[2] == READY)
#define OPEN_BEFORE(x) ((in_flight[0] && xid[0] < x) || (in_flight[1] && xid[1] < x))
#define A_ROW_IS_LEFT (row[0] == 2 || row[1] == 2)
#endif

inline finish(id) { if :: id > last_finished -> last_finished = id :: else fi }

proctype Writer(byte me) {
  bool strict; bool saw_a_job;
  if :: strict = false :: strict = true fi;
  /* The snapshot of a strict writer is taken here, before it writes. */
  saw_a_job = A_JOB_IS_READY;
  atomic { xid[me] = next_xid; next_xid++; in_flight[me] = true; row[me] = 1 }

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
  :: atomic { in_flight[me] = false; row[me] = 2; finish(xid[me]);
              if :: job[me] == UNCOMMITTED -> job[me] = READY :: else fi }
  :: atomic { in_flight[me] = false; row[me] = 0; finish(xid[me]);
              if :: job[me] == UNCOMMITTED -> job[me] = FREE :: else fi }
  fi;
  atomic { if :: ring == me -> ring = NOBODY :: else fi }
  over++
}

inline judge_all() {
  d_step {
    k = 0;
    do :: k < N -> if :: row[k] == 2 -> row[k] = 3 :: else fi; k++ :: else -> break od;
    k = 0
  }
}

/* Dies here, perhaps: its locks are free at once, and its job is unlocked for another run. */
#ifdef TROUBLE
#define PERHAPS_KILLED \
  if \
  :: atomic { may_be_killed -> may_be_killed = false; if :: awake == me -> awake = NOBODY :: else fi; job[mine] = READY; mine = 0; x = 0; goto again } \
  :: true \
  fi
#else
#define PERHAPS_KILLED skip
#endif

proctype Run(byte me) {
  byte k; byte mine; byte x;
again:
end_idle:
  atomic {
    A_JOB_IS_READY ->
    if
    :: job[0] == READY -> mine = 0
    :: job[1] == READY -> mine = 1
    :: job[2] == READY -> mine = 2
#if N == 3
    :: job[3] == READY -> mine = 3
#endif
    fi;
    job[mine] = LOCKED
  }
#ifdef X_AT_START
  atomic { x = next_xid; finish(next_xid); next_xid++ }
#endif
  if
  :: atomic { awake == NOBODY -> awake = me }
  :: true                    /* refused: another run has it, or a writer is looking at it */
  fi;
  judge_all();
  PERHAPS_KILLED;
  judge_all();
  atomic { if :: awake == me -> awake = NOBODY :: else fi }
#ifndef END_AT_ONCE
#ifdef X_LAST_FINISHED
  x = last_finished + 1;
#else
#ifndef X_AT_START
  atomic { x = next_xid; finish(next_xid); next_xid++ }
#endif
#endif
  if
  :: !OPEN_BEFORE(x) -> judge_all()
#ifdef TROUBLE
  :: atomic { may_give_up && OPEN_BEFORE(x) -> may_give_up = false }
     if :: A_JOB_IS_READY :: else -> job[N] = READY fi
#endif
  fi;
  PERHAPS_KILLED;
#endif
  atomic { job[mine] = FREE; mine = 0; x = 0 };
  goto again
}

init {
  atomic {
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
