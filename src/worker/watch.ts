/**
 * The watch over one run of the worker: says every few seconds that it lives, sweeps, and ends a run that looks alive but takes
 * no jobs. Started by worker_run.ts.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { TaskList, WorkerEvents } from "graphile-worker";
import type { Pool } from "pg";
import { errorClass } from "../error_class.ts";
import type { Logger } from "../logger.ts";
import type { Liveness } from "./liveness.ts";
import { sweep } from "./sweep.ts";

const BEAT_EVERY_MS = 2000;
// After PostgreSQL was away: what the run before had in hand may be reported as failed a little later.
const firstPausesMs = [0, 300, 700];
const THOROUGHLY_EVERY_MS = 60_000;

export interface Watched {
  tasks: TaskList;
  logger: Logger;
  concurrency: number;
  pool: Pool;
  liveness: Liveness;
  jobs: JobCount;
  /** Ends the run, and says why. */
  end: (why: string) => void;
  signal: AbortSignal;
}

export interface JobCount {
  inHand(): number;
  /** How many were ever begun. */
  started(): number;
  /** Resolves when none is in hand, or after `patienceMs`. */
  done(patienceMs: number): Promise<void>;
}

export function countJobs(events: WorkerEvents): JobCount {
  let started = 0;
  let ended = 0;
  events.on("job:start", () => (started += 1));
  events.on("job:complete", () => (ended += 1));
  return {
    inHand: () => started - ended,
    started: () => started,
    async done(patienceMs) {
      const deadline = Date.now() + patienceMs;
      while (started > ended && Date.now() < deadline) await sleep(20);
    },
  };
}

/** Beats and sweeps until told to stop, and ends a run that looks alive but takes no jobs. */
export async function watch(options: Watched): Promise<void> {
  const { pool, liveness, jobs, end, signal, logger, concurrency } = options;
  const names = Object.keys(options.tasks);
  let sweeping: Promise<void> | undefined;
  let sweptThoroughly = -Infinity;
  let startedBefore = -1;
  let beatsStuck = 0;
  for (let beat = 0; ; beat++) {
    await sleep(pauseBefore(beat), undefined, { signal }).catch(() => {});
    if (signal.aborted) return;
    try {
      const somethingWaits = await liveness.beat(names);
      const isStuck =
        somethingWaits && jobs.inHand() < concurrency && jobs.started() === startedBefore;
      beatsStuck = isStuck ? beatsStuck + 1 : 0;
      startedBefore = jobs.started();
    } catch (error) {
      return end(errorClass(error));
    }
    if (beatsStuck === 2) return end("jobs wait and none is taken");
    // Not waited for: a beat must not be late because a sweep has no connection.
    const isThorough =
      beat < firstPausesMs.length || Date.now() - sweptThoroughly > THOROUGHLY_EVERY_MS;
    sweeping ??= sweepAndTell(pool, names, isThorough, logger).then((isDone) => {
      if (isDone && isThorough) sweptThoroughly = Date.now();
      sweeping = undefined;
    });
  }
}

/** Then now and then, not at the same moment as others that started with this one. */
function pauseBefore(beat: number): number {
  return firstPausesMs[beat] ?? BEAT_EVERY_MS * (0.8 + Math.random() * 0.4);
}

/** Whether it was done, and not left to another. */
async function sweepAndTell(
  pool: Pool,
  tasks: string[],
  thorough: boolean,
  logger: Logger,
): Promise<boolean> {
  try {
    const dead = await sweep(pool, tasks, thorough);
    if (dead?.length) logger.warn({ workers: dead }, "freed the jobs of dead workers");
    return dead !== null;
  } catch (error) {
    logger.warn({ error: errorClass(error) }, "sweep failed; the next is in some seconds");
    return false;
  }
}
