/**
 * What only the database knows: read when somebody asks, with the owner's pool, within two seconds, and kept for five, so
 * that no scraper can load the database. When it cannot be read it is left out rather than guessed.
 */
import type { Pool } from "pg";
import { Gauge, Registry } from "prom-client";
import { errorClass } from "../error_class.ts";
import type { Logger } from "../logger.ts";

const keptForMs = 5000;
const statementTimeoutMs = 2000;

interface Waiting {
  due: number;
  oldest_seconds: number;
  undelivered: { listener: string; events: number }[];
  parked: { task: string; jobs: number }[];
}

/** A function that answers in Prometheus' text format. */
export function createGauges(pool: Pool, logger: Logger): () => Promise<string> {
  let kept: Promise<string> | undefined;
  let readAt = 0;
  return () => {
    if (!kept || Date.now() - readAt > keptForMs) {
      readAt = Date.now();
      kept = readWaiting(pool)
        .then(print)
        .catch((error: unknown) => {
          logger.warn({ error: errorClass(error) }, "gauges could not be read");
          return "";
        });
    }
    return kept;
  };
}

async function readWaiting(pool: Pool): Promise<Waiting> {
  const client = await pool.connect();
  let broken = true;
  try {
    await client.query("begin read only");
    await client.query(`set local statement_timeout = ${statementTimeoutMs}`);
    const { rows } = await client.query<Waiting>(`
      select count(*)::float8 as due,
        coalesce(extract(epoch from clock_timestamp() - min(updated_at)), 0)::float8 as oldest_seconds,
        (
          select coalesce(json_agg(undelivered), '[]')
          from (
            select listener, sum(cardinality(event_ids)) as events
            from app.undelivered_events
            group by listener
          ) as undelivered
        ) as undelivered,
        (
          select coalesce(json_agg(parked), '[]')
          from (
            select task, count(*) as jobs
            from app.parked_jobs
            group by task
          ) as parked
        ) as parked
      from app.user_incentives
      where evaluation_due`);
    await client.query("commit");
    broken = false;
    return rows[0] as Waiting;
  } finally {
    client.release(broken);
  }
}

async function print({ due, oldest_seconds, undelivered, parked }: Waiting): Promise<string> {
  const registers = [new Registry()];
  new Gauge({
    name: "incentives_rows_due",
    help: "Rows that wait to be judged.",
    registers,
  }).set(due);
  new Gauge({
    name: "incentives_oldest_due_seconds",
    help: "For how long the row that waits longest has waited, since it was last changed; 0 when none waits.",
    registers,
  }).set(Math.max(oldest_seconds, 0));
  const events = new Gauge({
    name: "incentives_events_undelivered",
    help: "Events that a listener has yet to be told of for the first time; a listener without any is left out.",
    labelNames: ["listener"],
    registers,
  });
  for (const { listener, events: count } of undelivered) events.set({ listener }, count);
  const jobs = new Gauge({
    name: "incentives_jobs_parked",
    help: "Jobs that were given up after their last attempt, by task; a task without any is left out.",
    labelNames: ["task"],
    registers,
  });
  for (const { task, jobs: count } of parked) jobs.set({ task }, count);
  return registers[0]?.metrics() ?? "";
}
