/**
 * How fast what is due gets judged: our worker beside a bare update, and beside other queues that do the same to each row.
 * Called by bench.ts, and in a tiny form by the test. Adding the jobs of the other queues is not timed.
 */
import { drainOurs, drainWith } from "./drain_runs.ts";
import { startRedis } from "./programs.ts";
import { fill } from "./rows.ts";
import type { Clone } from "./server.ts";
import { toRow } from "./statistics.ts";
import type { Bar, Row } from "./statistics.ts";

export interface DrainOptions {
  clone: Clone;
  rounds: number;
  /** Due rows, for us and for the bare update. */
  rows: number;
  /** Due rows for each of the others, which are slower; who is not named does not run. */
  others: { graphile_worker_jobs?: number; pg_boss_jobs?: number; bullmq_jobs?: number };
  /** Rows of the table in which as many are due as in ours; left out, that is not measured. */
  largeTable?: number;
  /** Hears how each run went. */
  say: (line: string) => void;
}

type Runner = "update_loop" | keyof DrainOptions["others"];

const rivals: Record<Runner, { beside: string; bar: Bar }> = {
  graphile_worker_jobs: {
    beside: "a graphile-worker job per row (`run` with its defaults: one job at a time)",
    bar: { atLeast: 40, reach: 60 },
  },
  update_loop: {
    beside: "a bare update of 1,000 ids a statement, no triggers, events or rewards",
    bar: { atLeast: 0.4, reach: 0.6 },
  },
  pg_boss_jobs: {
    beside: "pg-boss, a job per row, in batches of 100, 4 at a time",
    bar: { atLeast: 4, reach: 8 },
  },
  bullmq_jobs: {
    beside: "BullMQ, a job per row, 50 at a time, Redis with appendfsync always",
    bar: { atLeast: 4, reach: 8 },
  },
};

export async function measureDrain(options: DrainOptions): Promise<Row[]> {
  const { clone, rows, others, largeTable, say } = options;
  const measured: Runner[] = ["update_loop", ...(Object.keys(others) as Runner[])];
  const redisPort = others.bullmq_jobs ? await startRedis() : undefined;
  const large = largeTable ? await clone() : undefined;
  if (large) await fill(large, { judged: largeTable! - rows });
  const idle = (await withClone(clone, (database) => drainOurs(database, 0))).commits;

  const found: Record<string, number[]> = {};
  const note = (what: string, value: number): void => void (found[what] ??= []).push(value);
  for (let round = 0; round < options.rounds; round += 1) {
    const ours = await withClone(clone, async (database) => {
      await fill(database, { due: rows });
      return drainOurs(database, rows);
    });
    say(`round ${round + 1}: ours: ${ours.rowsPerSecond.toFixed(0)} rows/s`);
    note("commits", ((ours.commits - idle) * 1000) / rows);
    note("notifies", (ours.notifies * 1000) / rows);
    for (const runner of measured) {
      const due = runner === "update_loop" ? rows : others[runner]!;
      const rate = await withClone(clone, (database) =>
        drainWith(runner, database, due, { explanation: ours.explanation, redisPort }),
      );
      say(`round ${round + 1}: ${runner}: ${rate.toFixed(0)} rows/s`);
      note(runner, ours.rowsPerSecond / rate);
    }
    if (large) {
      await fill(large, { due: rows, from: round * rows });
      const { rowsPerSecond } = await drainOurs(large, rows, (round + 1) * rows);
      say(`round ${round + 1}: ours in the large table: ${rowsPerSecond.toFixed(0)} rows/s`);
      note("large", rowsPerSecond / ours.rowsPerSecond);
    }
  }
  await large?.drop();
  return report(found, measured, options);
}

function report(found: Record<string, number[]>, measured: Runner[], options: DrainOptions): Row[] {
  const count = options.rows.toLocaleString("en");
  const perThousand: Bar = { atMost: 5, reach: 2 };
  return [
    ...measured.map((runner) =>
      toRow(
        `rows/s from due to rewarded, ${count} due`,
        rivals[runner].beside,
        found[runner]!,
        rivals[runner].bar,
      ),
    ),
    toRow("commits per 1,000 completions, deliveries too", "-", found["commits"]!, perThousand),
    toRow("NOTIFYs per 1,000 completions", "-", found["notifies"]!, perThousand),
    ...(options.largeTable
      ? [
          toRow(
            `rows/s in a table of ${options.largeTable.toLocaleString("en")} rows, ${count} due`,
            `a table of ${count} rows, all due`,
            found["large"]!,
            { atLeast: 0.9 },
          ),
        ]
      : []),
  ];
}

async function withClone<T>(
  clone: Clone,
  work: (database: Awaited<ReturnType<Clone>>) => Promise<T>,
): Promise<T> {
  const database = await clone();
  try {
    return await work(database);
  } finally {
    await database.drop();
  }
}
