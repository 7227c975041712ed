/**
 * One run of graphile-worker: its own connections, its own worker id, the lock that says that it lives, and a watch over it.
 * It ends when any of these fails; runner.ts then begins another. Nothing of an ended run is used again: the library may
 * go on sleeping in it for minutes and then still take a job.
 */
import { EventEmitter } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "graphile-worker";
import type { ParsedCronItem, Runner, TaskList, WorkerEvents } from "graphile-worker";
import type { Pool, PoolClient } from "pg";
import { cut, openPool } from "../database/pools.ts";
import { errorClass } from "../error_class.ts";
import type { Logger } from "../logger.ts";
import { openLiveness } from "./liveness.ts";
import { countJobs, watch } from "./watch.ts";
import { workerLogger } from "./worker_logger.ts";

export interface WorkerRunOptions {
  /** Connects as the owner. */
  databaseUrl: string;
  /** Made for each run, of its own connections. */
  tasks: (pool: Pool) => TaskList;
  schedule: ParsedCronItem[];
  logger: Logger;
  /** Jobs at once. */
  concurrency: number;
}

export interface WorkerRun {
  /** Resolves with why as soon as this run is of no use any more; never rejects. */
  ended: Promise<string>;
  /** Makes it end. */
  end(why: string): void;
  /** Takes no more jobs, gives those in hand `graceMs`, and leaves none locked. Never rejects. */
  stop(graceMs: number): Promise<void>;
}

export async function startWorkerRun(options: WorkerRunOptions): Promise<WorkerRun> {
  const { databaseUrl, logger, concurrency } = options;
  const liveness = await openLiveness(databaseUrl);
  const pool = openPool(databaseUrl, "jobs", concurrency * 2 + 2, logger);
  const clients = new Set<PoolClient>();
  pool.on("connect", (client) => clients.add(client));
  pool.on("remove", (client) => clients.delete(client));
  const tasks = options.tasks(pool);
  const events: WorkerEvents = new EventEmitter();
  const jobs = countJobs(events);
  const { promise: ended, resolve: end } = Promise.withResolvers<string>();
  const workerId = new Promise<string>((resolve) => {
    events.once("pool:create", ({ workerPool }) => resolve(workerPool.id));
  });
  const held = workerId.then((id) => liveness.hold(id));
  held.catch((error: unknown) => end(errorClass(error)));
  void liveness.lost.then(end);

  const launched = launch(options, { pool, tasks, events, held });
  // A run that was given up before it was there must not work on unseen.
  const giveUp = async (): Promise<void> => {
    void launched.then((runner) => runner.stop()).catch(() => {});
    await Promise.all([liveness.close(), within(500, pool.end())]);
  };
  const runner = await Promise.race([launched, ended]).catch(async (error: unknown) => {
    await giveUp();
    throw error;
  });
  if (typeof runner === "string") {
    await giveUp();
    throw new Error(runner);
  }
  runner.promise.then(
    () => end("the library stopped"),
    (error: unknown) => end(errorClass(error)),
  );

  const watching = new AbortController();
  const watched = watch({ ...options, tasks, pool, liveness, jobs, end, signal: watching.signal });
  return {
    ended,
    end,
    async stop(graceMs) {
      watching.abort();
      runner.stop().catch(() => {});
      const stopped = runner.promise.catch(() => {});
      await Promise.race([stopped, jobs.done(graceMs)]);
      await within(500, stopped); // A job that is done has yet to be deleted.
      await within(
        500,
        workerId.then((id) => liveness.unlockJobs(id)),
      );
      await within(500, Promise.all([watched, liveness.close(), pool.end()]));
      // What is still lent may be lost in a network that swallows everything, and whoever waits for it would wait for ever.
      for (const client of clients) cut(client);
    },
  };
}

interface LaunchedWith {
  pool: Pool;
  tasks: TaskList;
  events: WorkerEvents;
  held: Promise<void>;
}

function launch(
  { schedule, logger, concurrency }: WorkerRunOptions,
  { pool, tasks, events, held }: LaunchedWith,
): Promise<Runner> {
  return run({
    pgPool: pool,
    taskList: tasks,
    parsedCronItems: schedule,
    concurrency,
    events,
    // Asked before each job: none is taken before the lock is.
    forbiddenFlags: () => held.then(() => null),
    // Without batches the library does not wait for a finished job to be deleted when it stops, and the job stays locked.
    preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
    pollInterval: 1000,
    noHandleSignals: true,
    gracefulShutdownAbortTimeout: 3000,
    logger: workerLogger(logger),
  });
}

/** Waits for it, but not for longer than this; and does not mind how it ends. */
async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  await Promise.race([promise.catch(() => {}), sleep(ms, undefined, { ref: false })]);
}
