/** Fills a table with rows before a measurement, its triggers off, as if they had been written some time ago. */
import { birthRecords } from "./server.ts";
import type { BenchDatabase } from "./server.ts";

export interface Filling {
  table?: "app.user_incentives" | "app.bare";
  /** Rows that wait to be judged; their members are numbered after `from`. */
  due?: number;
  from?: number;
  /** Rows that do not, of other members. */
  judged?: number;
}

export async function fill(
  { client }: BenchDatabase,
  { table = "app.user_incentives", due = 0, from = 0, judged = 0 }: Filling,
): Promise<void> {
  await client.query("set session_replication_role = replica");
  const insert = `
    insert into ${table} (user_id, incentive_id, data, evaluation_due)
    select $1::text || i, incentives.id, ($2::jsonb[])[i % 365 + 1], $3
    from generate_series($4::int + 1, $5::int) as i, app.incentives
    where key = 'birth_record'`;
  if (judged > 0) await client.query(insert, ["before ", birthRecords, false, 0, judged]);
  if (due > 0) await client.query(insert, ["member ", birthRecords, true, from, from + due]);
  await client.query("set session_replication_role = default");
  await client.query("vacuum analyze");
  await client.query("checkpoint");
}
