/**
 * The oracle, one for every scenario: what must be true at rest. It knows the model and reads the tables; it says everything
 * that is wrong, not the first thing only.
 */
import type { Pool } from "pg";
import { waitUntil } from "../test_database.ts";
import { servedWrongly } from "../cache/served.ts";
import { keyOf } from "./actions.ts";
import type { Model } from "./actions.ts";

export interface Expected {
  model: Model;
  /** The rows that no evaluator can judge: their jobs are parked, and nothing else is. */
  poison?: string[];
  /** Ids of the events that the listener heard; left out where nobody listens to the listener. */
  heard?: Set<string>;
}

/** Nothing is due, and no job is left but parked ones. */
export async function isAtRest(pool: Pool): Promise<boolean> {
  const { rows } = await pool.query<{ rest: boolean }>(
    `select not exists (select from app.user_incentives where evaluation_due)
      and not exists (
        select from graphile_worker.jobs where locked_at is not null or attempts < max_attempts
      ) as rest`,
  );
  return rows[0]?.rest ?? false;
}

/** Resolves when all is at rest; fails with what is not, and with who may keep it from rest. */
export async function waitForRest(
  pool: Pool,
  seconds: number,
  look?: () => Promise<void>,
): Promise<void> {
  try {
    await waitUntil(
      "all is at rest",
      async () => {
        await look?.();
        return isAtRest(pool);
      },
      seconds,
    );
  } catch (error) {
    throw new Error(`${(error as Error).message}; left are ${await whatIsLeft(pool)}`, {
      cause: error,
    });
  }
}

/** Transactions of the whole server, because a bell waits for those of other databases too. */
async function whatIsLeft(pool: Pool): Promise<string> {
  const { rows } = await pool.query<{ left: unknown }>(
    `select json_build_object(
      'now', clock_timestamp(),
      'due', (select count(*) from app.user_incentives where evaluation_due),
      'undelivered', (select count(*) from app.undelivered_events),
      'jobs', (select json_agg(job) from graphile_worker.jobs as job),
      'locked queues', (
        select json_agg(queue) from graphile_worker._private_job_queues as queue where locked_at is not null
      ),
      'lock holders', (
        select json_agg(json_build_object('pid', pid, 'key', array[classid, objid], 'mode', mode, 'granted', granted))
        from pg_locks where locktype = 'advisory'
      ),
      'transactions', (
        select json_agg(json_build_object(
          'pid', pid, 'database', datname, 'application', application_name, 'state', state, 'began', xact_start,
          'xid', backend_xid, 'xmin', backend_xmin, 'query', left(query, 200)
        ))
        from pg_stat_activity where backend_xid is not null or backend_xmin is not null
      )
    ) as left`,
  );
  return JSON.stringify(rows[0]?.left, null, 1);
}

/** Throws with all that is wrong. To be asked when no worker runs any more, so that whoever holds a job is dead. */
export async function checkAtRest(pool: Pool, expected: Expected): Promise<void> {
  const { model, poison = [], heard } = expected;
  const wrong: string[] = [];
  const blame = (what: string, offenders: unknown[]): void => {
    if (offenders.length === 0) return;
    wrong.push(`${what}: ${offenders.length}, for example ${offenders.slice(0, 3).join(", ")}`);
  };

  const { rows } = await pool.query<{ id: string; key: string; status: string; due: boolean }>(
    `select ui.id, ui.user_id || ' ' || incentive.key as key, ui.status, ui.evaluation_due as due
    from app.user_incentives as ui
    join app.incentives as incentive on incentive.id = ui.incentive_id`,
  );
  const found = new Map(rows.map((row) => [row.key, row]));
  const actions = [...model.values()];
  blame(
    "lost",
    actions.map(keyOf).filter((key) => !found.has(key)),
  );
  blame(
    "not completed",
    actions.filter((a) => a.completes && found.get(keyOf(a))?.status !== "completed").map(keyOf),
  );
  blame(
    "completed without reason",
    rows
      .filter((row) => row.status === "completed" && !model.get(row.key)?.completes)
      .map((row) => row.key),
  );
  blame(
    "still due",
    rows.filter((row) => row.due).map((row) => row.key),
  );

  for (const [what, query] of Object.entries(invariants)) {
    blame(
      what,
      (await pool.query<{ offender: string }>(query)).rows.map((row) => row.offender),
    );
  }
  const parked = await pool.query<{ id: string }>(
    "select coalesce(payload ->> 'user_incentive_id', task) as id from app.parked_jobs",
  );
  const parkedIds = parked.rows.map(({ id }) => id);
  blame(
    "parked without reason",
    parkedIds.filter((id) => !poison.includes(id)),
  );
  blame(
    "poison that is not parked",
    poison.filter((id) => !parkedIds.includes(id)),
  );
  if (heard) {
    const events = await pool.query<{ id: string }>("select id from app.incentive_events");
    blame(
      "events no listener heard",
      events.rows.filter(({ id }) => !heard.has(id)).map((e) => e.id),
    );
  }
  blame("members served something else, live", await askMembers(pool));
  await pool.query("call cache.refresh()");
  blame("members served something else, from the cache", await askMembers(pool));
  if (wrong.length > 0) throw new Error(`Not as the model has it:\n  ${wrong.join("\n  ")}`);
}

const invariants: Record<string, string> = {
  "completed without exactly one event": `
    select ui.id as offender
    from app.user_incentives as ui
    where (ui.status = 'completed')::int
      <> (select count(*) from app.incentive_events where user_incentive_id = ui.id)`,
  "reward promised and not won exactly once": `
    select ui.id || ' ' || promised.reward_id as offender
    from app.user_incentives as ui
    join app.incentive_rewards as promised on promised.incentive_id = ui.incentive_id
    where ui.status = 'completed'
    and 1 <> (
      select count(*) from app.user_rewards as won
      where won.user_incentive_id = ui.id and won.reward_id = promised.reward_id
    )`,
  "reward won without completion": `
    select won.id as offender
    from app.user_rewards as won
    join app.user_incentives as ui on ui.id = won.user_incentive_id
    where ui.status <> 'completed'`,
  "job locked by nobody alive": `
    select id as offender from graphile_worker.jobs where locked_at is not null`,
  // A bell that waits is none: a worker that was told to stop rings for the next.
  "job left over": `
    select id as offender
    from graphile_worker.jobs
    where attempts < max_attempts
    and task_identifier not in ('evaluate_incentives', 'deliver_events')`,
};

/** Of a hundred members those whom the API's views do not show exactly what stands in the truth. */
async function askMembers(pool: Pool): Promise<string[]> {
  const { rows } = await pool.query<{ user_id: string }>(
    "select distinct user_id from app.user_incentives order by user_id limit 100",
  );
  return servedWrongly(
    pool,
    rows.map(({ user_id }) => user_id),
  );
}
