/**
 * The last step of a bell's protocol (db: 000004-bell.sql): whoever relied on a job that had not begun has its id by now, and
 * what it wrote is there when this returns. Called by the tasks that bells wake.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientBase } from "pg";

export interface WaitOptions {
  /** In milliseconds. */
  waitAtMostMs: number;
  stopping: AbortSignal;
}

/** Waits until every transaction that has its id by now is over; false when that takes too long. */
export async function waitForWriters(
  client: Pick<ClientBase, "query">,
  options: WaitOptions,
): Promise<boolean> {
  const { rows } = await client.query<{ x: string }>("select pg_current_xact_id()::text as x");
  const x = rows[0]?.x;
  const deadline = Date.now() + options.waitAtMostMs;
  for (let pause = 4; ; pause = Math.min(pause * 2, 50)) {
    const answer = await client.query<{ over: boolean }>(
      "select pg_snapshot_xmin(pg_current_snapshot()) >= $1::xid8 as over",
      [x],
    );
    if (answer.rows[0]?.over) return true;
    if (options.stopping.aborted || Date.now() > deadline) return false;
    await sleep(pause);
  }
}
