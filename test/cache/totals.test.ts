/** A programme's totals: what an operator is given, and that nothing left out can be worked out from it. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Pool } from "pg";
import { refreshCache } from "../../src/cache/refresh.ts";
import { createTestDatabase } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

interface Totals {
  members: number | null;
  completed: number | null;
  in_progress: number | null;
  invalid: number | null;
  is_suppressed: boolean;
}

let database: TestDatabase;
let operatorPool: Pool;

beforeAll(async () => {
  database = await createTestDatabase();
  operatorPool = new Pool({ connectionString: database.authenticatorUrl });
});
afterAll(async () => {
  await operatorPool.end();
  await database.drop();
});

const key = "birth_record";

/** What an operator reads when so many members are in progress, have completed, and are invalid. */
async function totalsOf(counts: [number, number, number]): Promise<Totals> {
  await database.pool.query("delete from app.user_rewards");
  await database.pool.query("delete from app.user_incentives");
  await database.pool.query(
    `insert into app.user_incentives (user_id, incentive_id, data, status, completed_at, evaluation_due)
    select status || member, incentives.id, '{}', status, case status when 'completed' then now() end, false
    from unnest(array['in_progress', 'completed', 'invalid'], $1::int[]) as given (status, count)
    cross join generate_series(1, given.count) as member
    join app.incentives on key = $2`,
    [counts, key],
  );
  await refreshCache(database.pool);
  const client = await operatorPool.connect();
  try {
    await client.query("begin; set local role incentives_operator");
    const { rows } = await client.query<Totals>(
      `select members::int, total.completed::int, in_progress::int, invalid::int, is_suppressed
      from api.incentive_totals as total
      join api.incentives as incentive on incentive.id = total.incentive_id
      where key = $1`,
      [key],
    );
    return rows[0]!;
  } finally {
    await client.query("rollback");
    client.release();
  }
}

const nothing = {
  members: null,
  completed: null,
  in_progress: null,
  invalid: null,
  is_suppressed: true,
};

test.each<[string, [number, number, number], Totals]>([
  [
    "all are given when each is 5 or more",
    [5, 6, 7],
    { members: 18, completed: 6, in_progress: 5, invalid: 7, is_suppressed: false },
  ],
  [
    "one small part takes the other small part with it, or it would be the difference",
    [6, 7, 4],
    { ...nothing, members: 17, completed: 7 },
  ],
  ["few who completed are not said", [10, 4, 10], { ...nothing, members: 24 }],
  ["few who did not complete are not said either", [2, 10, 2], { ...nothing, members: 14 }],
  ["that all completed is not said", [0, 10, 0], { ...nothing, members: 10 }],
  ["few members are not said", [1, 2, 1], nothing],
  ["nobody at all looks as few do", [0, 0, 0], nothing],
])("%s", async (_what, counts, given) => {
  expect(await totalsOf(counts)).toEqual(given);
});

test("whatever the counts, none under 5 can be worked out: with another in its place, all that is given would be the same", async () => {
  const read = (i: number, c: number, n: number): string => {
    const members = i + c + n;
    const all = Math.min(i, c, n) >= 5;
    return JSON.stringify([
      members >= 5 && members,
      c >= 5 && members - c >= 5 && c,
      all && i,
      all && n,
    ]);
  };
  // The rule as a function of its own, held against the view in the cases above and in these.
  for (const counts of [
    [5, 5, 5],
    [0, 5, 5],
    [9, 4, 1],
    [1, 8, 4],
  ] as [number, number, number][]) {
    const { members, completed, in_progress, invalid } = await totalsOf(counts);
    const given = [members, completed, in_progress, invalid].map((count) => count ?? false);
    expect(JSON.stringify(given)).toBe(read(...counts));
  }
  const worlds = new Map<string, [number, number, number][]>();
  for (let i = 0; i <= 24; i += 1)
    for (let c = 0; i + c <= 24; c += 1)
      for (let n = 0; i + c + n <= 24; n += 1) {
        const seen = read(i, c, n);
        worlds.set(seen, [...(worlds.get(seen) ?? []), [i, c, n]]);
      }
  const derived: unknown[] = [];
  for (const same of worlds.values()) {
    for (const place of [0, 1, 2] as const) {
      const values = new Set(same.map((world) => world[place]));
      if (values.size === 1 && Math.min(...values) < 5) derived.push({ same, place });
    }
  }
  expect(derived).toEqual([]);
});

test("a member is not given them", async () => {
  const client = await operatorPool.connect();
  try {
    await client.query("begin; set local role incentives_member");
    await expect(client.query("select from api.incentive_totals")).rejects.toMatchObject({
      code: "42501",
    });
  } finally {
    await client.query("rollback");
    client.release();
  }
});
