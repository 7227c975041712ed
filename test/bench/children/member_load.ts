/**
 * Members who read and write at a steady rate, and how long each of them waited: from the moment a request was due, whether or
 * not it could be sent then, so that a server that stands still is blamed for all who came meanwhile. Called by the measure of
 * the refresh.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { serve } from "./serve.ts";

export interface MemberLoadOptions {
  url: string;
  /** They are called `member 1` and so on. */
  members: number;
  readsPerSecond: number;
  writesPerSecond: number;
  /** Connections for each of the two. */
  connections: number;
  /** At the most; it may be told to finish before. */
  measureMs: number;
}

export interface MemberLoadResult {
  /** Milliseconds each waited. */
  reads: number[];
  writes: number[];
}

await serve(async (options: MemberLoadOptions) => {
  const { url, connections } = options;
  const connect = async (): Promise<Client> => {
    const client = new Client({ connectionString: url });
    await client.connect();
    return client;
  };
  const all = (): Promise<Client[]> => Promise.all(Array.from({ length: connections }, connect));
  const [readers, writers] = [await all(), await all()];
  return async (finish: AbortSignal): Promise<MemberLoadResult> => {
    const begin = performance.now();
    const until = begin + options.measureMs;
    const isOver = (): boolean => performance.now() > until || finish.aborted;
    const someone = (): string => `member ${1 + Math.floor(Math.random() * options.members)}`;
    const [reads, writes] = await Promise.all([
      pace(readers, options.readsPerSecond, isOver, (client) => read(client, someone())),
      pace(writers, options.writesPerSecond, isOver, (client) => write(client, someone())),
    ]);
    return { reads, writes };
  };
});

/** Each client asks at its own beat, evenly spread. */
async function pace(
  clients: Client[],
  perSecond: number,
  isOver: () => boolean,
  ask: (client: Client) => Promise<void>,
): Promise<number[]> {
  const waited: number[] = [];
  const beatMs = (1000 * clients.length) / perSecond;
  const begin = performance.now();
  await Promise.all(
    clients.map(async (client, index) => {
      for (let due = begin + (beatMs * index) / clients.length; !isOver(); due += beatMs) {
        const early = due - performance.now();
        if (early > 0) await sleep(early);
        await ask(client);
        waited.push(performance.now() - due);
      }
    }),
  );
  return waited;
}

/** As the API does: in a transaction that says whose it is. */
async function read(client: Client, member: string): Promise<void> {
  await client.query("begin");
  await client.query("select set_config('incentives.user_id', $1, true)", [member]);
  const { rowCount } = await client.query({
    name: "read",
    text: "select * from api.user_incentives",
  });
  await client.query("commit");
  if (!rowCount) throw new Error("a member was shown nothing of what they have");
}

async function write(client: Client, member: string): Promise<void> {
  const { rowCount } = await client.query({
    name: "write",
    text: `
      update app.user_incentives
      set data = jsonb_set(data, '{date}', to_jsonb('2021-09-15 17:' || lpad((random() * 59)::int::text, 2, '0') || ':00'))
      where user_id = $1
      and incentive_id = (select id from app.incentives where key = 'birth_record')`,
    values: [member],
  });
  if (!rowCount) throw new Error("a write wrote nothing");
}
