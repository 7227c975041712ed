/**
 * Members who write as they read, through two API processes: how often one reads what is no longer true. Called by reads.ts.
 *
 * Own write: written through a process, read through the same one as soon as the answer is there. Heard: at the moment in
 * which a listening client is told of completions, everybody who waits for one is read through both processes, without
 * asking first whose it was; afterwards the events say whose answers must have shown it.
 */
import { Agent, request } from "node:http";
import type { Client } from "pg";
import { createTokens } from "../../src/api/tokens/tokens.ts";
import { jwtSecret, startApi } from "./programs.ts";
import { connect } from "./server.ts";
import type { BenchDatabase } from "./server.ts";

export interface StalenessOptions {
  database: BenchDatabase;
  /** At the least. */
  reads: number;
  members: number;
  say: (line: string) => void;
}

export interface Staleness {
  reads: number;
  afterOwnWrite: number;
  afterHeard: number;
}

interface UserIncentive {
  incentive: { key: string };
  status: string;
  data: { birth_date?: string };
}
interface Range {
  first: number;
  last: number;
}
interface HeardRead {
  member: string;
  /** What this member waited for, and what had been heard of, when it was asked for. */
  waitsFor: string;
  heard: number;
  answer: UserIncentive[];
}
type Ask = (process: number, member: string, recording?: object) => Promise<string>;

/** Enough for each member to complete one now and then. */
const incentives = 20;

export async function measureStaleness(options: StalenessOptions): Promise<Staleness> {
  const { database, members, say } = options;
  await addIncentives(database);
  const apis = [await startApi(database, {}), await startApi(database, {})];
  const agent = new Agent({ keepAlive: true });
  const urls = apis.map(({ url }) => url);
  const ask = await createAsk(agent, urls, members);
  const run: Run = { ask, reads: 0, afterOwnWrite: 0, waitsFor: new Map() };
  const listener = await connect(database.ownerUrl);
  const heard = await readWhenHeard(run, listener);

  const names = Array.from({ length: members }, (_, index) => `member ${index}`);
  await Promise.all(names.map((member) => writeAndRead(run, member, options.reads)));

  listener.removeAllListeners("notification");
  const reads = await Promise.all(heard.reads);
  const afterHeard = await countStale(database, reads, heard.ranges);
  await listener.end();
  agent.destroy();
  await Promise.all(apis.map((api) => api.stop()));
  say(`staleness: ${run.reads} reads, ${reads.length} of them when a completion was heard`);
  return { reads: run.reads, afterOwnWrite: run.afterOwnWrite, afterHeard };
}

interface Run {
  ask: Ask;
  reads: number;
  afterOwnWrite: number;
  /** Which incentive each member recorded last of those that a completion is waited for. */
  waitsFor: Map<string, string>;
}

async function addIncentives({ client }: BenchDatabase): Promise<void> {
  await client.query(
    `insert into app.incentives (key, name, evaluator, records, criteria)
    select 'birth_' || i, 'Birth', evaluator, records, criteria
    from app.incentives, generate_series(1, $1) as i where key = 'birth_record'`,
    [incentives],
  );
}

async function read(run: Run, process: number, member: string): Promise<UserIncentive[]> {
  run.reads += 1;
  const answer = await run.ask(process, member);
  return (JSON.parse(answer) as { incentives: UserIncentive[] }).incentives;
}

/** At once, whoever it was that completed something. */
async function readWhenHeard(
  run: Run,
  listener: Client,
): Promise<{ reads: Promise<HeardRead>[]; ranges: Range[] }> {
  const reads: Promise<HeardRead>[] = [];
  const ranges: Range[] = [];
  listener.on("notification", ({ payload = "" }) => {
    ranges.push(JSON.parse(payload) as Range);
    const heard = ranges.length;
    for (const [member, waitsFor] of run.waitsFor) {
      for (const process of [0, 1]) {
        const answer = read(run, process, member);
        reads.push(answer.then((rows) => ({ member, waitsFor, heard, answer: rows })));
      }
    }
  });
  await listener.query("listen incentive_completed");
  return { reads, ranges };
}

/** One member, one thing after another, through either process by chance. */
async function writeAndRead(run: Run, member: string, atLeast: number): Promise<void> {
  let completed = 0;
  for (let turn = 0; run.reads < atLeast; turn += 1) {
    const process = Math.random() < 0.5 ? 0 : 1;
    const chance = Math.random();
    if (chance < 0.3) {
      const date = `2021-09-15 15:${String(turn % 60).padStart(2, "0")}:00`;
      await run.ask(process, member, recordingOf("birth_record", date));
      const rows = await read(run, process, member);
      const own = rows.find(({ incentive }) => incentive.key === "birth_record");
      if (own?.data.birth_date !== date) run.afterOwnWrite += 1;
    } else if (chance < 0.35 && completed < incentives) {
      completed += 1;
      run.waitsFor.set(member, `birth_${completed}`);
      await run.ask(process, member, recordingOf(`birth_${completed}`, "2021-09-15 15:30:00"));
    } else {
      await read(run, process, member);
    }
  }
}

const recordingOf = (incentive: string, birthDate: string): object => ({
  incentive,
  data: { birth_date: birthDate, date: "2021-09-15 17:15:00" },
});

async function countStale(
  { client }: BenchDatabase,
  reads: HeardRead[],
  ranges: Range[],
): Promise<number> {
  const { rows } = await client.query<{ id: number; completed: string }>(`
    select event.id::float8 as id, ui.user_id || ' ' || incentive.key as completed
    from app.incentive_events as event
    join app.user_incentives as ui on ui.id = event.user_incentive_id
    join app.incentives as incentive on incentive.id = event.incentive_id`);
  const eventOf = new Map(rows.map(({ id, completed }) => [completed, id]));
  /** After how many ranges it had been heard of. */
  const heardAfter = (id: number): number =>
    ranges.findIndex(({ first, last }) => first <= id && id <= last) + 1 || Infinity;
  let stale = 0;
  for (const { member, waitsFor, heard, answer } of reads) {
    const event = eventOf.get(`${member} ${waitsFor}`);
    const isHeard = event !== undefined && heardAfter(event) <= heard;
    const row = answer.find(({ incentive }) => incentive.key === waitsFor);
    if (isHeard && row?.status !== "completed") stale += 1;
  }
  return stale;
}

async function createAsk(agent: Agent, urls: string[], members: number): Promise<Ask> {
  const tokens = createTokens(jwtSecret);
  const authorization = new Map<string, string>();
  for (let index = 0; index < members; index += 1) {
    const member = `member ${index}`;
    authorization.set(member, `Bearer ${await tokens.sign(member, "1h")}`);
  }
  return (process, member, recording) =>
    new Promise((resolve, reject) => {
      const asked = request(
        `${urls[process]}/user/incentives`,
        {
          agent,
          method: recording ? "POST" : "GET",
          headers: {
            authorization: authorization.get(member),
            ...(recording && { "content-type": "application/json" }),
          },
        },
        (response) => {
          let text = "";
          response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
          response.on("end", () => {
            const isFine = response.statusCode === (recording ? 201 : 200);
            if (isFine) resolve(text);
            else reject(new Error(`${response.statusCode} ${text}`));
          });
        },
      );
      asked.on("error", reject).end(recording && JSON.stringify(recording));
    });
}
