/**
 * The task `evaluate_incentive`: one row that could not be judged among the others, tried again by itself. The library's
 * retries and pauses apply; when they are used up the job stays, parked, with its reason.
 */
import type { Task } from "graphile-worker";
import { JobError } from "../job_error.ts";
import { errorClass } from "../error_class.ts";
import { evaluateRow } from "./batch.ts";
import type { Judging } from "./batch.ts";

declare global {
  namespace GraphileWorker {
    interface Tasks {
      evaluate_incentive: { user_incentive_id: string };
    }
  }
}

export function evaluateIncentive(judging: Judging): Task<"evaluate_incentive"> {
  return async (payload, helpers) => {
    const id = checkPayload(payload);
    try {
      await helpers.withPgClient((client) => evaluateRow(client, judging, id));
    } catch (error) {
      // The job keeps this message where operators read it, and an error's own message may repeat what a member recorded.
      throw new JobError(`user incentive ${id}: ${errorClass(error)}`, { cause: error });
    }
  };
}

/** Jobs can be added by SQL, so the type alone proves nothing. */
function checkPayload(payload: unknown): string {
  const id = (payload as { user_incentive_id?: unknown } | null)?.user_incentive_id;
  if (typeof id !== "string" || !/^[1-9]\d{0,18}$/.test(id)) {
    throw new JobError('evaluate_incentive expects {"user_incentive_id": "<id>"}');
  }
  return id;
}
