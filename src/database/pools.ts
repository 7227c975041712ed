/** The process's two pools: the owner's for the worker and the commands, the authenticator's for requests. */
import type { Socket } from "node:net";
import { Pool } from "pg";
import type { PoolClient } from "pg";
import { errorClass } from "../error_class.ts";
import type { Logger } from "../logger.ts";

/**
 * `name` is what `pg_stat_activity.application_name` shows. `heldAtMostMs`: a connection that one user holds for longer is cut,
 * because nothing comes back on it: what was asked fails, and the next user gets another connection.
 */
export function openPool(
  connectionString: string,
  name: string,
  max: number,
  logger: Logger,
  { heldAtMostMs }: { heldAtMostMs?: number } = {},
): Pool {
  const pool = new Pool({
    connectionString,
    application_name: `incentives ${name}`,
    max,
    connectionTimeoutMillis: 5000,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    // Queries that are not waited for travel together and are answered in order.
    pipeline: true,
    // What a connection has gathered in its process, plans above all, goes with it.
    maxUses: 10_000,
    // Times leave the database in UTC, whatever the server's or the role's own setting. A process that was stopped in the
    // middle of a transaction keeps its rows from everybody else: the server ends that. One whose machine went dark keeps its locks:
    // the server asks, and ends that too. Our queries are short, and compiling one
    // takes longer than it does: before 18, where enable_seqscan=off makes a look at a tiny table seem worth it, a lone row was
    // judged after 60 ms instead of 6.
    options: [
      "-c timezone=UTC",
      "-c idle_in_transaction_session_timeout=10s",
      "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
      "-c jit=off",
    ].join(" "),
  });
  // A connection that breaks (a restart) is replaced at the next use; without handlers it would end the process.
  const onError = (error: Error): void => {
    logger.warn({ pool: name, error: errorClass(error) }, "connection lost");
  };
  pool.on("error", onError);
  pool.on("connect", (client) => client.on("error", onError));
  if (heldAtMostMs !== undefined) cutWhenHeld(pool, heldAtMostMs);
  return pool;
}

/** Ends a connection on which nothing may come back any more: what was asked on it fails. */
export function cut(client: PoolClient): void {
  (client as unknown as { connection: { stream: Socket } }).connection.stream.destroy();
}

/** A network that swallows what is sent says nothing for a quarter of an hour; until then the pool would be full of it. */
function cutWhenHeld(pool: Pool, ms: number): void {
  const timers = new WeakMap<PoolClient, NodeJS.Timeout>();
  pool.on("acquire", (client) => {
    timers.set(client, setTimeout(cut, ms, client));
  });
  pool.on("release", (_error, client) => clearTimeout(timers.get(client)));
}
