/**
 * The task `evaluate_incentives`, which the bell wakes (db: 000004-bell.sql says why each step is needed). A job says only
 * that there may be work; one run judges whatever is due. It must never end while a writer may rely on it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Task } from "graphile-worker";
import type { ClientBase } from "pg";
import type { Logger } from "../logger.ts";
import { evaluateBatch } from "./batch.ts";
import type { EvaluatorRegistry } from "./registry.ts";

declare global {
  namespace GraphileWorker {
    interface Tasks {
      /** Carries nothing: the rows that are due are the work. */
      evaluate_incentives: Record<string, never>;
    }
  }
}

export interface EvaluationOptions {
  registry: EvaluatorRegistry;
  logger: Logger;
  /** Aborted when this process is stopping: the run ends after the batch in hand. */
  stopping: AbortSignal;
  /** Rows a batch. */
  batchSize: number;
  /** How long to stay awake after the last due row before believing that there is none, in milliseconds. */
  lingerMs: number;
  /** How long to stay awake at the most, in milliseconds: while awake, nobody rings. */
  awakeAtMostMs: number;
  /** How long to wait for the transactions of other writers before coming back a second later, in milliseconds. */
  waitAtMostMs: number;
  /** What a run ends with. Only a test that shows why `wait_for_writers` is needed sets the other. */
  ending: "wait_for_writers" | "first_empty_claim";
}

export const evaluationDefaults = {
  batchSize: 1000,
  lingerMs: 30,
  awakeAtMostMs: 2000,
  waitAtMostMs: 1000,
  ending: "wait_for_writers",
} as const;

export function evaluateIncentives(options: EvaluationOptions): Task<"evaluate_incentives"> {
  return (_payload, helpers) => helpers.withPgClient((client) => runBell(client, options));
}

/** One run of the bell's job on one connection. */
export async function runBell(client: ClientBase, options: EvaluationOptions): Promise<void> {
  if (await fallAwake(client)) {
    try {
      await drainAndLinger(client, options);
    } finally {
      await client.query("select pg_advisory_unlock(app.awake_lock())");
    }
  } else {
    await drain(client, options, Date.now() + options.awakeAtMostMs);
  }
  if (options.ending === "first_empty_claim") return;
  const over =
    (await waitForWriters(client, options)) &&
    (await drain(client, options, Date.now() + options.awakeAtMostMs));
  if (!over) await ringLater(client);
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

async function drainAndLinger(client: ClientBase, options: EvaluationOptions): Promise<void> {
  const bedtime = Date.now() + options.awakeAtMostMs;
  let lastWork = Date.now();
  while (Date.now() < bedtime && Date.now() - lastWork < options.lingerMs) {
    if (options.stopping.aborted) return;
    if ((await evaluateSome(client, options)) > 0) lastWork = Date.now();
    else await sleep(5);
  }
}

/** Judges until nothing is due (true), or until the deadline or the end of this process is near (false). */
async function drain(
  client: ClientBase,
  options: EvaluationOptions,
  deadline: number,
): Promise<boolean> {
  while (!options.stopping.aborted && Date.now() < deadline) {
    if ((await evaluateSome(client, options)) === 0) return true;
  }
  return false;
}

function evaluateSome(client: ClientBase, options: EvaluationOptions): Promise<number> {
  return evaluateBatch(client, options.registry, options.batchSize, options.logger);
}

/** Waits until every transaction that has its id by now is over; false when that takes too long. */
async function waitForWriters(client: ClientBase, options: EvaluationOptions): Promise<boolean> {
  const { rows } = await client.query<{ x: string }>("select pg_current_xact_id()::text as x");
  const x = rows[0]?.x;
  const deadline = Date.now() + options.waitAtMostMs;
  for (let pause = 1; ; pause = Math.min(pause * 2, 50)) {
    const answer = await client.query<{ over: boolean }>(
      "select pg_snapshot_xmin(pg_current_snapshot()) >= $1::xid8 as over",
      [x],
    );
    if (answer.rows[0]?.over) return true;
    if (options.stopping.aborted || Date.now() > deadline) return false;
    await sleep(pause);
  }
}

/** Whoever takes a bell job that waits now will take its x later than this run did, so one such job is enough. */
async function ringLater(client: ClientBase): Promise<void> {
  await client.query("select app.ring_bell('1 second') where not app.bell_is_waiting()");
}
