/**
 * The task `deliver_events`: tells a listener of what was completed since it was last told. A job says only that there may be
 * something (db: 000029-deliveries-by-the-page.sql); one run delivers page by page whatever there is, and must not end while a
 * completion may rely on it. An event is told again when this process is killed before the page is settled.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Task } from "graphile-worker";
import type { Backlog } from "../backlog.ts";
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
  backlog: Backlog;
  /** How long at least between two pages of a listener while a backlog of due rows is worked off, in milliseconds. */
  pauseInBacklogMs: number;
  /** How long to let events gather after a page, in milliseconds: pages of a few events cost more each. */
  gatherMs: number;
  /** How long a run may go on while events keep coming, in milliseconds: others wait for their turn. */
  runAtMostMs: number;
  /** How long to wait for the transactions of other writers before coming back a second later, in milliseconds. */
  waitAtMostMs: number;
}

/** A listener that was too slow lets those go first who found no turn, and come back after a second. */
const waitForSlow = "2 seconds";

export const deliveryDefaults = {
  atOnce: 10,
  timeoutMs: 30_000,
  beginForMs: 10_000,
  pauseInBacklogMs: 1000,
  gatherMs: 50,
  runAtMostMs: 1000,
  waitAtMostMs: 1000,
} as const;

export function deliverEvents(options: EventDeliveryOptions): Task<"deliver_events"> {
  const { pool, turns, backlog, pauseInBacklogMs } = options;
  const lastTold = new Map<string, number>();
  const isToWait = (listener: string): boolean =>
    backlog.isUnderWay && Date.now() - (lastTold.get(listener) ?? 0) < pauseInBacklogMs;
  return async (payload) => {
    const listener = checkPayload(payload);
    const ring = async (after: string): Promise<void> => {
      await pool.query("select app.ring_for_deliveries(array[$1], $2)", [listener, after]);
    };
    if (isToWait(listener) || !turns.take(listener)) return ring("1 second");
    let again: string | undefined;
    try {
      again = await deliverWhatThereIs(options, listener);
      if (again !== undefined) await ring(again);
    } finally {
      lastTold.set(listener, Date.now());
      turns.giveBack(listener, again === waitForSlow);
    }
  };
}

/** Returns after how long somebody has to look again; undefined when nobody has to. */
async function deliverWhatThereIs(
  options: EventDeliveryOptions,
  listener: string,
): Promise<string | undefined> {
  const { pool, stopping, backlog, gatherMs, runAtMostMs } = options;
  const deadline = Date.now() + runAtMostMs;
  let isLastLook = false;
  for (;;) {
    const page = await deliverPage(options, listener);
    if (page === "left") return waitForSlow;
    if (page === "told" && (stopping.aborted || Date.now() > deadline)) return "0";
    if (page === "told" && backlog.isUnderWay) return "1 second";
    if (page === "none" && isLastLook) return undefined;
    if (page === "none") {
      if (!(await waitForWriters(pool, "app.undelivered_events", options))) return "1 second";
      isLastLook = true;
    } else if (!isLastLook) await sleep(gatherMs);
  }
}

interface Page {
  /** The rows of app.undelivered_events. */
  page: string[];
  event_ids: string[];
  completions: Completions;
}

/** `left`: there was no time for all of it. */
async function deliverPage(
  options: DeliveryOptions,
  listener: string,
): Promise<"none" | "told" | "left"> {
  const { pool } = options;
  const { rows } = await pool.query<{ undelivered: Page | null }>({
    name: "read_undelivered",
    text: "select app.read_undelivered($1) as undelivered",
    values: [listener],
  });
  const { undelivered } = rows[0]!;
  if (!undelivered) return "none";
  const { page, event_ids, completions } = undelivered;
  const deliveries = event_ids.map((event_id) => ({ listener, event_id }));
  const { failed, untold } = await deliver(options, deliveries, completions);
  await pool.query({
    name: "settle_deliveries",
    text: "select app.settle_deliveries($1, $2, $3, $4)",
    values: [
      listener,
      page,
      [...failed.keys()].map((place) => event_ids[place]),
      untold.map(({ event_id }) => event_id),
    ],
  });
  return untold.length > 0 ? "left" : "told";
}

/** Jobs can be added by SQL, so the type alone proves nothing. */
function checkPayload(payload: unknown): string {
  const { listener } = (payload ?? {}) as { listener?: unknown };
  if (typeof listener !== "string") {
    throw new JobError('deliver_events expects {"listener": "<name>"}');
  }
  return listener;
}
