/**
 * One batch of evaluation: claim due rows, judge them, apply the verdicts, all in one transaction, so that a worker killed
 * anywhere leaves nothing half done. Called by the tasks. It must never let one bad row hold up the others: that row is
 * handed to a job of its own.
 */
import { DatabaseError } from "pg";
import type { ClientBase } from "pg";
import { errorClass } from "../error_class.ts";
import type { Logger } from "../logger.ts";
import { countEvaluated, countHandedOver, observeBatch } from "../metrics/registry.ts";
import { checkCriteria } from "./judge.ts";
import type { Incentive } from "./judge.ts";
import type { JudgingPool, RowsToJudge, StoredVerdict } from "./judging_pool.ts";
import type { EvaluatorRegistry } from "./registry.ts";

export interface Judging {
  registry: EvaluatorRegistry;
  judges: JudgingPool;
  logger: Logger;
  /** The ids of the incentives that could be judged at the last look at the catalogue. */
  judgeable: number[];
  /** Told what is being judged, if anybody is; no verdict is committed before it resolves. It never throws. */
  announce?: (ids: string[]) => Promise<void>;
}

interface Verdicts {
  verdicts: StoredVerdict[];
  /** The rows with a verdict, and for each of them the number of its verdict, from 1. */
  ids: string[];
  verdictOf: number[];
}
const noVerdicts: Verdicts = { verdicts: [], ids: [], verdictOf: [] };
type Known = Incentive & { key: string };
type Catalogue = Map<number, Known>;

/** Rows that are locked, and whether these are all that are due; none, and no text, when there are none. */
interface ClaimedRows extends RowsToJudge {
  ids: string[];
  isAll: boolean;
}

interface Claim {
  rows: ClaimedRows;
  incentives: Catalogue;
  /** The transaction's time, in milliseconds since 1970. */
  now: number;
}

/** What app.read_catalogue answers. */
interface CatalogueJson {
  now: number;
  incentives: IncentiveJson[];
}

/** JSON has no infinity: it comes as text. */
interface IncentiveJson extends Omit<Incentive, "starts_at" | "ends_at"> {
  id: number;
  key: string;
  starts_at: number | string | null;
  ends_at: number | string | null;
}

/** What app.claim_due_rows answers. */
interface ClaimDueRows {
  ids: string | null;
  incentive_ids: string | null;
  data: string | null;
  is_all: boolean;
  catalogue: CatalogueJson;
}

/** Which rows to claim: those above an id, how many at the most, and how long to wait for one, in milliseconds. */
export interface Wanted {
  after: string;
  limit: number;
  waitMs: number;
}

export interface Batch {
  claimed: number;
  /** Whether these were all that were due; there may be more above the last when not. */
  isAll: boolean;
  /** How many of them there was no time for; they are still due. */
  left: number;
  /** The last id of them, or the one it was to look above. */
  last: string;
  /** How long they were claimed, in milliseconds. */
  tookMs: number;
}

/**
 * Judges due rows. Those whose incentive names an evaluator that is not here, or criteria it does not accept, are not claimed
 * until that is mended.
 */
export async function evaluateBatch(
  client: ClientBase,
  judging: Judging,
  { after, limit, waitMs }: Wanted,
): Promise<Batch> {
  let started = 0;
  const claimAndJudge = async (waitAtMostMs: number) => {
    const claim = await claimRows(client, judging, { after, limit, waitMs: waitAtMostMs });
    started ||= performance.now();
    const { ids, isAll } = claim.rows;
    // Who is in a backlog has been waiting anyway; more than this app.notify_judging cannot tell of.
    const isBacklog = !isAll || ids.length > 1900;
    const [judged] = await Promise.all([
      judgeClaim(client, judging, claim),
      isBacklog ? undefined : judging.announce?.(ids),
    ]);
    return { ...claim, ...judged };
  };
  const { rows, incentives, verdicts, left } = await inTransaction(
    client,
    () => claimAndJudge(waitMs),
    ({ verdicts }) => apply(client, verdicts),
  ).catch((error: unknown) => {
    // The server refused something: claim again, and find out what. A broken connection is not its refusal, and a function that is
    // not there, of another version, or a missing right is no row's fault.
    const isRefusal = error instanceof DatabaseError && error.severity === "ERROR";
    if (!isRefusal || error.code?.startsWith("42")) throw error;
    return inTransaction(client, async () => {
      const judged = await claimAndJudge(0);
      const applied = await applyIsolating(client, judged.verdicts, judging.logger);
      return { ...judged, verdicts: pick(judged.verdicts, applied) };
    });
  });
  const tookMs = performance.now() - started;
  const { ids, isAll } = rows;
  if (ids.length > 0) {
    observeBatch(ids.length, tookMs / 1000);
    countVerdicts(verdicts, incentives);
  }
  return { claimed: ids.length, isAll, left, last: ids.at(-1) ?? after, tookMs };
}

