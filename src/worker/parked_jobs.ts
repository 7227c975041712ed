/**
 * Jobs that failed for good, for an operator to see and to try again (db: 000010-jobs.sql). Called by `incentives jobs`.
 * Shows ids and error classes only, as that is all a job holds.
 */
import type { Pool } from "pg";

export interface ParkedJob {
  id: string;
  task: string;
  payload: unknown;
  attempts: number;
  last_error: string;
  since: Date;
}

export async function readParkedJobs(pool: Pool): Promise<ParkedJob[]> {
  const { rows } = await pool.query<ParkedJob>(
    "select id, task, payload, attempts, last_error, since from app.parked_jobs order by id",
  );
  return rows;
}

/** Lets these, or all of them, be tried again from the first attempt. Returns the ids of those that were parked. */
export async function retryParkedJobs(pool: Pool, ids: string[] | "all"): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(
    `select job.id::text
    from graphile_worker.reschedule_jobs(
      array(select id from app.parked_jobs where $1::bigint[] is null or id = any ($1)),
      run_at => now(),
      attempts => 0
    ) as job`,
    [ids === "all" ? null : ids],
  );
  return rows.map(({ id }) => id);
}

/** A table for a terminal. */
export function describeParkedJobs(jobs: ParkedJob[]): string {
  const heads = ["id", "task", "attempts", "since", "about", "reason"];
  const lines = jobs.map(({ id, task, payload, attempts, last_error, since }) => [
    id,
    task,
    String(attempts),
    since.toISOString().slice(0, 19) + "Z",
    describePayload(payload),
    last_error.split("\n").slice(0, 2).join(" "),
  ]);
  const widths = heads.map((head, i) =>
    Math.max(head.length, ...lines.map((line) => line[i]?.length ?? 0)),
  );
  return [heads, ...lines]
    .map((line) =>
      line
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** `user_incentive_id 12`; of a job for many things the first. */
function describePayload(payload: unknown): string {
  const entries = (Array.isArray(payload) ? payload : [payload]) as unknown[];
  const first = Object.entries(entries[0] ?? {})
    .filter(([, value]) => typeof value === "string" || typeof value === "number")
    .map(([key, value]) => `${key} ${value}`)
    .join(", ");
  return entries.length > 1 ? `${first}, and ${entries.length - 1} more` : first;
}
