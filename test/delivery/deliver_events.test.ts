/** Every active listener is told of every completion, whatever it does with it, and whoever commits last. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { PoolClient } from "pg";
import { Backlog } from "../../src/backlog.ts";
import { deliverEvents, deliveryDefaults } from "../../src/delivery/deliver_events.ts";
import type { EventDeliveryOptions } from "../../src/delivery/deliver_events.ts";
import { deliverIncentiveCompleted } from "../../src/delivery/deliver_incentive_completed.ts";
import type {
  IncentiveCompleted,
  IncentiveCompletedListener,
} from "../../src/delivery/listener.ts";
import { Turns } from "../../src/delivery/turns.ts";
import { createLogger } from "../../src/logger.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

const name = "log_completion";

let database: TestDatabase;
let heard: IncentiveCompleted[];
/** What the listener does with an event. */
let handle: IncentiveCompletedListener["handle"];
let options: EventDeliveryOptions;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());
beforeEach(() => {
  heard = [];
  handle = async (event) => void heard.push(event);
  options = {
    ...deliveryDefaults,
    registry: new Map([[name, { name, handle: (event, helpers) => handle(event, helpers) }]]),
    pool: database.pool,
    logger: createLogger("silent"),
    stopping: new AbortController().signal,
    outOfTime: new AbortController().signal,
    gatherMs: 1,
    turns: new Turns(2),
    backlog: new Backlog(),
  };
});
afterEach(async () => {
  await database.pool.query("delete from app.undelivered_events");
  await database.pool.query("update app.incentive_listeners set is_active = true");
  await takeJobs();
});

/** Completes an incentive of so many members, each of whom wins its reward. */
async function complete(
  client: Pick<PoolClient, "query">,
  member: string,
  members = 1,
): Promise<void> {
  await client.query(
    `insert into app.user_incentives (user_id, incentive_id, data, status, completed_at, evaluation_due)
    select $1 || ' ' || n, id, '{}', 'in_progress', null, false
    from app.incentives, generate_series(1, $2::int) as n
    where key = 'birth_record'`,
    [member, members],
  );
  await client.query(
    `select app.apply_verdicts(array_agg(id), array_agg(1), '[{"status": "completed", "progress": 1, "explanation": []}]')
    from app.user_incentives where user_id like $1 || ' %'`,
    [member],
  );
}

const run = (changed: Partial<EventDeliveryOptions> = {}) =>
  deliverEvents({ ...options, ...changed })({ listener: name }, undefined as never);

interface Job {
  task: string;
  payload: unknown;
}
/** The jobs there are, which are taken away. */
async function takeJobs(): Promise<Job[]> {
  const { rows } = await database.pool.query<Job>(`
    select task_identifier as task, payload
    from graphile_worker.jobs join graphile_worker._private_jobs as private using (id)
    order by id`);
  await database.pool.query(
    "select graphile_worker.complete_jobs(array(select id from graphile_worker.jobs))",
  );
  return rows;
}

async function countUndelivered(): Promise<number> {
  const { rows } = await database.pool.query<{ count: number }>(
    "select coalesce(sum(cardinality(event_ids)), 0)::int as count from app.undelivered_events",
  );
  return rows[0]!.count;
}

test("a listener is told of each event once, with what was won, page by page, and nothing stays behind", async () => {
  await complete(database.pool, "one");
  await complete(database.pool, "many", 7000);
  expect(await takeJobs()).toEqual([{ task: "deliver_events", payload: { listener: name } }]);
  expect(await countUndelivered()).toBe(7001);
  await run();
  const members = heard.map(({ userId }) => userId);
  expect(new Set(members).size).toBe(7001);
  expect(members.length).toBe(7001);
  expect(heard.find(({ userId }) => userId === "one 1")).toEqual({
    id: expect.stringMatching(/^\d+$/),
    userIncentiveId: expect.stringMatching(/^\d+$/),
    userId: "one 1",
    incentive: "birth_record",
    occurredAt: expect.any(Date),
    rewards: [
      {
        key: expect.any(String),
        kind: expect.any(String),
        amount: expect.stringMatching(/^\d+\.\d\d$/),
        unit: expect.any(String),
      },
    ],
  });
  const [first] = heard;
  expect(Math.abs(Date.now() - first!.occurredAt.getTime())).toBeLessThan(60_000);
  expect(await countUndelivered()).toBe(0);
  expect(await takeJobs()).toEqual([]);
});

