/**
 * The sweep: frees what dead workers left locked, hurries what lost its connection, and rings for rows that nobody will look
 * at. It is the belt beside the bell's braces (db: 000010-jobs.sql). Called by each run of the worker, at its start and every
 * few seconds. Tests of the bell run without it.
 */
import type { Pool } from "pg";

/** `thorough` rings for whatever is due. Returns the ids of the workers that were found dead. */
export async function sweep(pool: Pool, tasks: string[], thorough: boolean): Promise<string[]> {
  const { rows } = await pool.query<{ dead: string[] }>("select app.sweep($1, $2) as dead", [
    tasks,
    thorough,
  ]);
  return rows[0]?.dead ?? [];
}
