/**
 * Recording an action: what a member sends is checked against its evaluator's schema before the database is asked to
 * keep it. Used by REST and by the GraphQL mutation, so that both refuse alike.
 */
import type { PoolClient } from "pg";
import { checkData } from "../evaluation/judge.ts";
import type { EvaluatorRegistry } from "../evaluation/registry.ts";
import { Problem, unprocessable } from "./problems.ts";

/** Checks and records, in this member's transaction. Returns the user incentive's id; throws as checkRecording does. */
export async function record(
  client: Pick<PoolClient, "query">,
  evaluators: EvaluatorRegistry,
  incentive: unknown,
  data: unknown,
): Promise<string | undefined> {
  await checkRecording(client, evaluators, incentive, data);
  const { rows } = await client.query<{ id: string }>(
    "select id from api.record_incentive($1, $2::jsonb)",
    [incentive, JSON.stringify(data)],
  );
  return rows[0]?.id;
}

/** Throws a 422 `Problem` whose pointers start at `/incentive` and `/data`. `client` is in a member's transaction. */
export async function checkRecording(
  client: Pick<PoolClient, "query">,
  evaluators: EvaluatorRegistry,
  incentive: unknown,
  data: unknown,
): Promise<void> {
  if (typeof incentive !== "string") {
    throw unprocessable([{ pointer: "/incentive", message: "must be an incentive's key" }]);
  }
  const { rows } = await client.query<{ evaluator: string; records: string }>(
    "select evaluator, records from api.incentives where key = $1",
    [incentive.replaceAll("\0", "")],
  );
  const found = rows[0];
  if (!found) {
    throw unprocessable([{ pointer: "/incentive", message: "there is no such incentive" }]);
  }
  if (!evaluators.has(found.evaluator)) {
    throw new Problem(503, "Unavailable", "This incentive cannot be recorded at the moment.");
  }
  if (Array.isArray(data) && data.length === 0) {
    throw unprocessable([{ pointer: "/data", message: "must have at least one entry" }]);
  }
  // For a log, one entry or several.
  const single = found.records === "log" && !Array.isArray(data);
  const problems = checkData(evaluators, found.evaluator, single ? [data] : data);
  if (problems.length > 0) {
    throw unprocessable(
      problems.map(({ pointer, message }) => ({
        pointer: `/data${single ? pointer.replace(/^\/0/, "") : pointer}`,
        message,
      })),
    );
  }
}
