/** Which changes mark a member stale, so that no mark is missing and none is in anybody's way. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

const document = { birth_date: "2021-09-15", date: "2021-09-15" };

async function insert(userId: string, due: boolean): Promise<string> {
  const { rows } = await database.pool.query<{ id: string }>(
    `insert into app.user_incentives (user_id, incentive_id, data, evaluation_due)
    select $1, id, $2, $3 from app.incentives where key = 'birth_record' returning id`,
    [userId, document, due],
  );
  return rows[0]!.id;
}

async function marked(userId: string): Promise<boolean> {
  const { rowCount } = await database.pool.query(
    "select from cache.stale_users where user_id = $1",
    [userId],
  );
  return rowCount === 1;
}

test("a row that is inserted as judged is served at once, and the next refresh by the clock finds it", async () => {
  await database.pool.query("call cache.refresh()");
  await insert("imported", false);
  expect(await marked("imported")).toBe(true);
  const client = await database.pool.connect();
  await client.query("select set_config('incentives.user_id', 'imported', false)");
  const { rowCount } = await client.query("select from api.user_incentives");
  client.release(true);
  expect(rowCount).toBe(1);
});

test("what is recorded again as it was marks nobody", async () => {
  await insert("again", false);
  await database.pool.query("delete from cache.stale_users");
  await database.pool.query("select * from app.record_actions('again', $1)", [
    JSON.stringify([{ incentive: "birth_record", data: document }]),
  ]);
  expect(await marked("again")).toBe(false);
});

test("a batch that records again what was there never deadlocks with who judges its members", async () => {
  await insert("pair 1", false);
  const due = await insert("pair 2", true);
  const { rows } = await database.pool.query<{ id: string }>(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select 'pair 1', id, '[]' from app.incentives where key = 'health_data_log' returning id`,
  );
  const judge = await database.pool.connect();
  await judge.query("begin");
  await judge.query("select from app.user_incentives where evaluation_due for update");
  const batch = database.pool.query("select problem from app.record_actions('partner', $1)", [
    JSON.stringify(
      ["pair 1", "pair 2"].map((user_id) => ({
        user_id,
        incentive: "birth_record",
        data: document,
      })),
    ),
  ]);
  batch.catch(() => {});
  await waitUntil("the batch waits for the row that is being judged", async () => {
    const { rowCount } = await database.pool.query(
      "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    return rowCount === 1;
  });
  await judge.query(
    `select app.apply_verdicts($1, '{1,1}', '[{"status": "in_progress", "progress": 0, "explanation": []}]')`,
    [[due, rows[0]!.id]],
  );
  await judge.query("commit");
  judge.release();
  expect((await batch).rows).toEqual([{ problem: null }, { problem: null }]);
});