/** Judges one row, due or not. Throws an error named after what the evaluator threw. */
export async function evaluateRow(
  client: ClientBase,
  { judges, announce }: Judging,
  id: string,
): Promise<void> {
  await inTransaction(client, async () => {
    const { rows } = await client.query<RowsToJudge>(
      `select incentive_id::text as "incentiveIds", data::text as data
       from app.user_incentives where id = $1 for update`,
      [id],
    );
    const [row] = rows;
    if (!row) return;
    // Not in one question with the lock, which may wait for a change of the catalogue that it would not see.
    const answer = await client.query<{ catalogue: CatalogueJson }>(
      "select app.read_catalogue() as catalogue",
    );
    const { incentives, now } = readCatalogue(answer.rows[0]!.catalogue);
    const [judged] = await Promise.all([judges.judge(row, incentives, now), announce?.([id])]);
    const [failed] = judged.failed;
    if (failed) throw Object.assign(new Error("not judged"), { name: failed.error });
    await apply(client, { ...judged, ids: [id] });
  });
}

/**
 * The connection is one that pipelines (database/pools.ts): what is asked without waiting for an answer travels together, and
 * is answered in order. So `begin` goes with the first query of `work`, and `last` with the commit, which rolls back when
 * `last` was refused.
 */
async function inTransaction<T>(
  client: ClientBase,
  work: () => Promise<T>,
  last: (result: T) => Promise<void> = async () => {},
): Promise<T> {
  try {
    const [, result] = await Promise.all([client.query("begin"), work()]);
    await Promise.all([last(result), client.query("commit")]);
    return result;
  } catch (error) {
    // On a broken connection this fails too; the first error is the one that says why.
    await client.query("rollback").catch(() => {});
    throw error;
  }
}

async function claimRows(client: ClientBase, judging: Judging, wanted: Wanted): Promise<Claim> {
  for (;;) {
    const { judgeable } = judging;
    // Before the first look at the catalogue there is nothing to wait for.
    const waitMs = judgeable.length === 0 ? 0 : wanted.waitMs;
    const claim = await lockRows(client, judgeable, { ...wanted, waitMs });
    judging.judgeable = judgeableIds(claim.incentives, judging.registry);
    const isNew = judging.judgeable.some((id) => !judgeable.includes(id));
    if (claim.rows.ids.length > 0 || !isNew) return claim;
  }
}

async function lockRows(
  client: ClientBase,
  judgeable: number[],
  { after, limit, waitMs }: Wanted,
): Promise<Claim> {
  const { rows } = await client.query<ClaimDueRows>({
    name: "claim_due_rows",
    text: "select * from app.claim_due_rows($1, $2, $3, make_interval(secs => $4::float8 / 1000))",
    values: [judgeable, after, limit, waitMs],
  });
  const [{ ids, incentive_ids, data, is_all, catalogue }] = rows as [ClaimDueRows];
  return {
    rows: {
      ids: ids?.split(",") ?? [],
      incentiveIds: incentive_ids ?? "",
      data: data ?? "",
      isAll: is_all,
    },
    ...readCatalogue(catalogue),
  };
}

function readCatalogue({ incentives, now }: CatalogueJson): Omit<Claim, "rows"> {
  const number = (time: number | string | null) => (time === null ? null : Number(time));
  const read = incentives.map(({ starts_at, ends_at, ...incentive }): [number, Known] => [
    incentive.id,
    { ...incentive, starts_at: number(starts_at), ends_at: number(ends_at) },
  ]);
  return { incentives: new Map(read), now: Math.floor(now) };
}

