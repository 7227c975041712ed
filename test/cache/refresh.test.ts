/** The refresh: one at a time, whatever is written, killed or cleared meanwhile, and nobody is served anything old. */
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { Pool } from "pg";
import { createLogger } from "../../src/logger.ts";
import { refreshByTheClock, refreshCache, refreshCacheTask } from "../../src/cache/refresh.ts";
import { refreshOnChange } from "../../src/cache/refresh_on_change.ts";
import { cacheStatus, describeStatus, readSteps } from "../../src/cache/status.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";
import { holdRefresh, views } from "./held_refresh.ts";
import { servedWrongly } from "./served.ts";

let database: TestDatabase;
let pool: Pool;
let memberPool: Pool;

beforeEach(async () => {
  database = await createTestDatabase();
  pool = database.pool;
  pool.on("connect", (client) => client.on("error", () => {}));
  memberPool = new Pool({ connectionString: database.authenticatorUrl });
});
afterEach(async () => {
  await memberPool.end();
  await database.drop();
});

const silent = createLogger("silent");

/** Records for each, and judges it as completed. */
async function complete(...members: string[]): Promise<void> {
  await pool.query(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select user_id, id, '{}' from unnest($1::text[]) as user_id, app.incentives`,
    [members],
  );
  await pool.query(
    `select app.apply_verdicts(array_agg(id), array_agg(1), '[{"status": "completed", "progress": 1, "explanation": []}]')
    from app.user_incentives where evaluation_due`,
  );
}

async function marked(): Promise<string[]> {
  const { rows } = await pool.query<{ user_id: string }>(
    "select distinct user_id from cache.stale_users order by user_id",
  );
  return rows.map(({ user_id }) => user_id);
}

async function cached(): Promise<number> {
  const { rows } = await pool.query<{ count: number }>(
    "select count(*)::int as count from cache.user_incentives",
  );
  return rows[0]?.count ?? 0;
}

async function expectServed(...members: string[]): Promise<void> {
  expect(await servedWrongly(pool, members, database.authenticatorUrl)).toEqual([]);
}

describe("a refresh", () => {
  test("takes everybody's marks, and says when it was, how long it took and what it has", async () => {
    await complete("alice", "bob");
    expect(await marked()).toEqual(["alice", "bob"]);
    expect(await refreshCache(pool)).toBe("taken");
    expect(await marked()).toEqual([]);
    await expectServed("alice", "bob");
    const status = await cacheStatus(pool);
    expect(status).toMatchObject({ liveMembers: 0, oldestLiveMs: null, isEverybodyLive: false });
    expect(status.rows).toEqual([
      { view: "user_incentives", rows: 4 },
      { view: "user_rewards", rows: 4 },
      { view: "user_summaries", rows: 2 },
      { view: "incentive_totals", rows: 2 },
    ]);
    expect(describeStatus(status, [])).toMatch(/^Snapshot taken at 20.*: 4 user_incentives, /);
  });

  test.each(views.map((view) => [view]))(
    "that stands still in %s lets everybody read and write, and keeps the mark of who changed meanwhile",
    async (view) => {
      await complete("before");
      const held = await holdRefresh(pool, view);
      try {
        await complete("meanwhile");
        await pool.query("delete from app.user_rewards where user_id = 'before' and reward_id = 1");
        await expectServed("before", "meanwhile");
      } finally {
        expect(await held.goOn()).toBe("taken");
      }
      expect(await marked()).toEqual(["before", "meanwhile"]);
      await expectServed("before", "meanwhile");
      await refreshCache(pool);
      expect(await marked()).toEqual([]);
      await expectServed("before", "meanwhile");
    },
  );

  test("that took every mark away would serve who changed meanwhile something old, and this suite sees it", async () => {
    const { rows } = await pool.query<{ definition: string }>(
      "select pg_get_functiondef('cache.delete_marks'::regproc) as definition",
    );
    const naive = rows[0]!.definition.replace(
      "pg_visible_in_snapshot(changed_in, seen_by)",
      "true",
    );
    expect(naive).not.toBe(rows[0]!.definition);
    await pool.query(naive);
    await complete("before");
    const held = await holdRefresh(pool, "user_rewards");
    await complete("meanwhile");
    await held.goOn();
    expect(await servedWrongly(pool, ["before", "meanwhile"], database.authenticatorUrl)).toEqual([
      "meanwhile",
    ]);
  });

  test("passes over the mark of a member who is being marked at that moment, without waiting", async () => {
    await complete("alice", "bob");
    const writer = await pool.connect();
    try {
      await writer.query("begin");
      await writer.query("select app.mark_stale(array['alice'])");
      expect(await refreshCache(pool)).toBe("taken");
      await writer.query("commit");
    } finally {
      writer.release();
    }
    expect(await marked()).toEqual(["alice"]);
  });

  test("keeps the mark of a transaction that was open when it began", async () => {
    await complete("alice");
    await refreshCache(pool);
    const writer = await pool.connect();
    try {
      await writer.query("begin");
      await writer.query("delete from app.user_rewards where user_id = 'alice'");
      await refreshCache(pool);
      await writer.query("commit");
    } finally {
      writer.release();
    }
    expect(await marked()).toEqual(["alice"]);
    await expectServed("alice");
  });

  test("is refused in a transaction block, before anything is done", async () => {
    const client = await pool.connect();
    try {
      await client.query("begin");
      await expect(client.query("call cache.refresh()")).rejects.toMatchObject({ code: "2D000" });
    } finally {
      client.release(true);
    }
    expect(await readSteps(pool)).toEqual([]);
    expect(await refreshCache(pool)).toBe("taken");
  });

  test("populates a view that somebody left without data", async () => {
    await complete("alice");
    await refreshCache(pool);
    await pool.query("refresh materialized view cache.user_summaries with no data");
    expect(await refreshCache(pool)).toBe("taken");
    await expectServed("alice");
  });
});

describe("a second refresh", () => {
  test("leaves it to the first, and says so", async () => {
    const held = await holdRefresh(pool, "user_rewards");
    const said: string[] = [];
    expect(await refreshCache(pool, { onNotice: (line) => said.push(line) })).toBe("left");
    expect(said).toEqual(["Another refresh is running; this one leaves it to that."]);
    expect(await refreshCache(pool, { procedure: "clear" })).toBe("left");
    expect(await held.goOn()).toBe("taken");
  });

  test("waits when it is asked to, says so, and then sees what the first could not", async () => {
    const held = await holdRefresh(pool, "user_incentives");
    await complete("meanwhile");
    const said: string[] = [];
    const second = refreshCache(pool, { wait: true, onNotice: (line) => said.push(line) });
    await waitUntil("it waits", async () => said.length > 0);
    expect(said).toEqual(["Another refresh is running; waiting for it."]);
    expect(await held.goOn()).toBe("taken");
    expect(await second).toBe("taken");
    expect(await marked()).toEqual([]);
    expect(await cached()).toBe(2);
  });
});

describe("killed midway", () => {
  test.each(views.map((view) => [view]))(
    "by pg_terminate_backend in %s, it leaves nothing locked, nobody served anything old, and the next one works",
    async (view) => {
      await complete("alice");
      await refreshCache(pool);
      await pool.query("delete from app.user_rewards where user_id = 'alice' and reward_id = 1");
      await complete("bob");
      const held = await holdRefresh(pool, view);
      await complete("carol");
      await pool.query("select pg_terminate_backend($1)", [held.pid]);
      await expect(held.goOn()).rejects.toThrow();
      // Its client hears of it a moment before its locks are free.
      await waitUntil("its steps are gone", async () => (await readSteps(pool)).length === 0);
      expect(await marked()).toEqual(["alice", "bob", "carol"]);
      await expectServed("alice", "bob", "carol");
      expect(await refreshCache(pool)).toBe("taken");
      expect(await marked()).toEqual([]);
      await expectServed("alice", "bob", "carol");
    },
  );

  test("by a signal, it is cancelled in the database too, and another can begin at once", async () => {
    await complete("alice");
    const told = new AbortController();
    const held = await holdRefresh(pool, "user_rewards", { signal: told.signal });
    told.abort();
    expect(await held.outcome).toBe("stopped");
    await held.release();
    expect(await refreshCache(pool)).toBe("taken");
    await expectServed("alice");
  });

  test("by a time limit of the server, in psql's own session, the lock is let go", async () => {
    const client = await pool.connect();
    const holder = await pool.connect();
    try {
      await holder.query("begin");
      await holder.query("refresh materialized view concurrently cache.user_summaries");
      await client.query("set statement_timeout = '300ms'");
      await expect(client.query("call cache.refresh()")).rejects.toMatchObject({ code: "57014" });
      await holder.query("rollback");
      expect(await refreshCache(pool)).toBe("taken");
    } finally {
      client.release(true);
      holder.release();
    }
  });
});

describe("a cleared cache", () => {
  test("is empty, serves everybody live, stays so through a refresh, and is filled by build", async () => {
    await complete("alice", "bob");
    await refreshCache(pool);
    expect(await refreshCache(pool, { procedure: "clear" })).toBe("cleared");
    expect(await cached()).toBe(0);
    await expectServed("alice", "bob", "stranger");
    expect(await cacheStatus(pool)).toMatchObject({ isCleared: true, isEverybodyLive: true });

    expect(await refreshCache(pool)).toBe("cleared");
    expect(await refreshByTheClock(pool, silent, new AbortController().signal)).toBe("cleared");
    expect(await cached()).toBe(0);
    await complete("carol");
    expect(await refreshCache(pool, { procedure: "build" })).toBe("taken");
    expect(await cached()).toBe(6);
    expect(await marked()).toEqual([]);
    await expectServed("alice", "bob", "carol", "stranger");
  });

  test("that is being built serves everybody live until all of it is there; killed, the next refresh goes on", async () => {
    await complete("alice");
    await refreshCache(pool);
    await refreshCache(pool, { procedure: "clear" });
    const held = await holdRefresh(pool, "user_summaries", { procedure: "build" });
    await expectServed("alice");
    await pool.query("select pg_terminate_backend($1)", [held.pid]);
    await expect(held.goOn()).rejects.toThrow();
    await expectServed("alice");
    expect(await marked()).toEqual([""]);
    expect(await refreshCache(pool)).toBe("taken");
    expect(await marked()).toEqual([]);
    await expectServed("alice");
  });

  test("keeps no marks that a refresh finds, and misses nobody who was changing then", async () => {
    await refreshCache(pool, { procedure: "clear" });
    await complete("alice");
    const changing = await pool.connect();
    await changing.query("begin");
    await changing.query(
      "insert into app.user_incentives (user_id, incentive_id, data, evaluation_due) values ('bob', 1, '{}', false)",
    );
    expect(await marked()).toEqual(["", "alice"]);
    expect(await refreshCache(pool)).toBe("cleared");
    expect(await marked()).toEqual([""]);
    const held = await holdRefresh(pool, "user_rewards", { procedure: "build" });
    await changing.query("commit");
    changing.release();
    expect(await held.goOn()).toBe("taken");
    expect(await marked()).toEqual(["bob"]);
    await expectServed("alice", "bob");
  });

  test("is read by who began before as it was", async () => {
    await complete("alice");
    await refreshCache(pool);
    const reader = await memberPool.connect();
    try {
      await reader.query("begin isolation level repeatable read; set local role incentives_member");
      await reader.query("select set_config('incentives.user_id', 'alice', true)");
      await refreshCache(pool, { procedure: "clear" });
      expect((await reader.query("select from api.user_incentives")).rowCount).toBe(2);
      expect((await reader.query("select from api.user_rewards")).rowCount).toBe(2);
    } finally {
      await reader.query("rollback");
      reader.release();
    }
  });
});

describe("by the clock", () => {
  const whyNot = async (every = "0"): Promise<string | null | undefined> => {
    const { rows } = await pool.query<{ reason: string | null }>(
      "select cache.why_not_refresh($1) as reason",
      [every],
    );
    return rows[0]?.reason;
  };

  test("nothing is refreshed while nobody changed, nor before as much time has passed as the last one took", async () => {
    expect(await whyNot()).toBe("unchanged");
    await complete("alice");
    expect(await whyNot()).toBeNull();
    await refreshCache(pool);
    await complete("bob");
    await pool.query(
      "update cache.refreshes set took = '1 minute', taken_at = now() - interval '110 seconds'",
    );
    expect(await whyNot()).toBe("resting");
    const warned: unknown[] = [];
    const logger = { ...silent, debug() {}, warn: (what: unknown) => warned.push(what) };
    const task = refreshCacheTask(pool, logger as never, new AbortController().signal);
    await task({}, undefined as never);
    expect(warned).toEqual([expect.stringContaining("stretched")]);
    expect(await cached()).toBe(2);
    await pool.query("update cache.refreshes set taken_at = now() - interval '121 seconds'");
    expect(await whyNot()).toBeNull();
    expect(await whyNot("3 minutes")).toBe("recent");
    expect(await whyNot("2 minutes")).toBeNull();
  });

  test("on change, a snapshot is taken soon after somebody changed, and no more often than said", async () => {
    const told = new AbortController();
    const ended = refreshOnChange({ pool, logger: silent, everyMs: 3000, signal: told.signal });
    const taken = async (): Promise<number> =>
      (await pool.query("select from cache.refreshes where took is not null")).rowCount ?? 0;
    try {
      await complete("alice");
      await waitUntil("the first is taken", async () => (await taken()) === 1, 5);
      await complete("bob");
      await waitUntil("the second is taken", async () => (await taken()) === 2, 8);
      const { rows } = await pool.query<{ apart: number }>(
        "select extract(epoch from max(taken_at) - min(taken_at))::float8 as apart from cache.refreshes",
      );
      expect(rows[0]?.apart).toBeGreaterThanOrEqual(3);
      expect(await marked()).toEqual([]);
    } finally {
      told.abort();
      await ended;
    }
  });
});

test("members are counted, not their marks, and since when by the oldest", async () => {
  await pool.query("select app.mark_stale(array_fill('alice'::text, array[12000]))");
  await pool.query("select app.mark_stale(array['bob', 'carol'])");
  await pool.query(
    "update cache.stale_users set changed_at = now() - interval '1 hour' where ctid = (select max(ctid) from cache.stale_users)",
  );
  const { rows } = await pool.query<{ members: number; since: Date }>(
    "select live_members as members, live_since as since from api.cache_statuses",
  );
  expect(rows[0]!.members).toBe(3);
  expect(Date.now() - rows[0]!.since.getTime()).toBeGreaterThan(3_590_000);
  await pool.query(
    "select app.mark_stale(array(select 'm' || n from generate_series(1, 10100) as n))",
  );
  const more = await pool.query("select live_members as members from api.cache_statuses");
  expect(more.rows).toEqual([{ members: 10_000 }]);
});

test("who is served live is counted once, since their first change, and everybody's progress is there to see", async () => {
  await complete("alice", "bob");
  await pool.query(
    "update cache.stale_users set changed_at = now() - interval '1 hour' where user_id = 'bob'",
  );
  await pool.query(
    "update app.user_incentives set data = '[]' where user_id = 'bob' and incentive_id = 1",
  );
  const status = await cacheStatus(pool);
  expect(status.liveMembers).toBe(2);
  expect(status.oldestLiveMs).toBeGreaterThan(3_590_000);
  expect(describeStatus(status, [])).toContain(
    "Members served live because they changed since: 2, the first of them for 36",
  );
  await refreshCache(pool);
  const held = await holdRefresh(pool, "user_rewards");
  const steps = await readSteps(pool);
  expect(describeStatus(await cacheStatus(pool), steps)).toMatch(
    /A refresh is running: user_rewards \(2 of 4, about \d+ s left\)$/,
  );
  await held.goOn();
  expect(await readSteps(pool)).toEqual([]);
});
