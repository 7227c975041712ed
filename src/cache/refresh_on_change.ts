/**
 * Refreshes the cache soon after somebody changed, and no more often than every so often. Started by start with the worker,
 * when CACHE_REFRESH_ON_CHANGE is set. It looks at who is marked, so a member's write pays nothing for it. Of several workers
 * that look at the same time one refreshes and the others leave it to that.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Pool } from "pg";
import { errorClass } from "../error_class.ts";
import type { Logger } from "../logger.ts";
import { refreshByTheClock, sayStretched } from "./refresh.ts";

export interface RefreshOnChangeOptions {
  /** The owner's. */
  pool: Pool;
  logger: Logger;
  everyMs: number;
  /** Ends it, in the middle of a refresh too. */
  signal: AbortSignal;
}

/** Resolves when it was told to end. A refresh that fails is logged, and tried at the next look. */
export async function refreshOnChange(options: RefreshOnChangeOptions): Promise<void> {
  const { pool, logger, everyMs, signal } = options;
  const lookEveryMs = Math.max(1000, everyMs / 10);
  let isResting = false;
  while (!signal.aborted) {
    await sleep(lookEveryMs, undefined, { signal }).catch(() => {});
    if (signal.aborted) return;
    try {
      const reason = await refreshByTheClock(pool, logger, signal, everyMs);
      // Once for each rest, not at every look.
      if (reason === "resting" && !isResting) sayStretched(logger);
      isResting = reason === "resting";
    } catch (error) {
      logger.warn({ error: errorClass(error) }, "cache could not be refreshed");
    }
  }
}
