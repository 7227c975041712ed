/** A member's read stays as small as the member when others have a backlog, of rows to be judged or of marks. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Client } from "pg";
import { createTestDatabase } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
let owner: Client;
let member: Client;

beforeAll(async () => {
  database = await createTestDatabase();
  owner = new Client({ connectionString: database.ownerUrl });
  member = new Client({ connectionString: database.authenticatorUrl });
  await Promise.all([owner.connect(), member.connect()]);
});
afterAll(async () => {
  await Promise.all([owner.end(), member.end()]);
  await database.drop();
});

/** Rows and index entries that were read, of the tables that say who is live. */
async function read(): Promise<number> {
  await member.query("select pg_stat_force_next_flush()");
  await owner.query("select pg_stat_clear_snapshot()");
  const { rows } = await owner.query<{ count: number }>(`
    select (
      (select coalesce(sum(idx_tup_read), 0) from pg_stat_user_indexes where relid in (tables.due, tables.marks))
      + (select coalesce(sum(seq_tup_read), 0) from pg_stat_user_tables where relid in (tables.due, tables.marks))
    )::int as count
    from (select 'app.user_incentives'::regclass as due, 'cache.stale_users'::regclass as marks) as tables`);
  return rows[0]?.count ?? 0;
}

async function readAsMember(): Promise<number> {
  await member.query("begin; set local role incentives_member");
  await member.query("select set_config('incentives.user_id', 'quiet', true)");
  for (const view of ["user_incentives", "user_rewards", "user_summaries"]) {
    // Prepared, so that the plan is the one that was made when there was no backlog.
    await member.query({ name: view, text: `select * from api.${view}` });
  }
  await member.query("commit");
  return read();
}

test("whatever others have waiting, and however long ago the plan was made", async () => {
  const backlog = 20_000;
  const judged = `
    insert into app.user_incentives (user_id, incentive_id, data, evaluation_due)
    select 'member ' || i, incentives.id, '{}', false from generate_series(1, ${backlog}) as i, app.incentives`;
  await owner.query(judged);
  await owner.query("analyze app.user_incentives");
  await owner.query("vacuum analyze cache.stale_users");
  await readAsMember();

  await owner.query("update app.user_incentives set evaluation_due = true");
  await owner.query("select app.mark_stale(array(select user_id from app.user_incentives))");
  await owner.query("select pg_stat_force_next_flush()");
  const before = await read();
  const after = await readAsMember();
  expect(after - before).toBeLessThan(100);
}, 60_000);