/** The incentives that can be judged here: their adapter is present and accepts their criteria. */
function judgeableIds(incentives: Catalogue, registry: EvaluatorRegistry): number[] {
  return [...incentives]
    .filter(([, { evaluator }]) => registry.has(evaluator))
    .filter(([, { evaluator, criteria }]) => !checkCriteria(registry, evaluator, criteria).length)
    .map(([id]) => id);
}

/** What was judged; what could not be is handed over, and what there was no time for is still due. */
async function judgeClaim(
  client: ClientBase,
  { judges, logger }: Judging,
  { rows, incentives, now }: Claim,
): Promise<{ verdicts: Verdicts; left: number }> {
  const { ids } = rows;
  if (ids.length === 0) return { verdicts: noVerdicts, left: 0 };
  const { verdicts, verdictOf, failed } = await judges.judge(rows, incentives, now);
  for (const { position, error } of failed) await handOver(client, ids[position]!, error, logger);
  const judged = {
    verdicts,
    ids: ids.filter((_, position) => verdictOf[position]),
    verdictOf: verdictOf.filter((number) => number),
  };
  return { verdicts: judged, left: ids.length - judged.ids.length - failed.length };
}

/** Applies the verdicts; when the database refuses, halves the set until the refused row stands alone. Returns the applied. */
async function applyIsolating(
  client: ClientBase,
  judged: Verdicts,
  logger: Logger,
): Promise<string[]> {
  const { ids } = judged;
  if (ids.length === 0) return [];
  await client.query("savepoint verdicts");
  try {
    await apply(client, judged);
    return ids;
  } catch (error) {
    await client.query("rollback to savepoint verdicts");
    const [only] = ids;
    if (ids.length === 1 && only) {
      await handOver(client, only, errorClass(error), logger);
      return [];
    }
    const half = Math.ceil(ids.length / 2);
    return [
      ...(await applyIsolating(client, pick(judged, ids.slice(0, half)), logger)),
      ...(await applyIsolating(client, pick(judged, ids.slice(half)), logger)),
    ];
  }
}

/** These rows, and only the verdicts that are theirs. */
function pick({ verdicts, ids, verdictOf }: Verdicts, picked: string[]): Verdicts {
  const numberOf = new Map(ids.map((id, index) => [id, verdictOf[index]!]));
  const numbers = [...new Set(picked.map((id) => numberOf.get(id)!))];
  return {
    verdicts: numbers.map((number) => verdicts[number - 1]!),
    ids: picked,
    verdictOf: picked.map((id) => numbers.indexOf(numberOf.get(id)!) + 1),
  };
}

async function apply(client: ClientBase, { verdicts, ids, verdictOf }: Verdicts): Promise<void> {
  if (ids.length === 0) return;
  await client.query({
    name: "apply_verdicts",
    text: "select app.apply_verdicts($1::bigint[], $2::integer[], $3::jsonb)",
    // As PostgreSQL writes an array; the driver would quote each element, and look through it for what to escape.
    values: [
      `{${ids.join(",")}}`,
      `{${verdictOf.join(",")}}`,
      `[${verdicts.map(({ json }) => json).join(",")}]`,
    ],
  });
}

/** From here on the row's own job is responsible for it: retried with growing pauses, and parked when it never succeeds. */
async function handOver(
  client: ClientBase,
  id: string,
  error: string,
  logger: Logger,
): Promise<void> {
  logger.warn({ userIncentiveId: id, error }, "row handed to a job of its own");
  countHandedOver();
  await client.query(
    // One at a time, and after whatever else waits: there may be many, and each may take its time.
    `select graphile_worker.add_job(
      'evaluate_incentive', json_build_object('user_incentive_id', $1::text), queue_name => 'evaluate_incentive', priority => 10
    )`,
    [id],
  );
  await client.query("update app.user_incentives set evaluation_due = false where id = $1", [id]);
}

function countVerdicts({ verdicts, verdictOf }: Verdicts, incentives: Catalogue): void {
  const counts = verdicts.map(() => 0);
  for (const number of verdictOf) counts[number - 1]! += 1;
  for (const [index, { incentiveId, status }] of verdicts.entries()) {
    countEvaluated(incentives.get(incentiveId)?.key ?? "", status, counts[index]!);
  }
}
