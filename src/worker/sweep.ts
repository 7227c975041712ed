/**
 * The sweep: frees what dead workers left locked, hurries what lost its connection, and rings for rows that nobody will look
 * at. It is the belt beside the bell's braces (db: 000010-jobs.sql). Called by each run of the worker, at its start and every
 * few seconds. Tests of the bell run without it.
 */
import type { Pool } from "pg";

// Much longer than it takes. On a connection on which nothing comes back it would be the last.
const timeoutMs = 10_000;

/** `thorough` rings for whatever is due. Returns the ids of the workers that were found dead; null when another is at it. */
export async function sweep(
  pool: Pool,
  tasks: string[],
  thorough: boolean,
): Promise<string[] | null> {
  const query = {
    text: "select app.sweep($1, $2) as dead",
    values: [tasks, thorough],
    query_timeout: timeoutMs,
  };
  const { rows } = await pool.query<{ dead: string[] | null }>(query);
  return rows[0]!.dead;
}
