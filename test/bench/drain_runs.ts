/** One run each of what the drain compares: a database with due rows, a program that judges them, and the clock. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { checkCompletions, refuseUnless, waitUntilNothingIsDue } from "./counts.ts";
import { startChild, startWorker } from "./programs.ts";
import { fill } from "./rows.ts";
import { connect } from "./server.ts";
import type { BenchDatabase } from "./server.ts";

export interface OurDrain {
  rowsPerSecond: number;
  /** In the whole life of the worker, its starting and stopping included. */
  commits: number;
  notifies: number;
  /** What our judge had to say of one of the rows, as JSON. */
  explanation: string;
}

const limitSeconds = 120;

/**
 * Judges `rows` due rows with the real worker. Of no rows: only starts and stops it. `completed` is what there must be
 * in the end.
 */
export async function drainOurs(
  database: BenchDatabase,
  rows: number,
  completed: number = rows,
): Promise<OurDrain> {
  const { client } = database;
  const before = await readCommits(client);
  // The worker can see the rows and not claim them: it begins when it is let.
  await client.query("begin");
  await client.query("lock table app.user_incentives in exclusive mode");
  const worker = await startWorker(database.ownerUrl);
  const listener = await listen(database);
  if (rows > 0) await waitUntilItWants(client);
  // Its judging process has loaded the evaluators by then, as the other programs have before their clock starts.
  await sleep(1500);
  refuseUnless(rows, { "due before the start": await countDue(client) });
  await client.query("commit");
  const start = performance.now();
  let asked = await waitUntilNothingIsDue(client, limitSeconds);
  const seconds = (performance.now() - start) / 1000;
  asked += await waitUntilDelivered(client);
  await worker.stop();
  const notifies = await listener.stop();
  const commits = (await readCommits(client)) - before - asked;
  await checkCompletions(client, completed);
  const verdict = await client.query<{ explanation: string }>(
    "select explanation::text from app.user_incentives where status = 'completed' limit 1",
  );
  const explanation = verdict.rows[0]?.explanation ?? "[]";
  return { rowsPerSecond: rows / seconds, commits, notifies, explanation };
}

/** Rows a second of another program. */
export async function drainWith(
  program: string,
  database: BenchDatabase,
  rows: number,
  options: { explanation: string; redisPort: number | undefined },
): Promise<number> {
  const isBare = program === "update_loop";
  await fill(database, { due: rows, table: isBare ? "app.bare" : "app.user_incentives" });
  const child = await startChild<null>(program, { url: database.ownerUrl, ...options });
  const start = performance.now();
  const done = child.go();
  if (isBare) await done;
  else await Promise.all([done, waitUntilNothingIsDue(database.client, limitSeconds)]);
  const seconds = (performance.now() - start) / 1000;
  await child.stop();
  if (isBare) {
    const bare = await database.client.query<{ updated: number }>(
      "select count(*)::int as updated from app.bare where status = 'completed' and not evaluation_due",
    );
    refuseUnless(rows, { ...bare.rows[0] });
  } else {
    await checkCompletions(database.client, rows);
  }
  return rows / seconds;
}

/** Until somebody waits for the table's lock. */
async function waitUntilItWants(client: Client): Promise<void> {
  for (let attempt = 0; attempt < 1000; attempt += 1) {
    const { rowCount } = await client.query(
      "select from pg_locks where relation = 'app.user_incentives'::regclass and not granted limit 1",
    );
    if (rowCount !== 0) return;
    await sleep(10);
  }
  throw new Error("the worker did not begin to work within 10 s");
}

async function countDue(client: Client): Promise<number> {
  const { rows } = await client.query<{ due: number }>(
    "select count(*)::int as due from app.user_incentives where evaluation_due",
  );
  return rows[0]?.due ?? -1;
}

/** Of the whole database. A session reports its own with a delay, or when it ends. */
async function readCommits(client: Client): Promise<number> {
  await client.query("select pg_stat_force_next_flush()");
  const { rows } = await client.query<{ commits: number }>(
    "select xact_commit::int as commits from pg_stat_database where datname = current_database()",
  );
  return rows[0]?.commits ?? 0;
}

async function listen(database: BenchDatabase): Promise<{ stop(): Promise<number> }> {
  const listener = await connect(database.ownerUrl);
  let heard = 0;
  listener.on("notification", () => (heard += 1));
  await listener.query('listen incentive_completed; listen "jobs:insert"');
  return {
    async stop() {
      await listener.query("select 1"); // whatever was sent before has arrived by then
      await listener.end();
      return heard;
    },
  };
}

/** How many times it asked. */
async function waitUntilDelivered(client: Client): Promise<number> {
  for (let asked = 1; asked <= 600; asked += 1) {
    const { rowCount } = await client.query(
      `select from app.undelivered_events
       union all select from graphile_worker.jobs where task_identifier like 'deliver_%' limit 1`,
    );
    if (rowCount === 0) return asked;
    await sleep(50);
  }
  throw new Error("the events were not delivered after 30 s");
}
