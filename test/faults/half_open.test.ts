/** A connection that swallows everything and says nothing: it is seen, replaced, and what happened meanwhile is told. */
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { connect } from "node:net";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { Pool } from "pg";
import { Completions } from "../../src/live/completions.ts";
import { LiveSubscriber } from "../../src/live/subscriber.ts";
import { createLogger } from "../../src/logger.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

const logger = createLogger("silent");
let database: TestDatabase;
let proxy: SwallowingProxy;
let subscriber: LiveSubscriber;

/** Passes everything on, until told to swallow what the connections there are carry; new ones work. */
class SwallowingProxy {
  readonly #server: Server;
  readonly #pairs: [Socket, Socket][] = [];
  readonly #target: URL;

  constructor(target: string) {
    this.#target = new URL(target);
    this.#server = createServer((near) => {
      const far = connect(Number(this.#target.port), this.#target.hostname);
      for (const socket of [near, far]) socket.on("error", () => {});
      near.pipe(far);
      far.pipe(near);
      this.#pairs.push([near, far]);
    });
  }

  /** At a free port, or at the one that is named. */
  async open(port = 0): Promise<string> {
    this.#server.listen(port, "127.0.0.1");
    await once(this.#server, "listening");
    const through = new URL(this.#target);
    through.hostname = "127.0.0.1";
    through.port = String((this.#server.address() as AddressInfo).port);
    return through.href;
  }

  swallow(): void {
    for (const [near, far] of this.#pairs) {
      near.unpipe(far).resume();
      far.unpipe(near).resume();
    }
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#pairs.flat()) socket.destroy();
  }
}

beforeEach(async () => {
  database = await createTestDatabase();
  proxy = new SwallowingProxy(database.authenticatorUrl);
});
afterEach(async () => {
  await subscriber.stop();
  proxy.close();
  await database.drop();
});

const listeners = async (): Promise<number> => {
  const { rows } = await database.pool.query<{ count: number }>(
    `select count(*)::int as count from pg_stat_activity
    where application_name = 'incentives live' and datname = current_database()`,
  );
  return rows[0]?.count ?? -1;
};

test("a listening connection that swallows everything is replaced within 15 seconds, and nothing is missed", async () => {
  const url = await proxy.open();
  subscriber = new LiveSubscriber(url, logger);
  const pool = new Pool({ connectionString: url, max: 1, connectionTimeoutMillis: 5000 });
  pool.on("error", () => {});
  const completions = new Completions({ pool, subscriber, logger });
  subscriber.start();
  completions.start();
  await waitUntil("it hears", async () => subscriber.isHearing());
  await waitUntil("it has a position", async () => completions.cursor() !== undefined);
  const feed = completions.follow("alice");

  proxy.swallow();
  const since = Date.now();
  await database.pool.query(
    `with row as (
      insert into app.user_incentives (user_id, incentive_id, data, evaluation_due)
      select 'alice', id, '{}', false from app.incentives where key = 'birth_record'
      returning id, incentive_id
    )
    insert into app.incentive_events (user_incentive_id, incentive_id) select id, incentive_id from row`,
  );
  const told = feed.next().then(() => Date.now() - since);
  const lost = once(subscriber, "lost").then(() => Date.now() - since);
  const back = once(subscriber, "connected").then(() => Date.now() - since);
  console.log(
    `told after ${await told} ms, seen after ${await lost} ms, back after ${await back} ms`,
  );
  expect(await back).toBeLessThan(15_000);
  expect(await told).toBeLessThan(15_000);
  await waitUntil("it hears itself", async () => subscriber.isHearing());

  await subscriber.stop();
  await completions.stop();
  // The server still has the one whose end it was never told of, and no other.
  proxy.close();
  await waitUntil("no connection is left", async () => (await listeners()) === 0);
  await pool.end();
}, 60_000);

test("one that is stopped while it tries again leaves no connection behind", async () => {
  const url = await proxy.open();
  subscriber = new LiveSubscriber(url, logger);
  subscriber.start();
  await waitUntil("it hears", async () => subscriber.isHearing());
  const lost = once(subscriber, "lost");
  proxy.close();
  await lost;
  await subscriber.stop();
  const again = new SwallowingProxy(database.authenticatorUrl);
  // On the same port, where it would get through now.
  await again.open(Number(new URL(url).port));
  await new Promise((resolve) => setTimeout(resolve, 3000));
  expect(await listeners()).toBe(0);
  again.close();
}, 30_000);
