/** The wait for those who answer from memory: as long as they take, and never longer than a moment for one that is silent. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { Client } from "pg";
import type { Pool } from "pg";
import { openPool } from "../../src/database/pools.ts";
import { createLogger } from "../../src/logger.ts";
import { announceJudging } from "../../src/worker/announce_judging.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
let pool: Pool;
let stopping: AbortController;
let announce: () => Promise<void>;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());
beforeEach(async () => {
  pool = openPool(database.ownerUrl, "announces", 2, createLogger("silent"));
  stopping = new AbortController();
  const { rows } = await database.pool.query<{ id: string }>(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select 'member ' || random(), id, '{}' from app.incentives where key = 'birth_record' returning id`,
  );
  const told = announceJudging(pool, createLogger("silent"), stopping.signal);
  announce = () => told([rows[0]!.id]);
  await announce();
});
afterEach(async () => {
  stopping.abort();
  await pool.end();
});

/** A session that listens as an API process does. It says that it has heard, if and when `answer` does. */
async function listen(answer: (say: () => void) => void): Promise<Client> {
  const client = new Client({
    connectionString: database.authenticatorUrl,
    application_name: "incentives live",
  });
  await client.connect();
  client.on("notification", ({ payload = "" }) => {
    const token = /^~(\S+) /.exec(payload)?.[1];
    const say = "select pg_notify('members_heard', $1)";
    // It may have left by then.
    answer(() => void client.query(say, [token]).catch(() => {}));
  });
  await client.query("listen member_changed");
  return client;
}

/** Who has just come is told within half a second. */
const waitUntilTold = () => waitUntil("it is told", async () => (await tookMs()) > 19, 3);

async function tookMs(): Promise<number> {
  const started = performance.now();
  await announce();
  return performance.now() - started;
}

test("it waits until each process has heard", async () => {
  const prompt = await listen((say) => say());
  const late = await listen((say) => {
    setTimeout(say, 20);
  });
  await waitUntilTold();
  expect(await tookMs()).toBeGreaterThan(19);
  await late.end();
  await waitUntil("nobody waits for who has left", async () => (await tookMs()) < 19, 3);
  await prompt.end();
});

test("it waits once for a process that is silent, and again when that one is back", async () => {
  let isSilent = true;
  const client = await listen((say) => {
    if (!isSilent) setTimeout(say, 20);
  });
  await waitUntil("it is waited for", async () => (await tookMs()) > 990, 10);
  expect(await tookMs()).toBeLessThan(200);
  isSilent = false;
  await announce();
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(await tookMs()).toBeGreaterThan(19);
  await client.end();
});

test("a connection that is lost fails nothing, and is made anew", async () => {
  const client = await listen((say) => {
    setTimeout(say, 20);
  });
  await waitUntilTold();
  await database.pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'incentives announces'`,
  );
  await waitUntilTold();
  expect(await tookMs()).toBeGreaterThan(19);
  await client.end();
});

test("it gives its connection back when the process is stopping, and tells nobody any more", async () => {
  stopping.abort();
  expect(await tookMs()).toBeLessThan(200);
  await waitUntil("it is given back", async () => pool.totalCount === pool.idleCount, 3);
});
