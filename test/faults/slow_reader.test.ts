/** A client that opens a stream of events and does not read it: it is cut off, is not kept for, and misses nothing when it is back. */
import { once } from "node:events";
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { openStream, tokenOf } from "../live_clients.ts";
import { waitUntil } from "../test_database.ts";
import { metricsToken, startTestProcess } from "../test_process.ts";
import type { TestProcess } from "../test_process.ts";

const incentives = 30;
const megabyte = 1_000_000;

let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess();
  await app.database.pool.query(
    `insert into app.incentives (key, name, evaluator, records)
    select 'large_' || i, 'Large', 'birth_record', 'document' from generate_series(1, $1) as i`,
    [incentives],
  );
});
afterAll(() => app.drop());

async function metric(name: string): Promise<number> {
  const headers = { authorization: `Bearer ${metricsToken}` };
  const text = await (await fetch(`${app.url}/metrics`, { headers })).text();
  return Number(new RegExp(`^${name}{transport="events"} (\\d+)$`, "m").exec(text)?.[1] ?? 0);
}

/** Large rows, each completed in a transaction of its own. */
async function completeAll(user: string): Promise<void> {
  const { rows } = await app.database.pool.query<{ id: string }>(
    `insert into app.user_incentives (user_id, incentive_id, data, evaluation_due)
    select $1, id, to_jsonb(repeat('x', $2)), false from app.incentives where key like 'large_%'
    returning id`,
    [user, megabyte],
  );
  for (const { id } of rows) {
    await app.database.pool.query(
      "update app.user_incentives set status = 'completed' where id = $1",
      [id],
    );
  }
}

test("a reader of events who does not read is cut off, and told the rest when it comes back", async () => {
  const authorization = await tokenOf("slow");
  const { port, hostname } = new URL(app.url);
  const client = connect(Number(port), hostname);
  client.on("error", () => {});
  client.write(
    `GET /user/incentives/events HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: ${authorization}\r\n\r\n`,
  );
  const [beginning] = (await once(client, "data")) as [Buffer];
  const cursor = /^id: (\S+)$/m.exec(beginning.toString())?.[1];
  client.pause();

  const before = process.memoryUsage();
  await completeAll("slow");
  let most = 0;
  await waitUntil(
    "it is cut off",
    async () => {
      const { rss, external } = process.memoryUsage();
      most = Math.max(most, rss - before.rss, external - before.external);
      return (await metric("incentives_live_clients_dropped_total")) === 1;
    },
    30,
  );
  const told = await metric("incentives_live_events_total");
  console.log(
    `${told} of ${incentives} events written; memory grew by ${Math.round(most / 1e6)} MB`,
  );
  expect(told).toBeLessThan(incentives);
  await waitUntil("it is gone", async () => (await metric("incentives_live_clients")) === 0);
  client.destroy();

  const back = await openStream(app.url, authorization, cursor);
  await waitUntil("all is told", async () => back.events.length === incentives, 20);
  expect(new Set(back.events.map(({ data }) => data.id)).size).toBe(incentives);
  back.stop();
}, 90_000);
