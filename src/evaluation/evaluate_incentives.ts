/**
 * The task `evaluate_incentives`, which the bell wakes (db: 000004-bell.sql says why each step is needed). A job says only
 * that there may be work; one run judges whatever is due. It must never end while a writer may rely on it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Task } from "graphile-worker";
import type { ClientBase } from "pg";
import type { Backlog } from "../backlog.ts";
import { waitForWriters } from "../wait_for_writers.ts";
import { evaluateBatch } from "./batch.ts";
import type { Judging } from "./batch.ts";

declare global {
  namespace GraphileWorker {
    interface Tasks {
      /** Carries nothing: the rows that are due are the work. */
      evaluate_incentives: Record<string, never>;
    }
  }
}

export interface EvaluationOptions extends Judging {
  /** Aborted when this process is stopping: the run ends after the batch in hand. */
  stopping: AbortSignal;
  /** Hears of a backlog, if anybody is to wait for it. */
  backlog?: Backlog;
  /** Rows a batch, at the most. */
  batchSize: number;
  /**
   * How many ids below the last row judged to look at again: a row is given its id before it commits, so that those of other
   * writers who began a little sooner come a little later.
   */
  lookAgainAtIds: number;
  /**
   * How long to look no further below than that, in milliseconds: some commit much later. A look from the beginning costs more the
   * more was judged of late, in a backlog most.
   */
  lookBelowEveryMs: number;
  lookBelowInBacklogEveryMs: number;
  /**
   * How long to let rows gather after so many, in milliseconds a row, and at the most: batches of a few rows cost more each,
   * and the more there is to do, the longer a few of them may wait.
   */
  gatherMsPerRow: number;
  gatherAtMostMs: number;
  /** How long to stay awake after the last due row before believing that there is none, in milliseconds. */
  lingerMs: number;
  /** How long to stay awake at the most, in milliseconds: while awake, nobody rings. */
  awakeAtMostMs: number;
  /** How long a run may go on while rows keep coming, in milliseconds. */
  runAtMostMs: number;
  /** How long to wait for the transactions of other writers before beginning anew, in milliseconds. */
  waitAtMostMs: number;
  /** What a run ends with. Only a test that shows why `wait_for_writers` is needed sets the other. */
  ending: "wait_for_writers" | "first_empty_claim";
}

export const evaluationDefaults = {
  batchSize: 2500,
  lookAgainAtIds: 250,
  lookBelowEveryMs: 250,
  lookBelowInBacklogEveryMs: 2000,
  gatherMsPerRow: 0.18,
  gatherAtMostMs: 150,
  lingerMs: 100,
  awakeAtMostMs: 10_000,
  runAtMostMs: 30_000,
  waitAtMostMs: 10_000,
  ending: "wait_for_writers",
} as const;

/** Lends a connection. */
type Lend = <T>(work: (client: ClientBase) => Promise<T>) => Promise<T>;

/**
 * One is awake, one waits for writers, and one has just begun, or can take the place of another whose connection hangs. More
 * would keep deliveries from their turn.
 */
const runsAtMost = 3;

export function evaluateIncentives(options: EvaluationOptions): Task<"evaluate_incentives"> {
  let runs = 0;
  const waiting = new Set<AbortController>();
  return (_payload, helpers) => {
    // Whoever they wait for, this run will wait for too, and look after them: it has yet to ask who has written.
    for (const relieved of waiting) relieved.abort();
    return helpers.withPgClient(async (client) => {
      if (runs >= runsAtMost) return ring(client, "1 second");
      runs += 1;
      try {
        await runBell(client, options, { waiting, lend: helpers.withPgClient });
      } finally {
        runs -= 1;
      }
    });
  };
}

/** What the runs of one process have of each other. */
interface Company {
  /** The runs that wait for writers. To be told to end when another has begun. */
  waiting?: Set<AbortController>;
  /** Lends a second connection for a backlog. */
  lend?: Lend;
}

