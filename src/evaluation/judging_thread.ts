/**
 * What runs in a judging thread: parses and judges rows one by one. Loaded by the judging pool. It holds no connection and
 * no secret, so an evaluator that hangs or eats memory can be ended with its thread and nothing else is lost.
 */
import { Temporal } from "temporal-polyfill";
import { workerData } from "piscina";
import { errorClass } from "../error_class.ts";
import type { Verdict } from "./evaluator.ts";
import { judge } from "./judge.ts";
import type { Incentive } from "./judge.ts";
import { loadEvaluators } from "./registry.ts";

/** A row to judge; `data` is JSON as text, parsed here so that the main thread need not. */
export interface RowToJudge {
  id: string;
  incentive_id: number;
  data: string;
}

export interface JudgingTask {
  rows: RowToJudge[];
  incentives: ReadonlyMap<number, Incentive>;
  /** The moment of judgement, in milliseconds since 1970. */
  now: number;
  /** One shared number: the position of the row in hand, so that who is watching knows which one is to blame. */
  position: SharedArrayBuffer;
}

/** The verdict as the database takes it, or the class of the error that stood in its way. */
export type JudgedRow =
  | { id: string; status: Verdict["status"]; progress: number; explanation: string }
  | { id: string; error: string };

const { evaluatorsFolder } = workerData as { evaluatorsFolder: string };
const registry = await loadEvaluators(evaluatorsFolder);

export default function judgeRows({ rows, incentives, now, position }: JudgingTask): JudgedRow[] {
  const inHand = new Int32Array(position);
  const moment = Temporal.Instant.fromEpochMilliseconds(now);
  return rows.map((row, index) => {
    Atomics.store(inHand, 0, index);
    try {
      const incentive = incentives.get(row.incentive_id);
      if (!incentive) throw new Error("The incentive is not in the catalogue");
      const data: unknown = JSON.parse(row.data);
      const { status, progress, explanation } = judge(registry, incentive, { data, now: moment });
      return { id: row.id, status, progress, explanation: JSON.stringify(explanation) };
    } catch (error) {
      return { id: row.id, error: errorClass(error) };
    }
  });
}
