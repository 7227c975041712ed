/**
 * One connection that says that a worker lives: it holds the worker's advisory lock, and the server lets that go with the
 * connection, however the worker went. Opened by each run of the worker. A worker takes no job without the lock, and
 * ends when the connection is lost, because from then on others may take it for dead.
 */
import { Client } from "pg";
import { errorClass } from "../error_class.ts";

export interface Liveness {
  /** Takes the lock of this worker. */
  hold(workerId: string): Promise<void>;
  /** Says that this process still runs. Whether a job of these tasks waits that somebody should have taken long ago. */
  beat(tasks: string[]): Promise<boolean>;
  /** Frees whatever this worker still has locked, before it goes. */
  unlockJobs(workerId: string): Promise<void>;
  /** Resolves with why when the connection is gone; never rejects. */
  lost: Promise<string>;
  close(): Promise<void>;
}

// A process that was stopped, or a machine that went dark, keeps its connection: the server ends it after this long
// without a beat.
const DEAD_AFTER_MS = 6000;
const OVERDUE = "5 seconds";

export async function openLiveness(connectionString: string): Promise<Liveness> {
  const client = new Client({
    connectionString,
    application_name: "incentives liveness",
    connectionTimeoutMillis: 3000,
    query_timeout: DEAD_AFTER_MS - 1000,
    keepAlive: true,
    options: `-c idle_session_timeout=${DEAD_AFTER_MS}`,
  });
  const lost = new Promise<string>((resolve) => {
    client.on("error", (error) => resolve(errorClass(error)));
    client.on("end", () => resolve("connection ended"));
  });
  await client.connect();
  return {
    async hold(workerId) {
      await client.query("select pg_advisory_lock(app.worker_lock($1))", [workerId]);
    },
    async beat(tasks) {
      const { rows } = await client.query<{ waits: boolean }>(
        `select exists (
          select from graphile_worker.jobs as job
          where locked_at is null
          and attempts < max_attempts
          and run_at < now() - $2::interval
          and task_identifier = any ($1)
          -- It waits for another of its queue, which may take its time.
          and not exists (
            select from graphile_worker.jobs as other
            where other.queue_name = job.queue_name
            and other.locked_at is not null
          )
        ) as waits`,
        [tasks, OVERDUE],
      );
      return rows[0]?.waits ?? false;
    },
    async unlockJobs(workerId) {
      await client.query("select graphile_worker.force_unlock_workers(array[$1])", [workerId]);
    },
    lost,
    close: () => client.end().catch(() => {}),
  };
}
