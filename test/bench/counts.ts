/**
 * What must be true when a measurement is over, or its speed means nothing: everything that was written is there, and each
 * row was completed, recorded and rewarded exactly once. Called after every run.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientBase } from "pg";

export class WrongCounts extends Error {
  override name = "WrongCounts";
}

/** Rows that were in the template are not counted. */
export async function checkCompletions(client: ClientBase, expected: number): Promise<void> {
  const { rows } = await client.query<Record<string, number>>(`
    select
      count(*)::int as rows,
      (count(*) filter (where not evaluation_due))::int as judged,
      (count(*) filter (where status = 'completed'))::int as completed,
      (count(*) filter (where events = 1))::int as "with one event",
      (count(*) filter (where rewards = 1))::int as "with one reward"
    from app.user_incentives as ui
    left join (select user_incentive_id as id, count(*) as events from app.incentive_events group by 1) as e
      using (id)
    left join (select user_incentive_id as id, count(*) as rewards from app.user_rewards group by 1) as r
      using (id)
    where ui.user_id not like 'before %'`);
  refuseUnless(expected, rows[0] ?? {});
}

/** For what is only written: nobody judges it. */
export async function checkWritten(
  client: ClientBase,
  table: string,
  expected: number,
): Promise<void> {
  const { rows } = await client.query<Record<string, number>>(`
    select count(*)::int as rows, (count(*) filter (where evaluation_due))::int as due
    from ${table}
    where user_id not like 'before %'`);
  refuseUnless(expected, rows[0] ?? {});
}

export function refuseUnless(expected: number, found: Record<string, number>): void {
  const wrong = Object.entries(found).filter(([, count]) => count !== expected);
  if (wrong.length === 0 && Object.keys(found).length > 0) return;
  const counts = wrong.map(([what, count]) => `${count} ${what}`).join(", ");
  throw new WrongCounts(`${expected} of each were expected, but there are: ${counts}`);
}

/** How many times it asked. The row with the highest id is asked for first, which is cheap. */
export async function waitUntilNothingIsDue(client: ClientBase, seconds: number): Promise<number> {
  const deadline = performance.now() + seconds * 1000;
  const { rows } = await client.query<{ id: string }>(
    "select max(id) as id from app.user_incentives",
  );
  const isLastDue = {
    name: "is_last_due",
    text: "select from app.user_incentives where id = $1 and evaluation_due",
    values: [rows[0]?.id],
  };
  const isAnyDue = "select from app.user_incentives where evaluation_due limit 1";
  for (let asked = 2; performance.now() < deadline; asked += 1) {
    if ((await client.query(isLastDue)).rowCount === 0) {
      asked += 1;
      if ((await client.query(isAnyDue)).rowCount === 0) return asked;
    }
    await sleep(10);
  }
  throw new WrongCounts(`rows were still due after ${seconds} s`);
}
