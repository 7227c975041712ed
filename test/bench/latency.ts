/**
 * How long after a write its completion is heard of, beside a NOTIFY that the write itself sends; alone, and while others
 * write at half of what can be sustained. Both times run from the moment the insert is sent, on one clock, to the same
 * listening client. Called by bench.ts.
 */
import { checkCompletions, checkWritten, waitUntilNothingIsDue } from "./counts.ts";
import type { InsertLoadOptions, InsertLoadResult } from "./children/insert_load.ts";
import type { LatencyProbeOptions, LatencyProbeResult } from "./children/latency_probe.ts";
import { startChild, startWorker } from "./programs.ts";
import { say } from "./report.ts";
import { birthRecord, birthRecords } from "./server.ts";
import type { BenchDatabase, Clone } from "./server.ts";
import { percentile, toRow } from "./statistics.ts";
import type { Row } from "./statistics.ts";

export interface LatencyOptions {
  clone: Clone;
  rounds: number;
  writes: number;
  /** How long writers write to find out what can be sustained. */
  sustainMs: number;
}

const clients = 8;
const pauseMs = { from: 20, to: 60 };

interface Percentiles {
  p50: number;
  p99: number;
}

interface Sustained {
  rowsPerSecond: number;
  /** In the table by then. */
  rows: number;
}

export async function measureLatency(options: LatencyOptions): Promise<Row[]> {
  const found = { p50: [] as number[], p99: [] as number[], busy: [] as number[] };
  for (let round = 0; round < options.rounds; round += 1) {
    const database = await options.clone();
    const worker = await startWorker(database.ownerUrl);
    const plain = await probe(database, options, "write", `plain ${round}`);
    const alone = await probe(database, options, "completion", `alone ${round}`);
    await checkWritten(database.client, "app.bare", options.writes);
    const sustained = await sustain(database, options);
    const busy = await probeWhileWriting(database, options, sustained);
    await worker.stop();
    await database.drop();

    found.p50.push(alone.p50 / plain.p50);
    found.p99.push(alone.p99 / plain.p99);
    found.busy.push(busy.p99 / alone.p99);
    const times = Object.entries({ plain, alone, busy })
      .map(([name, { p50, p99 }]) => `${name} ${p50.toFixed(1)}/${p99.toFixed(1)}`)
      .join(", ");
    say(
      `round ${round + 1}: p50/p99 in ms: ${times} (beside ${(sustained.rowsPerSecond / 2).toFixed(0)} writes/s)`,
    );
  }
  const heard = "insert sent -> event heard";
  const plainly = "insert with pg_notify in its transaction -> heard";
  return [
    toRow(`${heard}, p50`, plainly, found.p50, { atMost: 3, reach: 2 }),
    toRow(`${heard}, p99`, plainly, found.p99, { atMost: 3, reach: 2 }),
    toRow(
      `${heard}, p99, with writers at half of the sustained rate`,
      "the same, nobody else writing",
      found.busy,
      {
        atMost: 5,
        reach: 3,
      },
    ),
  ];
}

async function probe(
  { ownerUrl }: BenchDatabase,
  { writes }: LatencyOptions,
  teller: LatencyProbeOptions["teller"],
  prefix: string,
): Promise<Percentiles> {
  const options: LatencyProbeOptions = {
    url: ownerUrl,
    teller,
    writes,
    pauseMs,
    data: birthRecord,
    prefix,
  };
  const child = await startChild<LatencyProbeResult>("latency_probe", options);
  const { fromSent } = await child.go();
  await child.stop();
  return { p50: percentile(fromSent, 0.5), p99: percentile(fromSent, 0.99) };
}

/** Rows a second that clients can write and the worker has judged, when they write as fast as they can. */
async function sustain(
  database: BenchDatabase,
  { sustainMs, writes }: LatencyOptions,
): Promise<Sustained> {
  const child = await startLoad(database, { measureMs: sustainMs, prefix: "sustained" });
  const start = performance.now();
  const { rows } = await child.go();
  await waitUntilNothingIsDue(database.client, 60);
  const seconds = (performance.now() - start) / 1000;
  await child.stop();
  await checkCompletions(database.client, rows + writes);
  return { rows: rows + writes, rowsPerSecond: rows / seconds };
}

async function probeWhileWriting(
  database: BenchDatabase,
  options: LatencyOptions,
  sustained: Sustained,
): Promise<Percentiles> {
  const child = await startLoad(database, {
    measureMs: 120_000,
    statementsPerSecond: sustained.rowsPerSecond / 2,
    prefix: "busy",
  });
  const writing = child.go();
  const busy = await probe(database, options, "completion", "while busy");
  child.finish();
  const { rows } = await writing;
  await child.stop();
  await waitUntilNothingIsDue(database.client, 60);
  await checkCompletions(database.client, sustained.rows + options.writes + rows);
  return busy;
}

function startLoad(
  { ownerUrl }: BenchDatabase,
  options: Pick<InsertLoadOptions, "measureMs" | "prefix" | "statementsPerSecond">,
): ReturnType<typeof startChild<InsertLoadResult>> {
  const load: InsertLoadOptions = {
    url: ownerUrl,
    table: "app.user_incentives",
    clients,
    rowsPerStatement: 1,
    data: birthRecords,
    ...options,
  };
  return startChild<InsertLoadResult>("insert_load", load);
}
