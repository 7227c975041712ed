/**
 * The last step of a bell's protocol (db: 000030-writers-are-known-by-their-lock.sql): whoever relied on a job that had not begun,
 * or on somebody who was awake, has written by now, and what they wrote is there when this returns. Called by the tasks that
 * bells wake.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientBase } from "pg";

export interface WaitOptions {
  /** In milliseconds. */
  waitAtMostMs: number;
  stopping: AbortSignal;
}

/** Waits until every transaction that has written to this table by now is over; false when that takes too long. */
export async function waitForWriters(
  client: Pick<ClientBase, "query">,
  table: string,
  options: WaitOptions,
): Promise<boolean> {
  const { rows } = await client.query<{ writers: string[] }>(
    "select app.writers_of($1) as writers",
    [table],
  );
  const writers = rows[0]!.writers;
  if (writers.length === 0) return true;
  const deadline = Date.now() + options.waitAtMostMs;
  for (let pause = 4; ; pause = Math.min(pause * 2, 50)) {
    const answer = await client.query<{ open: boolean }>(
      // One of them may be prepared meanwhile.
      "select app.writers_of($1) && array_append($2::text[], 'prepared') as open",
      [table, writers],
    );
    if (!answer.rows[0]?.open) return true;
    if (options.stopping.aborted || Date.now() > deadline) return false;
    await sleep(pause);
  }
}
