/**
 * Takes a new snapshot, fills a cleared one, or clears it: calls the procedures that do so (db: 000016-refresh.sql). Called by
 * the commands, by the scheduled task `refresh_cache` and by refresh_on_change.ts. It must never give a connection back to
 * its pool that may still hold the lock of the refresh.
 */
import type { Task } from "graphile-worker";
import type { Pool } from "pg";
import type { Logger } from "../logger.ts";

declare global {
  namespace GraphileWorker {
    interface Tasks {
      /** Whatever the schedule adds (`_cron`) is not looked at. */
      refresh_cache: object;
    }
  }
}

/**
 * `taken`: done. `left`: another refresh is running, and it was left to that. `cleared`: what `clear` did, and why `refresh`
 * took away the marks and nothing else. `stopped`: told to stop midway; the snapshot is the one from before, or of no harm where views are newer.
 */
export type Outcome = "taken" | "left" | "cleared" | "stopped";

export interface RefreshOptions {
  procedure?: "refresh" | "build" | "clear";
  /** Whether to wait for another refresh that is running, and then begin. */
  wait?: boolean;
  signal?: AbortSignal;
  /** Hears in a sentence that it waits, or leaves. */
  onNotice?: (sentence: string) => void;
}

/** Throws what the database throws. `pool` is the owner's, with a second connection free. */
export async function refreshCache(pool: Pool, options: RefreshOptions = {}): Promise<Outcome> {
  const { procedure = "refresh", wait = false, signal, onNotice = () => {} } = options;
  if (signal?.aborted) return "stopped";
  const client = await pool.connect();
  client.on("notice", ({ message }) => onNotice(message ?? ""));
  let stop = (): void => {};
  try {
    const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
    stop = () =>
      void pool.query("select pg_cancel_backend($1)", [rows[0]?.pid]).catch(() => client.end());
    signal?.addEventListener("abort", stop, { once: true });
    if (signal?.aborted) return "stopped";
    const result = await client.query<{ outcome: Outcome }>(
      `call cache.${procedure}(wait => ${wait})`,
    );
    return result.rows[0]?.outcome ?? "taken";
  } catch (error) {
    if (signal?.aborted) return "stopped";
    throw error;
  } finally {
    signal?.removeEventListener("abort", stop);
    // Closed, not given back: the session may hold the lock.
    client.release(true);
  }
}

/** Why none was begun by the clock; undefined when one was. The reasons are those of cache.why_not_refresh(). */
export type Reason = "cleared" | "unchanged" | "resting" | "recent" | undefined;

/**
 * For who refreshes by the clock: refreshes unless there is a reason not to. `atMostEveryMs`: no sooner after the last one
 * than that.
 */
export async function refreshByTheClock(
  pool: Pool,
  logger: Logger,
  signal: AbortSignal,
  atMostEveryMs = 0,
): Promise<Reason> {
  const { rows } = await pool.query<{ reason: Exclude<Reason, undefined> | null }>(
    "select cache.why_not_refresh($1 * interval '1 millisecond') as reason",
    [atMostEveryMs],
  );
  const reason = rows[0]?.reason;
  if (reason) return reason;
  const began = performance.now();
  const outcome = await refreshCache(pool, { signal });
  logger.info({ outcome, tookMs: Math.round(performance.now() - began) }, "cache refresh ended");
  return undefined;
}

export function sayStretched(logger: Logger): void {
  logger.warn(
    "a refresh of the cache takes too long for its interval, which is stretched: the next begins when as much time has passed since the last as that took",
  );
}

/** `stopping`: gives up, for the next worker to do it. */
export function refreshCacheTask(
  pool: Pool,
  logger: Logger,
  stopping: AbortSignal,
): Task<"refresh_cache"> {
  return async () => {
    const reason = await refreshByTheClock(pool, logger, stopping);
    // Of a cleared cache it takes away the marks, which would pile up.
    if (reason === "cleared") await refreshCache(pool, { signal: stopping });
    if (reason === "resting") sayStretched(logger);
  };
}
