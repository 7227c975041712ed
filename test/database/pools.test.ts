/** What a connection of the process is set to, whatever the server, the database or the role says. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Pool } from "pg";
import { openPool } from "../../src/database/pools.ts";
import { createLogger } from "../../src/logger.ts";
import { createTestDatabase } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
let pool: Pool;

beforeAll(async () => {
  database = await createTestDatabase();
  await database.pool.query(`do $$
  begin
    execute format('alter database %I set timezone = %L', current_database(), 'Asia/Tokyo');
    execute format('alter database %I set jit = on', current_database());
  end $$`);
  pool = openPool(database.ownerUrl, "test", 1, createLogger("silent"));
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

test("times are UTC, no query is compiled, and a forgotten transaction is ended", async () => {
  const { rows } = await pool.query(
    `select current_setting('timezone') as timezone, current_setting('jit') as jit,
      current_setting('idle_in_transaction_session_timeout') as idle`,
  );
  expect(rows).toEqual([{ timezone: "UTC", jit: "off", idle: "10s" }]);
});
