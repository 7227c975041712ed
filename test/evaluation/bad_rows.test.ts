/** One bad row among good ones: the good are judged, the bad one is in the hands of a job of its own, and says only its class. */
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { evaluateBatch } from "../../src/evaluation/batch.ts";
import type { Judging } from "../../src/evaluation/batch.ts";
import { JudgingPool, judgingDefaults } from "../../src/evaluation/judging_pool.ts";
import { loadEvaluators } from "../../src/evaluation/registry.ts";
import { createLogger } from "../../src/logger.ts";
import { isAlive } from "../../src/database/directory_lock.ts";
import type { Verdict } from "../../src/evaluation/evaluator.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

const evaluatorsFolder = path.join(import.meta.dirname, "bad_evaluators");
const good = 99;

let database: TestDatabase;
let judging: Judging;
/** Of its own: after a row that took too long others have less time. */
let unhurried: JudgingPool;

beforeAll(async () => {
  database = await createTestDatabase();
  await database.pool.query(
    `insert into app.incentives (key, name, evaluator, records)
    values ('bad', 'Bad', 'misbehaves', 'document'), ('other', 'Other', 'misbehaves', 'document')`,
  );
  judging = {
    registry: await loadEvaluators(evaluatorsFolder),
    judges: openJudges(500),
    judgeable: [],
    logger: createLogger("silent"),
  };
  unhurried = openJudges(5000);
});
afterAll(async () => {
  await judging.judges.close();
  await unhurried.close();
  await database.drop();
});

function openJudges(rowTimeoutMs: number): JudgingPool {
  return new JudgingPool({ ...judgingDefaults, evaluatorsFolder, rowTimeoutMs, memoryMb: 64 });
}

async function judgeOne(judges: JudgingPool, data: object) {
  const { rows } = await database.pool.query("select * from app.incentives where key = 'bad'");
  const incentives = new Map(rows.map((row) => [row.id as number, row]));
  const row = { incentiveIds: String(rows[0].id), data: JSON.stringify(data) };
  return judges.judge(row, incentives, Date.now());
}

/** The bad row stands in the middle. Returns its id. */
async function record(does: string): Promise<string> {
  const { rows } = await database.pool.query<{ id: string; bad: boolean }>(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select $1 || n, incentives.id, jsonb_build_object('does', case when n = $2 / 2 then $1 else 'behaves' end)
    from app.incentives, generate_series(0, $2) as n
    where key = 'bad'
    order by n
    returning id, data ->> 'does' = $1 as bad`,
    [does, good],
  );
  return rows.find(({ bad }) => bad)!.id;
}

describe.each([
  "throws",
  "never returns",
  "never settles",
  "returns nonsense",
  "returns what the database refuses",
  "allocates without end",
])("an evaluator that %s", (does) => {
  test("harms no other row, and its own is handed to a job of its own", async () => {
    const id = await record(does);
    const client = await database.pool.connect();
    const started = Date.now();
    const { claimed } = await evaluateBatch(client, judging, {
      limit: 1000,
      after: "0",
      waitMs: 0,
    });
    client.release();
    expect(claimed).toBe(good + 1);
    expect(Date.now() - started).toBeLessThan(10_000);

    const { rows } = await database.pool.query(
      `select status, evaluation_due, id = $2 as bad, count(*)::int
      from app.user_incentives where user_id like $1 || '%'
      group by 1, 2, 3 order by bad`,
      [does, id],
    );
    expect(rows).toEqual([
      { status: "completed", evaluation_due: false, bad: false, count: good },
      { status: "in_progress", evaluation_due: false, bad: true, count: 1 },
    ]);
    const jobs = await database.pool.query(
      `select payload from graphile_worker._private_jobs as job
      join graphile_worker._private_tasks as task on task.id = job.task_id
      where identifier = 'evaluate_incentive' and payload ->> 'user_incentive_id' = $1`,
      [id],
    );
    expect(jobs.rows).toEqual([{ payload: { user_incentive_id: id } }]);
  });
});

test("a batch with several rows that never return says how many it left, and the next ones judge them", async () => {
  await database.pool.query(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select 'several' || n, incentives.id, jsonb_build_object('does', case when n <= 5 then 'never returns' else 'behaves' end)
    from app.incentives, generate_series(1, 8) as n
    where key = 'bad'
    order by n`,
  );
  const client = await database.pool.connect();
  const first = await evaluateBatch(client, judging, { limit: 1000, after: "0", waitMs: 0 });
  expect(first).toMatchObject({ claimed: 8 });
  expect(first.left).toBeGreaterThanOrEqual(4);
  for (let left = first.left; left > 0;) {
    const next = await evaluateBatch(client, judging, { limit: 1000, after: "0", waitMs: 0 });
    expect(next.claimed).toBe(left);
    expect(next.left).toBeLessThan(left);
    left = next.left;
  }
  client.release();
  const { rows } = await database.pool.query(
    "select status, count(*)::int from app.user_incentives where user_id like 'several%' group by status order by status",
  );
  expect(rows).toEqual([
    { status: "completed", count: 3 },
    { status: "in_progress", count: 5 },
  ]);
});

