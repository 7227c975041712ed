/**
 * What any queue's worker would do to a row of ours: select it, judge it with our judge, write the verdict with
 * app.apply_verdicts, in one transaction of as few round trips as can be. Called by the other queues' workers here.
 */
import type { ClientBase } from "pg";
import { Temporal } from "temporal-polyfill";
import { judge } from "../../../src/evaluation/judge.ts";
import type { Incentive } from "../../../src/evaluation/judge.ts";
import type { EvaluatorRegistry } from "../../../src/evaluation/registry.ts";

type DueRow = Incentive & { id: string; data: unknown; now: Date };

export async function judgeRows(
  client: ClientBase,
  registry: EvaluatorRegistry,
  ids: string[],
): Promise<void> {
  await client.query("begin");
  const { rows } = await client.query<DueRow>({
    name: "select_rows",
    text: `
      select ui.id, ui.data, i.evaluator, i.criteria, i.is_active, now() as now,
        date_part('epoch', i.starts_at) * 1000 as starts_at, date_part('epoch', i.ends_at) * 1000 as ends_at
      from app.user_incentives as ui
      join app.incentives as i on i.id = ui.incentive_id
      where ui.id = any ($1::bigint[])
      for update of ui`,
    values: [ids],
  });
  const verdicts = rows.map((row) => {
    const now = Temporal.Instant.fromEpochMilliseconds(row.now.getTime());
    return judge(registry, row, { data: row.data, now });
  });
  await client.query({
    name: "apply_verdicts",
    text: "select app.apply_verdicts($1::bigint[], $2::integer[], $3::jsonb)",
    values: [rows.map(({ id }) => id), rows.map((_, index) => index + 1), JSON.stringify(verdicts)],
  });
  await client.query("commit");
}

/** Of the rows that are due, in the order in which they were written. */
export async function readDueIds(
  client: Pick<ClientBase, "query">,
  table = "app.user_incentives",
): Promise<string[]> {
  const { rows } = await client.query<{ id: string }>(
    `select id from ${table} where evaluation_due order by id`,
  );
  return rows.map(({ id }) => id);
}
