/**
 * Whatever is done, in whatever order: after every step each member is served exactly what stands in the truth, half of them
 * live and half from the snapshot. Random sequences, on a real server; a failing one is printed with its seed, made as short
 * as it can be.
 */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import type { Pool } from "pg";
import { refreshCache } from "../../src/cache/refresh.ts";
import { createTestDatabase } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";
import { isLong } from "../faults/seed.ts";
import { holdRefresh, views } from "./held_refresh.ts";
import { servedWrongly } from "./served.ts";

let database: TestDatabase;
let pool: Pool;
beforeAll(async () => {
  database = await createTestDatabase();
  pool = database.pool;
});
afterAll(() => database.drop());

const members = ["ann", "bob", "cat"];
const statuses = ["in_progress", "completed", "invalid"] as const;

/** One statement that changes what a member sees, or may. `$1` is the member, `$2` an incentive's place in the catalogue. */
const mine =
  "user_id = $1 and incentive_id = (select id from app.incentives order by id offset $2 limit 1)";
const changes = {
  record: `
    insert into app.user_incentives (user_id, incentive_id, data)
    select $1, id, to_jsonb(random()) from app.incentives order by id offset $2 limit 1
    on conflict on constraint a_member_has_one_row_per_incentive do update set data = excluded.data`,
  recordTheSame: `update app.user_incentives set data = data where ${mine}`,
  insertAsCompleted: `
    insert into app.user_incentives (user_id, incentive_id, data, status, completed_at)
    select $1, id, '{}', 'completed', now() from app.incentives order by id offset $2 limit 1
    on conflict do nothing`,
  handToAJob: `update app.user_incentives set evaluation_due = false where ${mine}`,
  judgeAgain: `update app.user_incentives set evaluation_due = true, updated_at = now() where ${mine} and status <> 'completed'`,
  completeByHand: `update app.user_incentives set status = 'completed' where ${mine}`,
  correctByHand: `update app.user_incentives set status = 'in_progress', progress = 0.5 where ${mine}`,
  explainByHand: `update app.user_incentives set explanation = to_jsonb(array[random()]) where ${mine}`,
  erase: `
    with taken as (delete from app.user_rewards where user_id = $1 and $2::int >= 0)
    select`,
  delete: `delete from app.user_incentives where ${mine} and id not in (select user_incentive_id from app.user_rewards)`,
  takeBack: `delete from app.user_rewards where user_incentive_id in (select id from app.user_incentives where ${mine})`,
  payMore: `update app.user_rewards set amount = amount + 1 where user_incentive_id in (select id from app.user_incentives where ${mine})`,
  payByHand: `
    insert into app.user_rewards (user_id, user_incentive_id, reward_id, amount, unit)
    select ui.user_id, ui.id, rewards.id, 1, 'EUR' from app.user_incentives as ui, app.rewards where ${mine}
    on conflict do nothing`,
} as const;

/** What the worker does: claims what is due and writes verdicts, here any. */
const judge = `
  select app.apply_verdicts(
    array_agg(id), array_agg(1),
    jsonb_build_array(jsonb_build_object('status', $1::text, 'progress', $2::float8, 'explanation', '[{"met": true}]'::jsonb))
  )
  from (select id from app.user_incentives where evaluation_due order by id limit $3 for update) as due
  having count(*) > 0`;

type Change =
  | { change: keyof typeof changes; member: string; incentive: number }
  | { judge: (typeof statuses)[number]; rows: number };
type Step =
  | Change
  | { rolledBack: Change }
  | { refresh: "refresh" | "build" | "clear" }
  | { refreshHeldIn: (typeof views)[number]; meanwhile: Change[] };

const aChange: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      change: fc.constantFrom(...(Object.keys(changes) as (keyof typeof changes)[])),
      member: fc.constantFrom(...members),
      incentive: fc.integer({ min: 0, max: 1 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      judge: fc.constantFrom(...statuses),
      rows: fc.integer({ min: 1, max: 6 }),
    }),
  },
);
const aStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: aChange },
  { weight: 1, arbitrary: fc.record({ rolledBack: aChange }) },
  {
    weight: 3,
    arbitrary: fc.record({
      refresh: fc.constantFrom("refresh", "refresh", "refresh", "build", "clear"),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      refreshHeldIn: fc.constantFrom(...views),
      meanwhile: fc.array(aChange, { minLength: 1, maxLength: 3 }),
    }),
  },
);

