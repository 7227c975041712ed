/**
 * What may be kept of an error in a job, where operators read it: ids and classes, never what a member recorded. Thrown by
 * the tasks; whatever else they throw is reduced to its class before the library sees it (worker/safe_tasks.ts).
 */
export class JobError extends Error {
  override name = "JobError";
}

/** Whether the database went away, so that the work may go on as soon as it is back. */
export function isConnectionLoss(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  return connectionCodes.test(code) || (code === "" && connectionMessages.test(error.message));
}

// Not 25P03 and 57P05: there the server ended a session because this process was away for too long.
const connectionCodes =
  /^(57P0[123]|08\w{3}|ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN)$/;
// What node-postgres says without a code.
const connectionMessages =
  /^(Connection terminated|Client has encountered a connection error|timeout exceeded when trying to connect|Client was closed)/;
