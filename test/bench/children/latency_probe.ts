/**
 * Writes one row at a time, with pauses, and says how long after each was sent a listening client heard of it. Called by
 * the latency measure, for both sides of its pair: what is told by the worker, and what the write itself tells.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { serve } from "./serve.ts";

export interface LatencyProbeOptions {
  url: string;
  /** Who sends the NOTIFY: the completion of the row, or the transaction that writes it (into app.bare). */
  teller: "completion" | "write";
  writes: number;
  /** A pause between two writes, at random. */
  pauseMs: { from: number; to: number };
  data: string;
  prefix: string;
}

interface Write {
  id: string;
  sentAt: number;
  committedAt: number;
}
interface Heard {
  first: number;
  last: number;
  at: number;
}

export interface LatencyProbeResult {
  rows: number;
  /** Milliseconds from the insert being sent until it was heard of. */
  fromSent: number[];
  /** The same, from the insert's commit being known to the writer. */
  fromCommitted: number[];
}

const channel = "incentive_completed";
const hearAtMostMs = 10_000;

await serve(async (options: LatencyProbeOptions) => {
  const writer = new Client({ connectionString: options.url });
  const listener = new Client({ connectionString: options.url });
  await Promise.all([writer.connect(), listener.connect()]);
  const heard: Heard[] = [];
  listener.on("notification", ({ payload = "{}" }) => {
    heard.push({
      at: performance.now(),
      ...(JSON.parse(payload) as { first: number; last: number }),
    });
  });
  await listener.query(`listen ${channel}`);
  return async (): Promise<LatencyProbeResult> => {
    const writes = await write(writer, options);
    const told = await findTold(writer, writes, heard, options.teller);
    return {
      rows: writes.length,
      fromSent: told.map(({ at, sentAt }) => at - sentAt),
      fromCommitted: told.map(({ at, committedAt }) => at - committedAt),
    };
  };
});

async function write(client: Client, options: LatencyProbeOptions): Promise<Write[]> {
  const { rows } = await client.query<{ id: number }>(
    "select id from app.incentives where key = 'birth_record'",
  );
  const text =
    options.teller === "completion"
      ? `insert into app.user_incentives (user_id, incentive_id, data)
         values ($1::text, $2::int, $3::jsonb) returning id`
      : `with written as (
           insert into app.bare (user_id, incentive_id, data)
           values ($1::text, $2::int, $3::jsonb) returning id
         )
         select id, pg_notify('${channel}', json_build_object('first', id, 'last', id)::text) from written`;
  const writes: Write[] = [];
  const { from, to } = options.pauseMs;
  for (let index = 0; index < options.writes; index += 1) {
    const values = [`${options.prefix} ${index}`, rows[0]?.id, options.data];
    const sentAt = performance.now();
    const written = await client.query<{ id: string }>({ name: "write", text, values });
    writes.push({ id: written.rows[0]!.id, sentAt, committedAt: performance.now() });
    await sleep(from + Math.random() * (to - from));
  }
  return writes;
}

/** A completion is told by its event's id, which is looked up when all is over, so that it costs nothing meanwhile. */
async function findTold(
  client: Client,
  writes: Write[],
  heard: Heard[],
  teller: LatencyProbeOptions["teller"],
): Promise<(Write & { at: number })[]> {
  for (const deadline = performance.now() + hearAtMostMs; ; await sleep(20)) {
    const told = teller === "write" ? writes.map(({ id }) => id) : await readEvents(client, writes);
    const found = writes.map((one, index) => {
      const number = Number(told[index] ?? NaN);
      return { ...one, at: heard.find(({ first, last }) => first <= number && number <= last)?.at };
    });
    const missing = found.filter(({ at }) => at === undefined).length;
    if (missing === 0) return found.map((one) => ({ ...one, at: one.at! }));
    if (performance.now() > deadline) throw new Error(`${missing} writes were never heard of`);
  }
}

async function readEvents(client: Client, writes: Write[]): Promise<(string | null)[]> {
  const { rows } = await client.query<{ event: string | null }>(
    `select event.id as event
     from unnest($1::bigint[]) with ordinality as written (id, place)
     left join app.incentive_events as event on event.user_incentive_id = written.id
     order by place`,
    [writes.map(({ id }) => id)],
  );
  return rows.map(({ event }) => event);
}
