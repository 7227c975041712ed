/** What a process hears of changes: who changed and nothing more, in order, through forged payloads and lost connections. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { Client } from "pg";
import { LiveSubscriber } from "../../src/live/subscriber.ts";
import { createLogger } from "../../src/logger.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

let database: TestDatabase;
let live: LiveSubscriber;
/** What was heard, in order. */
let heard: unknown[][];

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

beforeEach(async () => {
  live = new LiveSubscriber(database.authenticatorUrl, createLogger("silent"));
  heard = [];
  live.on("changing", (members) => heard.push(["changing", members]));
  live.on("changed", (members) => heard.push(["changed", members]));
  live.on("completed", () => heard.push(["completed"]));
  live.on("lost", () => heard.push(["lost"]));
  live.start();
  await once(live, "connected");
  await waitUntil("it hears itself", async () => live.isHearing());
});
afterEach(() => live.stop());

const query = (text: string, values: unknown[] = []) => database.pool.query(text, values);
const hash = (user: string) =>
  createHash("sha256").update(user).digest().subarray(0, 3).toString("base64");

/** Resolves when all that was said until now has been heard. */
async function allHeard(): Promise<void> {
  const completions = () => heard.filter(([event]) => event === "completed").length;
  const before = completions();
  await query("select pg_notify('incentive_completed', '{\"first\": 1, \"last\": 1}')");
  await waitUntil("it hears", async () => completions() > before);
  heard.pop();
}

describe("a member whose answers changed", () => {
  test("is told by a hash, one message for a whole batch", async () => {
    const users = ["alice", "Zoë", "🙂", "1"];
    await query("select app.mark_stale($1)", [users]);
    await allHeard();
    expect(heard).toEqual([["changed", users.map(hash)]]);
  });

  test("is told by more messages when one is too short, and by `*` when there are very many", async () => {
    const some = Array.from({ length: 3000 }, (_, index) => `member ${index}`);
    await query("select app.mark_stale($1)", [some]);
    await allHeard();
    expect(heard).toHaveLength(2);
    expect(heard.flatMap(([, members]) => members)).toEqual(some.map(hash));
    heard.length = 0;

    const many = Array.from({ length: 20_000 }, (_, index) => `member ${index}`);
    await query("select app.mark_stale($1)", [many]);
    await allHeard();
    expect(heard).toEqual([["changed", "all"]]);
  });

  test("is told when a row is completed by hand, due or not, before the completion is announced", async () => {
    const insert = `insert into app.user_incentives (user_id, incentive_id, data, evaluation_due)
      select $1, id, '{}', $2 from app.incentives where key = 'birth_record'`;
    for (const [user, due] of [["by hand, due", true] as const, ["by hand", false] as const]) {
      await query(insert, [user, due]);
      heard.length = 0;
      await query("update app.user_incentives set status = 'completed' where user_id = $1", [user]);
      await waitUntil("it is announced", async () =>
        heard.some(([event]) => event === "completed"),
      );
      const events = heard.filter(([event, of]) => event === "completed" || of instanceof Array);
      expect([events[0], events.at(-1)]).toEqual([["changed", [hash(user)]], ["completed"]]);
    }
  });

  test("is told of at most a hundred times by a statement that changes very many rows by hand", async () => {
    await query(`insert into app.user_incentives (user_id, incentive_id, data, evaluation_due)
      select 'many ' || i, id, '{}', false
      from app.incentives, generate_series(1, 300) as i where key = 'birth_record'`);
    await allHeard();
    heard.length = 0;
    await query("delete from app.user_incentives where user_id like 'many %'");
    await allHeard();
    expect(heard).toHaveLength(101);
    expect(heard.at(-1)).toEqual(["changed", "all"]);
  });

  test("is told ahead that they are being judged, and it is said that this was heard", async () => {
    const { rows } = await query(
      `insert into app.user_incentives (user_id, incentive_id, data)
      select 'judged', id, '{}' from app.incentives returning id`,
    );
    const listener = new Client({ connectionString: database.ownerUrl });
    await listener.connect();
    await listener.query("listen members_heard");
    const answered = once(listener, "notification");
    const { rows: asked } = await query(
      "select pid from app.notify_judging($1, 'a-token') as pid",
      [rows.map(({ id }) => id)],
    );
    const [{ processId, payload }] = await answered;
    expect([{ pid: processId }, payload]).toEqual([asked[0], "a-token"]);
    expect(asked).toHaveLength(1);
    expect(heard).toEqual([["changing", [hash("judged")]]]);
    await listener.end();
  });

  test("is everybody when the catalogue changes", async () => {
    for (const statement of [
      "update app.incentives set name = name || '!' where key = 'birth_record'",
      "update app.rewards set name = name || '!'",
      "delete from app.incentive_rewards",
    ]) {
      await query(statement);
      await allHeard();
      expect(heard).toEqual([["changed", "all"]]);
      heard.length = 0;
    }
  });
});

test("forged payloads are ignored, and hearing goes on", async () => {
  const forged = [
    "",
    "not JSON",
    "a",
    "abc",
    "ab\nc",
    "[]",
    "null",
    "{}",
    '"*"',
    "**",
    "x".repeat(7999),
  ];
  for (const channel of ["member_changed", "incentive_completed", "incentives_heartbeat"]) {
    for (const payload of forged) await query("select pg_notify($1, $2)", [channel, payload]);
  }
  await allHeard();
  // Four letters that might be a hash cost somebody's answer in memory, no more.
  expect(heard).toEqual([["changed", ["null"]]]);
  expect(live.isHearing()).toBe(true);
});

test("a connection that ends is said to be lost, and heard of again when there is another", async () => {
  const back = once(live, "connected");
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => warnings.push(warning);
  process.on("warning", onWarning);
  const lost = once(live, "lost");
  let hearsWhenLost: boolean | undefined;
  live.once("lost", () => (hearsWhenLost = live.isHearing()));
  const itself = new Client({ connectionString: database.authenticatorUrl });
  await itself.connect();
  await itself.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'incentives live' and datname = current_database()`,
  );
  await itself.end();
  await lost;
  expect(hearsWhenLost).toBe(false);
  await back;
  await waitUntil("it hears itself", async () => live.isHearing());
  await query("select app.mark_stale(array['alice'])");
  await allHeard();
  expect(heard).toEqual([["lost"], ["changed", [hash("alice")]]]);
  process.off("warning", onWarning);
  expect(warnings).toEqual([]);
});
