/**
 * The supervised worker: one run after another, each begun as soon as the one before is of no use any more, because the
 * library gives up, sometimes quietly, when PostgreSQL restarts under load. Called by start.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { runMigrations } from "graphile-worker";
import type { Pool } from "pg";
import { errorClass } from "../error_class.ts";
import type { Logger } from "../logger.ts";
import { countRunnerRestart } from "../metrics/registry.ts";
import { workerLogger } from "./worker_logger.ts";
import { startWorkerRun } from "./worker_run.ts";
import type { WorkerRun, WorkerRunOptions } from "./worker_run.ts";

export interface SupervisedRunner {
  isRunning(): boolean;
  /** Begins another run: something in this one is broken. */
  restart(why: string): void;
  /** Lets the jobs in hand finish, up to 3.5 s, then ends; 5 s in all. Leaves no job locked. Safe to call twice. */
  stop(): Promise<void>;
}

const GRACE_MS = 3500;

/** Throws when the first run does not start; every later one is tried without end. */
export async function startRunner(options: WorkerRunOptions): Promise<SupervisedRunner> {
  const stopping = new AbortController();
  const told = aborted(stopping.signal);
  const leaving = new Set<Promise<void>>();
  let current: WorkerRun | undefined = await startWorkerRun(options);

  const supervised = (async () => {
    while (current) {
      const why = await Promise.race([current.ended, told]);
      // Jobs in hand may finish while the next run begins.
      const stopped: Promise<void> = current.stop(GRACE_MS).finally(() => leaving.delete(stopped));
      leaving.add(stopped);
      current = undefined;
      if (stopping.signal.aborted) break;
      options.logger.warn({ why }, "worker ended; starting it again");
      countRunnerRestart();
      current = await startAgain(options, stopping.signal);
    }
    await Promise.all(leaving);
  })();

  return {
    isRunning: () => current !== undefined,
    restart: (why) => current?.end(why),
    stop() {
      stopping.abort();
      return supervised;
    },
  };
}

/** Undefined when it is to stop meanwhile. */
async function startAgain(
  options: WorkerRunOptions,
  stopping: AbortSignal,
): Promise<WorkerRun | undefined> {
  for (let pause = 50; ; pause = Math.min(pause * 2, 500)) {
    await sleep(pause, undefined, { signal: stopping }).catch(() => {});
    if (stopping.aborted) return undefined;
    try {
      return await startWorkerRun(options);
    } catch (error) {
      options.logger.warn({ error: errorClass(error) }, "worker did not start");
    }
  }
}

function aborted(signal: AbortSignal): Promise<string> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve("stopping");
    signal.addEventListener("abort", () => resolve("stopping"), { once: true });
  });
}

/** Installs or upgrades the library's own schema; ours speaks to it, so it comes first. */
export async function installWorkerSchema(pool: Pool, logger: Logger): Promise<void> {
  await runMigrations({ pgPool: pool, logger: workerLogger(logger) });
}