async function make(change: Change, ending: "commit" | "rollback" = "commit"): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query("begin");
    if ("judge" in change) {
      const progress = change.judge === "completed" ? 1 : 0.25;
      await client.query(judge, [change.judge, progress, change.rows]);
    } else {
      await client.query(changes[change.change], [change.member, change.incentive]);
    }
    await client.query(ending);
  } finally {
    client.release();
  }
}

async function expectServed(after: unknown): Promise<void> {
  const wrong = await servedWrongly(pool, members, database.authenticatorUrl);
  expect({ wrong, after }).toEqual({ wrong: [], after });
}

async function take(step: Step): Promise<void> {
  if ("rolledBack" in step) {
    await make(step.rolledBack, "rollback");
  } else if ("refresh" in step) {
    await refreshCache(pool, { procedure: step.refresh });
  } else if ("refreshHeldIn" in step) {
    // A cleared cache has no refresh that could be held; building holds just the same.
    const held = await holdRefresh(pool, step.refreshHeldIn, { procedure: "build" });
    try {
      for (const change of step.meanwhile) {
        await make(change);
        await expectServed({ ...step, change });
      }
    } finally {
      await held.goOn();
    }
  } else {
    await make(step);
  }
}

/** One member has completed both, one is on the way, one has not begun; and the snapshot has it all. */
async function startAfresh(): Promise<void> {
  await pool.query("delete from app.user_rewards");
  await pool.query("delete from app.user_incentives");
  for (const [member, status] of [
    ["ann", "completed"],
    ["bob", "in_progress"],
  ] as const) {
    for (const incentive of [0, 1]) await make({ change: "record", member, incentive });
    await make({ judge: status, rows: 2 });
  }
  await refreshCache(pool, { procedure: "build" });
}

const seed = process.env.FAULTS_SEED;

/** Throws with a sequence after which somebody is served something old, if there is one among so many. */
function search(numRuns: number, options: { endOnFailure: boolean }): Promise<void> {
  return fc.assert(
    fc.asyncProperty(fc.array(aStep, { minLength: 1, maxLength: 12 }), async (steps) => {
      await startAfresh();
      for (const step of steps) {
        await take(step);
        await expectServed(step);
      }
    }),
    { ...options, numRuns, includeErrorInReport: true, ...(seed && { seed: Number(seed) }) },
  );
}

test(
  "a member is never served anything but what is there",
  async () => {
    await search(isLong ? 1000 : 25, { endOnFailure: false });
  },
  isLong ? 960_000 : 90_000,
);

// A suite that has never failed proves nothing: each of these is a cache that is wrong, and must be found to be.
const wrongCaches: [string, string, string, string][] = [
  [
    "takes every mark away after a refresh",
    "cache.delete_marks",
    "pg_visible_in_snapshot(changed_in, seen_by)",
    "true",
  ],
  [
    "serves who has a due row from the snapshot",
    "app.is_live",
    "coalesce(ui.evaluation_due, true)",
    "false",
  ],
  [
    "serves who is marked from the snapshot",
    "app.is_live",
    "(is_live.user_id, cache.everybody())",
    "('nobody')",
  ],
  [
    "does not mark on a change by hand",
    "app.tg_user_incentives__record_change",
    "perform app.mark_stale(array[coalesce(new.user_id, old.user_id)])",
    "perform 1",
  ],
];

test.each(wrongCaches)(
  "a cache that %s is found out",
  async (_what, name, right, wrong) => {
    const { rows } = await pool.query<{ definition: string }>(
      "select pg_get_functiondef($1::regproc) as definition",
      [name],
    );
    const definition = rows[0]!.definition;
    expect(definition).toContain(right);
    try {
      await pool.query(definition.replace(right, wrong));
      await expect(search(200, { endOnFailure: true })).rejects.toThrow('"wrong": Array [');
    } finally {
      await pool.query(definition);
    }
  },
  120_000,
);
