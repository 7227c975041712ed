/** The benchmark's own promises: its statistics, and that a run in which something is missing fails. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { checkCompletions, checkWritten, refuseUnless, WrongCounts } from "./counts.ts";
import { measureDrain } from "./drain.ts";
import { drainOurs } from "./drain_runs.ts";
import { toTable } from "./report.ts";
import { measureRefresh } from "./refresh.ts";
import { closeAll } from "./resources.ts";
import { fill } from "./rows.ts";
import { startWorker } from "./programs.ts";
import { makeTemplate } from "./server.ts";
import type { Clone } from "./server.ts";
import { measureStaleness } from "./staleness.ts";
import { median, percentile, toRow } from "./statistics.ts";

let clone: Clone;

beforeAll(async () => {
  const {
    TEST_SUPERUSER_URL: superuserUrl = "",
    TEST_OWNER_URL: ownerUrl = "",
    TEST_AUTHENTICATOR_URL: authenticatorUrl = "",
  } = process.env;
  clone = await makeTemplate({ superuserUrl, ownerUrl, authenticatorUrl }, 3);
});

afterAll(() => closeAll());

describe("the statistics", () => {
  test("take the middle value, or the mean of the two in the middle", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(() => median([])).toThrow("no value");
  });

  test("take the smallest value that a share of all do not exceed", () => {
    const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
    expect([0.5, 0.99, 1].map((share) => percentile(hundred, share))).toEqual([50, 99, 100]);
  });

  test("hold a bar by the median, and never by what is not a number", () => {
    const bar = { atLeast: 0.9, reach: 0.97 };
    expect(toRow("a", "b", [0.8, 0.9, 1], bar)).toEqual({
      measure: "a",
      beside: "b",
      median: 0.9,
      min: 0.8,
      max: 1,
      bar: ">= 0.9 (reach 0.97)",
      holds: true,
    });
    expect(toRow("a", "b", [0.8, 0.89, 1], bar).holds).toBe(false);
    expect(toRow("a", "b", [Number.NaN], bar).holds).toBe(false);
    expect(toRow("a", "b", [5, 6], { atMost: 5 }).holds).toBe(false);
  });

  test("are printed as a table", () => {
    const table = toTable([toRow("measure of all", "nothing", [1], { atMost: 2 })]);
    expect(table.split("\n")[1]).toMatch(
      /^measure of all +nothing +1.000 +1.000..1.000 +<= 2 +yes/,
    );
  });
});

describe("a run", () => {
  test("of the drain counts every row, on the real worker", async () => {
    const rows = await measureDrain({
      clone,
      rounds: 1,
      rows: 300,
      say: () => {},
      others: { graphile_worker_jobs: 20 },
    });
    expect(rows).toHaveLength(4);
    expect(rows.filter(({ median: value }) => !(value > 0))).toEqual([]);
  }, 30_000);

  test("of the refresh reads, writes and refreshes, and sees that what changed is read", async () => {
    const rows = await measureRefresh({
      clone,
      rounds: 1,
      rows: 4000,
      readsPerSecond: 100,
      writesPerSecond: 50,
      say: () => {},
    });
    expect(rows).toHaveLength(5);
    expect(rows.filter(({ median: value }) => !(value > 0))).toEqual([]);
  }, 30_000);

  test("of the reads finds nothing stale among members who write as they read", async () => {
    const database = await clone();
    const worker = await startWorker(database.ownerUrl);
    const stale = await measureStaleness({ database, reads: 1500, members: 20, say: () => {} });
    await worker.stop();
    expect(stale).toEqual({ reads: expect.any(Number), afterOwnWrite: 0, afterHeard: 0 });
    expect(stale.reads).toBeGreaterThanOrEqual(1500);
  }, 60_000);

  test("fails when a row is not judged, or a reward or an event is missing", async () => {
    const database = await clone();
    const { client } = database;
    await fill(database, { due: 5 });
    await checkWritten(client, "app.user_incentives", 5);
    await expect(checkCompletions(client, 5)).rejects.toThrow(WrongCounts);

    await drainOurs(database, 5);
    await checkCompletions(client, 5);
    await expect(checkCompletions(client, 6)).rejects.toThrow("there are: 5 rows");
    await client.query(
      "delete from app.user_rewards where id = (select min(id) from app.user_rewards)",
    );
    await expect(checkCompletions(client, 5)).rejects.toThrow("there are: 4 with one reward");
    await client.query("set session_replication_role = replica");
    await client.query("delete from app.incentive_events");
    await expect(checkCompletions(client, 5)).rejects.toThrow("0 with one event");
  }, 30_000);

  test("fails when nothing was counted at all", () => {
    expect(() => refuseUnless(0, {})).toThrow(WrongCounts);
  });
});
