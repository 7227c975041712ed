/**
 * How old the snapshot is, who is served live, and how far a refresh is that runs now, whoever runs it. Called by the commands.
 * It only reads.
 */
import type { Pool } from "pg";

export interface CacheStatus {
  takenAt: Date | null;
  tookMs: number | null;
  /** Cleared, or not built yet: all members are served live. */
  isEverybodyLive: boolean;
  isCleared: boolean;
  /** Members who are served live because something of theirs changed since, or is still due. */
  liveMembers: number;
  /** For how long the one who has been live for longest is. */
  oldestLiveMs: number | null;
  rows: { view: string; rows: number }[];
}

/** A view of the refresh that is running. Times are in milliseconds, and null where they are not known yet. */
export interface Step {
  view: string;
  tookMs: number | null;
  rows: number | null;
  /** For how long it has been running; null before and after. */
  runningMs: number | null;
  /** How long it took the last time. */
  expectedMs: number | null;
}

/** Counts every mark, which takes a second when there are millions. */
export async function cacheStatus(pool: Pool): Promise<CacheStatus> {
  const { rows } = await pool.query<CacheStatus>(`
    select last.taken_at as "takenAt",
      extract(epoch from last.took)::float8 * 1000 as "tookMs",
      exists (select from cache.stale_users where user_id = cache.everybody()) as "isEverybodyLive",
      cache.is_cleared() as "isCleared",
      live.members as "liveMembers",
      extract(epoch from clock_timestamp() - live.since)::float8 * 1000 as "oldestLiveMs",
      (
        select coalesce(json_agg(json_build_object('view', view_name, 'rows', row_count) order by place), '[]')
        from cache.refresh_steps
        where refresh_id = last.id
      ) as rows
    from (select) as always
    left join (select * from cache.refreshes where took is not null order by id desc limit 1) as last on true
    cross join (
      select count(distinct user_id)::float8 as members, min(since) as since
      from (
        select user_id, changed_at as since from cache.stale_users where user_id <> cache.everybody()
        union all
        select user_id, updated_at from app.user_incentives where evaluation_due
      ) as known
    ) as live`);
  return rows[0] as CacheStatus;
}

/** The views of the refresh that is running, in order; none when none is. */
export async function readSteps(pool: Pool): Promise<Step[]> {
  const { rows } = await pool.query<Step>(`
    select step.view_name as view,
      extract(epoch from step.took)::float8 * 1000 as "tookMs",
      step.row_count::float8 as rows,
      case when step.took is null
        then extract(epoch from clock_timestamp() - step.began_at)::float8 * 1000
      end as "runningMs",
      (
        select extract(epoch from before.took)::float8 * 1000
        from cache.refresh_steps as before
        where before.view_name = step.view_name
        and before.refresh_id < step.refresh_id
        and before.took is not null
        order by before.refresh_id desc
        limit 1
      ) as "expectedMs"
    from cache.refreshes as refresh
    join cache.refresh_steps as step on step.refresh_id = refresh.id
    where refresh.took is null
    and cache.is_refreshing()
    order by step.place`);
  return rows;
}

/** By what each view took the last time; undefined where one was never taken. */
export function timeLeftMs(steps: Step[]): number | undefined {
  let left = 0;
  for (const { tookMs, runningMs, expectedMs } of steps) {
    if (tookMs !== null) continue;
    if (expectedMs === null) return undefined;
    left += Math.max(expectedMs - (runningMs ?? 0), 0);
  }
  return left;
}

export function describeStatus(status: CacheStatus, steps: Step[]): string {
  const { takenAt, tookMs, rows, liveMembers, oldestLiveMs } = status;
  const counts = rows.map(({ view, rows: count }) => `${count} ${view}`).join(", ");
  const current = steps.findIndex(({ tookMs: took }) => took === null);
  return [
    takenAt
      ? `Snapshot taken at ${takenAt.toISOString()} in ${seconds(tookMs ?? 0)}: ${counts}.`
      : "No snapshot was taken yet.",
    status.isCleared && "It was cleared since; `cache build` fills it.",
    status.isEverybodyLive && "Everybody is served live.",
    `Members served live because they changed since: ${liveMembers}` +
      `${oldestLiveMs === null ? "." : `, the first of them for ${seconds(oldestLiveMs)}.`}`,
    current >= 0 && `A refresh is running: ${describeStep(steps, current)}`,
  ]
    .filter(Boolean)
    .join("\n");
}

/** `user_rewards (2 of 4, about 27 s left)`, and its rows and time once it is done. */
export function describeStep(steps: Step[], index: number): string {
  const step = steps[index];
  const left = timeLeftMs(steps);
  const result = step?.tookMs ? `: ${step.rows} rows in ${seconds(step.tookMs)}` : "";
  const about = left === undefined ? "" : `, about ${Math.ceil(left / 1000)} s left`;
  return `${step?.view}${result} (${index + 1} of ${steps.length}${about})`;
}

function seconds(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
