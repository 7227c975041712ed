/**
 * What a writer pays for the bell: inserts into app.user_incentives beside the same table without our triggers, each in a
 * clone of its own. The two sides of a pair take turns of a fraction of a second, so that whatever else the machine does
 * falls on both. Called by bench.ts.
 */
import { checkCompletions, checkWritten, waitUntilNothingIsDue } from "./counts.ts";
import type { InsertLoadOptions, InsertLoadResult } from "./children/insert_load.ts";
import { startChild, startWorker } from "./programs.ts";
import type { Child } from "./programs.ts";
import { birthRecords } from "./server.ts";
import type { BenchDatabase, Clone } from "./server.ts";
import { toRow } from "./statistics.ts";
import type { Row } from "./statistics.ts";

export interface WritesOptions {
  clone: Clone;
  rounds: number;
  /** How long each side of a pair writes, all its turns together. */
  measureMs: number;
  /** Hears how each pair went. */
  say: (line: string) => void;
}

/** Who would look after the writer. While a worker judges, turns are longer: it has to get into its stride. */
const workers = {
  "awake, not judging": { turns: 8, bar: { atLeast: 0.93, reach: 0.97 } },
  "judging all of it": { turns: 2, bar: { atLeast: 0.7, reach: 0.8 } },
  "none (an outage)": { turns: 8, bar: { atLeast: 0.7, reach: 0.85 } },
} as const;
interface Comparison {
  clients: number;
  rowsPerStatement: number;
  worker: keyof typeof workers;
}

const comparisons: Comparison[] = [
  ...[8, 32].flatMap((clients) =>
    (Object.keys(workers) as Comparison["worker"][]).map((worker) => ({
      clients,
      rowsPerStatement: 1,
      worker,
    })),
  ),
  { clients: 1, rowsPerStatement: 1000, worker: "awake, not judging" },
];
const bare = "the same table, indexes and foreign keys without our triggers";

export async function measureWrites(options: WritesOptions): Promise<Row[]> {
  const ratios = comparisons.map((): number[] => []);
  const bells: number[] = [];
  for (let round = 0; round < options.rounds; round += 1) {
    for (const [index, comparison] of comparisons.entries()) {
      const pair = await measurePair(comparison, options);
      ratios[index]!.push(pair.ours / pair.bare);
      if (comparison.worker === "none (an outage)") bells.push(pair.bells);
      const rates = `${pair.ours.toFixed(0)}/s beside ${pair.bare.toFixed(0)}/s`;
      options.say(`round ${round + 1}: ${name(comparison)}: ${rates}`);
    }
  }
  return [
    ...comparisons.map((comparison, index) => {
      const { bar } = workers[comparison.worker];
      const isSet = comparison.rowsPerStatement > 1;
      return toRow(name(comparison), bare, ratios[index]!, isSet ? { ...bar, atLeast: 0.9 } : bar);
    }),
    toRow("bell jobs at the end of an outage", "-", bells, { atMost: 2 }),
  ];
}

function name({ clients, rowsPerStatement, worker }: Comparison): string {
  const who = clients === 1 ? "1 client" : `${clients} clients`;
  const what = rowsPerStatement === 1 ? "one row" : `${rowsPerStatement} rows`;
  return `inserts of ${what}, ${who}, worker: ${worker}`;
}

/** Rows a second of each side. */
async function measurePair(
  comparison: Comparison,
  options: WritesOptions,
): Promise<{ ours: number; bare: number; bells: number }> {
  const { worker } = comparison;
  const [database, bareDatabase] = [await options.clone(), await options.clone()];
  const { client } = database;
  if (worker === "awake, not judging") {
    await client.query("select pg_advisory_lock(app.awake_lock())");
  }
  const running = worker === "judging all of it" && (await startWorker(database.ownerUrl));
  const measureMs = options.measureMs / workers[worker].turns;
  const [ours, beside] = await Promise.all([
    startLoad(database, "app.user_incentives", comparison, measureMs),
    startLoad(bareDatabase, "app.bare", comparison, measureMs),
  ]);
  await client.query("checkpoint");
  // One turn of each to warm up is not counted.
  for (let turn = 0; turn <= workers[worker].turns; turn += 1) {
    await ours.takeTurn(turn > 0);
    if (running) await waitUntilNothingIsDue(client, 60);
    await beside.takeTurn(turn > 0);
  }
  if (running) await checkCompletions(client, ours.written());
  else await checkWritten(client, "app.user_incentives", ours.written());
  await checkWritten(bareDatabase.client, "app.bare", beside.written());
  const bells = await countBells(database);
  for (const program of [running, ours, beside]) if (program) await program.stop();
  await database.drop();
  await bareDatabase.drop();
  return { ours: ours.rate(), bare: beside.rate(), bells };
}

interface Side {
  takeTurn(counts: boolean): Promise<void>;
  stop: Child<unknown>["stop"];
  /** Rows, in all turns. */
  written(): number;
  /** Rows a second, in the turns that count. */
  rate(): number;
}

async function startLoad(
  { ownerUrl }: BenchDatabase,
  table: InsertLoadOptions["table"],
  { clients, rowsPerStatement }: Comparison,
  measureMs: number,
): Promise<Side> {
  const data = birthRecords;
  const load = { url: ownerUrl, table, clients, rowsPerStatement, data, measureMs, prefix: "m" };
  const child = await startChild<InsertLoadResult>("insert_load", load);
  const counted = { rows: 0, seconds: 0 };
  let written = 0;
  return {
    async takeTurn(counts) {
      const { rows, seconds } = await child.go();
      written += rows;
      if (!counts) return;
      counted.rows += rows;
      counted.seconds += seconds;
    },
    stop: () => child.stop(),
    written: () => written,
    rate: () => counted.rows / counted.seconds,
  };
}

async function countBells({ client }: BenchDatabase): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    "select count(*)::int from graphile_worker.jobs where task_identifier = 'evaluate_incentives'",
  );
  return rows[0]?.count ?? 0;
}