/** One run of the bell's job. */
export async function runBell(
  client: ClientBase,
  options: EvaluationOptions,
  { waiting = new Set(), lend }: Company = {},
): Promise<void> {
  const bedtime = Date.now() + options.runAtMostMs;
  for (;;) {
    const awake = await stayAwake(client, options, lend);
    if (options.ending === "first_empty_claim") return;
    const relieved = new AbortController();
    waiting.add(relieved);
    const stopping = AbortSignal.any([options.stopping, relieved.signal]);
    const isOver = await waitForWriters(client, "app.user_incentives", {
      ...options,
      stopping,
    }).finally(() => waiting.delete(relieved));
    if (relieved.signal.aborted) return;
    if (!isOver) return ring(client, "0");
    const judged = await lookOnceMore(client, options);
    if (judged === undefined) return ring(client, "0");
    // While rows keep coming it is better to fall awake again than to be rung for.
    const isQuiet = awake === "until it was quiet" && judged === 0;
    if (isQuiet || awake === "never" || options.stopping.aborted || Date.now() > bedtime) break;
  }
  await ringForWhatIsLeft(client, options);
}

type Awake = "never" | "until it was quiet" | "until it was time";

/** Awake: judges and lingers, unless another run is awake already. */
async function stayAwake(
  client: ClientBase,
  options: EvaluationOptions,
  lend: Lend | undefined,
): Promise<Awake> {
  if (!(await fallAwake(client))) return "never";
  try {
    await forgetPlans(client);
    const isQuiet = await drainAndLinger(client, options, lend);
    return isQuiet ? "until it was quiet" : "until it was time";
  } finally {
    await client.query("select pg_advisory_unlock(app.awake_lock())");
  }
}

/** A plan that was made when a table was small is kept for as long as nobody analyzes the table; a connection is for years. */
async function forgetPlans(client: ClientBase): Promise<void> {
  await client.query("discard plans");
}

/** All that is due now, up to the last; what becomes due meanwhile is not owed. Undefined when there was no time for it. */
async function lookOnceMore(
  client: ClientBase,
  options: EvaluationOptions,
): Promise<number | undefined> {
  const deadline = Date.now() + options.awakeAtMostMs;
  const { judged, isAll } = await workOff(client, options, { after: "0", deadline, waitMs: 0 });
  return isAll ? judged : undefined;
}

/** Refused while another run is awake, or for the microseconds in which a writer looks at the lock. */
async function fallAwake(client: ClientBase): Promise<boolean> {
  for (let attempt = 1; attempt <= 3; attempt++) {
    const { rows } = await client.query<{ taken: boolean }>(
      "select pg_try_advisory_lock(app.awake_lock()) as taken",
    );
    if (rows[0]?.taken) return true;
    await sleep(1);
  }
  return false;
}

/** Whether it came to an end because nothing more became due. */
async function drainAndLinger(
  client: ClientBase,
  options: EvaluationOptions,
  lend: Lend | undefined,
): Promise<boolean> {
  const deadline = Date.now() + options.awakeAtMostMs;
  const whereNext = lookBelow(options, options.lookBelowEveryMs);
  let after = "0";
  while (!options.stopping.aborted && Date.now() < deadline) {
    const look = { after, deadline, waitMs: options.lingerMs };
    const worked = await workOff(client, options, look, lend);
    if (worked.judged === 0) return true;
    await gather(worked.judged, options);
    after = whereNext(worked);
  }
  return false;
}

/**
 * Where to look after what was worked off: from a little below its last row, and from the beginning now and then. Rows that it left
 * are not looked at again until then: they took too long, and others need not wait for them.
 */
function lookBelow(
  { lookAgainAtIds }: EvaluationOptions,
  everyMs: number,
): (worked: WorkedOff) => string {
  let lookedBelow = Date.now();
  return ({ last, isAll }) => {
    if (Date.now() - lookedBelow > everyMs) {
      lookedBelow = Date.now();
      return "0";
    }
    return isAll ? String(BigInt(last) - BigInt(lookAgainAtIds)) : last;
  };
}

