/**
 * A refresh that stands still in the middle of one view until it is told to go on. Called by the tests of what happens
 * meanwhile. The view is held by another session that has refreshed it and not committed.
 */
import type { Pool, PoolClient } from "pg";
import { refreshCache } from "../../src/cache/refresh.ts";
import type { Outcome, RefreshOptions } from "../../src/cache/refresh.ts";
import { waitUntil } from "../test_database.ts";

export const views = [
  "user_incentives",
  "user_rewards",
  "user_summaries",
  "incentive_totals",
] as const;

export interface HeldRefresh {
  /** Of the session that refreshes. */
  pid: number;
  outcome: Promise<Outcome>;
  goOn(): Promise<Outcome>;
  /** Lets the view go, whatever becomes of the refresh. */
  release(): Promise<void>;
}

export async function holdRefresh(
  pool: Pool,
  view: (typeof views)[number],
  options: RefreshOptions = {},
): Promise<HeldRefresh> {
  const holder: PoolClient = await pool.connect();
  await holder.query("begin");
  await holder.query(`refresh materialized view concurrently cache.${view}`);
  let released: Promise<void> | undefined;
  const release = (): Promise<void> =>
    (released ??= holder.query("rollback").then(() => holder.release()));
  const outcome = refreshCache(pool, options);
  outcome.catch(() => {});
  let pid = 0;
  await waitUntil(`a refresh waits for cache.${view}`, async () => {
    const { rows } = await pool.query<{ pid: number }>(
      `select pid from pg_locks
      where relation = 'cache.${view}'::regclass
      and database = (select oid from pg_database where datname = current_database())
      and not granted`,
    );
    pid = rows[0]?.pid ?? 0;
    return pid > 0;
  });
  return {
    pid,
    outcome,
    release,
    async goOn() {
      await release();
      return outcome;
    },
  };
}
