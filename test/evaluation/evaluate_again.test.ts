/** Rows are judged again when what they were judged by has changed: the incentive, its evaluator, or the time. */
import { spawn } from "node:child_process";
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { askToEvaluateAgain } from "../../src/evaluation/evaluate_again.ts";
import { evaluationDefaults, runBell } from "../../src/evaluation/evaluate_incentives.ts";
import { JudgingPool, judgingDefaults } from "../../src/evaluation/judging_pool.ts";
import { loadEvaluators } from "../../src/evaluation/registry.ts";
import { watchEvaluation } from "../../src/evaluation/watch_evaluation.ts";
import { createLogger } from "../../src/logger.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";
import { startTestProcess } from "../test_process.ts";
import type { TestProcess } from "../test_process.ts";

const birth = { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" };

async function record(database: TestDatabase, users: string, count = 1): Promise<void> {
  await database.pool.query(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select $1 || '-' || n, id, $2 from app.incentives, generate_series(1, $3::int) as n where key = 'birth_record'`,
    [users, birth, count],
  );
}

async function count(database: TestDatabase, query: string): Promise<number> {
  const { rows } = await database.pool.query<{ count: number }>(
    `select count(*)::int as count ${query}`,
  );
  return rows[0]?.count ?? -1;
}

function change(database: TestDatabase, assignments: string) {
  return database.pool.query(`update app.incentives set ${assignments} where key = 'birth_record'`);
}

async function read(database: TestDatabase, user: string, n = 1) {
  const { rows } = await database.pool.query(
    "select status, evaluation_due, explanation from app.user_incentives where user_id = $1",
    [`${user}-${n}`],
  );
  return rows[0];
}

describe("with a worker,", () => {
  let app: TestProcess;
  let database: TestDatabase;
  beforeAll(async () => {
    app = await startTestProcess();
    database = app.database;
  });
  afterAll(() => app.drop());
  beforeEach(async () => {
    await change(database, "is_active = true, starts_at = null, ends_at = null");
  });

  async function waitUntilJudged(user: string) {
    await waitUntil(
      `${user} is judged`,
      async () => (await read(database, user))?.evaluation_due === false,
    );
  }

  async function waitUntilCompleted(user: string) {
    await waitUntil(
      `${user} is completed`,
      async () => (await read(database, user))?.status === "completed",
    );
  }

  test.each([
    ["switched off", "is_active = false", "is_active = true"],
    ["not started", "starts_at = now() + interval '1 day'", "starts_at = now() - interval '1 day'"],
    ["over", "ends_at = now()", "ends_at = null"],
    [
      "too strict",
      `criteria = '{"report_within_days": 1}'`,
      `criteria = '{"report_within_days": 365}'`,
    ],
  ])(
    "a member who did everything while the incentive was %s is completed when that changes",
    async (what, before, after) => {
      const early = what.replace(" ", "-");
      await change(database, before);
      await database.pool.query(
        `insert into app.user_incentives (user_id, incentive_id, data)
        select $1, id, $2 from app.incentives where key = 'birth_record'`,
        [`${early}-1`, { ...birth, date: "2021-10-15 17:15:00" }],
      );
      await waitUntilJudged(early);
      const { status, explanation } = await read(database, early);
      expect(status).not.toBe("completed");
      expect(explanation).toContainEqual(expect.objectContaining({ met: false }));
      await change(database, after);
      await waitUntilCompleted(early);
    },
  );

  test("an incentive that starts by the clock alone completes who was early", async () => {
    await change(database, "starts_at = now() + interval '3 seconds'");
    await record(database, "patient");
    await waitUntilJudged("patient");
    expect((await read(database, "patient")).explanation[0].condition).toBe("incentive_open");
    await waitUntilCompleted("patient");
  });

  test("what is completed stays as it is and is not announced again", async () => {
    await record(database, "won");
    await waitUntilCompleted("won");
    const before = await database.pool.query(
      "select * from app.user_incentives where user_id = 'won-1'",
    );
    const events = await count(database, "from app.incentive_events");
    await change(database, "is_active = false");
    await waitUntil("the job is done", async () => {
      return (
        (await count(
          database,
          "from graphile_worker.jobs where task_identifier = 'evaluate_again' and run_at <= now()",
        )) === 0
      );
    });
    const after = await database.pool.query(
      "select * from app.user_incentives where user_id = 'won-1'",
    );
    expect(after.rows).toEqual(before.rows);
    expect(await count(database, "from app.incentive_events")).toBe(events);
  });

  test("20,000 rows are judged again in parts while members write, and one that is locked is not waited for", async () => {
    await change(database, "is_active = false");
    await record(database, "many", 20_000);
    const notJudged = "from app.user_incentives where evaluation_due";
    await waitUntil("all are judged", async () => (await count(database, notJudged)) === 0, 60);

    const holder = await database.pool.connect();
    await holder.query("begin");
    await holder.query("select from app.user_incentives where user_id = 'many-777' for update");
    await change(database, "is_active = true");
    const all = "from app.user_incentives where status <> 'completed'";
    const open = `${all} and user_id like 'many-%'`;
    const took: number[] = [];
    const startedAt = Date.now();
    while ((await count(database, open)) > 1 && Date.now() - startedAt < 60_000) {
      const began = performance.now();
      // An old row, which may be in the part that is being marked, and a new one.
      await database.pool.query(
        `update app.user_incentives set data = data || '{"date": "2021-09-16 17:15:00"}'
        where user_id = 'many-' || $1`,
        [20_000 - took.length],
      );
      await record(database, `new${took.length}`);
      took.push(performance.now() - began);
    }
    const seconds = (Date.now() - startedAt) / 1000;
    console.log(
      `judged 20,000 again in ${seconds.toFixed(1)} s; of ${took.length} pairs of writes the slowest took ${Math.max(...took).toFixed(0)} ms`,
    );
    expect(await read(database, "many", 777)).toMatchObject({ status: "in_progress" });
    await holder.query("commit");
    holder.release();
    await waitUntil(
      "the locked row is completed too",
      async () => (await count(database, all)) === 0,
    );
    expect(Math.max(...took)).toBeLessThan(2000);
    expect(await count(database, "from app.incentive_events")).toBe(
      await count(database, "from app.user_incentives"),
    );
  }, 120_000);

  test("the command says how far it is and ends when all is judged", async () => {
    await change(database, "is_active = false");
    await record(database, "asked", 300);
    await waitUntilJudged("asked");
    const { code, output } = await runCommand(database, "evaluate", "--all");
    expect(output).toMatch(/300 of 300 rows, \d+ a second/);
    expect(output).toContain("All 300 rows that are not completed were judged again.");
    expect(code).toBe(0);
  });

  test("the command names the incentives there are when it is asked for another", async () => {
    const { code, output } = await runCommand(database, "evaluate", "--incentive", "none");
    expect(output).toContain('no incentive "none". There are: birth_record, health_data_log.');
    expect(code).toBe(1);
  });
});

async function runCommand(database: TestDatabase, ...words: string[]) {
  const root = path.join(import.meta.dirname, "..", "..");
  const child = spawn(process.execPath, [path.join(root, "src", "cli.ts"), ...words], {
    env: { DATABASE_URL: database.ownerUrl, LOG_LEVEL: "silent", NODE_NO_WARNINGS: "1" },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  }
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, output };
}

describe("without a worker,", () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createTestDatabase();
  });
  afterAll(() => database.drop());

  const jobs = "from graphile_worker.jobs where task_identifier = 'evaluate_again'";

  test("who watches is told that nothing moves, and may leave: the job stays", async () => {
    await record(database, "waits");
    const asked = await askToEvaluateAgain(database.pool, "birth_record");
    const enough = new AbortController();
    const said: string[] = [];
    const display = {
      show() {},
      say(sentence: string) {
        said.push(sentence);
        enough.abort();
      },
      end() {},
    };
    const watched = await watchEvaluation({
      pool: database.pool,
      asked,
      display,
      enough: enough.signal,
      stillAfterMs: 100,
      everyMs: 20,
    });
    expect(watched).toBe(false);
    expect(said).toEqual([expect.stringContaining("no worker seems to be running")]);
    expect(await count(database, jobs)).toBe(1);
  });

  /** As the worker would, but when the test wants it. */
  async function runJobs(): Promise<void> {
    const { rows } = await database.pool.query<{ id: string; payload: object }>(
      `select job.id, job.payload
      from graphile_worker._private_jobs as job
      join graphile_worker._private_tasks as task on task.id = job.task_id
      where task.identifier = 'evaluate_again'`,
    );
    await database.pool.query("select graphile_worker.complete_jobs($1)", [
      rows.map(({ id }) => id),
    ]);
    for (const { payload } of rows) {
      await database.pool.query("select app.mark_due_again($1)", [payload]);
    }
  }

  test("no row keeps a verdict from before, whenever during a batch its incentive changes", async () => {
    const options = {
      ...evaluationDefaults,
      registry: await loadEvaluators(),
      judges: new JudgingPool(judgingDefaults),
      judgeable: [],
      logger: createLogger("silent"),
      stopping: new AbortController().signal,
      lingerMs: 1,
    };
    const completed: Record<number, boolean> = {};
    for (let step = 1; step <= 12; step++) {
      await change(database, "is_active = false");
      await runJobs();
      await record(database, `step${step}`);
      const client = await database.pool.connect();
      // Before the question of this number the incentive changes and its rows are marked.
      const query = client.query.bind(client) as (...question: unknown[]) => Promise<unknown>;
      let questions = 0;
      let turn = Promise.resolve();
      // In the order in which they were asked, also those that did not wait for one another.
      client.query = (async (...question: unknown[]) => {
        questions += 1;
        if (questions === step) {
          turn = turn.then(async () => {
            await change(database, "is_active = true");
            await runJobs();
          });
        }
        turn = turn.then(() => {});
        await turn;
        return query(...question);
      }) as never;
      await runBell(client, options);
      client.query = query as never;
      await runJobs();
      await runBell(client, options);
      client.release();
      completed[step] = (await read(database, `step${step}`)).status === "completed";
    }
    await options.judges.close();
    expect(Object.entries(completed).filter(([, is]) => !is)).toEqual([]);
  });
});
