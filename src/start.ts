/**
 * The process: opens what it needs in order, and closes it in the reverse order. Called by the CLI's `start` and by tests.
 */
import { readFile } from "node:fs/promises";
import type { RequestListener } from "node:http";
import { findAdapterProblems } from "./adapters_in_use.ts";
import { refreshOnChange } from "./cache/refresh_on_change.ts";
import type { Configuration } from "./configuration.ts";
import { migrate } from "./database/migrate.ts";
import { openDatabase, ownerUrlOf } from "./database/open.ts";
import type { Database } from "./database/open.ts";
import { openPool } from "./database/pools.ts";
import { loadListeners } from "./delivery/registry.ts";
import { judgingAlone, judgingDefaults, JudgingPool } from "./evaluation/judging_pool.ts";
import { loadEvaluators } from "./evaluation/registry.ts";
import type { EvaluatorRegistry } from "./evaluation/registry.ts";
import { errorClass } from "./error_class.ts";
import type { Logger } from "./logger.ts";
import { createMetricsHandler, startMetricsServer } from "./metrics/endpoint.ts";
import { createGauges } from "./metrics/gauges.ts";
import { startRunner } from "./worker/runner.ts";
import type { SupervisedRunner } from "./worker/runner.ts";
import { buildSchedule, buildTasks, concurrency } from "./worker/tasks.ts";

export interface StartOptions {
  configuration: Configuration;
  logger: Logger;
  /** Which part to run; both when left out. */
  only?: "api" | "worker" | undefined;
  /** Where the evaluators are, if not in src/evaluators. */
  evaluatorsFolder?: string | undefined;
}

export interface RunningProcess {
  /** Where the API listens; undefined for a worker alone. */
  apiPort: number | undefined;
  /** Ends everything in order. Safe to call twice. */
  stop(): Promise<void>;
  /** Begins the worker anew, if there is one here: something in it is broken. */
  restartWorker(why: string): void;
}

export type Readiness = Record<string, () => Promise<true | string>>;

export async function start({
  configuration,
  logger,
  only,
  evaluatorsFolder,
}: StartOptions): Promise<RunningProcess> {
  const opened: (() => Promise<void>)[] = [];
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => (stopped ??= closeInReverse(opened, logger));
  try {
    // Not for a worker: what the API is made of takes half a second of CPU and 40 MB. First, so that whatever is missing of it
    // is said before anything begins.
    const api = only === "worker" ? undefined : await import("./start_api.ts");
    const database = await openDatabase(configuration, logger, "own");
    opened.push(() => database.close());
    if (database.ownerUrl) await migrate(database.ownerUrl, logger);
    if (database.isEmbedded) await loadDemoCatalogue(ownerUrlOf(database), logger);

    const evaluators = await loadEvaluators(evaluatorsFolder);
    const readiness: Readiness = {};
    const part: Part = {
      configuration,
      logger,
      database,
      evaluators,
      evaluatorsFolder,
      opened,
      readiness,
    };
    const runner = only === "api" ? undefined : await startWorkerPart(part);
    if (only === "worker") await startMetricsPart(part);
    const apiPort = await api?.startApiPart(part, openMetrics(part));
    return { apiPort, stop, restartWorker: (why) => runner?.restart(why) };
  } catch (error) {
    await stop();
    throw error;
  }
}

export interface Part {
  configuration: Configuration;
  logger: Logger;
  database: Database;
  evaluators: EvaluatorRegistry;
  evaluatorsFolder: string | undefined;
  /** What to close, in the order in which it was opened. */
  opened: (() => Promise<void>)[];
  readiness: Readiness;
}

async function startWorkerPart(part: Part): Promise<SupervisedRunner> {
  const { configuration, logger, database, evaluators, opened, readiness } = part;
  const listeners = await loadListeners();
  const pool = openPool(ownerUrlOf(database), "worker", 2, logger, { heldAtMostMs: 12_000 });
  opened.push(() => pool.end());
  for (const problem of await findAdapterProblems(pool, evaluators, listeners)) {
    logger.error(problem);
  }

  const folder = part.evaluatorsFolder && { evaluatorsFolder: part.evaluatorsFolder };
  const judges = new JudgingPool({ ...judgingDefaults, ...folder });
  const judgesAlone = new JudgingPool({ ...judgingAlone, ...folder });
  opened.push(async () => void (await Promise.all([judges.close(), judgesAlone.close()])));
  const adapters = { evaluators, judges, judgesAlone, listeners };
  const stopping = new AbortController();
  const outOfTime = new AbortController();
  const signals = { stopping: stopping.signal, outOfTime: outOfTime.signal };
  const runner = await startRunner({
    databaseUrl: ownerUrlOf(database),
    tasks: (ofRun) => buildTasks({ ...adapters, pool: ofRun, logger, ...signals }),
    schedule: buildSchedule(configuration.cacheRefreshCron),
    logger,
    concurrency,
  });
  const everyMs = configuration.cacheRefreshOnChangeMs;
  // A pool of its own, because a refresh may hold its connection for long.
  const refreshPool = openPool(ownerUrlOf(database), "refresh", 1, logger);
  opened.push(() => refreshPool.end());
  const { signal } = stopping;
  const refreshing = everyMs && refreshOnChange({ pool: refreshPool, logger, everyMs, signal });
  opened.push(async () => {
    stopping.abort();
    setTimeout(() => outOfTime.abort(), 3000).unref();
    await runner.stop();
    await refreshing;
  });
  readiness.worker = async () => runner.isRunning() || "not running";
  readiness.adapters = async () =>
    (await findAdapterProblems(pool, evaluators, listeners)).join("; ") || true;
  return runner;
}

/** For a worker that runs alone; beside an API the metrics are on its port. */
async function startMetricsPart(part: Part): Promise<void> {
  const { host, metricsPort } = part.configuration;
  const metrics = openMetrics(part);
  if (!metrics || metricsPort === undefined) return;
  const server = await startMetricsServer(metrics, host, metricsPort);
  part.opened.push(() => server.stop());
}

/** Undefined without METRICS_TOKEN. What the database knows is left out where the owner's URL is not known. */
function openMetrics({
  configuration,
  database,
  logger,
  opened,
}: Part): RequestListener | undefined {
  const { metricsToken: token } = configuration;
  if (!token) return undefined;
  if (!database.ownerUrl) return createMetricsHandler({ token, gauges: undefined, logger });
  const pool = openPool(database.ownerUrl, "metrics", 1, logger);
  opened.push(() => pool.end());
  return createMetricsHandler({ token, gauges: createGauges(pool, logger), logger });
}

async function closeInReverse(opened: (() => Promise<void>)[], logger: Logger): Promise<void> {
  for (const close of opened.toReversed()) {
    await close().catch((error: unknown) => {
      logger.error({ error: errorClass(error) }, "could not close in order");
    });
  }
}

async function loadDemoCatalogue(ownerUrl: string, logger: Logger): Promise<void> {
  const pool = openPool(ownerUrl, "demo", 1, logger);
  try {
    const file = new URL("../db/demo_catalogue.sql", import.meta.url);
    await pool.query(await readFile(file, "utf8"));
  } finally {
    await pool.end();
  }
}
