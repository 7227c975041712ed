/** A batch of good rows: each gets its own verdict, and those that wait longest are not passed over. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { JobHelpers } from "graphile-worker";
import type { PoolClient } from "pg";
import { Backlog } from "../../src/backlog.ts";
import { evaluateBatch } from "../../src/evaluation/batch.ts";
import {
  evaluateIncentives,
  evaluationDefaults,
  runBell,
} from "../../src/evaluation/evaluate_incentives.ts";
import type { EvaluationOptions } from "../../src/evaluation/evaluate_incentives.ts";
import { JudgingPool, judgingDefaults } from "../../src/evaluation/judging_pool.ts";
import { loadEvaluators } from "../../src/evaluation/registry.ts";
import { createLogger } from "../../src/logger.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
let options: EvaluationOptions;

beforeAll(async () => {
  database = await createTestDatabase();
  options = {
    ...evaluationDefaults,
    registry: await loadEvaluators(),
    judges: new JudgingPool(judgingDefaults),
    judgeable: [],
    logger: createLogger("silent"),
    stopping: new AbortController().signal,
  };
});
afterAll(async () => {
  await options.judges.close();
  await database.drop();
});

/** A birth reported so many days after it, for each member. */
function record(client: Pick<TestDatabase["pool"], "query">, prefix: string, members: number) {
  return client.query(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select $1 || n, incentives.id, jsonb_build_object(
      'birth_date', (date '2021-09-15' - n % 7 * 100) || ' 15:30:00', 'date', '2021-09-15 17:15:00'
    )
    from app.incentives, generate_series(1, $2::int) as n
    where key = 'birth_record'`,
    [prefix, members],
  );
}

test("only the rows of a batch are looked at, also by a connection that first judged when there were none", async () => {
  const fresh = await createTestDatabase();
  const client = await fresh.pool.connect();
  const wanted = { after: "0", limit: 10, waitMs: 0 };
  try {
    await client.query("vacuum analyze");
    await record(client, "first ", 10);
    expect(await evaluateBatch(client, options, wanted)).toMatchObject({ claimed: 10 });
    // Many that are judged already, with their events and rewards.
    await record(client, "judged ", 5000);
    await client.query(
      "update app.user_incentives set status = 'completed', evaluation_due = false",
    );
    await record(client, "due ", 10);
    const looked = async (): Promise<number> => {
      await client.query("select pg_stat_force_next_flush()");
      const { rows } = await client.query<{ rows: number }>(
        `select sum(coalesce(idx_tup_fetch, 0) + seq_tup_read)::int as rows
        from pg_stat_user_tables
        where relname in ('user_incentives', 'incentive_events', 'user_rewards')`,
      );
      return rows[0]!.rows;
    };
    const before = await looked();
    expect(await evaluateBatch(client, options, wanted)).toMatchObject({ claimed: 10, left: 0 });
    expect((await looked()) - before).toBeLessThan(100);
  } finally {
    client.release();
    await fresh.drop();
  }
});

test("each of many rows gets its own verdict, although many have the same", async () => {
  await record(database.pool, "member ", 100);
  const client = await database.pool.connect();
  const wanted = { after: "0", limit: 1000, waitMs: 0 };
  const batch = await evaluateBatch(client, options, wanted).finally(() => client.release());
  expect(batch).toMatchObject({ claimed: 100, left: 0 });
  const { rows } = await database.pool.query<{ status: string; right: boolean; count: number }>(`
    select status, counted = (replace(user_id, 'member ', '')::int % 7 * 100)::text as right, count(*)::int
    from app.user_incentives,
      jsonb_path_query_first(explanation, '$[*] ? (@.condition == "reported_in_time").counted') as counted_json,
      lateral (select counted_json::text as counted) as said
    group by 1, 2
    order by 1`);
  expect(rows).toEqual([
    { status: "completed", right: true, count: 100 - 42 },
    { status: "invalid", right: true, count: 42 },
  ]);
});

test("no more large rows than fit into memory make a batch, one at least, and all of them are judged", async () => {
  // A megabyte each that does not compress, with line breaks and separators in it.
  await database.pool.query(`
    insert into app.user_incentives (user_id, incentive_id, data)
    select 'large ' || n, incentives.id, jsonb_build_object('birth_date', E'\n,\u2028' || noise)
    from app.incentives, generate_series(1, 10) as n,
      lateral (select string_agg(md5(random()::text), E'\n') as noise from generate_series(1, 32000 + n)) as noisy
    where key = 'birth_record'`);
  await record(database.pool, "small ", 3);
  const client = await database.pool.connect();
  const wanted = { after: "0", limit: 100, waitMs: 0 };
  const first = await evaluateBatch(client, options, wanted);
  expect(first).toMatchObject({ isAll: false, left: 0 });
  expect(first.claimed).toBeGreaterThanOrEqual(1);
  expect(first.claimed).toBeLessThan(10);
  await runBell(client, { ...options, lingerMs: 10 });
  client.release();
  const { rows } = await database.pool.query<{ what: string; status: string; count: number }>(`
    select split_part(user_id, ' ', 1) as what, status, count(*)::int
    from app.user_incentives where user_id like any ('{large %,small %}') group by 1, 2 order by 1`);
  expect(rows).toEqual([
    { what: "large", status: "invalid", count: 10 },
    { what: "small", status: "completed", count: 3 },
  ]);
});

async function countDue(): Promise<number> {
  const { rows } = await database.pool.query<{ due: number }>(
    "select count(*)::int as due from app.user_incentives where evaluation_due",
  );
  return rows[0]?.due ?? -1;
}

test("a backlog is worked off on two connections at once, and what is less than a batch on one", async () => {
  const [worker, other] = [await database.pool.connect(), await database.pool.connect()];
  const small = { ...options, batchSize: 10, lingerMs: 10 };
  const gate = Promise.withResolvers<void>();
  let lent = 0;
  const lend = async <T>(work: (client: PoolClient) => Promise<T>): Promise<T> => {
    lent += 1;
    await gate.promise;
    return work(other);
  };
  const backlog = new Backlog();
  await record(database.pool, "few ", 9);
  await runBell(worker, small, { lend });
  expect(lent).toBe(0);

  await record(database.pool, "many ", 100);
  let isOver = false;
  const run = runBell(worker, { ...small, backlog }, { lend }).then(() => (isOver = true));
  await waitUntil("the first has judged it all", async () => (await countDue()) === 0);
  // Its connection is not given back while the other is at work.
  expect(isOver).toBe(false);
  expect(backlog.isUnderWay).toBe(true);
  await record(database.pool, "more ", 5);
  gate.resolve();
  await run;
  expect(lent).toBe(1);
  expect(backlog.isUnderWay).toBe(false);
  expect(await countDue()).toBe(0);
  worker.release();
  other.release();
});

test("when the other connection fails, the run fails only after its own batch is done", async () => {
  const worker = await database.pool.connect();
  await record(database.pool, "failing ", 30);
  const run = runBell(
    worker,
    { ...options, batchSize: 10, lingerMs: 10 },
    {
      lend: () => Promise.reject(new Error("no connection")),
    },
  );
  await expect(run).rejects.toThrow("no connection");
  // Nothing is left of it on the connection: no transaction, no lock.
  const { rows } = await worker.query<{ locks: number }>(
    "select count(*)::int as locks from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'",
  );
  expect(rows).toEqual([{ locks: 0 }]);
  expect(await countDue()).toBe(0);
  worker.release();
});

test("a fourth run at a time rings for itself, so that deliveries have their turn", async () => {
  await database.pool.query("delete from graphile_worker._private_jobs");
  const blocker = await database.pool.connect();
  await blocker.query("begin; lock table app.user_incentives in exclusive mode");
  const task = evaluateIncentives(options);
  const withPgClient = async <T>(work: (client: PoolClient) => Promise<T>): Promise<T> => {
    const client = await database.pool.connect();
    return work(client).finally(() => client.release());
  };
  const start = (): Promise<unknown> =>
    Promise.resolve(task({}, { withPgClient } as unknown as JobHelpers));
  const four = [start(), start(), start(), start()];
  await Promise.race(four);
  const { rows } = await blocker.query<{ jobs: number }>(
    "select count(*)::int as jobs from graphile_worker.jobs where run_at > now()",
  );
  await blocker.query("rollback");
  blocker.release();
  await Promise.all(four);
  expect(rows).toEqual([{ jobs: 1 }]);
});

test.each([
  { rate: "slower than they are judged", others: 5, batchSize: 2500, lookBelowEveryMs: 250 },
  {
    rate: "slower, without a look from the beginning",
    others: 5,
    batchSize: 2000,
    lookBelowEveryMs: 60_000,
  },
  { rate: "faster than they are judged", others: 100, batchSize: 20, lookBelowEveryMs: 250 },
])(
  "a row that got its id first and was committed last is judged while others come $rate",
  async ({ others: members, batchSize, lookBelowEveryMs }) => {
    const [late, worker] = [await database.pool.connect(), await database.pool.connect()];
    await late.query("begin");
    await record(late, `late ${batchSize} `, 1);
    await record(database.pool, `early ${batchSize} `, 1);
    const over = new AbortController();
    const times = { awakeAtMostMs: 20_000, gatherAtMostMs: 0, lookBelowEveryMs };
    const run = runBell(worker, { ...options, ...times, batchSize, stopping: over.signal });
    const others = (async () => {
      for (let n = 0; !over.signal.aborted; n += 1) {
        await record(database.pool, `others ${batchSize} ${n} `, members);
      }
    })();
    const isJudged = async (userId: string): Promise<boolean> => {
      const { rows } = await database.pool.query<{ due: boolean }>(
        "select evaluation_due as due from app.user_incentives where user_id = $1",
        [userId],
      );
      return rows[0]?.due === false;
    };
    try {
      await waitUntil("the first others are judged", () => isJudged(`others ${batchSize} 1 1`));
      await late.query("commit");
      await waitUntil("the late one is judged", () => isJudged(`late ${batchSize} 1`));
    } finally {
      over.abort();
      await Promise.all([others, run]);
      late.release();
      worker.release();
    }
    await database.pool.query(
      "update app.user_incentives set evaluation_due = false where evaluation_due",
    );
  },
);
