/**
 * Judging again what was judged already (db: 000009-evaluate-again.sql): the task `evaluate_again`, and what
 * `incentives evaluate` asks for and reads to show how far it is. All marking of rows is done in the database.
 */
import type { Task } from "graphile-worker";
import type { Pool } from "pg";

/** One job marks some thousand rows; `after`, `marked` and `ids` are what one job tells the next. */
interface EvaluateAgain {
  incentive_id: number;
  after?: string;
  marked?: number;
  ids?: string[];
}

declare global {
  namespace GraphileWorker {
    interface Tasks {
      evaluate_again: EvaluateAgain;
    }
  }
}

export function evaluateAgainTask(pool: Pool): Task<"evaluate_again"> {
  return async (payload) => {
    await pool.query("select app.mark_due_again($1::json)", [JSON.stringify(payload)]);
  };
}

/** Open are the rows that are not completed, counted before anything was marked. */
export interface AskedAgain {
  id: number;
  key: string;
  open: number;
}

/** Asks for one incentive, or for all of them. Throws, naming the keys there are, when there is none of this key. */
export async function askToEvaluateAgain(
  pool: Pool,
  key: string | undefined,
): Promise<AskedAgain[]> {
  const { rows } = await pool.query<AskedAgain>(`
    select id, key,
      (
        select count(*)::float8
        from app.user_incentives as ui
        where ui.incentive_id = incentives.id
        and ui.status <> 'completed'
      ) as open
    from app.incentives
    order by key`);
  const asked = rows.filter((incentive) => key === undefined || incentive.key === key);
  if (key !== undefined && asked.length === 0) {
    const keys = rows.map((incentive) => incentive.key).join(", ");
    throw new Error(`There is no incentive "${key}". There are: ${keys || "none at all"}.`);
  }
  await pool.query("select app.evaluate_again(id) from unnest($1::integer[]) as id", [
    asked.map(({ id }) => id),
  ]);
  return asked;
}

export interface AgainProgress {
  id: number;
  /** Whether jobs have rows left to mark. */
  isMarking: boolean;
  /** How many rows these jobs have marked, by the job that is the least far; null when only stragglers are left. */
  marked: number | null;
  /** Rows that wait to be judged, of those that were due by the given time. */
  due: number;
  at: Date;
}

/** How far each incentive is. `dueBy`: rows that became due later, by what members write, are not counted. */
export async function readProgress(
  pool: Pool,
  incentiveIds: number[],
  dueBy: Date | undefined,
): Promise<AgainProgress[]> {
  // The library's view `jobs` leaves the payload out. A job that waits for its incentive to open or close is not meant.
  const { rows } = await pool.query<AgainProgress>(
    `select incentive.id,
      jobs.count > 0 as "isMarking",
      jobs.marked,
      (
        select count(*)::float8
        from app.user_incentives as ui
        where ui.evaluation_due
        and ui.incentive_id = incentive.id
        and ui.updated_at <= coalesce($2::timestamptz, 'infinity')
      ) as due,
      now() as at
    from unnest($1::integer[]) as incentive (id)
    cross join lateral (
      select count(*),
        min(coalesce((job.payload ->> 'marked')::float8, 0))
          filter (where job.payload -> 'ids' is null) as marked
      from graphile_worker._private_jobs as job
      join graphile_worker._private_tasks as task on task.id = job.task_id
      where task.identifier = 'evaluate_again'
      and (job.payload ->> 'incentive_id')::integer = incentive.id
      and job.attempts < job.max_attempts
      and (job.attempts > 0 or job.run_at < now() + interval '1 minute')
    ) as jobs`,
    [incentiveIds, dueBy],
  );
  return rows;
}
