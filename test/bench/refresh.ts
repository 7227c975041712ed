/**
 * What members notice of a refresh, and how soon they read what changed. Called by bench.ts, and in a tiny form by the test.
 *
 * The longest stall is the longest that any one of them waited for an answer, in a run of steady reads and writes, worker and
 * all (stalls.ts). The 99.9th percentile stands beside it, because the maximum of a run is one event, of whatever the machine
 * did.
 */
import { measureChange } from "./change.ts";
import type { BenchDatabase, Clone } from "./server.ts";
import { birthRecord } from "./server.ts";
import { measureStalls } from "./stalls.ts";
import type { Load, Stalls } from "./stalls.ts";
import { toRow } from "./statistics.ts";
import type { Row } from "./statistics.ts";

export interface RefreshOptions extends Load {
  clone: Clone;
  rounds: number;
  /** Hears how each run went. */
  say: (line: string) => void;
}

export async function measureRefresh(options: RefreshOptions): Promise<Row[]> {
  const { clone, rounds, rows, say } = options;
  const database = await clone();
  await fillMembers(database, rows);
  await database.client.query("call cache.refresh()");
  // As autovacuum would, within a minute: what reads a new row first writes its page once more, and would be timed.
  await database.client.query("vacuum analyze");
  say(`filled ${rows} rows, and refreshed once`);

  const stalls: Record<keyof Stalls, number[]> = {
    longestRead: [],
    longestWrite: [],
    read: [],
    write: [],
  };
  const untilRead: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const pair = await measureStalls(database, options);
    for (const what of Object.keys(stalls) as (keyof Stalls)[]) {
      stalls[what].push(pair.during[what] / pair.without[what]);
    }
    say(
      `round ${round + 1}: ${pair.reads} reads and ${pair.writes} writes on either side, ${pair.seconds.toFixed(1)} s of refresh`,
    );
    say(`round ${round + 1}: during: ${print(pair.during)}`);
    say(`round ${round + 1}: without: ${print(pair.without)}`);
    const times = await measureChange(database, rows, round);
    untilRead.push(times.ours / times.refreshed);
    say(
      `round ${round + 1}: a change read by all after ${times.ours.toFixed(0)} ms, beside ${times.refreshed.toFixed(0)} ms`,
    );
  }
  await database.drop();
  return report(stalls, untilRead, rows);
}

function report(stalls: Record<keyof Stalls, number[]>, untilRead: number[], rows: number): Row[] {
  const count = rows.toLocaleString("en");
  const without = "the same load without a refresh";
  const bar = { atMost: 3, reach: 2 };
  return [
    toRow(
      `longest stall of a read during a refresh, ${count} rows`,
      without,
      stalls.longestRead,
      bar,
    ),
    toRow(
      `longest stall of a write during a refresh, ${count} rows`,
      without,
      stalls.longestWrite,
      bar,
    ),
    toRow("99.9th percentile of a read's wait during a refresh", without, stalls.read, bar),
    toRow("99.9th percentile of a write's wait during a refresh", without, stalls.write, bar),
    toRow(
      "verdicts on 0.1 % of members sent -> all of them have read these",
      "the same update, then `refresh materialized view concurrently`",
      untilRead,
      { atMost: 0.01, reach: 0.001 },
    ),
  ];
}

function print({ longestRead, longestWrite, read, write }: Stalls): string {
  const [reads, writes] = [
    [longestRead, read],
    [longestWrite, write],
  ].map((pair) => pair.map((ms) => ms!.toFixed(1)).join("/"));
  return `longest/p99.9 in ms: read ${reads}, write ${writes}`;
}

/** Two rows a member, two thirds of them completed and rewarded, judged, as if it had been some time ago. */
async function fillMembers({ client }: BenchDatabase, rows: number): Promise<void> {
  await client.query("set session_replication_role = replica");
  await client.query(
    `insert into app.user_incentives
      (user_id, incentive_id, data, status, progress, completed_at, explanation, evaluation_due)
    select 'member ' || member, incentive.id, $2::jsonb,
      case when completes then 'completed' else 'in_progress' end,
      case when completes then 1 else 0.5 end,
      case when completes then now() end,
      '[{"condition": "reported_in_time", "met": true, "message": "Reported in time."}]',
      false
    from generate_series(1, $1::int / 2) as member
    cross join app.incentives as incentive
    cross join lateral (select (member + incentive.id) % 3 > 0 as completes) as given`,
    [rows, birthRecord],
  );
  await client.query(`
    insert into app.user_rewards (user_id, user_incentive_id, reward_id, amount, unit)
    select ui.user_id, ui.id, reward.id, reward.amount, reward.unit
    from app.user_incentives as ui
    join app.incentive_rewards as promised on promised.incentive_id = ui.incentive_id
    join app.rewards as reward on reward.id = promised.reward_id
    where ui.status = 'completed'`);
  await client.query("set session_replication_role = default");
  await client.query(
    "insert into cache.stale_users values (cache.everybody(), pg_current_xact_id())",
  );
  await client.query("vacuum analyze");
  await client.query("checkpoint");
}
