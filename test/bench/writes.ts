/**
 * What a writer pays for the bell: inserts into app.user_incentives beside the same table without our triggers, each in a
 * clone of its own. Called by bench.ts.
 */
import { checkCompletions, checkWritten, waitUntilNothingIsDue } from "./counts.ts";
import type { InsertLoadOptions, InsertLoadResult } from "./children/insert_load.ts";
import { startChild, startWorker } from "./programs.ts";
import { say } from "./report.ts";
import { birthRecord } from "./server.ts";
import type { BenchDatabase, Clone } from "./server.ts";
import { toRow } from "./statistics.ts";
import type { Bar, Row } from "./statistics.ts";

export interface WritesOptions {
  clone: Clone;
  rounds: number;
  measureMs: number;
  warmUpMs: number;
  /** Measures the bare table once a round and number of clients, not anew beside each of ours. */
  shareBare: boolean;
}

/** Who would look after the writer. */
type Worker = "awake, not judging" | "judging all of it" | "none (an outage)";
interface Load {
  clients: number;
  rowsPerStatement: number;
}

const bare = "the same table, indexes and foreign keys without our triggers";
const comparisons: (Load & { worker: Worker; bar: Bar })[] = [
  ...[8, 32].flatMap((clients) => [
    { clients, rowsPerStatement: 1, worker: "awake, not judging" as const, bar: bars(0.93, 0.97) },
    { clients, rowsPerStatement: 1, worker: "judging all of it" as const, bar: bars(0.7, 0.8) },
    { clients, rowsPerStatement: 1, worker: "none (an outage)" as const, bar: bars(0.7, 0.85) },
  ]),
  { clients: 1, rowsPerStatement: 1000, worker: "awake, not judging", bar: bars(0.9, 0.97) },
];

function bars(atLeast: number, reach: number): Bar {
  return { atLeast, reach };
}

export async function measureWrites(options: WritesOptions): Promise<Row[]> {
  const ratios = comparisons.map((): number[] => []);
  const bells: number[] = [];
  for (let round = 0; round < options.rounds; round += 1) {
    let shared: { key: string; rate: number } | undefined;
    for (const [index, comparison] of comparisons.entries()) {
      const key = `${comparison.clients} ${comparison.rowsPerStatement}`;
      if (!options.shareBare || shared?.key !== key) {
        shared = { key, rate: await measureBare(comparison, options) };
      }
      const ours = await measureOurs(comparison, options);
      ratios[index]!.push(ours.rate / shared.rate);
      if (ours.bells !== undefined) bells.push(ours.bells);
      const rates = `${ours.rate.toFixed(0)}/s beside ${shared.rate.toFixed(0)}/s`;
      say(`round ${round + 1}: ${name(comparison)}: ${rates}`);
    }
  }
  return [
    ...comparisons.map((comparison, index) =>
      toRow(name(comparison), bare, ratios[index]!, comparison.bar),
    ),
    toRow("bell jobs at the end of an outage", "-", bells, { atMost: 2 }),
  ];
}

function name({ clients, rowsPerStatement, worker }: Load & { worker: Worker }): string {
  const who = clients === 1 ? "1 client" : `${clients} clients`;
  const what = rowsPerStatement === 1 ? "one row" : `${rowsPerStatement} rows`;
  return `inserts of ${what}, ${who}, worker: ${worker}`;
}

async function measureBare(load: Load, options: WritesOptions): Promise<number> {
  const database = await options.clone();
  const result = await run(database, "app.bare", load, options);
  await checkWritten(database.client, "app.bare", result.rows);
  await database.drop();
  return result.rowsPerSecond;
}

async function measureOurs(
  { worker, ...load }: Load & { worker: Worker },
  options: WritesOptions,
): Promise<{ rate: number; bells: number | undefined }> {
  const database = await options.clone();
  const { client } = database;
  if (worker === "awake, not judging") {
    await client.query("select pg_advisory_lock(app.awake_lock())");
  }
  const process = worker === "judging all of it" && (await startWorker(database.ownerUrl));
  const result = await run(database, "app.user_incentives", load, options);
  if (process) {
    await waitUntilNothingIsDue(client, 60);
    await checkCompletions(client, result.rows);
    await process.stop();
  } else {
    await checkWritten(client, "app.user_incentives", result.rows);
  }
  const bells = worker === "none (an outage)" ? await countBells(database) : undefined;
  await database.drop();
  return { rate: result.rowsPerSecond, bells };
}

async function run(
  database: BenchDatabase,
  table: InsertLoadOptions["table"],
  { clients, rowsPerStatement }: Load,
  { warmUpMs, measureMs }: WritesOptions,
): Promise<InsertLoadResult> {
  const options: InsertLoadOptions = {
    url: database.ownerUrl,
    table,
    clients,
    rowsPerStatement,
    data: birthRecord,
    warmUpMs,
    measureMs,
    prefix: "member",
  };
  const load = await startChild<InsertLoadResult>("insert_load", options);
  await database.client.query("checkpoint");
  const result = await load.go();
  await load.stop();
  return result;
}

async function countBells({ client }: BenchDatabase): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    "select count(*)::int from graphile_worker.jobs where task_identifier = 'evaluate_incentives'",
  );
  return rows[0]?.count ?? 0;
}
