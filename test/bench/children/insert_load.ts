/**
 * Clients that insert for some seconds, each its next statement as soon as the one before has committed, or at a given rate.
 * Called by the measures of writing and of latency; the same for both sides of a pair.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { serve } from "./serve.ts";

export interface InsertLoadOptions {
  url: string;
  table: "app.user_incentives" | "app.bare";
  clients: number;
  rowsPerStatement: number;
  /** What members record, one after the other, each as JSON. */
  data: string[];
  measureMs: number;
  /** Of all clients together; as fast as they can when left out. */
  statementsPerSecond?: number;
  /** Makes the members' ids unique between processes. */
  prefix: string;
}

export interface InsertLoadResult {
  rows: number;
  /** From the first statement being sent until the last had committed. */
  seconds: number;
}

await serve(async (options: InsertLoadOptions) => {
  const { url, clients, table, rowsPerStatement } = options;
  const connected = Array.from({ length: clients }, () => new Client({ connectionString: url }));
  await Promise.all(connected.map((client) => client.connect()));
  const { rows } = await connected[0]!.query<{ id: number }>(
    "select id from app.incentives where key = 'birth_record'",
  );
  const text =
    rowsPerStatement === 1
      ? `insert into ${table} (user_id, incentive_id, data) values ($1::text, $2::int, $3::jsonb)`
      : `insert into ${table} (user_id, incentive_id, data)
         select $1::text || i, $2::int, $3::jsonb from generate_series(1, ${rowsPerStatement}) as i`;
  let nextMember = 0;
  const insert = (client: Client): Promise<unknown> =>
    client.query({
      name: "insert",
      text,
      values: [
        `${options.prefix}-${(nextMember += 1)}-`,
        rows[0]?.id,
        options.data[nextMember % options.data.length],
      ],
    });
  return (finish: AbortSignal): Promise<InsertLoadResult> =>
    load(connected, insert, options, finish);
});

async function load(
  clients: Client[],
  insert: (client: Client) => Promise<unknown>,
  { measureMs, rowsPerStatement, statementsPerSecond }: InsertLoadOptions,
  finish: AbortSignal,
): Promise<InsertLoadResult> {
  const begin = performance.now();
  const until = begin + measureMs;
  let total = 0;
  const pause = statementsPerSecond ? (1000 * clients.length) / statementsPerSecond : 0;
  await Promise.all(
    clients.map(async (client, index) => {
      let due = begin + (pause * index) / clients.length;
      while (performance.now() < until && !finish.aborted) {
        if (pause > 0) {
          const wait = due - performance.now();
          if (wait > 0) await sleep(wait);
          due += pause;
        }
        await insert(client);
        total += 1;
      }
    }),
  );
  return {
    rows: total * rowsPerStatement,
    seconds: (performance.now() - begin) / 1000,
  };
}
