/**
 * What runs in a judging process: parses and judges rows one by one. Started by the judging pool, with the evaluators' folder
 * and the positions' file as its arguments. It holds no connection and no secret, so an evaluator that hangs or eats memory
 * can be ended with its process and nothing else is lost.
 */
import { openSync, writeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { Temporal } from "temporal-polyfill";
import workerpool from "workerpool";
import { errorClass } from "../error_class.ts";
import type { Verdict } from "./evaluator.ts";
import { judge } from "./judge.ts";
import type { Incentive } from "./judge.ts";
import { loadEvaluators } from "./registry.ts";

/** A row to judge; `data` is JSON as text, parsed here so that the main process need not. */
export interface RowToJudge {
  id: string;
  incentive_id: number;
  data: string;
}

export interface JudgingTask {
  rows: RowToJudge[];
  incentives: [id: number, incentive: Incentive][];
  /** The moment of judgement, in milliseconds since 1970. */
  now: number;
  /** How long to go on, in milliseconds; the first row is judged in any case. */
  enoughMs: number;
  /** Where in the positions' file to write which row is in hand, so that who is watching knows which one is to blame. */
  slot: number;
}

/** The verdict, its explanation as an element of a PostgreSQL array; or the class of the error that stood in its way. */
export type JudgedRow =
  | { id: string; status: Verdict["status"]; progress: number; explanation: string }
  | { id: string; error: string };

const [, , evaluatorsFolder, positionsFile] = process.argv;
const registry = await loadEvaluators(evaluatorsFolder);
const positions = openSync(positionsFile ?? "", "r+");
const inHand = new Int32Array(1);

function judgeRows({ rows, incentives, now, enoughMs, slot }: JudgingTask): JudgedRow[] {
  const catalogue = new Map(incentives);
  const moment = Temporal.Instant.fromEpochMilliseconds(now);
  const deadline = performance.now() + enoughMs;
  const judged: JudgedRow[] = [];
  for (const [index, row] of rows.entries()) {
    if (index > 0 && performance.now() >= deadline) break;
    inHand[0] = index;
    writeSync(positions, inHand, 0, 4, 4 * slot);
    judged.push(judgeRow(row, catalogue.get(row.incentive_id), moment));
  }
  return judged;
}

function judgeRow(
  row: RowToJudge,
  incentive: Incentive | undefined,
  now: Temporal.Instant,
): JudgedRow {
  try {
    if (!incentive) throw new Error("The incentive is not in the catalogue");
    const data: unknown = JSON.parse(row.data);
    const { status, progress, explanation } = judge(registry, incentive, { data, now });
    return { id: row.id, status, progress, explanation: arrayElement(explanation) };
  } catch (error) {
    return { id: row.id, error: errorClass(error) };
  }
}

/** JSON has no control characters, so that what JSON escapes in it, quotes and backslashes, is what an array's element does. */
function arrayElement(json: unknown): string {
  return JSON.stringify(JSON.stringify(json));
}

// Ctrl-C at a terminal reaches this process too; the batch in hand is finished all the same.
process.on("SIGINT", () => {});

// A main process that was killed cannot end this one, and an evaluator that never returns would run for ever.
new Worker(
  `const parent = process.ppid;
  setInterval(() => { if (process.ppid !== parent) process.kill(process.pid, "SIGKILL"); }, 1000);`,
  { eval: true },
).unref();

workerpool.worker({ judgeRows });
