/**
 * How long members wait during a refresh, and without one. Called by the measure of the refresh.
 *
 * Both sides have the same number of reads and of writes, as the longest of more is longer. Half of the side without a refresh
 * is before it and half after, and the load has run for a while before either: what a session asks first takes it ten times
 * as long as what it asks later, and the side that went first was blamed for that.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { MemberLoadOptions, MemberLoadResult } from "./children/member_load.ts";
import { refuseUnless } from "./counts.ts";
import { startChild, startWorker } from "./programs.ts";
import type { BenchDatabase } from "./server.ts";
import { percentile } from "./statistics.ts";

const warmUpMs = 2000;
/** By how much the side without is longer, to be cut to the number of the other. */
const spareMs = 500;

export interface Load {
  /** In app.user_incentives, two of each member. */
  rows: number;
  readsPerSecond: number;
  writesPerSecond: number;
}

/** In milliseconds; `read` and `write` are the 99.9th percentiles. */
export interface Stalls {
  longestRead: number;
  longestWrite: number;
  read: number;
  write: number;
}

export interface Pair {
  during: Stalls;
  without: Stalls;
  /** How many of each there were, on either side. */
  reads: number;
  writes: number;
  seconds: number;
}

/** There must have been a refresh before. */
export async function measureStalls(database: BenchDatabase, load: Load): Promise<Pair> {
  const worker = await startWorker(database.ownerUrl);
  const child = await startChild<MemberLoadResult>("member_load", {
    url: database.ownerUrl,
    members: load.rows / 2,
    readsPerSecond: load.readsPerSecond,
    writesPerSecond: load.writesPerSecond,
    connections: 4,
    measureMs: 600_000,
  } satisfies MemberLoadOptions);
  const run = async (work: () => Promise<unknown>): Promise<MemberLoadResult> => {
    await database.client.query("checkpoint");
    const running = child.go();
    await Promise.race([work(), running]);
    child.finish();
    return running;
  };
  await run(() => sleep(warmUpMs));
  const halfMs = (await lastRefreshMs(database)) / 2;
  const before = await run(() => sleep(halfMs));
  let ms = 0;
  const during = await run(async () => {
    ms = await refresh(database);
  });
  const after = await run(() => sleep(Math.max(0, ms - halfMs) + spareMs));
  await child.stop();
  await worker.stop();
  return { ...compare(during, before, after), seconds: ms / 1000 };
}

async function lastRefreshMs({ client }: BenchDatabase): Promise<number> {
  const { rows } = await client.query<{ ms: number }>(`
    select (extract(epoch from took) * 1000)::float8 as ms
    from cache.refreshes
    where took is not null
    order by id desc
    limit 1`);
  refuseUnless(1, { "refreshes before": rows.length });
  return rows[0]!.ms;
}

/** How long it took. */
async function refresh({ client }: BenchDatabase): Promise<number> {
  const began = performance.now();
  const { rows } = await client.query<{ outcome: string }>("call cache.refresh()");
  refuseUnless(1, { "snapshot taken": rows[0]?.outcome === "taken" ? 1 : 0 });
  return performance.now() - began;
}

function compare(
  during: MemberLoadResult,
  before: MemberLoadResult,
  after: MemberLoadResult,
): Omit<Pair, "seconds"> {
  const reads = toSameNumber(during.reads, [...before.reads, ...after.reads]);
  const writes = toSameNumber(during.writes, [...before.writes, ...after.writes]);
  return {
    during: toStalls(reads[0], writes[0]),
    without: toStalls(reads[1], writes[1]),
    reads: reads[0].length,
    writes: writes[0].length,
  };
}

function toSameNumber(one: number[], other: number[]): [number[], number[]] {
  const count = Math.min(one.length, other.length);
  return [one.slice(0, count), other.slice(0, count)];
}

function toStalls(reads: number[], writes: number[]): Stalls {
  return {
    longestRead: Math.max(...reads),
    longestWrite: Math.max(...writes),
    read: percentile(reads, 0.999),
    write: percentile(writes, 0.999),
  };
}
