/**
 * Forty writers who hold their transactions open, take back savepoints and whole transactions, in every isolation level, and
 * two workers of which one is killed now and then. The sweep is off. Nothing is left behind; with the bell's ending rule
 * switched off, something is.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { PoolClient } from "pg";
import { createTestDatabase } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";
import { isLong, throwDice } from "./seed.ts";
import type { Chance } from "./seed.ts";

const writers = 40;
const episodes = isLong ? 200 : 15;

let database: TestDatabase;
beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(() => database.drop());

interface BellWorker {
  process: ChildProcess;
  id: string;
}

async function startWorker(ending: string): Promise<BellWorker> {
  const script = path.join(import.meta.dirname, "bell_worker.ts");
  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", script, database.ownerUrl, ending],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const [id] = (await once(child.stdout, "data")) as [Buffer];
  return { process: child, id: id.toString().trim() };
}

/** Kills it, and frees its jobs as a sweep would. */
async function kill({ process: child, id }: BellWorker): Promise<void> {
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
  await database.pool.query("select graphile_worker.force_unlock_workers(array[$1])", [id]);
}

async function write(client: PoolClient, user: string): Promise<void> {
  await client.query(
    `insert into app.user_incentives as ui (user_id, incentive_id, data)
    select $1, id, '[]' from app.incentives where key = 'health_data_log'
    on conflict on constraint a_member_has_one_row_per_incentive do update
    set data = ui.data || to_jsonb(jsonb_array_length(ui.data))`,
    [user],
  );
}

/** One transaction; it may fail to serialize, which is a rollback like any other. */
async function transact(client: PoolClient, dice: Chance, writer: number): Promise<void> {
  // Two write the same rows, so that one waits for the other, skips what the other has, or takes back what was written again.
  const user = (): string => `writer-${writer % (writers / 2)}-${dice.between(1, 6)}`;
  const pause = (): Promise<void> => sleep(dice.oneOf([0, 0, 1, 5, 20, dice.between(30, 150)]));
  await client.query(
    `begin isolation level ${dice.oneOf(["read committed", "read committed", "repeatable read", "serializable"])}`,
  );
  try {
    for (let statement = dice.between(1, 3); statement > 0; statement--) {
      const isTakenBack = dice.between(1, 4) === 1;
      await client.query("savepoint here");
      await write(client, user());
      await pause();
      if (isTakenBack) await client.query("rollback to savepoint here");
    }
    await client.query(dice.between(1, 5) === 1 ? "rollback" : "commit");
  } catch {
    await client.query("rollback");
  }
}

/** Each writer a transaction, all within a moment: who commits last finds nobody after them who would ring. */
async function writeAll(dice: Chance): Promise<void> {
  const one = async (_: unknown, writer: number): Promise<void> => {
    const client = await database.pool.connect();
    try {
      await sleep(dice.between(0, 100));
      await transact(client, dice, writer);
    } finally {
      client.release();
    }
  };
  await Promise.all(Array.from({ length: writers }, one));
}

async function count(query: string): Promise<number> {
  const { rows } = await database.pool.query<{ count: number }>(
    `select count(*)::int as count ${query}`,
  );
  return rows[0]?.count ?? -1;
}

/** When no bell job is left, nobody will ever look again: what is due then stays due. */
async function rowsLeft(): Promise<number> {
  const deadline = Date.now() + 30_000;
  while ((await count("from graphile_worker.jobs")) > 0) {
    if (Date.now() > deadline) throw new Error("The bell does not fall silent");
    await sleep(50);
  }
  return count("from app.user_incentives where evaluation_due");
}

/** Episode after episode until rows are left, or all are over. Returns how many were left. */
async function torture(dice: Chance, ending: string): Promise<number> {
  const steady = await startWorker(ending);
  let shaky = await startWorker(ending);
  let isOver = false;
  const killing = (async () => {
    while (!isOver) {
      await sleep(dice.between(300, 1200));
      await kill(shaky);
      shaky = await startWorker(ending);
    }
  })();
  try {
    for (let episode = 0; episode < episodes; episode++) {
      await writeAll(dice);
      const left = await rowsLeft();
      if (left > 0) return left;
    }
    return 0;
  } finally {
    isOver = true;
    await killing;
    await Promise.all([kill(steady), kill(shaky)]);
  }
}

test("no row is left, whatever writers and workers do", async () => {
  expect(await torture(throwDice("bell"), "wait_for_writers")).toBe(0);
  expect(await count("from app.user_incentives")).toBeGreaterThan(100);
}, 600_000);

test("without the ending rule rows are left, so the torture would have found them", async () => {
  const dice = throwDice("bell without its ending");
  expect(await torture(dice, "first_empty_claim")).toBeGreaterThan(0);
}, 120_000);
