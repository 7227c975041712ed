/** The supervised worker on a real database: what it keeps of an error, and that it notices when it does nothing. */
import { Writable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import type { Task, TaskList } from "graphile-worker";
import { pino } from "pino";
import { startRunner } from "../../src/worker/runner.ts";
import type { SupervisedRunner } from "../../src/worker/runner.ts";
import { withSafeErrors } from "../../src/worker/safe_tasks.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
let runner: SupervisedRunner | undefined;
let logged: string;

beforeEach(async () => {
  database = await createTestDatabase();
  logged = "";
});
afterEach(async () => {
  await runner?.stop();
  await database.drop();
});

async function startWith(tasks: TaskList): Promise<SupervisedRunner> {
  const log = new Writable({
    write(chunk: Buffer, _encoding, done) {
      logged += chunk.toString();
      done();
    },
  });
  runner = await startRunner({
    databaseUrl: database.ownerUrl,
    tasks: () => withSafeErrors(tasks),
    schedule: [],
    logger: pino({ level: "trace" }, log),
    concurrency: 2,
  });
  return runner;
}

async function addJob(payload: unknown = {}): Promise<void> {
  await database.pool.query("select graphile_worker.add_job('evaluate_incentive', $1::json)", [
    JSON.stringify(payload),
  ]);
}

async function lastError(): Promise<string | undefined> {
  let found: string | undefined;
  await waitUntil("it has failed", async () => {
    const { rows } = await database.pool.query<{ last_error: string | null }>(
      "select last_error from graphile_worker.jobs where locked_at is null",
    );
    found = rows[0]?.last_error ?? undefined;
    return found !== undefined;
  });
  return found;
}

class MySecretError extends Error {
  override name = "my secret";
}

describe("of an error neither the job nor the log keeps what a member recorded:", () => {
  const failures: Record<string, [Task, unknown, string]> = {
    "PostgreSQL repeats a value": [
      () => database.pool.query("select 'my secret'::integer").then(() => {}),
      {},
      "error 22P02",
    ],
    "an evaluator says it": [() => Promise.reject(new TypeError("my secret")), {}, "TypeError"],
    "an error is named so": [() => Promise.reject(new MySecretError("my secret")), {}, "Error"],
    "something else is thrown": [() => Promise.reject("my secret" as never), {}, "string"],
    "entries of a batch fail": [
      () => [Promise.reject(new Error("my secret")), Promise.resolve()],
      [{ id: 1 }, { id: 2 }],
      "Batch failures:\nError",
    ],
  };
  test.each(Object.entries(failures))("%s", async (_how, [task, payload, kept]) => {
    await startWith({ evaluate_incentive: task });
    await addJob(payload);
    expect(await lastError()).toBe(kept);
    await runner?.stop();
    expect(logged).toContain("Failed task");
    expect(logged).not.toContain("my secret");
  });
});

test("a job that lost its connection goes on within three seconds, whatever the library's pause", async () => {
  let calls = 0;
  await startWith({
    evaluate_incentive: async () => {
      calls += 1;
      if (calls > 3) return;
      const client = await database.pool.connect();
      client.on("error", () => {});
      await client
        .query("select pg_terminate_backend(pg_backend_pid())")
        .finally(() => client.release(true));
    },
  });
  await addJob();
  expect(await lastError()).toBe("connection lost: error 57P01");
  // The library alone would wait for 2.7, 7.4 and 20 seconds.
  await waitUntil("it was done", async () => calls > 3, 12);
});

test("a run that looks alive but takes no jobs is noticed within twelve seconds, and replaced", async () => {
  let done = 0;
  await startWith({ evaluate_incentive: async () => void (done += 1) });
  await database.pool.query(
    "select graphile_worker.add_job('evaluate_incentive', '{}'::json, run_at => now() + interval '1 second')",
  );
  const blocker = await database.pool.connect();
  try {
    // Jobs can be seen, but not taken.
    await blocker.query("begin; lock table graphile_worker._private_jobs in exclusive mode");
    await waitUntil("it is noticed", async () => logged.includes("none is taken"), 13);
    expect(done).toBe(0);
  } finally {
    await blocker.query("rollback");
    blocker.release();
  }
  await waitUntil("the job is done", async () => done === 1);
});

test("told to begin anew, it lets the job in hand finish and leaves none locked", async () => {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  let begun = 0;
  await startWith({
    evaluate_incentive: async () => {
      begun += 1;
      await released;
    },
  });
  await addJob();
  await waitUntil("the job is in hand", async () => begun === 1);
  runner?.restart("a test");
  await waitUntil(
    "another run has begun",
    async () => logged.includes("starting it again") && runner!.isRunning(),
  );
  release();
  await waitUntil("the job is gone", async () => {
    const { rowCount } = await database.pool.query("select from graphile_worker.jobs");
    return rowCount === 0;
  });
  expect(begun).toBe(1);
});

test("a queue goes on when two runs did the same job of it, because the first was taken for dead", async () => {
  const inHand: (() => void)[] = [];
  let done = 0;
  await startWith({
    deliver_events: async () => {
      if (inHand.length < 2) await new Promise<void>((release) => inHand.push(release));
      done += 1;
    },
  });
  const addToQueue = () =>
    database.pool.query(
      "select graphile_worker.add_job('deliver_events', queue_name => 'deliver_to_somebody')",
    );
  await addToQueue();
  await waitUntil("the job is in hand", async () => inHand.length === 1);
  await database.pool.query(`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'incentives liveness'`);
  await waitUntil("the job is in another's hand too", async () => inHand.length === 2);
  inHand[0]!();
  await waitUntil("the first has deleted the job", async () => {
    const { rowCount } = await database.pool.query("select from graphile_worker.jobs");
    return rowCount === 0;
  });
  inHand[1]!();
  await waitUntil("the second has ended too", async () => done === 2);
  await addToQueue();
  await waitUntil("the next job is done", async () => done === 3, 6);
});
