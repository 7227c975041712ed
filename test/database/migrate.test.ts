/** An upgrade beside somebody who holds a table's lock. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { migrate } from "../../src/database/migrate.ts";
import { createLogger } from "../../src/logger.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

test("an upgrade does not wait long for a lock, with everybody behind it, but gives way and tries again", async () => {
  const holder = await database.pool.connect();
  await holder.query("begin");
  await holder.query("lock table graphile_migrate.migrations in access exclusive mode");
  const migrated = migrate(database.ownerUrl, createLogger("silent"));
  migrated.catch(() => {});
  const waiting = async (): Promise<boolean> => {
    const { rowCount } = await database.pool.query(
      `select from pg_locks
      where relation = 'graphile_migrate.migrations'::regclass
      and database = (select oid from pg_database where datname = current_database())
      and not granted`,
    );
    return rowCount !== 0;
  };
  await waitUntil("it waits", waiting);
  await waitUntil("it gives way", async () => !(await waiting()));
  await holder.query("commit");
  holder.release();
  await expect(migrated).resolves.toBeUndefined();
});
