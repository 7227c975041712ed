/** The API when its database is away, silent, full or locked: every request is answered in time, and it recovers by itself. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Client } from "pg";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";
import { startTestProcess } from "../test_process.ts";
import type { TestProcess } from "../test_process.ts";
import { startCuttableNetwork } from "./cuttable_network.ts";
import type { CuttableNetwork } from "./cuttable_network.ts";
import { startRestartableServer } from "./restartable_server.ts";

interface Seen {
  status: number;
  retryAfter: string | null;
  tookMs: number;
}

const rewards = { query: "{ userRewards { nodes { id } } }" };

/** Half over REST, half over GraphQL; without answers in memory each one asks the database. */
async function ask(app: TestProcess, i: number): Promise<Seen> {
  const begun = performance.now();
  const { status, headers } = await (i % 2
    ? app.ask("/user/rewards", { user: `member ${i}` })
    : app.ask("/graphql", { user: `member ${i}`, body: rewards }));
  return { status, retryAfter: headers.get("retry-after"), tookMs: performance.now() - begun };
}

/** Eight clients, each asking again as soon as it is answered, until told to stop. */
function keepAsking(app: TestProcess): () => Promise<Seen[]> {
  const seen: Seen[] = [];
  let goesOn = true;
  const clients = Array.from({ length: 8 }, async (_, client) => {
    for (let i = client; goesOn; i += 8) {
      seen.push(await ask(app, i));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  });
  return async () => {
    goesOn = false;
    await Promise.all(clients);
    return seen;
  };
}

function expectAnswered(seen: Seen[], withinMs: number): void {
  const unexpected = seen.filter(
    ({ status, retryAfter }) => status !== 200 && !(status === 503 && retryAfter !== null),
  );
  expect(unexpected).toEqual([]);
  expect(Math.max(...seen.map(({ tookMs }) => tookMs))).toBeLessThan(withinMs);
}

const works = (app: TestProcess) => async () =>
  (await Promise.all([0, 1, 2, 3].map((i) => ask(app, i)))).every(({ status }) => status === 200);
const settings = { ANSWERS_MEMORY_MB: "0" };

describe("PostgreSQL is restarted", () => {
  test.each(["fast", "immediate"] as const)(
    "(%s) under load: requests are answered, with 503 at the worst, and 3 s later everything works",
    async (mode) => {
      const server = await startRestartableServer();
      const url = new URL(server.ownerUrl);
      const app = await startTestProcess(
        { ownerUrl: server.ownerUrl, authenticatorUrl: server.authenticatorUrl } as TestDatabase,
        { settings },
      );
      try {
        const stop = keepAsking(app);
        await new Promise((resolve) => setTimeout(resolve, 500));
        await server.restart(mode);
        const restarted = performance.now();
        await waitUntil("requests are answered again", works(app), 3);
        await waitUntil("it is ready", async () => (await app.ask("/readyz")).status === 200, 10);
        console.log(
          `${mode}: ready ${Math.round(performance.now() - restarted)} ms after the restart of ${url.port}`,
        );
        const seen = await stop();
        expectAnswered(seen, 7000);
        console.log(
          `${seen.length} answers, ${seen.filter(({ status }) => status === 503).length} of them 503`,
        );
      } finally {
        await app.stop();
        await server.drop();
      }
    },
    60_000,
  );
});

describe("the way to PostgreSQL", () => {
  let database: TestDatabase;
  let network: CuttableNetwork;
  let app: TestProcess;
  beforeAll(async () => {
    database = await createTestDatabase();
    network = await startCuttableNetwork(database.authenticatorUrl);
    app = await startTestProcess({ ...database, authenticatorUrl: network.url }, { settings });
  });
  afterAll(async () => {
    await app.stop();
    await network.close();
    await database.drop();
  });

  test("is cut: 503 at once, and it works again when the way does", async () => {
    const stop = keepAsking(app);
    await new Promise((resolve) => setTimeout(resolve, 300));
    network.refuse();
    await new Promise((resolve) => setTimeout(resolve, 2000));
    network.mend();
    await waitUntil("requests are answered again", works(app), 3);
    const seen = await stop();
    expect(seen.some(({ status }) => status === 503)).toBe(true);
    expectAnswered(seen, 6000);
  }, 30_000);

  test("swallows everything: 503 within 15 s, and it works again within 15 s of the way", async () => {
    await waitUntil("it works", works(app));
    network.swallow();
    const stuck = await Promise.all(Array.from({ length: 40 }, (_, i) => ask(app, i)));
    expect(new Set(stuck.map(({ status }) => status))).toEqual(new Set([503]));
    expectAnswered(stuck, 15_000);
    network.mend();
    await waitUntil("requests are answered again", works(app), 15);
    await waitUntil("it is ready", async () => (await app.ask("/readyz")).status === 200, 20);
  }, 60_000);
});

describe("the database is full or locked", () => {
  let app: TestProcess;
  beforeAll(async () => {
    app = await startTestProcess(undefined, { settings });
  });
  afterAll(() => app.drop());

  test("no connection is left: 503, the listening connection keeps its place, and it works when there is one", async () => {
    const { pool } = app.database;
    const {
      rows: [{ name }],
    } = await pool.query("select current_database() as name");
    const killer = new Client({ connectionString: app.database.authenticatorUrl });
    await killer.connect();
    await pool.query(`alter database ${name} connection limit 0`);
    await killer.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'incentives api'",
    );
    await killer.end();
    const refused = await Promise.all(Array.from({ length: 10 }, (_, i) => ask(app, i)));
    expect(new Set(refused.map(({ status }) => status))).toEqual(new Set([503]));
    expectAnswered(refused, 6000);
    expect((await app.ask("/readyz")).body).toMatchObject({ live: true });
    await pool.query(`alter database ${name} connection limit -1`);
    await waitUntil("requests are answered again", works(app), 3);
  }, 30_000);

  test("a lock that nobody lets go: a bounded queue waits, whoever is beyond it gets a 503 at once", async () => {
    const client = await app.database.pool.connect();
    await client.query(
      "begin; lock table app.user_incentives, app.user_rewards in access exclusive mode",
    );
    const seen = await Promise.all(Array.from({ length: 400 }, (_, i) => ask(app, i)));
    await client.query("rollback");
    client.release();
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([503]));
    expectAnswered(seen, 12_000);
    expect((await app.ask("/healthz")).status).toBe(200);
    await waitUntil("requests are answered again", works(app), 3);
  }, 40_000);
});
