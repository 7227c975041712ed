/**
 * Members who stay connected to one process, over WebSocket and as events, while PostgreSQL is restarted under load and
 * notifications are forged, doubled and lost. Each is told each of its completions exactly once, in order, and none of those
 * on a WebSocket notices anything. Whoever acts on the notifications alone misses some, so the suite would have found it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { Pool } from "pg";
import { readConfiguration } from "../../src/configuration.ts";
import { LiveSubscriber } from "../../src/live/subscriber.ts";
import { createLogger } from "../../src/logger.ts";
import { start } from "../../src/start.ts";
import type { RunningProcess } from "../../src/start.ts";
import { openStream, subscribe, tokenOf } from "../live_clients.ts";
import type { SocketClient, StreamClient } from "../live_clients.ts";
import { waitUntil } from "../test_database.ts";
import { jwtSecret } from "../test_process.ts";
import { startRestartableServer } from "./restartable_server.ts";
import type { RestartableServer } from "./restartable_server.ts";
import { WorkerProcess } from "./worker_process.ts";
import { isLong, throwDice } from "./seed.ts";

const members = isLong ? 1000 : 100;
const rounds = isLong ? 5 : 3;
const silent = createLogger("silent");
const dice = throwDice("live");
const birth = { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" };
const names = Array.from({ length: members }, (_, at) => `live-${at}`);

let server: RestartableServer;
let api: RunningProcess | undefined;
let worker: WorkerProcess;
beforeEach(async () => {
  server = await startRestartableServer();
  await server.pool.query(
    `insert into app.incentives (key, name, evaluator, records, criteria)
    select 'round_' || i, 'Round', evaluator, records, criteria
    from app.incentives, generate_series(1, $1) as i where key = 'birth_record'`,
    [rounds],
  );
  worker = await WorkerProcess.start(server.ownerUrl);
}, 60_000);
afterEach(async () => {
  await api?.stop();
  api = undefined;
  await worker.stop();
  await server.drop();
}, 60_000);

/** Tries until it is certain, for at most 30 s. */
async function insist<T>(work: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(50);
    }
  }
}

/** Each member completes the round's incentive, some at a time. */
async function playRound(pool: Pool, round: number): Promise<void> {
  const left = [...names];
  while (left.length > 0) {
    const some = left.splice(0, dice.between(1, members / 5));
    await insist(() =>
      pool.query(
        `insert into app.user_incentives (user_id, incentive_id, data)
        select member, incentive.id, $2
        from unnest($1::text[]) as member, app.incentives as incentive where key = $3
        on conflict on constraint a_member_has_one_row_per_incentive do nothing`,
        [some, birth, `round_${round}`],
      ),
    );
    await sleep(dice.between(0, 60));
  }
  await waitUntil(`round ${round} is judged`, () => isRoundOver(pool, round), 60);
}

const isRoundOver = (pool: Pool, round: number): Promise<boolean> =>
  pool
    .query(
      `select from app.incentive_events as event
      join app.incentives as incentive on incentive.id = event.incentive_id where key = $1`,
      [`round_${round}`],
    )
    .then(
      ({ rowCount }) => rowCount === members,
      () => false,
    );

/** The ids of each member's events, in the order in which they happened: one a round. */
async function readTruth(pool: Pool): Promise<Map<string, string[]>> {
  const { rows } = await pool.query<{ user_id: string; ids: string[] }>(
    `select ui.user_id, array_agg(event.id::text order by event.id) as ids
    from app.incentive_events as event
    join app.user_incentives as ui on ui.id = event.user_incentive_id
    group by ui.user_id`,
  );
  return new Map(rows.map(({ user_id, ids }) => [user_id, ids]));
}

/** Forged, doubled and out of order. */
async function lie(pool: Pool): Promise<void> {
  const payload = dice.oneOf([
    "nonsense",
    '{"first": 1, "last": 2}',
    '{"first": 9007199254740991, "last": 1}',
    "x".repeat(7999),
  ]);
  await pool.query("select pg_notify('incentive_completed', $1)", [payload]).catch(() => {});
}

/** Ends the listening connection again and again, so that most of what is notified is heard by nobody. */
async function deafen(isOver: () => boolean): Promise<void> {
  const hangman = new Pool({ connectionString: server.authenticatorUrl, max: 1 });
  hangman.on("error", () => {});
  while (!isOver()) {
    await hangman
      .query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'incentives live'",
      )
      .catch(() => {});
    await sleep(dice.between(5, 100));
  }
  await hangman.end();
}

