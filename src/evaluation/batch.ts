/**
 * One batch of evaluation: claim due rows, judge them, apply the verdicts, all in one transaction, so that a worker killed
 * anywhere leaves nothing half done. Called by the tasks. It must never let one bad row hold up the others: that row is
 * handed to a job of its own.
 */
import type { ClientBase } from "pg";
import { Temporal } from "temporal-polyfill";
import { errorClass } from "../logger.ts";
import type { Logger } from "../logger.ts";
import type { Verdict } from "./evaluator.ts";
import { checkCriteria, judge } from "./judge.ts";
import type { Incentive } from "./judge.ts";
import type { EvaluatorRegistry } from "./registry.ts";

export interface ClaimedRow {
  id: string;
  incentive_id: number;
  data: unknown;
}

/** The catalogue as this transaction sees it, and the transaction's time. */
export interface Catalogue {
  now: Temporal.Instant;
  incentives: Map<number, Incentive>;
}

interface Judged {
  id: string;
  verdict: Verdict;
}

/**
 * Judges up to `limit` due rows. Returns how many were claimed: 0 when none is due that can be judged. Rows whose incentive
 * names an evaluator that is not here, or criteria it does not accept, are left due until that is mended.
 */
export async function evaluateBatch(
  client: ClientBase,
  registry: EvaluatorRegistry,
  limit: number,
  logger: Logger,
): Promise<number> {
  return inTransaction(client, async () => {
    const catalogue = await readCatalogue(client);
    const rows = await claim(client, judgeableIds(catalogue, registry), limit);
    if (rows.length === 0) return 0;
    const judged: Judged[] = [];
    for (const row of rows) {
      try {
        judged.push({ id: row.id, verdict: judgeRow(row, catalogue, registry) });
      } catch (error) {
        await handOver(client, row.id, error, logger);
      }
    }
    await applyIsolating(client, judged, logger);
    return rows.length;
  });
}

/** Judges one row, due or not. Throws what the evaluator threw. */
export async function evaluateRow(
  client: ClientBase,
  registry: EvaluatorRegistry,
  id: string,
): Promise<void> {
  await inTransaction(client, async () => {
    const catalogue = await readCatalogue(client);
    const { rows } = await client.query<ClaimedRow>(
      "select id, incentive_id, data from app.user_incentives where id = $1 for update",
      [id],
    );
    for (const row of rows) {
      await apply(client, [{ id, verdict: judgeRow(row, catalogue, registry) }]);
    }
  });
}

async function inTransaction<T>(client: ClientBase, work: () => Promise<T>): Promise<T> {
  await client.query("begin");
  try {
    const result = await work();
    await client.query("commit");
    return result;
  } catch (error) {
    // On a broken connection this fails too; the first error is the one that says why.
    await client.query("rollback").catch(() => {});
    throw error;
  }
}

async function readCatalogue(client: ClientBase): Promise<Catalogue> {
  const { rows } = await client.query<Incentive & { id: number; now: Date }>({
    name: "read_catalogue",
    text: `
      select id, evaluator, criteria, is_active, starts_at, ends_at, now() as now
      from app.incentives`,
  });
  const now = rows[0]?.now ?? new Date(0);
  return {
    now: Temporal.Instant.fromEpochMilliseconds(now.getTime()),
    incentives: new Map(rows.map((row) => [row.id, row])),
  };
}

/** The incentives that can be judged here: their adapter is present and accepts their criteria. */
function judgeableIds({ incentives }: Catalogue, registry: EvaluatorRegistry): number[] {
  return [...incentives]
    .filter(([, incentive]) => registry.has(incentive.evaluator))
    .filter(
      ([, incentive]) =>
        checkCriteria(registry, incentive.evaluator, incentive.criteria).length === 0,
    )
    .map(([id]) => id);
}

async function claim(
  client: ClientBase,
  incentiveIds: number[],
  limit: number,
): Promise<ClaimedRow[]> {
  const { rows } = await client.query<ClaimedRow>({
    name: "claim_due_rows",
    text: `
      select id, incentive_id, data
      from app.user_incentives
      where evaluation_due
      and incentive_id = any ($1)
      order by id
      limit $2
      for update skip locked`,
    values: [incentiveIds, limit],
  });
  return rows;
}

function judgeRow(row: ClaimedRow, catalogue: Catalogue, registry: EvaluatorRegistry): Verdict {
  const incentive = catalogue.incentives.get(row.incentive_id);
  if (!incentive) throw new Error(`Incentive ${row.incentive_id} is not in the catalogue`);
  return judge(registry, incentive, { data: row.data, now: catalogue.now });
}

/** Applies the verdicts; when the database refuses, halves the set until the refused row stands alone. */
async function applyIsolating(client: ClientBase, judged: Judged[], logger: Logger): Promise<void> {
  if (judged.length === 0) return;
  await client.query("savepoint verdicts");
  try {
    await apply(client, judged);
    await client.query("release savepoint verdicts");
  } catch (error) {
    await client.query("rollback to savepoint verdicts");
    const [only] = judged;
    if (judged.length === 1 && only) return handOver(client, only.id, error, logger);
    const half = Math.ceil(judged.length / 2);
    await applyIsolating(client, judged.slice(0, half), logger);
    await applyIsolating(client, judged.slice(half), logger);
  }
}

async function apply(client: ClientBase, judged: Judged[]): Promise<void> {
  await client.query({
    name: "apply_verdicts",
    text: "select app.apply_verdicts($1::bigint[], $2::text[], $3::float8[], $4::jsonb[])",
    values: [
      judged.map(({ id }) => id),
      judged.map(({ verdict }) => verdict.status),
      judged.map(({ verdict }) => verdict.progress),
      judged.map(({ verdict }) => JSON.stringify(verdict.explanation)),
    ],
  });
}

/** From here on the row's own job is responsible for it: retried with growing pauses, and parked when it never succeeds. */
async function handOver(
  client: ClientBase,
  id: string,
  error: unknown,
  logger: Logger,
): Promise<void> {
  logger.warn({ userIncentiveId: id, error: errorClass(error) }, "row handed to a job of its own");
  await client.query(
    "select graphile_worker.add_job('evaluate_incentive', json_build_object('user_incentive_id', $1::text))",
    [id],
  );
  await client.query("update app.user_incentives set evaluation_due = false where id = $1", [id]);
}
