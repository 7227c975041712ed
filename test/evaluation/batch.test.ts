/** A batch of good rows: each gets its own verdict, and those that wait longest are not passed over. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { evaluateBatch } from "../../src/evaluation/batch.ts";
import { evaluationDefaults, runBell } from "../../src/evaluation/evaluate_incentives.ts";
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

test("a row that got its id first and was committed last is judged while others keep coming", async () => {
  const [late, worker] = [await database.pool.connect(), await database.pool.connect()];
  await late.query("begin");
  await record(late, "late ", 1);
  await record(database.pool, "early ", 1);
  const run = runBell(worker, { ...options, awakeAtMostMs: 20_000, gatherAtMostMs: 0 });
  let isOver = false;
  const others = (async () => {
    for (let n = 0; !isOver; n += 1) await record(database.pool, `others ${n} `, 5);
  })();
  const isJudged = async (userId: string): Promise<boolean> => {
    const { rows } = await database.pool.query<{ due: boolean }>(
      "select evaluation_due as due from app.user_incentives where user_id = $1",
      [userId],
    );
    return rows[0]?.due === false;
  };
  await waitUntil("the first others are judged", () => isJudged("others 1 1"));
  await late.query("commit");
  await waitUntil("the late one is judged", () => isJudged("late 1"));
  isOver = true;
  await Promise.all([others, run]);
  late.release();
  worker.release();
});
