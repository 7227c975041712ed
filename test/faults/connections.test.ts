/** PostgreSQL restarted under load, and connections that are ended again and again: nobody touches anything, and work goes on. */
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { EventEmitter } from "node:events";
import { run } from "graphile-worker";
import type { Runner, WorkerEvents } from "graphile-worker";
import { Pool } from "pg";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import { inventActions, record } from "./actions.ts";
import type { Model } from "./actions.ts";
import { checkAtRest, waitForRest } from "./oracle.ts";
import { startRestartableServer } from "./restartable_server.ts";
import type { RestartableServer } from "./restartable_server.ts";
import { isLong, throwDice } from "./seed.ts";
import { WorkerProcess } from "./worker_process.ts";

const dice = throwDice("lost connections");
let model: Model;
let heard: Set<string>;
let worker: WorkerProcess | undefined;
let writing: boolean;
let load: Promise<unknown>;

beforeEach(() => {
  model = new Map();
  heard = new Set();
});

/** Members who go on recording until told to stop. */
function writeUntilTold(pool: Pool): void {
  writing = true;
  const member = async (): Promise<void> => {
    while (writing) {
      await record(pool, model, inventActions(dice, dice.between(1, 20)));
      await new Promise((resolve) => setTimeout(resolve, dice.between(0, 60)));
    }
  };
  load = Promise.all(Array.from({ length: 4 }, member));
}

async function stopWriting(): Promise<void> {
  writing = false;
  await load;
}

async function isJudged(pool: Pool, user: string): Promise<boolean> {
  const { rows } = await pool
    .query<{ due: boolean }>(
      "select evaluation_due as due from app.user_incentives where user_id = $1",
      [user],
    )
    .catch(() => ({ rows: [] }));
  return rows[0]?.due === false;
}

/** How long after now a fresh action is judged, in milliseconds. */
async function timeToJudge(pool: Pool, seconds: number): Promise<number> {
  const since = Date.now();
  const [action] = inventActions(dice, 1);
  await record(pool, model, [action!]);
  await waitUntil("a fresh action is judged", () => isJudged(pool, action!.user), seconds);
  return Date.now() - since;
}

describe("PostgreSQL restarted three times under load", () => {
  let server: RestartableServer;
  beforeEach(async () => {
    server = await startRestartableServer();
  }, 60_000);
  afterEach(async () => {
    await stopWriting();
    await worker?.stop();
    await server.drop();
  }, 60_000);

  test("takes three seconds at the most from a worker that nobody touches, and loses and doubles nothing", async () => {
    worker = await WorkerProcess.start(server.ownerUrl, heard);
    writeUntilTold(server.pool);
    const took: number[] = [];
    for (const mode of ["fast", "immediate", dice.oneOf(["fast", "immediate"] as const)] as const) {
      await new Promise((resolve) => setTimeout(resolve, dice.between(300, 1000)));
      await server.restart(mode);
      took.push(await timeToJudge(server.pool, 20));
    }
    console.log(`judging again ${took.join(", ")} ms after PostgreSQL was back`);
    expect(Math.max(...took)).toBeLessThan(3000);
    await stopWriting();
    await waitForRest(server.pool, 20);
    await worker.stop();
    await checkAtRest(server.pool, { model, heard });
  }, 90_000);

  test("ends the library's own runner for good when nobody supervises it", async () => {
    const pool = new Pool({ connectionString: server.ownerUrl });
    pool.on("error", () => {});
    pool.on("connect", (client) => client.on("error", () => {}));
    const events: WorkerEvents = new EventEmitter();
    const begun = new Promise((resolve) => events.once("job:start", resolve));
    let runner: Runner | undefined;
    try {
      runner = await run({
        pgPool: pool,
        events,
        noHandleSignals: true,
        pollInterval: 500,
        preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
        taskList: {
          evaluate_incentives: () => pool.query("select pg_sleep(0.3)").then(() => {}),
        },
      });
      runner.promise.catch(() => {});
      await record(server.pool, model, inventActions(dice, 1));
      await begun;
      await server.restart("immediate");
      await server.pool.query("select app.ring_bell()");
      const ended = await Promise.race([
        runner.promise.then(
          () => true,
          () => true,
        ),
        new Promise((resolve) => setTimeout(() => resolve(false), 5000)),
      ]);
      const { rows } = await server.pool.query<{ waits: boolean }>(
        "select app.bell_is_waiting() or exists (select from graphile_worker.jobs where locked_at is not null) as waits",
      );
      expect({ ended, waits: rows[0]?.waits }).toEqual({ ended: true, waits: true });
    } finally {
      await runner?.stop().catch(() => {});
      await pool.end();
    }
  }, 60_000);
});

test("connections that are all ended several times a second cost time only", async () => {
  const database = await createTestDatabase();
  try {
    worker = await WorkerProcess.start(database.ownerUrl, heard);
    database.pool.on("connect", (client) => client.on("error", () => {}));
    writeUntilTold(database.pool);
    const until = Date.now() + (isLong ? 30_000 : 5000);
    const hangman = new Pool({ connectionString: process.env.TEST_SUPERUSER_URL!, max: 1 });
    for (let times = 0; Date.now() < until; times++) {
      await hangman.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where datname = $1 and pid <> pg_backend_pid()`,
        [new URL(database.ownerUrl).pathname.slice(1)],
      );
      await new Promise((resolve) => setTimeout(resolve, dice.between(100, 300)));
    }
    await hangman.end();
    console.log(`judging again after ${await timeToJudge(database.pool, 20)} ms`);
    await stopWriting();
    const since = Date.now();
    await waitForRest(database.pool, 30);
    console.log(`at rest after ${Date.now() - since} ms more, with ${model.size} actions`);
    await worker.stop();
    await checkAtRest(database.pool, { model, heard });
  } finally {
    await stopWriting();
    await worker?.stop();
    await database.drop();
  }
}, 120_000);
