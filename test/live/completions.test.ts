/** What a client is told: each of its member's events once, in order, whatever order they were committed in. */
import { EventEmitter } from "node:events";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { Pool } from "pg";
import type { PoolClient } from "pg";
import { Completions } from "../../src/live/completions.ts";
import type { Feed } from "../../src/live/feed.ts";
import type { Heard } from "../../src/live/subscriber.ts";
import { createLogger } from "../../src/logger.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
let pool: Pool;
let subscriber: EventEmitter<Heard>;
let completions: Completions;

beforeAll(async () => {
  database = await createTestDatabase();
  pool = new Pool({ connectionString: database.authenticatorUrl, max: 1 });
  pool.on("error", () => {});
  await database.pool.query(
    `insert into app.incentives (key, name, evaluator, records)
    select 'extra_' || i, 'Extra', 'birth_record', 'document' from generate_series(1, 20) as i`,
  );
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

beforeEach(async () => {
  await restart();
});
afterEach(() => completions.stop());

async function restart(): Promise<void> {
  // Nothing is heard in these tests unless they say so.
  subscriber = new EventEmitter();
  completions = new Completions({ pool, subscriber, logger: createLogger("silent") });
  completions.start();
  await waitUntil("it has a position", async () => completions.cursor() !== undefined);
}

/** Completes another incentive of this member, and returns the event's id. */
async function complete(user: string, client: Pool | PoolClient = database.pool): Promise<string> {
  const { rows } = await client.query<{ id: string }>(
    `with row as (
      insert into app.user_incentives (user_id, incentive_id, data)
      select $1, id, '{}' from app.incentives
      where id not in (select incentive_id from app.user_incentives where user_id = $1)
      order by id limit 1
      returning id, incentive_id
    )
    insert into app.incentive_events (user_incentive_id, incentive_id)
    select id, incentive_id from row
    returning id`,
    [user],
  );
  return rows[0]!.id;
}

const hear = (): boolean => subscriber.emit("completed", { first: "1", last: "1" });

async function take(feed: Feed, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let taken = 0; taken < count; taken++) ids.push((await feed.next()).value!.id);
  return ids;
}

/** What comes until an event of somebody else, completed now, has come: nothing else can be on its way. */
async function takeAll(feed: Feed): Promise<string[]> {
  const witness = completions.follow("witness");
  const ids: string[] = [];
  const reading = (async () => {
    for await (const { id } of feed) ids.push(id);
  })();
  await complete("witness");
  hear();
  await witness.next();
  witness.end();
  feed.end();
  await reading;
  return ids;
}

describe("a client", () => {
  test("is told of its own member's events and of nobody else's, from when it came", async () => {
    await complete("ann");
    hear();
    await takeAll(completions.follow("witness"));
    const feed = completions.follow("ann");
    await complete("bert");
    const id = await complete("ann");
    hear();
    expect(await takeAll(feed)).toEqual([id]);
  });

  test("is told of an event whose notification was lost, within seconds", async () => {
    const feed = completions.follow("carl");
    const id = await complete("carl");
    expect(await take(feed, 1)).toEqual([id]);
  });

  test("is told once, whatever is notified how often", async () => {
    const feed = completions.follow("dora");
    hear();
    const ids = [await complete("dora"), await complete("dora")];
    for (let times = 0; times < 10; times++) hear();
    expect(await take(feed, 2)).toEqual(ids);
    for (let times = 0; times < 10; times++) hear();
    expect(await takeAll(feed)).toEqual([]);
  });

  test("is told of an event with a smaller id that is committed later, and others need not wait for it", async () => {
    const early = await database.pool.connect();
    const feed = completions.follow("emil");
    await early.query("begin");
    const smaller = await complete("emil", early);
    const other = completions.follow("emily");
    const larger = await complete("emily");
    hear();
    expect(await take(other, 1)).toEqual([larger]);
    await early.query("commit");
    early.release();
    hear();
    expect(await takeAll(feed)).toEqual([smaller]);
    expect(await takeAll(other)).toEqual([]);
    expect(Number(larger)).toBeGreaterThan(Number(smaller));
  });

  test("who comes while the database is being asked misses nothing", async () => {
    for (let times = 0; times < 10; times++) {
      hear();
      const feed = completions.follow(`fritz ${times}`);
      const id = await complete(`fritz ${times}`);
      hear();
      expect(await take(feed, 1)).toEqual([id]);
      feed.end();
    }
  });

  test("who does not keep up is cut off", async () => {
    const feed = completions.follow("gert");
    for (let id = 0; id <= 1000; id++) {
      feed.push({ id: String(id), userIncentiveId: "1", occurredAt: new Date(), cursor: "" });
    }
    expect(feed.isTooSlow).toBe(true);
    expect(await feed.next()).toEqual({ value: undefined, done: true });
  });

  test("waits no longer when it leaves", async () => {
    const feed = completions.follow("hans");
    const next = feed.next();
    await feed.return();
    expect(await next).toEqual({ value: undefined, done: true });
  });
});

describe("a client that comes back with a cursor", () => {
  test("is told exactly what it missed, in order, and then what comes", async () => {
    const before = completions.cursor()!;
    const ids = [];
    for (let times = 0; times < 5; times++) ids.push(await complete("ina"));
    const feed = (await completions.resume("ina", before))!;
    const cursors = [];
    for (const id of ids) {
      const { value } = await feed.next();
      expect(value!.id).toBe(id);
      cursors.push(value!.cursor);
    }
    ids.push(await complete("ina"));
    hear();
    expect(await takeAll(feed)).toEqual([ids[5]]);
    for (const [at, cursor] of cursors.entries()) {
      const again = (await completions.resume("ina", cursor))!;
      expect(await takeAll(again)).toEqual(ids.slice(at + 1));
    }
  });

  test("misses nothing of a transaction that was open when it left, and hears nothing twice", async () => {
    const open = await database.pool.connect();
    await open.query("begin");
    const late = await complete("jan", open);
    const feed = completions.follow("jan");
    // Of another connection of the same member, in a way that does not wait for the open one.
    const { rows } = await database.pool.query<{ id: string }>(
      `with row as (
        insert into app.user_incentives (user_id, incentive_id, data, evaluation_due)
        select 'jan', max(id), '{}', false from app.incentives returning id, incentive_id
      )
      insert into app.incentive_events (user_incentive_id, incentive_id)
      select id, incentive_id from row returning id`,
    );
    hear();
    const { value } = await feed.next();
    expect(value!.id).toBe(rows[0]!.id);
    feed.end();
    await open.query("commit");
    open.release();
    const again = (await completions.resume("jan", value!.cursor))!;
    expect(await takeAll(again)).toEqual([late]);
  });

  test("may come to another process", async () => {
    const cursor = completions.cursor()!;
    const id = await complete("karl");
    await completions.stop();
    await restart();
    expect(await takeAll((await completions.resume("karl", cursor))!)).toEqual([id]);
  });

  test.each([
    ["nothing", ""],
    ["text", "not a cursor"],
    ["SQL", Buffer.from("1:1:|1); drop table x").toString("base64url")],
    ["a snapshot that contradicts itself", Buffer.from("5:9:7,6|").toString("base64url")],
    ["a backward snapshot", Buffer.from("9:1:|").toString("base64url")],
    [
      "a number out of range",
      Buffer.from("99999999999999999999:99999999999999999999:|").toString("base64url"),
    ],
    ["an id out of range", Buffer.from("1:1:|9999999999999999999").toString("base64url")],
  ])("that is %s is refused", async (_what, cursor) => {
    expect(await completions.resume("lea", cursor)).toBeUndefined();
  });
});

describe("a position", () => {
  test("claims to have seen no transaction later than the last event's", async () => {
    await complete("mia");
    // Transactions of other databases come and go below it.
    const seenBelow = async (): Promise<string> =>
      (await database.pool.query("select pg_snapshot_xmax(app.completions_position()) as seen"))
        .rows[0].seen;
    const before = await seenBelow();
    // A transaction id that leaves nothing behind; a server that crashes now would give it out again.
    await database.pool.query("select pg_current_xact_id()");
    expect(await seenBelow()).toBe(before);
  });

  test("is not held up by a transaction that stays open", async () => {
    const open = await database.pool.connect();
    await open.query("begin; select pg_current_xact_id()");
    const feed = completions.follow("nora");
    const first = await complete("nora");
    hear();
    expect(await take(feed, 1)).toEqual([first]);
    const second = await complete("nora");
    hear();
    expect(await takeAll(feed)).toEqual([second]);
    await open.query("rollback");
    open.release();
  });
});
