/** The bell's promise: with the sweep off, no due row is left behind, whoever writes first and whoever commits last. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { Client } from "pg";
import type { ClientBase, PoolClient, QueryConfig } from "pg";
import {
  evaluateIncentives,
  evaluationDefaults,
  runBell,
} from "../../src/evaluation/evaluate_incentives.ts";
import type { EvaluationOptions } from "../../src/evaluation/evaluate_incentives.ts";
import { JudgingPool, judgingDefaults } from "../../src/evaluation/judging_pool.ts";
import { loadEvaluators } from "../../src/evaluation/registry.ts";
import { createLogger } from "../../src/logger.ts";
import { startRestartableServer } from "../faults/restartable_server.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
let options: EvaluationOptions;
let clients: PoolClient[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  options = {
    ...evaluationDefaults,
    registry: await loadEvaluators(),
    judges: new JudgingPool(judgingDefaults),
    judgeable: [],
    logger: createLogger("silent"),
    stopping: new AbortController().signal,
    lingerMs: 300,
    waitAtMostMs: 10_000,
  };
});

afterAll(async () => {
  await options.judges.close();
  await database.drop();
});

afterEach(async () => {
  for (const client of clients) client.release();
  clients = [];
  await database.pool.query("delete from app.user_incentives where status <> 'completed'");
  await answerBell();
});

/** As if a run had been and gone. */
function answerBell() {
  return database.pool.query(
    "select graphile_worker.complete_jobs(array(select id from graphile_worker.jobs))",
  );
}

async function connect(): Promise<PoolClient> {
  const client = await database.pool.connect();
  clients.push(client);
  return client;
}

async function lend<T>(work: (client: ClientBase) => Promise<T>): Promise<T> {
  const client = await database.pool.connect();
  return work(client).finally(() => client.release());
}

