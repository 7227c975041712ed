/** The library's log in ours. Its `meta` is left out: it may hold a job's payload or an error's details. */
import { Logger as WorkerLogger } from "graphile-worker";
import type { Logger } from "../logger.ts";

export function workerLogger(logger: Logger): WorkerLogger {
  const levels = { error: "error", warning: "warn", info: "debug", debug: "trace" } as const;
  return new WorkerLogger(({ workerId, taskIdentifier, jobId }) => {
    const child = logger.child({ workerId, task: taskIdentifier, jobId });
    return (level, message) => child[levels[level]](message);
  });
}
