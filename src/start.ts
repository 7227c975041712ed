/**
 * The process: opens what it needs in order, and closes it in the reverse order. Called by the CLI's `start` and by tests.
 */
import { readFile } from "node:fs/promises";
import type { Pool } from "pg";
import { findAdapterProblems } from "./adapters_in_use.ts";
import { startApi } from "./api/server.ts";
import { createTokens } from "./api/tokens.ts";
import type { Configuration } from "./configuration.ts";
import { migrate } from "./database/migrate.ts";
import { openDatabase, ownerUrlOf } from "./database/open.ts";
import type { Database } from "./database/open.ts";
import { openPool } from "./database/pools.ts";
import { loadListeners } from "./delivery/registry.ts";
import { loadEvaluators } from "./evaluation/registry.ts";
import type { EvaluatorRegistry } from "./evaluation/registry.ts";
import { LiveSubscriber } from "./live/subscriber.ts";
import { errorClass } from "./logger.ts";
import type { Logger } from "./logger.ts";
import { startRunner } from "./worker/runner.ts";
import { sweep } from "./worker/sweep.ts";
import { buildSchedule, buildTasks } from "./worker/tasks.ts";

export interface StartOptions {
  configuration: Configuration;
  logger: Logger;
  /** Which part to run; both when left out. */
  only?: "api" | "worker" | undefined;
}

export interface RunningProcess {
  /** Where the API listens; undefined for a worker alone. */
  apiPort: number | undefined;
  /** Ends everything in order. Safe to call twice. */
  stop(): Promise<void>;
}

type Readiness = Record<string, () => Promise<true | string>>;

export async function start({
  configuration,
  logger,
  only,
}: StartOptions): Promise<RunningProcess> {
  const opened: (() => Promise<void>)[] = [];
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => (stopped ??= closeInReverse(opened, logger));
  try {
    const database = await openDatabase(configuration, logger, "own");
    opened.push(() => database.close());
    if (database.ownerUrl) await migrate(database.ownerUrl, logger);
    if (database.isEmbedded) await loadDemoCatalogue(ownerUrlOf(database), logger);

    const evaluators = await loadEvaluators();
    const readiness: Readiness = {};
    if (only !== "api") {
      await startWorkerPart({ configuration, logger, database, evaluators, opened, readiness });
    }
    const apiPort =
      only === "worker"
        ? undefined
        : await startApiPart({ configuration, logger, database, evaluators, opened, readiness });
    return { apiPort, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

interface Part {
  configuration: Configuration;
  logger: Logger;
  database: Database;
  evaluators: EvaluatorRegistry;
  /** What to close, in the order in which it was opened. */
  opened: (() => Promise<void>)[];
  readiness: Readiness;
}

async function startWorkerPart(part: Part): Promise<void> {
  const { configuration, logger, database, evaluators, opened, readiness } = part;
  const listeners = await loadListeners();
  const pool = openPool(ownerUrlOf(database), "worker", 10, logger);
  opened.push(() => pool.end());
  for (const problem of await findAdapterProblems(pool, evaluators, listeners)) {
    logger.error(problem);
  }

  const stopping = new AbortController();
  const runner = await startRunner({
    pool,
    tasks: buildTasks({ pool, evaluators, listeners, logger, stopping: stopping.signal }),
    schedule: buildSchedule(configuration.cacheRefreshCron),
    logger,
    concurrency: 4,
  });
  opened.push(async () => {
    stopping.abort();
    await runner.stop();
  });
  await sweep(pool);
  readiness.worker = async () => runner.isRunning() || "not running";
  readiness.adapters = async () =>
    (await findAdapterProblems(pool, evaluators, listeners)).join("; ") || true;
}

async function startApiPart(part: Part): Promise<number> {
  const { configuration, logger, database, evaluators, opened, readiness } = part;
  const { authenticatorUrl, jwtSecret } = database.forApi();
  const pool = openPool(authenticatorUrl, "api", 20, logger);
  opened.push(() => pool.end());
  const live = new LiveSubscriber(authenticatorUrl, logger);
  live.on("completed", (range) => logger.debug(range, "incentive_completed heard"));
  live.start();
  opened.push(() => live.stop());
  readiness.database = () => isReachable(pool);
  readiness.live = async () => live.isHearing() || "not hearing notifications";

  const api = await startApi({
    host: configuration.host,
    port: configuration.port,
    pool,
    tokens: createTokens(jwtSecret),
    evaluators,
    logger,
    production: configuration.nodeEnv === "production",
    readiness: () => askAll(readiness),
  });
  opened.push(() => api.stop());
  return api.port;
}

async function isReachable(pool: Pool): Promise<true | string> {
  await pool.query("select 1");
  return true;
}

/** What throws is not well; its class says why. */
async function askAll(readiness: Readiness): Promise<Record<string, true | string>> {
  const answers = Object.entries(readiness).map(async ([part, ask]) => {
    const answer = await ask().catch((error: unknown) => errorClass(error));
    return [part, answer] as const;
  });
  return Object.fromEntries(await Promise.all(answers));
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