function write(client: Pick<PoolClient, "query">, userId: string) {
  return client.query(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select $1, id, '[]' from app.incentives where key = 'health_data_log'`,
    [userId],
  );
}

async function isDue(userId: string, pool = database.pool): Promise<boolean> {
  const { rows } = await pool.query<{ evaluation_due: boolean }>(
    "select evaluation_due from app.user_incentives where user_id = $1",
    [userId],
  );
  return rows[0]?.evaluation_due ?? false;
}

async function bellJobs(): Promise<number> {
  const { rows } = await database.pool.query<{ count: number }>(
    "select count(*)::int from graphile_worker.jobs where task_identifier = 'evaluate_incentives'",
  );
  return rows[0]?.count ?? -1;
}

async function isSomebodyAwake(): Promise<boolean> {
  const { rows } = await database.pool.query<{ awake: boolean }>(
    `select exists (
      select from pg_locks
      where locktype = 'advisory' and mode = 'ExclusiveLock' and granted
      and database = (select oid from pg_database where datname = current_database())
      and (classid::bigint << 32) + objid::bigint = app.awake_lock()
    ) as awake`,
  );
  return rows[0]?.awake ?? false;
}

/** Two writers while a run is awake, so that neither rings; the first to write is the last to commit. */
async function firstWriterCommitsLast(
  ending: EvaluationOptions["ending"],
  order: "first" | "last",
) {
  const [first, second, worker] = [await connect(), await connect(), await connect()];
  await write(database.pool, "early");
  const run = runBell(worker, { ...options, ending });
  await waitUntil("the run is awake", isSomebodyAwake);

  await first.query("begin");
  await second.query("begin");
  if (order === "first") await write(first, "slow");
  await write(second, "quick");
  if (order === "last") await write(first, "slow");
  await second.query("commit");
  await waitUntil("the quick row is judged", async () => !(await isDue("quick")));
  await waitUntil("nobody is awake", async () => !(await isSomebodyAwake()));
  await first.query("commit");
  await run;
}

describe("a run of the bell's job", () => {
  test.each(["first", "last"] as const)(
    "judges the row of a writer that found somebody awake, wrote %s and commits after the awake time is over",
    async (order) => {
      await firstWriterCommitsLast("wait_for_writers", order);
      expect(await isDue("slow")).toBe(false);
      expect(await isDue("quick")).toBe(false);
    },
  );

  test.each(["first", "last"] as const)(
    "leaves that row for ever when it ends at the first empty claim (so the ending is needed; wrote %s)",
    async (order) => {
      await firstWriterCommitsLast("first_empty_claim", order);
      expect(await isDue("slow")).toBe(true);
      expect(await bellJobs()).toBe(1); // The one of the row that woke the run; it was run by hand here.
    },
  );

  test("falls awake again when only its awake time was over", async () => {
    const run = runBell(await connect(), { ...options, awakeAtMostMs: 50 });
    await waitUntil("the run is awake", isSomebodyAwake);
    await sleep(100);
    await write(database.pool, "after its time");
    await waitUntil("the row is judged", async () => !(await isDue("after its time")));
    await sleep(150);
    await write(database.pool, "much later");
    // Nobody takes a job here, so it is this run that judged it.
    await waitUntil("the row is judged", async () => !(await isDue("much later")));
    await run;
  });

  test("rings for another when a writer stays open for longer than it waits", async () => {
    const [slow, worker] = [await connect(), await connect()];
    await slow.query("begin");
    await write(slow, "slow");
    await runBell(worker, { ...options, lingerMs: 10, waitAtMostMs: 100 });
    expect(await bellJobs()).toBe(1);
    await slow.query("rollback");
  });

  test("is relieved by one that begins while it waits, and that one looks after whomever it waited for", async () => {
    const slow = await connect();
    const task = evaluateIncentives(options);
    const begin = async () => task({}, { withPgClient: lend } as never);
    await slow.query("begin");
    const first = begin();
    await waitUntil("it is awake", isSomebodyAwake);
    await write(slow, "slow");
    await waitUntil("it is not", async () => !(await isSomebodyAwake()));
    await sleep(50);
    await write(database.pool, "meanwhile");
    const second = begin();
    await first;
    await waitUntil("the row of meanwhile is judged", async () => !(await isDue("meanwhile")));
    await slow.query("commit");
    await second;
    expect(await isDue("slow")).toBe(false);
    expect(await bellJobs()).toBe(1); // Of meanwhile; its run was begun by hand here.
  });

  test("rings for a row that it had to skip, because somebody had written it once more and may take that back", async () => {
    const [first, again, worker] = [await connect(), await connect(), await connect()];
    await write(database.pool, "early");
    let gate = Promise.resolve();
    const query = async (what: QueryConfig | string, values?: unknown[]) => {
      if (typeof what === "object" && what.text.includes("claim_due_rows")) await gate;
      return worker.query(what, values);
    };
    const run = runBell({ query } as ClientBase, options);
    await waitUntil("the run is awake", isSomebodyAwake);
    await first.query("begin");
    await write(first, "twice");
    await waitUntil("nobody is awake", async () => !(await isSomebodyAwake()));
    await answerBell();

    const { promise, resolve: openGate } = Promise.withResolvers<void>();
    gate = promise;
    await first.query("commit");
    await again.query("begin; update app.user_incentives set data = '[1]' where user_id = 'twice'");
    openGate();
    await run;
    await again.query("rollback");
    expect(await isDue("twice")).toBe(true);
    expect(await bellJobs()).toBe(1);
    await runBell(worker, options);
    expect(await isDue("twice")).toBe(false);
  });

  test("waits for a writer that has been prepared, which has no session any more", async () => {
    const server = await startRestartableServer({ max_prepared_transactions: 1 });
    try {
      const [slow, worker] = [await server.pool.connect(), await server.pool.connect()];
      await write(server.pool, "early");
      await slow.query("begin");
      await write(slow, "slow");
      let isOver = false;
      const run = runBell(worker, { ...options, lingerMs: 10 }).then(() => (isOver = true));
      await waitUntil("the early row is judged", async () => !(await isDue("early", server.pool)));
      await sleep(100);
      await slow.query("prepare transaction 'slow'");
      await sleep(200);
      expect(isOver).toBe(false);
      await slow.query("commit prepared 'slow'");
      await run;
      expect(await isDue("slow", server.pool)).toBe(false);
      for (const client of [slow, worker]) client.release();
    } finally {
      await server.drop();
    }
  }, 60_000);

  test("waits for nobody who has written elsewhere only, in another database or in this one", async () => {
    const [here, worker] = [await connect(), await connect()];
    const elsewhere = new Client({ connectionString: process.env.TEST_SUPERUSER_URL! });
    await elsewhere.connect();
    for (const client of [here, elsewhere])
      await client.query("begin; select pg_current_xact_id()");
    await here.query("update app.incentives set name = name");
    await runBell(worker, { ...options, lingerMs: 10, waitAtMostMs: 0 });
    expect(await bellJobs()).toBe(0);
    await here.query("rollback");
    await elsewhere.end();
  });
});

describe("a writer", () => {
  test("rings once for many writes while nobody is awake", async () => {
    for (let i = 0; i < 50; i++) await write(database.pool, `outage-${i}`);
    expect(await bellJobs()).toBe(1);
  });

  test("does not rely on another writer that may yet roll back", async () => {
    const [first, second] = [await connect(), await connect()];
    await first.query("begin");
    await write(first, "takes it back");
    await second.query("begin");
    await write(second, "stays");
    await second.query("commit");
    await first.query("rollback");
    expect(await isDue("stays")).toBe(true);
    expect(await bellJobs()).toBe(1);
  });

  test.each(["repeatable read", "serializable"])(
    "in %s rings although its old snapshot shows a bell job that is gone",
    async (isolation) => {
      const writer = await connect();
      await write(database.pool, "before");
      await writer.query(`begin isolation level ${isolation}`);
      await writer.query("select from app.incentives");
      await answerBell();
      await write(writer, "strict");
      await writer.query("commit");
      expect(await bellJobs()).toBe(1);
    },
  );

  test("that changes nothing does not ring, and its row is not due", async () => {
    await write(database.pool, "same");
    await runBell(await connect(), { ...options, lingerMs: 10 });
    await answerBell();
    await database.pool.query("update app.user_incentives set data = data where user_id = 'same'");
    expect(await isDue("same")).toBe(false);
    expect(await bellJobs()).toBe(0);
  });

  test("that is refused leaves nobody's way to being awake barred", async () => {
    const writer = await connect();
    const refused = writer.query(
      "insert into app.user_incentives (user_id, incentive_id, data) values ('refused', 0, '[]')",
    );
    await expect(refused).rejects.toThrow("a_user_incentive_is_for_an_incentive");
    const { rows } = await database.pool.query(
      "select pg_try_advisory_lock(app.awake_lock()) and pg_advisory_unlock(app.awake_lock()) as free",
    );
    expect(rows).toEqual([{ free: true }]);
  });
});
