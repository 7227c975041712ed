/**
 * What a member's read costs: from memory and asked anew, beside a handler that one would write by hand and a server that
 * can do nothing else. All run at the same time and are measured in turns, so that a pair sees the same machine; before that,
 * what each answers is compared. Called by bench.ts, and in a tiny form by the test.
 */
import getPort from "get-port";
import { createTokens } from "../../src/api/tokens/tokens.ts";
import { queries } from "../../src/api/rest/reads.ts";
import type { ConstantAnswerOptions } from "./children/constant_answer.ts";
import type { HandWrittenOptions } from "./children/hand_written_api.ts";
import { countQueries } from "./count_queries.ts";
import { refuseUnless, waitUntilNothingIsDue } from "./counts.ts";
import { jwtSecret, startApi, startChild, startWorker } from "./programs.ts";
import { birthRecord } from "./server.ts";
import type { BenchDatabase, Clone } from "./server.ts";
import { measureStaleness } from "./staleness.ts";
import { toRow } from "./statistics.ts";
import type { Row } from "./statistics.ts";
import { requestsPerSecond } from "./wrk.ts";

export interface ReadsOptions {
  clone: Clone;
  rounds: number;
  /** How long each turn takes. */
  seconds: number;
  /** How many reads are looked at for whether they are stale. */
  reads: number;
  say: (line: string) => void;
}

const connections = 16;
const warmUps = 2;
const query =
  "{ userIncentives { nodes { id incentive { key name } status progress data explanation completedAt createdAt updatedAt } } }";

export async function measureReads(options: ReadsOptions): Promise<Row[]> {
  const { clone, rounds, seconds, reads, say } = options;
  const database = await clone();
  const worker = await startWorker(database.ownerUrl);
  const sides = await startSides(database);
  const rates: Record<keyof typeof sides.loads, number[]> = {
    byHand: [],
    constant: [],
    hit: [],
    graphqlHit: [],
    notModified: [],
    graphqlMiss: [],
  };
  // The first rounds are for the compilers on both sides, and do not count.
  for (let round = 1 - warmUps; round <= rounds; round += 1) {
    for (const side of Object.keys(rates) as (keyof typeof rates)[]) {
      const rate = await requestsPerSecond({ ...sides.loads[side], connections, seconds });
      if (round > 0) rates[side].push(rate);
    }
    if (round < 1) continue;
    const print = Object.entries(rates).map(([side, all]) => `${side} ${all.at(-1)?.toFixed(0)}`);
    say(`round ${round}: requests/s: ${print.join(", ")}`);
  }
  const asked = await countQueries(database, sides.loads.hit, 10_000);
  await sides.stop();
  const stale = await measureStaleness({ database, reads, members: 100, say });
  await worker.stop();
  await database.drop();

  const ratios = (ours: number[], beside: number[]): number[] =>
    ours.map((rate, round) => rate / (beside[round] ?? Number.NaN));
  const byHand = "handler written by hand";
  const anyRead = `${stale.reads} reads, two API processes`;
  return [
    toRow("REST hit", byHand, ratios(rates.hit, rates.byHand), { atLeast: 9, reach: 12 }),
    toRow("GraphQL hit", byHand, ratios(rates.graphqlHit, rates.byHand), { atLeast: 5, reach: 8 }),
    toRow("304", "constant answer", ratios(rates.notModified, rates.constant), {
      atLeast: 0.85,
      reach: 1,
    }),
    toRow("GraphQL miss", byHand, ratios(rates.graphqlMiss, rates.byHand), {
      atLeast: 0.7,
      reach: 0.9,
    }),
    ...(asked === undefined
      ? []
      : [toRow("queries in 10,000 hits", "none", [asked], { atMost: 0 })]),
    toRow("stale after one's own write", anyRead, [stale.afterOwnWrite], { atMost: 0 }),
    toRow("stale after a completion was heard", anyRead, [stale.afterHeard], { atMost: 0 }),
  ];
}

/** Starts what is compared, with one member's list to answer, and sees that all say the same. */
async function startSides(database: BenchDatabase) {
  const headers = { authorization: `Bearer ${await createTokens(jwtSecret).sign("reader", "1h")}` };
  const entry = '[{"date": "2021-09-15 17:15:00", "data": [{"type": "mood", "value": "happy"}]}]';
  await database.client.query(
    `insert into app.user_incentives (user_id, incentive_id, data)
    select 'reader', id, case records when 'log' then $1::jsonb else $2::jsonb end from app.incentives`,
    [entry, birthRecord],
  );
  await waitUntilNothingIsDue(database.client, 30);

  const [handPort, constantPort] = [await getPort(), await getPort()];
  const ours = await startApi(database, {});
  const unkept = await startApi(database, { ANSWERS_MEMORY_MB: "0" });
  const hand = await startChild("hand_written_api", {
    url: database.authenticatorUrl,
    port: handPort,
    jwtSecret,
    query: queries.userIncentives,
  } satisfies HandWrittenOptions);
  const read = { url: `${ours.url}/user/incentives`, headers };
  const byHand = { url: `http://127.0.0.1:${handPort}/user/incentives`, headers };
  const ask = (url: string): Promise<Response> => fetch(url, { headers });
  const answer = await (await ask(byHand.url)).text();
  const etag = (await ask(read.url)).headers.get("etag") ?? "";
  const hit = await ask(read.url);
  refuseUnless(1, {
    "answers that are the same": Number((await hit.text()) === answer),
    "answers from memory": Number(hit.headers.get("x-cache") === "hit"),
  });
  const constant = await startChild("constant_answer", {
    port: constantPort,
    answer,
  } satisfies ConstantAnswerOptions);
  const body = JSON.stringify({ query });
  return {
    loads: {
      byHand,
      constant: { url: `http://127.0.0.1:${constantPort}/` },
      hit: read,
      graphqlHit: { url: `${ours.url}/graphql`, headers, body },
      notModified: { ...read, headers: { ...headers, "if-none-match": etag } },
      graphqlMiss: { url: `${unkept.url}/graphql`, headers, body },
    },
    stop: () => Promise.all([ours, unkept, hand, constant].map((side) => side.stop())),
  };
}
