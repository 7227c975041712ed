/** What a foreign key would do for app.user_rewards, and triggers do: nobody loses a reward, and none is left behind. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createTestDatabase } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

/** Returns the new row's id. */
async function complete(userId: string): Promise<string> {
  const { rows } = await database.pool.query<{ id: string }>(
    "insert into app.user_incentives (user_id, incentive_id, data) select $1, id, '{}' from app.incentives limit 1 returning id",
    [userId],
  );
  const id = rows[0]!.id;
  await database.pool.query(
    `select app.apply_verdicts(array[$1::bigint], '{1}', '[{"status": "completed", "progress": 1, "explanation": []}]')`,
    [id],
  );
  return id;
}

test("a user incentive that won a reward refuses to be deleted, until the reward is taken back", async () => {
  const id = await complete("winner");
  const erase = () => database.pool.query("delete from app.user_incentives where id = $1", [id]);
  await expect(erase()).rejects.toMatchObject({ code: "IN001" });
  await database.pool.query("delete from app.user_rewards where user_incentive_id = $1", [id]);
  await expect(erase()).resolves.toMatchObject({ rowCount: 1 });
});

test("a reward by hand waits for the deletion of what it names, and is then refused", async () => {
  const id = await complete("given by hand");
  await database.pool.query("delete from app.user_rewards where user_incentive_id = $1", [id]);
  const eraser = await database.pool.connect();
  await eraser.query("begin");
  await eraser.query("delete from app.user_incentives where id = $1", [id]);
  const given = database.pool.query(
    `insert into app.user_rewards (user_id, user_incentive_id, reward_id, amount, unit)
    select 'given by hand', $1, id, amount, unit from app.rewards limit 1`,
    [id],
  );
  given.catch(() => {});
  await waitUntilSomebodyWaits();
  await eraser.query("commit");
  eraser.release();
  await expect(given).rejects.toMatchObject({ code: "IN006" });
});

test("a deletion waits for a reward by hand, and is then refused", async () => {
  const id = await complete("erased meanwhile");
  await database.pool.query("delete from app.user_rewards where user_incentive_id = $1", [id]);
  const giver = await database.pool.connect();
  await giver.query("begin");
  await giver.query(
    `insert into app.user_rewards (user_id, user_incentive_id, reward_id, amount, unit)
    select 'erased meanwhile', $1, id, amount, unit from app.rewards limit 1`,
    [id],
  );
  const erased = database.pool.query("delete from app.user_incentives where id = $1", [id]);
  erased.catch(() => {});
  await waitUntilSomebodyWaits();
  await giver.query("commit");
  giver.release();
  await expect(erased).rejects.toMatchObject({ code: "IN001" });
});

test.each([
  { what: "of which there is none", numbers: "{2}" },
  { what: "that is not named", numbers: "{null}" },
  { what: "that is missing", numbers: "{}" },
])("a row with a verdict $what is refused, and nothing is paid", async ({ numbers }) => {
  const { rows } = await database.pool.query<{ id: string }>(
    "insert into app.user_incentives (user_id, incentive_id, data) select $1, id, '{}' from app.incentives limit 1 returning id",
    [`verdict ${numbers}`],
  );
  await expect(
    database.pool.query(
      `select app.apply_verdicts(array[$1::bigint], $2, '[{"status": "completed", "progress": 1, "explanation": []}]')`,
      [rows[0]!.id, numbers],
    ),
  ).rejects.toMatchObject({ code: "23502" });
  const { rows: won } = await database.pool.query(
    `select evaluation_due as due, (select count(*)::int from app.user_rewards where user_incentive_id = ui.id) as rewards
    from app.user_incentives as ui where id = $1`,
    [rows[0]!.id],
  );
  expect(won).toEqual([{ due: true, rewards: 0 }]);
});

test("verdicts in columns, as the version before wrote them, are written all the same", async () => {
  await database.pool.query(
    "insert into app.user_incentives (user_id, incentive_id, data) select 'older ' || id, id, '{}' from app.incentives",
  );
  await database.pool.query(
    `select app.apply_verdicts(
      array(select id from app.user_incentives where user_id like 'older %' order by id),
      '{completed,in_progress}', '{1,0.5}', array['[]', '[{"met": false}]']::jsonb[], '{2,1}'
    )`,
  );
  const { rows } = await database.pool.query(
    `select status, progress, explanation, (select count(*)::int from app.user_rewards where user_incentive_id = ui.id) as rewards
    from app.user_incentives as ui where user_id like 'older %' order by id`,
  );
  expect(rows).toEqual([
    { status: "in_progress", progress: 0.5, explanation: [{ met: false }], rewards: 0 },
    { status: "completed", progress: 1, explanation: [], rewards: 1 },
  ]);
});

async function waitUntilSomebodyWaits(): Promise<void> {
  for (;;) {
    const { rowCount } = await database.pool.query(
      `select from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock' limit 1`,
    );
    if (rowCount) return;
  }
}
