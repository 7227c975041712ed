/** One row that its evaluator cannot judge, among thousands: the others complete, it is parked, and completed when mended. */
import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { readConfiguration } from "../../src/configuration.ts";
import { createLogger } from "../../src/logger.ts";
import { start } from "../../src/start.ts";
import type { RunningProcess } from "../../src/start.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";
import { record } from "./actions.ts";
import type { Model } from "./actions.ts";
import { checkAtRest, waitForRest } from "./oracle.ts";
import { isLong } from "./seed.ts";

const project = path.join(import.meta.dirname, "..", "..");
let database: TestDatabase;
let worker: RunningProcess | undefined;

beforeEach(async () => {
  database = await createTestDatabase();
  await database.pool.query(
    `insert into app.incentives (key, name, evaluator, records)
    values ('poisonable', 'May be poisoned', 'poisonable', 'document');
    insert into app.incentive_rewards
    select i.id, r.id from app.incentives as i, app.rewards as r
    where i.key = 'poisonable' and r.key = 'log_points'`,
  );
});
afterEach(async () => {
  await worker?.stop();
  await database.drop();
});

async function startWorker(evaluators: "broken" | "mended"): Promise<void> {
  worker = await start({
    configuration: readConfiguration({
      DATABASE_URL: database.ownerUrl,
      CACHE_REFRESH_CRON: "0 0 29 2 *",
    }),
    logger: createLogger("silent"),
    only: "worker",
    evaluatorsFolder: path.join(import.meta.dirname, "evaluators", evaluators),
  });
}

/** The command line, as an operator calls it. */
async function incentives(...words: string[]): Promise<{ out: string; code: number }> {
  const env = { PATH: process.env.PATH, DATABASE_URL: database.ownerUrl, LOG_LEVEL: "silent" };
  const command = ["--disable-warning=ExperimentalWarning", path.join(project, "src", "cli.ts")];
  return promisify(execFile)(process.execPath, [...command, ...words], { env }).then(
    ({ stdout }) => ({ out: stdout.trim(), code: 0 }),
    (error: { stderr: string; stdout: string; code: number }) => ({
      out: `${error.stdout}${error.stderr}`.trim(),
      code: error.code,
    }),
  );
}

test("a poisoned row is parked with its reason, the others complete, and once mended it completes too", async () => {
  expect(await incentives("jobs", "failed")).toEqual({
    out: "No job has failed for good.",
    code: 0,
  });
  await startWorker("broken");
  const model: Model = new Map();
  const count = isLong ? 10_000 : 2000;
  const poisoned = Math.floor(count / 2);
  const actions = Array.from({ length: count }, (_, i) => ({
    user: `member-${i}`,
    incentive: "poisonable",
    data: { poison: i === poisoned },
    completes: i !== poisoned,
  }));
  await record(database.pool, model, actions);
  await waitUntil("it has failed once", () => hasFailed(1), 20);
  // Its last attempt may be now; the library would make 25, over two days.
  await database.pool.query(
    `select graphile_worker.reschedule_jobs(array_agg(id), run_at => now(), max_attempts => 2)
    from graphile_worker.jobs where task_identifier = 'evaluate_incentive'`,
  );
  await waitForRest(database.pool, 20);
  await worker?.stop();

  const { rows } = await database.pool.query<{ id: string }>(
    "select id from app.user_incentives where user_id = $1",
    [`member-${poisoned}`],
  );
  const [{ id }] = rows as [{ id: string }];
  await checkAtRest(database.pool, { model, poison: [id] });
  const parked = await database.pool.query<{ id: string }>("select id from app.parked_jobs");
  const [{ id: jobId }] = parked.rows as [{ id: string }];
  const listed = await incentives("jobs", "failed");
  expect(
    listed.out.replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/, "<since>").split(/ {2,}|\n/),
  ).toEqual([
    "id",
    "task",
    "attempts",
    "since",
    "about",
    "reason",
    jobId,
    "evaluate_incentive",
    "2",
    "<since>",
    `user_incentive_id ${id}`,
    `user incentive ${id}: TypeError`,
  ]);

  await startWorker("mended");
  expect(await incentives("jobs", "retry", jobId, "999999")).toEqual({
    out: "1 job is tried again.\nincentives: not a failed job: 999999",
    code: 1,
  });
  await waitForRest(database.pool, 20);
  await worker?.stop();
  model.set(`member-${poisoned} poisonable`, { ...actions[poisoned]!, completes: true });
  await checkAtRest(database.pool, { model });
  expect(await incentives("jobs", "retry", "--all")).toEqual({
    out: "0 jobs are tried again.",
    code: 0,
  });
}, 90_000);

async function hasFailed(times: number): Promise<boolean> {
  const { rowCount } = await database.pool.query(
    `select from graphile_worker.jobs
    where task_identifier = 'evaluate_incentive' and attempts >= $1 and locked_at is null`,
    [times],
  );
  return rowCount === 1;
}
