/** The scheduled task that forgets idempotency keys older than 72 hours (db: app.prune_idempotency_keys). */
import type { Task } from "graphile-worker";
import type { Pool } from "pg";
import type { Logger } from "../logger.ts";

declare global {
  namespace GraphileWorker {
    interface Tasks {
      /** Whatever the schedule adds (`_cron`) is not looked at. */
      prune_idempotency_keys: object;
    }
  }
}

export function pruneIdempotencyKeys(pool: Pool, logger: Logger): Task<"prune_idempotency_keys"> {
  return async () => {
    const { rows } = await pool.query<{ pruned: string }>(
      "select app.prune_idempotency_keys()::text as pruned",
    );
    logger.info({ pruned: rows[0]?.pruned }, "idempotency keys pruned");
  };
}
