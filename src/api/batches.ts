/**
 * Several actions in one request: for a client that was offline, and for a partner's server that records for many members.
 * Called by the REST route and by the GraphQL mutation `recordIncentives`. One transaction; each action succeeds or is refused
 * for itself.
 */
import type { Pool } from "pg";
import type { EvaluatorRegistry } from "../evaluation/registry.ts";
import { asMember } from "./member_session.ts";
import { Problem } from "./problems.ts";
import type { FieldProblem } from "./problems.ts";
import { recordActions } from "./recording.ts";
import type { Caller } from "./tokens/tokens.ts";

/** What became of the action at this place: its row's id, or why it was refused. */
export type ActionResult =
  | { index: number; status: 201; id: string; replayed: boolean }
  | {
      index: number;
      status: number;
      code: string;
      title: string;
      detail: string;
      errors: FieldProblem[];
    };

/** One result for each action, in their order. Pointers start at the request's body or input. */
export async function recordBatch(
  pool: Pool,
  evaluators: EvaluatorRegistry,
  caller: Caller,
  actions: unknown[],
): Promise<ActionResult[]> {
  const outcomes = await asMember(pool, caller, (client) =>
    recordActions(client, evaluators, caller, actions),
  );
  return outcomes.map((outcome, index) => {
    if (!(outcome instanceof Problem)) return { index, status: 201, ...outcome };
    const { status, code, title, message: detail } = outcome;
    const errors = outcome.errors.map(({ pointer, message }) => ({
      pointer: `/actions/${index}${pointer}`,
      message,
    }));
    return { index, status, code, title, detail, errors };
  });
}