test("while a backlog of due rows is worked off, a listener is told a page now and then", async () => {
  const backlog = Promise.withResolvers<void>();
  const ended = options.backlog.during(backlog.promise);
  const paused = deliverEvents({ ...options, pauseInBacklogMs: 200 });
  const told = () => Promise.resolve(paused({ listener: name }, undefined as never));
  await complete(database.pool, "page", 4000);
  await told();
  expect(heard.length).toBe(3000);
  await told();
  expect(heard.length).toBe(3000);
  // Whoever was put off has a job that looks again.
  expect((await takeJobs()).map(({ task }) => task)).toContain("deliver_events");
  await sleep(250);
  await told();
  expect(heard.length).toBe(4000);

  await complete(database.pool, "when it is over");
  backlog.resolve();
  await ended;
  await told();
  expect(heard.length).toBe(4001);
});

test("only the events of a page are looked at, also by a connection that first looked when there were none", async () => {
  const fresh = await createTestDatabase();
  const client = await fresh.pool.connect();
  try {
    const read =
      "select app.read_completions(array(select id from app.incentive_events order by id limit 10))";
    await client.query("vacuum analyze app.incentive_events");
    await client.query(read);
    await complete(client, "member", 3000);
    await client.query("begin");
    await client.query(read);
    const { rows } = await client.query<{ fetched: number }>(
      "select idx_tup_fetch::int as fetched from pg_stat_xact_user_tables where relname = 'incentive_events'",
    );
    await client.query("rollback");
    expect(rows[0]!.fetched).toBeLessThanOrEqual(30);
  } finally {
    client.release();
    await fresh.drop();
  }
});

describe("a listener that fails on some events", () => {
  test.each<[string, (signal: AbortSignal) => Promise<void>]>([
    ["throws", () => Promise.reject(new RangeError("of what was recorded"))],
    ["never settles", () => new Promise(() => {})],
    ["ends when it is told to", (signal) => sleep(60_000, undefined, { signal })],
  ])("is told of these again by a job that carries only them, when it %s", async (_does, fail) => {
    handle = async (event, { signal }) => {
      if (/ [37]$/.test(event.userId)) await fail(signal);
      heard.push(event);
    };
    await complete(database.pool, `failing ${_does}`, 9);
    await takeJobs();
    await run({ timeoutMs: 100 });
    expect(heard.length).toBe(7);
    expect(await countUndelivered()).toBe(0);
    const [job, ...others] = await takeJobs();
    expect(others).toEqual([]);
    expect(job).toEqual({
      task: "deliver_incentive_completed",
      payload: [
        { listener: name, event_id: expect.any(String) },
        { listener: name, event_id: expect.any(String) },
      ],
    });

    handle = async (event) => {
      heard.push(event);
      if (event.userId.endsWith(" 7")) throw new RangeError("still");
    };
    const answers = await deliverIncentiveCompleted(options)(
      job!.payload as never,
      undefined as never,
    );
    const outcomes = await Promise.allSettled(answers as Promise<void>[]);
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    expect(new Set(heard.map(({ userId }) => userId)).size).toBe(9);
  });

  test("is not told of anything more when time is over, and of that by another job", async () => {
    const outOfTime = new AbortController();
    handle = async (event) => {
      if (heard.push(event) === 10) outOfTime.abort();
    };
    await complete(database.pool, "out of time", 100);
    await takeJobs();
    await run({ outOfTime: outOfTime.signal, stopping: outOfTime.signal, atOnce: 1 });
    expect(heard.length).toBe(10);
    const [job] = await takeJobs();
    expect((job!.payload as unknown[]).length).toBeGreaterThanOrEqual(90);
  });
});

describe("a listener that takes its time", () => {
  beforeEach(async () => {
    await complete(database.pool, `slow ${expect.getState().currentTestName}`, 50);
    await takeJobs();
    handle = async (event) => {
      await sleep(50);
      heard.push(event);
    };
  });
  const slowly = { atOnce: 2, beginForMs: 120 };
  const goOn = async (): Promise<void> => {
    handle = async (event) => void heard.push(event);
    expect(await takeJobs()).toEqual([{ task: "deliver_events", payload: { listener: name } }]);
    await run();
    expect(new Set(heard.map(({ userId }) => userId)).size).toBe(50);
    expect(heard.length).toBe(50);
    expect(await countUndelivered()).toBe(0);
  };

  test("is left after a while, and told of the rest later", async () => {
    await run(slowly);
    expect(heard.length).toBeGreaterThanOrEqual(4);
    expect(await countUndelivered()).toBe(50 - heard.length);
    await goOn();
  });

  test("is left after a while when it is told again of what it failed on, too", async () => {
    const slow = handle;
    handle = () => Promise.reject(new RangeError("no"));
    await run();
    const [job] = await takeJobs();
    handle = slow;
    const again = deliverIncentiveCompleted({ ...options, ...slowly });
    const answers = await again(job!.payload as never, undefined as never);
    await Promise.all(answers as Promise<void>[]);
    expect(heard.length).toBeGreaterThanOrEqual(4);
    expect(await countUndelivered()).toBe(50 - heard.length);
    await goOn();
  });

  test("finds no turn when as many others as may are taking theirs", async () => {
    const turns = new Turns(2);
    for (const other of ["one", "another"]) turns.take(other);
    await run({ turns });
    expect(heard).toEqual([]);
    turns.giveBack("one", false);
    await goOn();
  });
});

