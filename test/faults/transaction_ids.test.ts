/**
 * A server that crashes gives the ids of transactions that left nothing in its log out again. A position that had seen those
 * ids would take what is recorded under them later for told already.
 */
import { EventEmitter } from "node:events";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { Pool } from "pg";
import { Completions } from "../../src/live/completions.ts";
import type { Heard } from "../../src/live/subscriber.ts";
import { createLogger } from "../../src/logger.ts";
import { waitUntil } from "../test_database.ts";
import { startRestartableServer } from "./restartable_server.ts";
import type { RestartableServer } from "./restartable_server.ts";

let server: RestartableServer;
let pool: Pool;
let completions: Completions;
beforeEach(async () => {
  server = await startRestartableServer();
}, 60_000);
afterEach(async () => {
  await completions.stop();
  await pool.end();
  await server.drop();
}, 60_000);

/** Tries until the server is there; returns the event's id. */
async function complete(incentive: string): Promise<string> {
  let id: string | undefined;
  await waitUntil(`${incentive} is completed`, async () => {
    const { rows } = await server.pool
      .query<{ id: string }>(
        `with row as (
          insert into app.user_incentives (user_id, incentive_id, data, evaluation_due)
          select 'alice', id, '{}', false from app.incentives where key = $1
          returning id, incentive_id
        )
        insert into app.incentive_events (user_incentive_id, incentive_id)
        select id, incentive_id from row returning id`,
        [incentive],
      )
      .catch(() => ({ rows: [] }));
    id = rows[0]?.id;
    return id !== undefined;
  });
  return id ?? "";
}

test("what is recorded under an id that a crash took back is told", async () => {
  pool = new Pool({ connectionString: server.authenticatorUrl, max: 1 });
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  const subscriber = new EventEmitter<Heard>();
  completions = new Completions({ pool, subscriber, logger: createLogger("silent") });
  completions.start();
  const first = await complete("birth_record");
  for (let times = 0; times < 20; times++) {
    await server.pool.query("select pg_current_xact_id()");
  }
  const { rows } = await server.pool.query<{ seen: string }>(
    "select pg_current_snapshot()::text as seen",
  );
  subscriber.emit("completed", { first, last: first });
  await waitUntil("there is a position", async () => completions.cursor() !== undefined);
  const feed = completions.follow("alice");

  await server.restart("immediate");
  const second = await complete("health_data_log");
  const told: string[] = [];
  while (told.at(-1) !== second) told.push((await feed.next()).value!.id);
  expect(told.filter((id) => id === second)).toEqual([second]);
  // Whoever had kept the whole snapshot would believe that it was told before the crash.
  const { rows: events } = await server.pool.query<{ seen: boolean }>(
    "select pg_visible_in_snapshot(recorded_in, $1::pg_snapshot) as seen from app.incentive_events where id = $2",
    [rows[0]?.seen, second],
  );
  expect(events).toEqual([{ seen: true }]);
}, 60_000);