async function gather(
  judged: number,
  { gatherMsPerRow, gatherAtMostMs }: EvaluationOptions,
): Promise<void> {
  const ms = Math.floor(Math.min(judged * gatherMsPerRow, gatherAtMostMs));
  if (ms > 0) await sleep(ms);
}

/** `after` an id, until `deadline` (milliseconds since 1970); `waitMs` for the first row. */
interface Look {
  after: string;
  deadline: number;
  waitMs: number;
}

/**
 * `isAll`: it came to a batch that was not full, with no row left over, and not to the deadline or the end of this process.
 */
interface WorkedOff {
  judged: number;
  last: string;
  isAll: boolean;
}

/**
 * More than one batch is a backlog: then, if there is a second connection, rows are judged on one while the verdicts on others are
 * written on the other, which is half as fast again (on two cores; a third gains nothing there).
 */
async function workOff(
  client: ClientBase,
  options: EvaluationOptions,
  { after, deadline, waitMs }: Look,
  lend?: Lend,
): Promise<WorkedOff> {
  const limit = options.batchSize;
  const batch = await evaluateBatch(client, options, { after, limit, waitMs });
  const { claimed, left, last, tookMs } = batch;
  const first = { judged: claimed - left, last, isAll: left === 0 };
  if (batch.isAll) return first;

  const backlog = { after: last, deadline, limit: nextLimit(limit, tookMs, limit) };
  const lanes = [workOffBacklog(client, options, backlog)];
  if (lend) {
    const second = lend(async (other) => {
      await forgetPlans(other);
      return workOffBacklog(other, options, backlog);
    });
    lanes.push(second);
  }
  // Not before both are done: a connection that is given back is somebody else's.
  const done = Promise.allSettled(lanes);
  await (options.backlog?.during(done) ?? done);
  return (await Promise.all(lanes)).reduce(together, first);
}

function together(one: WorkedOff, other: WorkedOff): WorkedOff {
  return {
    judged: one.judged + other.judged,
    last: BigInt(one.last) > BigInt(other.last) ? one.last : other.last,
    isAll: one.isAll && other.isAll,
  };
}

async function workOffBacklog(
  client: ClientBase,
  options: EvaluationOptions,
  { after, deadline, limit }: { after: string; deadline: number; limit: number },
): Promise<WorkedOff> {
  const whereNext = lookBelow(options, options.lookBelowInBacklogEveryMs);
  const total: WorkedOff = { judged: 0, last: after, isAll: true };
  while (!options.stopping.aborted && Date.now() < deadline) {
    const wanted = { after: whereNext(total), limit, waitMs: 0 };
    const { claimed, isAll, left, last, tookMs } = await evaluateBatch(client, options, wanted);
    total.judged += claimed - left;
    total.last = last;
    total.isAll &&= left === 0;
    if (isAll) return total;
    limit = nextLimit(limit, tookMs, options.batchSize);
  }
  return { ...total, isAll: false };
}

/** A batch holds its rows' locks, and members may wait for them: about a quarter of a second. */
function nextLimit(limit: number, tookMs: number, atMost: number): number {
  const fitting = Math.round((limit * 250) / Math.max(tookMs, 1));
  return Math.max(10, Math.min(fitting, limit * 2, atMost));
}

/** The last look skips what somebody has written once more since the run asked who writes, and they may roll back (db: 000031). */
async function ringForWhatIsLeft(
  client: ClientBase,
  { judgeable }: EvaluationOptions,
): Promise<void> {
  await client.query("select app.ring_for_what_is_left($1)", [judgeable]);
}

/** Whoever takes a bell job that waits now will take its x later than this run did, so one such job is enough. */
async function ring(client: ClientBase, after: string): Promise<void> {
  await client.query("select app.ring_bell($1::interval) where not app.bell_is_waiting()", [after]);
}