/** Each round with a restart somewhere in it, and lies before and after. Returns how many restarts there were. */
async function playAll(pool: Pool): Promise<number> {
  for (let round = 1; round <= rounds; round++) {
    let isOver = false;
    const deafening = deafen(() => isOver);
    const played = playRound(pool, round).finally(() => (isOver = true));
    await sleep(dice.between(50, 600));
    await lie(pool);
    await server.restart(dice.oneOf(["fast", "immediate"] as const));
    await lie(pool);
    await Promise.all([played, deafening]);
  }
  return rounds;
}

/** A client without WebSocket that loses its connection again and again, and comes back with its last event's id. */
class Wanderer {
  readonly told: string[] = [];
  readonly #url: string;
  readonly #authorization: string;
  #stream: StreamClient | undefined;
  #taken = 0;
  #isStopped = false;

  constructor(url: string, authorization: string) {
    this.#url = url;
    this.#authorization = authorization;
  }

  async connect(): Promise<void> {
    const lastEventId = this.#stream?.lastEventId;
    this.#taken = 0;
    this.#stream = await insist(() => openStream(this.#url, this.#authorization, lastEventId));
  }

  take(): string[] {
    const fresh = this.#stream?.events.slice(this.#taken) ?? [];
    this.#taken += fresh.length;
    this.told.push(...fresh.map(({ data }) => String(data.id)));
    return this.told;
  }

  async wander(): Promise<void> {
    while (!this.#isStopped) {
      await sleep(dice.between(100, 1500));
      this.take();
      this.#stream?.stop();
      // What came between the last look and the end was received as well.
      await waitUntil("the stream has ended", async () => this.#stream?.hasEnded ?? true);
      this.take();
      await this.connect();
    }
  }

  stop(): void {
    this.#isStopped = true;
  }

  end(): void {
    this.#stream?.stop();
  }
}

test("every member is told each completion once, in order, through restarts and lies", async () => {
  api = await start({
    only: "api",
    configuration: readConfiguration({
      PORT: "0",
      AUTH_DATABASE_URL: server.authenticatorUrl,
      JWT_SECRET: jwtSecret,
      NODE_ENV: "test",
    }),
    logger: silent,
  });
  const url = `http://127.0.0.1:${api.apiPort}`;
  const sockets = new Map<string, SocketClient>();
  for (const name of names) sockets.set(name, await subscribe(url, await tokenOf(name)));
  const wanderers = new Map<string, Wanderer>();
  for (const name of names.slice(0, members / 10)) {
    const wanderer = new Wanderer(url, await tokenOf(name));
    await wanderer.connect();
    wanderers.set(name, wanderer);
  }
  const wandering = [...wanderers.values()].map((wanderer) => wanderer.wander());

  const restarts = await playAll(server.pool);
  const truth = await readTruth(server.pool);
  const since = Date.now();
  await waitUntil(
    "everybody is told",
    async () => [...sockets.values()].every(({ told }) => told.length >= rounds),
    30,
  ).catch(() => {});
  console.log(
    `${members} members, ${rounds} completions each, ${restarts} restarts; the last told after ${Date.now() - since} ms`,
  );
  for (const wanderer of wanderers.values()) wanderer.stop();
  await Promise.all(wandering);
  await waitUntil(
    "the wanderers are told",
    async () => [...wanderers.values()].every((wanderer) => wanderer.take().length >= rounds),
    10,
  ).catch(() => {});
  // Long enough for what is told twice to be told.
  await sleep(3500);

  const told = new Map(
    [...sockets].map(([name, client]) => [name, client.told.map(({ id }) => id)]),
  );
  expect(told).toEqual(truth);
  for (const [name, wanderer] of wanderers) expect(wanderer.take()).toEqual(truth.get(name));
  for (const { closed, errors } of sockets.values())
    expect({ closed, errors }).toEqual({ closed: [], errors: [] });
  expect(restarts).toBeGreaterThan(1);
  for (const client of sockets.values()) client.stop();
  for (const wanderer of wanderers.values()) wanderer.end();
}, 300_000);

test("whoever acts on the notification alone misses completions", async () => {
  const told = new Set<string>();
  const subscriber = new LiveSubscriber(server.authenticatorUrl, silent);
  subscriber.on("completed", ({ first, last }) => {
    void server.pool
      .query<{ id: string }>("select id from app.incentive_events where id between $1 and $2", [
        first,
        last,
      ])
      .then(({ rows }) => rows.forEach(({ id }) => told.add(id)))
      .catch(() => {});
  });
  subscriber.start();
  await waitUntil("it hears", async () => subscriber.isHearing());
  await playAll(server.pool);
  await sleep(3500);
  await subscriber.stop();
  const missed = [...(await readTruth(server.pool)).values()].flat().filter((id) => !told.has(id));
  console.log(`acting on the notification alone missed ${missed.length} of ${members * rounds}`);
  expect(missed).not.toEqual([]);
}, 300_000);
