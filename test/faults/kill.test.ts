/** Workers that are killed, told to stop, or stopped and woken again, in the middle of their work. */
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { createTestDatabase } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";
import { inventActions, record } from "./actions.ts";
import type { Model } from "./actions.ts";
import { checkAtRest, waitForRest } from "./oracle.ts";
import { isLong, throwDice } from "./seed.ts";
import { WorkerProcess } from "./worker_process.ts";

let database: TestDatabase;
let model: Model;
let heard: Set<string>;
let workers: WorkerProcess[];

beforeEach(async () => {
  database = await createTestDatabase();
  model = new Map();
  heard = new Set();
  workers = [];
});

afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.stop()));
  await database.drop();
});

const dice = throwDice("killed workers");

async function startWorker(): Promise<WorkerProcess> {
  const worker = await WorkerProcess.start(database.ownerUrl, heard);
  workers.push(worker);
  return worker;
}

async function judged(): Promise<number> {
  const { rows } = await database.pool.query<{ count: number }>(
    "select count(*)::int as count from app.user_incentives where not evaluation_due",
  );
  return rows[0]?.count ?? 0;
}

/** The longest time, in milliseconds, in which nothing was judged or delivered; fails when that is more than ten seconds. */
async function longestPause(seconds = 60): Promise<number> {
  let last = -1;
  let progressAt = Date.now();
  let longest = 0;
  await waitForRest(database.pool, seconds, async () => {
    const now = (await judged()) + heard.size;
    if (now !== last) progressAt = Date.now();
    last = now;
    longest = Math.max(longest, Date.now() - progressAt);
    if (longest > 10_000) throw new Error("nothing went on for ten seconds");
  });
  return longest;
}

async function finish(): Promise<void> {
  await Promise.all(workers.map((worker) => worker.stop()));
  await checkAtRest(database.pool, { model, heard });
}

describe("killed", () => {
  test(
    "at random moments in the middle of a backlog, workers leave everything to be done once by the others",
    async () => {
      await record(database.pool, model, inventActions(dice, isLong ? 100_000 : 20_000));
      await startWorker();
      await startWorker();
      const longest: number[] = [];
      for (let kill = 0; kill < (isLong ? 15 : 2); kill++) {
        await record(database.pool, model, inventActions(dice, 1000));
        await new Promise((resolve) => setTimeout(resolve, dice.between(1, 400)));
        const [victim] = workers.splice(dice.between(0, workers.length - 1), 1);
        // In the middle of its work, or on its way out.
        if (dice.between(0, 2) === 0) {
          victim!.signal("SIGTERM");
          await new Promise((resolve) => setTimeout(resolve, dice.between(1, 30)));
        }
        victim!.signal("SIGKILL");
        await record(database.pool, model, inventActions(dice, 1000));
        if (kill % 2 === 0) longest.push(await longestPause());
        await startWorker();
      }
      longest.push(await longestPause());
      console.log(`longest pauses after a kill: ${longest.join(", ")} ms`);
      await finish();
    },
    isLong ? 300_000 : 60_000,
  );

  test.each([
    ["a second event is refused", false],
    ["a second event is found by the oracle where nothing refuses it", true],
  ])("%s", async (_what, naive) => {
    if (naive) await forgetThatEventsAreUnique();
    await record(database.pool, model, [
      { user: "twice", incentive: "birth_record", data: {}, completes: true },
    ]);
    for (const status of ["completed", "in_progress", "completed"]) {
      await database.pool.query(
        "update app.user_incentives set status = $1, evaluation_due = false",
        [status],
      );
    }
    await startWorker();
    await longestPause();
    if (naive) await expect(finish()).rejects.toThrow("completed without exactly one event: 1");
    else await finish();
  });

  async function forgetThatEventsAreUnique(): Promise<void> {
    const { rows } = await database.pool.query<{ definition: string }>(
      "select pg_get_functiondef('app.record_completions'::regproc) as definition",
    );
    const once = /where not exists \(\s+select from app\.incentive_events[^]*?= completed\.id\s+\)/;
    expect(rows[0]!.definition).toMatch(once);
    await database.pool.query(rows[0]!.definition.replace(once, ""));
    await database.pool.query(
      "alter table app.incentive_events drop constraint an_incentive_is_completed_once",
    );
  }
});

describe("told to stop under load", () => {
  test.each([1, 2])(
    "a worker ends in order within five seconds, however often it is told (%i)",
    async (times) => {
      await startWorker();
      const load = record(database.pool, model, inventActions(dice, isLong ? 50_000 : 4000));
      await new Promise((resolve) => setTimeout(resolve, dice.between(50, 400)));
      const [told] = workers;
      const since = Date.now();
      for (let time = 0; time < times; time++) {
        told!.signal("SIGTERM");
        await new Promise((resolve) => setTimeout(resolve, dice.between(1, 50)));
      }
      expect(await told!.ended).toEqual({ code: 0, signal: null });
      const took = Date.now() - since;
      expect(took).toBeLessThan(5000);
      const locked = await database.pool.query(
        "select from graphile_worker.jobs where locked_at is not null",
      );
      expect(locked.rowCount).toBe(0);
      await load;
      workers = [];
      await startWorker();
      await longestPause();
      await finish();
    },
    60_000,
  );
});

describe("stopped until it is taken for dead", () => {
  test("a worker's work is done by another; woken, it changes nothing and works again", async () => {
    const stopped = await startWorker();
    const other = await startWorker();
    const before = inventActions(dice, isLong ? 50_000 : 4000);
    const load = record(database.pool, model, before);
    await new Promise((resolve) => setTimeout(resolve, dice.between(50, 500)));
    stopped.signal("SIGSTOP");
    const since = Date.now();
    await load;
    await waitForRest(database.pool, 30);
    console.log(`at rest ${Date.now() - since} ms after it was stopped`);

    await other.stop();
    stopped.signal("SIGCONT");
    await record(database.pool, model, inventActions(dice, 100));
    await longestPause();
    await finish();
  }, 90_000);

  test("a verdict on what was read before is found by the oracle where nobody locks what they judge", async () => {
    const [late] = inventActions(dice, 1);
    await record(database.pool, model, [{ ...late!, completes: false }]);
    // What a worker without a claim would write when it wakes: its data has been replaced, and judged, meanwhile.
    await startWorker();
    await database.pool.query("update app.user_incentives set data = '{}'");
    await longestPause();
    await database.pool.query(
      `select app.apply_verdicts(array_agg(id), array_agg(1), '[{"status": "completed", "progress": 1, "explanation": []}]')
      from app.user_incentives`,
    );
    await longestPause();
    await expect(finish()).rejects.toThrow("completed without reason: 1");
  });
});
