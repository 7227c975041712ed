/**
 * `npm run bench -- writes|drain|latency|refresh|reads`: how fast we are beside what else one would use, real programs side by side on
 * one server in one run. Called by a person or a pipeline. It fails when counts are wrong, not when a bar is missed: that
 * stands in the table, and whoever calls it decides.
 */
import { Option, program } from "commander";
import { measureDrain } from "./drain.ts";
import { measureLatency } from "./latency.ts";
import { measureReads } from "./reads.ts";
import { measureRefresh } from "./refresh.ts";
import { say, toTable, writeJson } from "./report.ts";
import { closeAfter, closeAll, closeOnSignals, wasStopped } from "./resources.ts";
import { makeTemplate, startBenchServer } from "./server.ts";
import type { ServerUrls } from "./server.ts";
import type { Row } from "./statistics.ts";
import { measureWrites } from "./writes.ts";

interface Flags {
  json?: string;
  short: boolean;
  large: boolean;
}

type Suite = (urls: ServerUrls, flags: Flags) => Promise<Row[]>;

interface SuiteOptions {
  description: string;
  measure: Suite;
  /** A library the server starts with. */
  preload?: string;
}

const suites: Record<string, SuiteOptions> = {
  writes: {
    description: "what a writer pays for the bell",
    measure: async (urls, { short }) =>
      measureWrites({
        clone: await makeTemplate(urls, 10_000),
        rounds: short ? 2 : 5,
        measureMs: short ? 1000 : 4000,
        say,
      }),
  },
  latency: {
    description: "how long after a write its completion is heard of",
    measure: async (urls, { short }) =>
      measureLatency({
        clone: await makeTemplate(urls, 10_000),
        rounds: short ? 2 : 5,
        writes: short ? 100 : 300,
        sustainMs: short ? 1500 : 4000,
      }),
  },
  drain: {
    description: "how fast what is due gets judged",
    measure: async (urls, { short, large }) =>
      measureDrain({
        clone: await makeTemplate(urls, 0),
        rounds: short ? 2 : 5,
        rows: short ? 20_000 : 100_000,
        say,
        others: short
          ? { graphile_worker_jobs: 500, pg_boss_jobs: 4000, bullmq_jobs: 2000 }
          : { graphile_worker_jobs: 3000, pg_boss_jobs: 20_000, bullmq_jobs: 10_000 },
        ...(!short && { largeTable: large ? 10_000_000 : 1_000_000 }),
      }),
  },
  refresh: {
    description:
      "what members notice of a refresh of the cache, and how soon they read what changed",
    measure: async (urls, { short }) =>
      measureRefresh({
        clone: await makeTemplate(urls, 0),
        rounds: short ? 2 : 3,
        rows: short ? 100_000 : 2_000_000,
        readsPerSecond: 200,
        writesPerSecond: 50,
        say,
      }),
  },
  reads: {
    description: "what a member's read costs, from memory and not, and whether it is ever stale",
    preload: "pg_stat_statements",
    measure: async (urls, { short }) =>
      measureReads({
        clone: await makeTemplate(urls, 10_000),
        rounds: short ? 2 : 5,
        seconds: short ? 1 : 4,
        reads: short ? 5000 : 100_000,
        say,
      }),
  },
};

program
  .name("npm run bench --")
  .description(
    "Measures Incentives beside what else one would use. fsync is on; nothing is simulated.",
  );

for (const [name, suite] of Object.entries(suites)) {
  program
    .command(name)
    .description(suite.description)
    .option("--json <file>", "also write the table as JSON")
    .addOption(new Option("--short", "under a minute, for a first look").default(false))
    .addOption(
      new Option("--large", "drain: with ten million rows")
        .default(false)
        .hideHelp(name !== "drain"),
    )
    .action((flags: Flags) => run(suite, flags));
}

async function run({ measure, preload }: SuiteOptions, flags: Flags): Promise<void> {
  closeOnSignals();
  closeAfter(flags.large ? 3600 : flags.short ? 180 : 1200);
  const began = performance.now();
  try {
    const rows = await measure(await startBenchServer(preload), flags);
    console.log(toTable(rows));
    if (flags.json) await writeJson(flags.json, rows);
    say(`took ${((performance.now() - began) / 1000).toFixed(0)} s`);
  } finally {
    await closeAll();
  }
}

try {
  await program.parseAsync();
} catch (error) {
  if (!wasStopped()) console.error(error instanceof Error ? error.stack : error);
  process.exitCode = 1;
}
