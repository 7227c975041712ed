/**
 * Puts one wrapper around every task: the library keeps a failed job's message in the database and in the log, and a message
 * may repeat what a member recorded, as PostgreSQL's do. So only a JobError's own words get through, of anything else its
 * class. Called by buildTasks.
 */
import type { TaskList } from "graphile-worker";
import { isConnectionLoss, JobError } from "../job_error.ts";
import { errorClass } from "../error_class.ts";

export function withSafeErrors(tasks: TaskList): TaskList {
  const wrapped: TaskList = {};
  for (const [name, task] of Object.entries(tasks)) {
    if (!task) continue;
    wrapped[name] = async (payload, helpers) => {
      try {
        const result = await task(payload, helpers);
        // An array is one answer for each entry of the payload; the library joins the messages of those that failed.
        return Array.isArray(result) ? result.map((entry) => entry && safely(entry)) : result;
      } catch (error) {
        throw reduce(error);
      }
    };
  }
  return wrapped;
}

async function safely(entry: unknown): Promise<unknown> {
  try {
    return await entry;
  } catch (error) {
    throw reduce(error);
  }
}

/** The sweep knows a job that may go on at once by how its message begins (db: 000010-jobs.sql). */
function reduce(error: unknown): JobError {
  const message = error instanceof JobError ? error.message : errorClass(error);
  const cause = error instanceof JobError ? error.cause : error;
  return new JobError(isConnectionLoss(cause) ? `connection lost: ${message}` : message);
}
