/** How many queries reach PostgreSQL while a client is answered from memory, by pg_stat_statements. Called by reads.ts. */
import { Agent, get } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientBase } from "pg";
import { refuseUnless } from "./counts.ts";
import type { BenchDatabase } from "./server.ts";

/** By the clock the process asks too, such as to prove a connection alive; at least this often. */
const clockMs = 6000;

/** Undefined where the server has not loaded pg_stat_statements. What is asked without any client too is left out. */
export async function countQueries(
  { client }: BenchDatabase,
  { url, headers }: { url: string; headers: Record<string, string> },
  hits: number,
): Promise<number | undefined> {
  const { rows: loaded } = await client.query<{ libraries: string }>(
    "select current_setting('shared_preload_libraries') as libraries",
  );
  if (!loaded[0]?.libraries.includes("pg_stat_statements")) return undefined;
  await client.query("create extension if not exists pg_stat_statements");
  await client.query("select pg_stat_statements_reset()");
  await sleep(clockMs);
  const byTheClock = await readStatements(client);

  const agent = new Agent({ keepAlive: true });
  // The one before may be too old by now.
  await readMany(agent, url, headers, 1);
  await client.query("select pg_stat_statements_reset()");
  const found = await Promise.all(
    Array.from({ length: 16 }, () => readMany(agent, url, headers, hits / 16)),
  );
  agent.destroy();
  refuseUnless(hits, { "answers from memory": found.reduce((sum, count) => sum + count, 0) });
  const asked = await readStatements(client);
  return [...asked]
    .filter(([id]) => !byTheClock.has(id))
    .reduce((sum, [, calls]) => sum + calls, 0);
}

/** How often the API's processes asked which. */
async function readStatements(client: ClientBase): Promise<Map<string, number>> {
  const { rows } = await client.query<{ id: string; calls: number }>(`
    select queryid as id, sum(calls)::int as calls
    from pg_stat_statements
    where dbid = (select oid from pg_database where datname = current_database())
    and userid <> (select oid from pg_roles where rolname = current_user)
    group by queryid`);
  return new Map(rows.map(({ id, calls }) => [id, calls]));
}

async function readMany(
  agent: Agent,
  url: string,
  headers: Record<string, string>,
  times: number,
): Promise<number> {
  let hits = 0;
  for (let time = 0; time < times; time += 1) {
    hits += await new Promise<number>((resolve, reject) => {
      get(url, { agent, headers }, (response) => {
        response.resume().on("end", () => resolve(response.headers["x-cache"] === "hit" ? 1 : 0));
      }).on("error", reject);
    });
  }
  return hits;
}
