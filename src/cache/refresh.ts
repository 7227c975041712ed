/**
 * The cache's commands: refresh and status. Called by the CLI and by the scheduled task `refresh_cache`. All the work is
 * done in the database (db: 000007-cache.sql).
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

export interface CacheStatus {
  takenAt: Date | null;
  tookMs: number | null;
  userIncentives: number;
  userRewards: number;
  /** Members who are served live because something of theirs changed since, or is still due. */
  liveMembers: number;
}

/** Takes a new snapshot. False when another refresh is running, which is then left to do it. */
export async function refreshCache(pool: Pool): Promise<boolean> {
  const client = await pool.connect();
  let refreshed = true;
  const onNotice = (): void => {
    refreshed = false;
  };
  client.on("notice", onNotice);
  try {
    await client.query("call cache.refresh()");
    return refreshed;
  } finally {
    client.off("notice", onNotice);
    client.release();
  }
}

export async function cacheStatus(pool: Pool): Promise<CacheStatus> {
  const { rows } = await pool.query<CacheStatus>(`
    select last.taken_at as "takenAt",
      extract(epoch from last.took)::float8 * 1000 as "tookMs",
      coalesce(last.user_incentives, 0)::float8 as "userIncentives",
      coalesce(last.user_rewards, 0)::float8 as "userRewards",
      (
        select count(*)::float8
        from (
          select user_id from cache.stale_users
          union
          select user_id from app.user_incentives where evaluation_due
        ) as live
      ) as "liveMembers"
    from (select 1) as always
    left join (select * from cache.refreshes order by id desc limit 1) as last on true`);
  return rows[0] as CacheStatus;
}

export function refreshCacheTask(pool: Pool, logger: Logger): Task<"refresh_cache"> {
  return async () => {
    const refreshed = await refreshCache(pool);
    logger.info({ refreshed }, refreshed ? "cache refreshed" : "another refresh is running");
  };
}
