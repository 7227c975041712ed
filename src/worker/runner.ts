/**
 * The supervised graphile-worker runner: started again whenever it ends while this process is not stopping, because the
 * library gives up, sometimes quietly, when PostgreSQL restarts under load. Called by start.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Logger as WorkerLogger, run, runMigrations } from "graphile-worker";
import type { ParsedCronItem, Runner, TaskList } from "graphile-worker";
import type { Pool } from "pg";
import { errorClass } from "../logger.ts";
import type { Logger } from "../logger.ts";

export interface RunnerOptions {
  /** Connects as the owner. */
  pool: Pool;
  tasks: TaskList;
  schedule: ParsedCronItem[];
  logger: Logger;
  /** Jobs at once. */
  concurrency: number;
}

export interface SupervisedRunner {
  isRunning(): boolean;
  /** Lets the jobs in hand finish, up to 3 s, then ends. */
  stop(): Promise<void>;
}

export async function startRunner(options: RunnerOptions): Promise<SupervisedRunner> {
  let stopping = false;
  let runner: Runner | undefined = await launch(options);

  const supervised = (async () => {
    while (!stopping) {
      await runner?.promise.catch((error: unknown) => {
        options.logger.error({ error: errorClass(error) }, "worker ended with an error");
      });
      runner = undefined;
      for (let pause = 100; !stopping && !runner; pause = Math.min(pause * 2, 2000)) {
        options.logger.warn("worker ended; starting it again");
        await sleep(pause);
        if (stopping) break;
        runner = await launch(options).catch((error: unknown) => {
          options.logger.warn({ error: errorClass(error) }, "worker did not start");
          return undefined;
        });
      }
    }
  })();

  return {
    isRunning: () => runner !== undefined,
    async stop() {
      stopping = true;
      await runner?.stop().catch(() => {});
      await supervised;
    },
  };
}

function launch({ pool, tasks, schedule, logger, concurrency }: RunnerOptions): Promise<Runner> {
  return run({
    pgPool: pool,
    taskList: tasks,
    parsedCronItems: schedule,
    concurrency,
    // Without batches the library does not wait for a finished job to be deleted when it stops, and the job stays locked.
    preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
    pollInterval: 2000,
    noHandleSignals: true,
    gracefulShutdownAbortTimeout: 3000,
    logger: workerLogger(logger),
  });
}

/** Installs or upgrades the library's own schema; ours speaks to it, so it comes first. */
export async function installWorkerSchema(pool: Pool, logger: Logger): Promise<void> {
  await runMigrations({ pgPool: pool, logger: workerLogger(logger) });
}

/** The library's log in ours. Its `meta` is left out: it may hold a job's payload or an error's details. */
function workerLogger(logger: Logger): WorkerLogger {
  const levels = { error: "error", warning: "warn", info: "debug", debug: "trace" } as const;
  return new WorkerLogger(({ workerId, taskIdentifier, jobId }) => {
    const child = logger.child({ workerId, task: taskIdentifier, jobId });
    return (level, message) => child[levels[level]](message);
  });
}
