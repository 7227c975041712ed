/**
 * What nobody caught. What graphile-worker or node-postgres let slip when a connection broke is mended by beginning the worker
 * anew; anything else is a bug of ours, and then the process ends in order, with exit code 1. Called by `incentives start`.
 */
import { isConnectionLoss } from "./job_error.ts";
import { errorClass } from "./error_class.ts";
import type { Logger } from "./logger.ts";

export interface UnhandledOptions {
  logger: Logger;
  restartWorker: (why: string) => void;
  /** Ends the process in order. */
  end: (exitCode: number) => void;
}

export function handleUnhandled({ logger, restartWorker, end }: UnhandledOptions): void {
  // Rejections that nobody handles arrive here too.
  process.on("uncaughtException", (error: unknown) => {
    const what = errorClass(error);
    if (isOfLibrary(error)) {
      logger.error({ error: what }, "unhandled error in a library; starting the worker again");
      return restartWorker(`unhandled ${what}`);
    }
    logger.fatal({ error: what, at: ownFrames(error) }, "unhandled error; ending");
    end(1);
  });
}

/** Thrown without any of our own code in between. */
export function isOfLibrary(error: unknown): boolean {
  if (!(error instanceof Error) || ownFrames(error).length > 0) return false;
  const libraries = /[\\/]node_modules[\\/](graphile-worker|pg|pg-pool|pg-protocol|pg-listen)[\\/]/;
  return libraries.test(error.stack ?? "") || isConnectionLoss(error);
}

/** Where in our own code it was, without the message. */
function ownFrames(error: unknown): string[] {
  const lines = error instanceof Error ? (error.stack ?? "").split("\n") : [];
  const folder = import.meta.dirname;
  return lines
    .filter((line) => /^ +at /.test(line) && line.includes(folder))
    .map((line) => line.trim().replace(folder, "src"));
}