test("many rows of an incentive that never return do not hold up those of another", async () => {
  await database.pool.query(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select key || n, id, jsonb_build_object('does', case key when 'bad' then 'never returns' else 'behaves' end)
    from app.incentives, generate_series(1, 50) as n
    where key in ('bad', 'other')
    order by key, n`,
  );
  const client = await database.pool.connect();
  const batch = await evaluateBatch(client, judging, { limit: 1000, after: "0", waitMs: 0 });
  client.release();
  expect(batch).toMatchObject({ claimed: 100, left: 48 });
  expect(batch.tookMs).toBeLessThan(5000);
  const { rows } = await database.pool.query(
    `update app.user_incentives set evaluation_due = false where evaluation_due
    returning user_id like 'bad%' as bad`,
  );
  expect(rows).toEqual(Array.from({ length: 48 }, () => ({ bad: true })));
});

test("many rows that each take their time are judged in several batches, none of which the server ends", async () => {
  await database.pool.query(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select 'slow' || n, incentives.id, '{"does": "dawdles"}'
    from app.incentives, generate_series(1, 100) as n
    where key = 'bad'`,
  );
  const client = await database.pool.connect();
  // As of all connections of a worker, but sooner.
  await client.query("set idle_in_transaction_session_timeout = '2500ms'");
  const wanted = { limit: 1000, after: "0", waitMs: 0 };
  for (let left = 100, next = 0; left > 0; left = next) {
    ({ left: next } = await evaluateBatch(client, { ...judging, judges: unhurried }, wanted));
    expect(next).toBeLessThan(left);
  }
  client.release(true);
  const { rows } = await database.pool.query(
    "select status, count(*)::int from app.user_incentives where user_id like 'slow%' group by status",
  );
  expect(rows).toEqual([{ status: "completed", count: 100 }]);
});

test.each([
  ["throws", "RangeError"],
  ["never returns", "EvaluationTookTooLong"],
  ["allocates without end", "EvaluationTookTooMuchMemory"],
])("the pool says of a row whose evaluator %s that it is %s", async (does, error) => {
  const judges = error === "EvaluationTookTooMuchMemory" ? unhurried : judging.judges;
  const judged = await judgeOne(judges, { does });
  expect(judged).toEqual({ verdicts: [], verdictOf: [0], failed: [{ position: 0, error }] });
});

describe("a judging process that dies by itself", () => {
  // The library asks one that it ends to go by itself, and gives it 50 ms.
  test.each([90, 115, 130, 145, 160])(
    "about when it would have been ended (after %i ms, of 100) is replaced",
    async (afterMs) => {
      const judges = openJudges(100);
      await judgeOne(judges, { does: "behaves" });
      const { failed } = await judgeOne(judges, { does: "dies", afterMs });
      expect(failed).toEqual([{ position: 0, error: expect.stringMatching(/^EvaluationTookToo/) }]);
      expect((await judgeOne(judges, { does: "behaves" })).verdictOf).toEqual([1]);
      await judges.close();
    },
  );

  test("while it has nothing to do is replaced before anybody notices", async () => {
    const judges = openJudges(500);
    const { verdicts } = await judgeOne(judges, { does: "says who it is" });
    const { explanation } = JSON.parse(verdicts[0]!.json) as Verdict;
    const idle = Number(explanation[0]!.message);
    process.kill(idle, "SIGKILL");
    await waitUntil("it is gone", async () => !isAlive(idle));
    expect((await judgeOne(judges, { does: "behaves" })).verdictOf).toEqual([1]);
    await judges.close();
  });
});
