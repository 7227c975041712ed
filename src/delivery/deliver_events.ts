/**
 * The task `deliver_events`: tells a listener of what was completed since it was last told. A job says only that there may be
 * something (db: 000029-deliveries-by-the-page.sql); one run delivers page by page whatever there is, and must not end while a
 * completion may rely on it. An event is told again when this process is killed before the page is settled.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Task } from "graphile-worker";
import { JobError } from "../job_error.ts";
import { waitForWriters } from "../wait_for_writers.ts";
import { deliver } from "./deliver.ts";
import type { Completions, DeliveryOptions } from "./deliver.ts";

declare global {
  namespace GraphileWorker {
    interface Tasks {
      deliver_events: { listener: string };
    }
  }
}

export interface EventDeliveryOptions extends DeliveryOptions {
  /** Aborted when this process is stopping: the run ends after the page in hand. */
  stopping: AbortSignal;
  /** How long to let events gather after a page, in milliseconds: pages of a few events cost more each. */
  gatherMs: number;
  /** How long a run may go on while events keep coming, in milliseconds: others wait for their turn. */
  runAtMostMs: number;
  /** How long to wait for the transactions of other writers before coming back a second later, in milliseconds. */
  waitAtMostMs: number;
}

export const deliveryDefaults = {
  atOnce: 10,
  timeoutMs: 30_000,
  gatherMs: 50,
  runAtMostMs: 1000,
  waitAtMostMs: 1000,
} as const;

export function deliverEvents(options: EventDeliveryOptions): Task<"deliver_events"> {
  const { pool, stopping, gatherMs, runAtMostMs } = options;
  return async (payload) => {
    const listener = checkPayload(payload);
    const ring = async (after: string): Promise<void> => {
      await pool.query("select app.ring_for_deliveries(array[$1], $2)", [listener, after]);
    };
    const deadline = Date.now() + runAtMostMs;
    const isTimeToGo = (): boolean => stopping.aborted || Date.now() > deadline;

    while (await deliverPage(options, listener)) {
      if (isTimeToGo()) return ring("0");
      await sleep(gatherMs);
    }
    if (!(await waitForWriters(pool, "app.undelivered_events", options))) return ring("1 second");
    while (await deliverPage(options, listener)) {
      if (isTimeToGo()) return ring("0");
    }
  };
}

interface Page {
  /** The rows of app.undelivered_events. */
  page: string[];
  event_ids: string[];
  completions: Completions;
}

/** Whether there was one. */
async function deliverPage(options: DeliveryOptions, listener: string): Promise<boolean> {
  const { pool } = options;
  const { rows } = await pool.query<{ undelivered: Page | null }>({
    name: "read_undelivered",
    text: "select app.read_undelivered($1) as undelivered",
    values: [listener],
  });
  const { undelivered } = rows[0]!;
  if (!undelivered) return false;
  const { page, event_ids, completions } = undelivered;
  const deliveries = event_ids.map((event_id) => ({ listener, event_id }));
  const failed = await deliver(options, deliveries, completions);
  await pool.query({
    name: "settle_deliveries",
    text: "select app.settle_deliveries($1, $2, $3)",
    values: [listener, page, [...failed.keys()].map((place) => event_ids[place])],
  });
  return true;
}

/** Jobs can be added by SQL, so the type alone proves nothing. */
function checkPayload(payload: unknown): string {
  const { listener } = (payload ?? {}) as { listener?: unknown };
  if (typeof listener !== "string") {
    throw new JobError('deliver_events expects {"listener": "<name>"}');
  }
  return listener;
}
