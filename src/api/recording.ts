/**
 * Recording actions: what a client sends is checked against the evaluator's schema before the database is asked to keep it.
 * Used by REST, by both GraphQL mutations and by the command, so that all refuse alike. Nothing here opens a transaction.
 */
import type { PoolClient } from "pg";
import { checkData } from "../evaluation/judge.ts";
import type { EvaluatorRegistry } from "../evaluation/registry.ts";
import { compileSchema } from "../evaluation/schema_check.ts";
import { forbidden, Problem, problemOfCode, unprocessable } from "./problems.ts";
import { Action } from "./rest/bodies.ts";
import type { Caller } from "./tokens/tokens.ts";

type Client = Pick<PoolClient, "query">;
type Recorder = Pick<Caller, "userId" | "actsForMembers">;

/** `replayed`: its idempotency key was used before, for the same; nothing was recorded now. */
export interface Recorded {
  id: string;
  replayed: boolean;
}

interface ActionSent {
  incentive: string;
  data: unknown;
  userId?: string;
  idempotencyKey?: string;
}

interface Target {
  evaluator: string;
  records: string;
}

const actionSchema = compileSchema(Action);

/** Records one action in this caller's transaction. Throws the `Problem`; its pointers start at the action. */
export async function record(
  client: Client,
  evaluators: EvaluatorRegistry,
  caller: Recorder,
  action: unknown,
): Promise<Recorded> {
  const [outcome] = await recordActions(client, evaluators, caller, [action]);
  if (!outcome) throw new Error("One action has one outcome");
  if (outcome instanceof Problem) throw outcome;
  return outcome;
}

/**
 * Records actions in this caller's transaction, each for itself: where one is refused there is a `Problem` in its place, whose
 * pointers start at the action. Throws only what refuses all of them, as the database being away does.
 */
export async function recordActions(
  client: Client,
  evaluators: EvaluatorRegistry,
  caller: Recorder,
  actions: unknown[],
): Promise<(Recorded | Problem)[]> {
  const shapes = checkShapes(caller, actions);
  const targets = await readTargets(client, shapes);
  const checked = shapes.map((action) =>
    action instanceof Problem
      ? action
      : (checkAction(evaluators, targets.get(action.incentive), action) ?? action),
  );
  const good = checked.flatMap((action) => (action instanceof Problem ? [] : [action]));
  const recorded = good.length === 0 ? [] : await write(client, good);
  const outcomes = recorded.values();
  return checked.map((action) =>
    action instanceof Problem ? action : (outcomes.next().value as Recorded | Problem),
  );
}

/** As `record`, but only looks: for the mutation that records by itself. */
export async function checkRecording(
  client: Client,
  evaluators: EvaluatorRegistry,
  caller: Recorder,
  action: unknown,
): Promise<void> {
  const [shape] = checkShapes(caller, [action]);
  if (!shape || shape instanceof Problem) throw shape;
  const targets = await readTargets(client, [shape]);
  const problem = checkAction(evaluators, targets.get(shape.incentive), shape);
  if (problem) throw problem;
}

function checkShapes(caller: Recorder, actions: unknown[]): (ActionSent | Problem)[] {
  const keys = new Set<string>();
  return actions.map((action) => {
    const problems = actionSchema.problems(action);
    if (problems.length > 0) return unprocessable(problems);
    const sent = action as ActionSent;
    const { userId, idempotencyKey } = sent;
    if (userId !== undefined && userId !== caller.userId && !caller.actsForMembers) {
      return forbidden("This token records for nobody else.", [
        { pointer: "/userId", message: "must be the token's own member, or left out" },
      ]);
    }
    if (idempotencyKey === undefined) return sent;
    if (keys.has(idempotencyKey)) {
      const message = "was used for another action of this request";
      return unprocessable([{ pointer: "/idempotencyKey", message }]);
    }
    keys.add(idempotencyKey);
    return sent;
  });
}

async function readTargets(
  client: Client,
  actions: (ActionSent | Problem)[],
): Promise<Map<string, Target>> {
  const sent = actions.flatMap((action) => (action instanceof Problem ? [] : [action.incentive]));
  const keys = [...new Set(sent)].filter((key) => !key.includes("\0"));
  const { rows } = await client.query<Target & { key: string }>(
    "select key, evaluator, records from api.incentives where key = any ($1)",
    [keys],
  );
  return new Map(rows.map((row) => [row.key, row]));
}

function checkAction(
  evaluators: EvaluatorRegistry,
  target: Target | undefined,
  { data }: ActionSent,
): Problem | undefined {
  if (!target) return problemOfCode("IN002");
  if (!evaluators.has(target.evaluator)) {
    return new Problem(503, "Unavailable", "This incentive cannot be recorded at the moment.");
  }
  if (Array.isArray(data) && data.length === 0) {
    return unprocessable([{ pointer: "/data", message: "must have at least one entry" }]);
  }
  // For a log, one entry or several.
  const single = target.records === "log" && !Array.isArray(data);
  const problems = checkData(evaluators, target.evaluator, single ? [data] : data);
  if (problems.length === 0) return undefined;
  return unprocessable(
    problems.map(({ pointer, message }) => ({
      pointer: `/data${single ? pointer.replace(/^\/0/, "") : pointer}`,
      message,
    })),
  );
}

async function write(client: Client, actions: ActionSent[]): Promise<(Recorded | Problem)[]> {
  const { rows } = await client.query<Recorded & { problem: string | null }>(
    `select user_incentive_id::text as id, replayed, problem
    from api.record_incentives($1::jsonb)
    order by index`,
    [
      JSON.stringify(
        actions.map(({ incentive, data, userId, idempotencyKey }) => ({
          incentive,
          data,
          user_id: userId,
          idempotency_key: idempotencyKey,
        })),
      ),
    ],
  );
  return rows.map(({ id, replayed, problem }) =>
    problem === null ? { id, replayed } : problemOfCode(problem),
  );
}
