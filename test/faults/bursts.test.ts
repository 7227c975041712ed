/** Members who change the same rows again and again while the worker runs: the last change of each is judged. */
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { run } from "graphile-worker";
import pLimit from "p-limit";
import { Pool } from "pg";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";
import { log } from "./actions.ts";
import type { Model } from "./actions.ts";
import { checkAtRest, waitForRest } from "./oracle.ts";
import { throwDice } from "./seed.ts";
import { WorkerProcess } from "./worker_process.ts";

const dice = throwDice("bursts");
const rows = 400;
const neededDays = 10;
const membersAtOnce = 8;

let database: TestDatabase;
let worker: WorkerProcess | undefined;

beforeEach(async () => {
  database = await createTestDatabase();
  await database.pool.query(
    `update app.incentives
    set criteria = jsonb_build_object('required_days', $1::int, 'within_days', 100)
    where key = 'health_data_log'`,
    [neededDays],
  );
});
afterEach(async () => {
  await worker?.stop();
  worker = undefined;
  await database.drop();
});

function daysLogged(count: number): string[] {
  return Array.from({ length: count }, (_, day) => `2021-09-${String(day + 1).padStart(2, "0")}`);
}

/** Four changes to each row, in bursts; only the last may complete it. Returns how many days the last has. */
async function change(model: Model): Promise<Map<string, number>> {
  const last = new Map<string, number>();
  const burst = async (user: string): Promise<void> => {
    for (let turn = 1; turn <= 4; turn++) {
      const days = dice.between(0, turn === 4 ? neededDays : neededDays - 1);
      const action = { user, ...log(daysLogged(days), days === neededDays) };
      await database.pool.query(
        `insert into app.user_incentives (user_id, incentive_id, data)
        select $1, id, $2 from app.incentives where key = 'health_data_log'
        on conflict on constraint a_member_has_one_row_per_incentive do update set data = excluded.data`,
        [user, JSON.stringify(action.data)],
      );
      model.set(`${user} health_data_log`, action);
      last.set(user, days);
      if (dice.between(0, 1))
        await new Promise((resolve) => setTimeout(resolve, dice.between(0, 15)));
    }
  };
  // A few at a time, so that the worker is never behind and takes a job while its row is changed again.
  const limit = pLimit(membersAtOnce);
  await Promise.all(Array.from({ length: rows }, (_, row) => limit(() => burst(`burst-${row}`))));
  return last;
}

async function findStale(last: Map<string, number>): Promise<string[]> {
  const found = await database.pool.query<{ user_id: string; progress: number }>(
    "select user_id, progress from app.user_incentives",
  );
  return found.rows
    .filter(({ user_id, progress }) => Math.round(progress * neededDays) !== last.get(user_id))
    .map(({ user_id }) => user_id);
}

test("of four changes to each of 400 rows the last is judged", async () => {
  worker = await WorkerProcess.start(database.ownerUrl);
  const model: Model = new Map();
  const last = await change(model);
  await waitForRest(database.pool, 20);
  await worker.stop();
  expect(await findStale(last)).toEqual([]);
  await checkAtRest(database.pool, { model });
}, 60_000);

test("with a job of its own for each row, by a key, some last changes are never judged", async () => {
  await database.pool.query(keyedJobs);
  const pool = new Pool({ connectionString: database.ownerUrl, max: 20 });
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  const runner = await run({
    pgPool: pool,
    concurrency: 8,
    noHandleSignals: true,
    taskList: { evaluate_incentive: (payload) => judgeWhatItSays(pool, payload) },
  });
  // It takes bad luck: a change while its job is being taken.
  let stale: string[] = [];
  for (let round = 0; round < 5 && stale.length === 0; round++) {
    const last = await change(new Map());
    await waitUntil("no job is left", isEveryJobDone, 30);
    stale = await findStale(last);
  }
  await runner.stop();
  await pool.end();
  expect(stale).not.toEqual([]);
}, 60_000);

async function isEveryJobDone(): Promise<boolean> {
  const { rowCount } = await database.pool.query(
    "select from graphile_worker.jobs where task_identifier = 'evaluate_incentive'",
  );
  return rowCount === 0;
}

/** Without a claim: reads, judges and writes. */
async function judgeWhatItSays(pool: Pool, payload: unknown): Promise<void> {
  const { user_incentive_id: id } = payload as { user_incentive_id: string };
  const { rows } = await pool.query<{ days: number }>(
    "select jsonb_array_length(data) as days from app.user_incentives where id = $1",
    [id],
  );
  const days = rows[0]?.days ?? 0;
  await pool.query("select app.apply_verdicts(array[$1::bigint], '{1}', $2)", [
    id,
    JSON.stringify([
      {
        status: days === neededDays ? "completed" : "in_progress",
        progress: days / neededDays,
        explanation: [],
      },
    ]),
  ]);
}

/** The obvious other way. The bell is silent, so that nobody repairs what it loses. */
const keyedJobs = `
  create or replace function app.ring_bell(after interval default '0') returns void
    language sql volatile set search_path = '' as 'select';
  create function app.tg_user_incentives__add_job() returns trigger
    language plpgsql volatile security definer set search_path = '' as $$
  begin
    perform graphile_worker.add_job(
      'evaluate_incentive',
      json_build_object('user_incentive_id', new.id::text),
      job_key => 'evaluate ' || new.id
    );
    return null;
  end
  $$;
  create trigger _500_add_job after insert or update of data on app.user_incentives
    for each row when (new.evaluation_due) execute function app.tg_user_incentives__add_job()`;
