/** A session's settings end with it, however it ends, although nobody waits for its opening or for a read's commit. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Pool } from "pg";
import { asMember, inSession, readAsMember } from "../../src/api/member_session.ts";
import { openPool } from "../../src/database/pools.ts";
import { createLogger } from "../../src/logger.ts";
import { createTestDatabase } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
let pool: Pool;
const alice = { userId: "alice", role: "member", actsForMembers: false } as const;

beforeAll(async () => {
  database = await createTestDatabase();
  // One connection, so that each session follows the one before on it.
  pool = openPool(database.authenticatorUrl, "test", 1, createLogger("silent"));
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

async function whoAmI(): Promise<unknown> {
  const { rows } = await pool.query(
    `select current_user as role, current_setting('incentives.user_id', true) as id,
      current_setting('transaction_read_only') as read_only, pg_backend_pid() as pid`,
  );
  return rows[0];
}

test("after a session, a read, a refusal and a failure the connection is nobody's", async () => {
  const before = (await whoAmI()) as { pid: number };
  const isNobody = async () => {
    const now = (await whoAmI()) as Record<string, unknown>;
    expect(now).toMatchObject({
      role: "incentives_authenticator",
      read_only: "off",
      pid: before.pid,
    });
    expect(now.id ?? "").toBe("");
  };
  const { rows } = await asMember(pool, alice, (client) =>
    client.query("select current_user as role, current_setting('incentives.user_id') as id"),
  );
  expect(rows).toEqual([{ role: "incentives_member", id: "alice" }]);
  await isNobody();

  await readAsMember(pool, alice, (client) => client.query("select 1"));
  await isNobody();

  const refused = { ...alice, userId: "a\0b" };
  const ran = asMember(pool, refused, (client) => client.query("select current_user as role"));
  await expect(ran).rejects.toThrow(/invalid byte sequence/);
  await isNobody();

  const failed = asMember(pool, alice, async (client) => {
    await client.query("select 1");
    throw new Error("of its own");
  });
  await expect(failed).rejects.toThrow("of its own");
  await isNobody();

  const failedAtOnce = asMember(pool, alice, () => {
    throw new Error("at once");
  });
  await expect(failedAtOnce).rejects.toThrow("at once");
  await isNobody();
});

test("what is sent along with settings that are refused does not run", async () => {
  const settings = { "incentives.user_id": "alice", role: "incentives_owner" };
  let queries = 0;
  const ran = inSession(pool, settings, async (client) => {
    queries += 1;
    return client.query("select * from api.record_incentive('birth_record', '{}')");
  });
  await expect(ran).rejects.toThrow(/permission denied to set role/);
  expect(queries).toBe(1);
  const { rows } = await database.pool.query("select from app.user_incentives");
  expect(rows).toEqual([]);
});

test("who only reads can write nothing", async () => {
  const write = readAsMember(pool, alice, (client) =>
    client.query("select * from api.record_incentive('birth_record', '{}')"),
  );
  await expect(write).rejects.toThrow(/read-only transaction/);
});