test("who took their time leaves the last turn to who did not, until they are quick again", () => {
  const turns = new Turns(2);
  expect(turns.take("slow")).toBe(true);
  turns.giveBack("slow", true);
  expect(turns.take("one")).toBe(true);
  expect(turns.take("slow")).toBe(false);
  expect(turns.take("another")).toBe(true);
  turns.giveBack("one", false);
  turns.giveBack("another", false);
  expect(turns.take("slow")).toBe(true);
  turns.giveBack("slow", false);
  expect(turns.take("one")).toBe(true);
  expect(turns.take("slow")).toBe(true);
});

test("who was switched off meanwhile is not told; without an adapter the events wait in a job", async () => {
  await complete(database.pool, "switched off");
  await database.pool.query("update app.incentive_listeners set is_active = false");
  await run();
  expect(heard).toEqual([]);
  expect(await countUndelivered()).toBe(0);
  await takeJobs();

  await complete(database.pool, "nobody is active");
  expect(await countUndelivered()).toBe(0);
  expect(await takeJobs()).toEqual([]);

  await database.pool.query("update app.incentive_listeners set is_active = true");
  await complete(database.pool, "no adapter");
  await takeJobs();
  await run({ registry: new Map() });
  expect(await takeJobs()).toEqual([
    expect.objectContaining({ task: "deliver_incentive_completed" }),
  ]);
});

describe("a completion adds a job only when none is waiting", () => {
  test("and one that waits is relied on by a transaction that commits after its run began to look", async () => {
    const late = await database.pool.connect();
    await complete(database.pool, "early");
    await late.query("begin");
    await complete(late, "late");
    expect(await takeJobs()).toHaveLength(1); // Taken, and begun.
    let isOver = false;
    const running = Promise.resolve(run()).then(() => (isOver = true));
    await waitUntil("the early one is told", async () => heard.length === 1);
    await sleep(100);
    expect(isOver).toBe(false);
    await late.query("commit");
    late.release();
    await running;
    expect(heard.map(({ userId }) => userId)).toEqual(["early 1", "late 1"]);
    expect(await takeJobs()).toEqual([]);
  });

  test("and comes back when such a transaction stays open for longer than it waits", async () => {
    const late = await database.pool.connect();
    await late.query("begin");
    await complete(late, "much later");
    await run({ waitAtMostMs: 50 });
    expect(await takeJobs()).toEqual([{ task: "deliver_events", payload: { listener: name } }]);
    await late.query("rollback");
    late.release();
  });

  test("except under a stricter isolation level, whose look would be at an old snapshot", async () => {
    await complete(database.pool, "first");
    await complete(database.pool, "relies on that job");
    const strict = await database.pool.connect();
    await strict.query("begin isolation level repeatable read");
    await complete(strict, "relies on nobody");
    await strict.query("commit");
    strict.release();
    expect(await takeJobs()).toHaveLength(2);
  });

  test("and a run that is told to stop, or has gone on for long enough, leaves a job for the rest", async () => {
    await complete(database.pool, "rest", 3500);
    await complete(database.pool, "rest too", 3500);
    await takeJobs();
    await run({ stopping: AbortSignal.abort() });
    expect(await takeJobs()).toHaveLength(1);
    await run({ runAtMostMs: 0 });
    expect(heard.length).toBe(3000 + 500 + 3000);
    expect(await takeJobs()).toHaveLength(1);
    await run();
    expect(heard.length).toBe(7000);
  });

  test("and the sweep adds one for what nobody will look at", async () => {
    await complete(database.pool, "forgotten");
    await takeJobs();
    await database.pool.query("select app.sweep(array['deliver_events'], false)");
    await database.pool.query("select app.sweep(array['deliver_events'], false)");
    expect(await takeJobs()).toEqual([{ task: "deliver_events", payload: { listener: name } }]);
  });
});
