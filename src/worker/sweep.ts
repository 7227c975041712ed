/**
 * The task `sweep`: the belt beside the bell's braces. Rings if anything is due and no bell job waits: after a start, after
 * the last attempt of a bell job was used up, after an adapter came that was missing. Tests of the bell run without it.
 */
import type { Pool } from "pg";

declare global {
  namespace GraphileWorker {
    interface Tasks {
      /** Whatever the schedule adds (`_cron`) is not looked at. */
      sweep: object;
    }
  }
}

export async function sweep(pool: Pool): Promise<void> {
  await pool.query(`
    select app.ring_bell()
    where exists (select from app.user_incentives where evaluation_due)
    and not app.bell_is_waiting()`);
}
