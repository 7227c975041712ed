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

/** A verdict as it is stored, the explanation as an element of a PostgreSQL array. */
export interface StoredVerdict {
  status: Verdict["status"];
  progress: number;
  explanation: string;
}

/** What came of the rows that were judged. Many have the same verdict, word for word, and share it. */
export interface Judged {
  verdicts: StoredVerdict[];
  /** The rows with a verdict, and for each of them the number of its verdict, from 1. */
  ids: string[];
  verdictOf: number[];
  /** The rows without one, and the class of the error that stood in its way. */
  failed: { id: string; error: string }[];
}

const [, , evaluatorsFolder, positionsFile] = process.argv;
const registry = await loadEvaluators(evaluatorsFolder);
const positions = openSync(positionsFile ?? "", "r+");
const inHand = new Int32Array(1);

function judgeRows({ rows, incentives, now, enoughMs, slot }: JudgingTask): Judged {
  const catalogue = new Map(incentives);
  const moment = Temporal.Instant.fromEpochMilliseconds(now);
  const deadline = performance.now() + enoughMs;
  const judged: Judged = { verdicts: [], ids: [], verdictOf: [], failed: [] };
  const numbers = new Map<string, number>();
  for (const [index, row] of rows.entries()) {
    if (index > 0 && performance.now() >= deadline) break;
    inHand[0] = index;
    writeSync(positions, inHand, 0, 4, 4 * slot);
    try {
      const { status, progress, explanation } = judgeRow(row, catalogue, moment);
      const text = JSON.stringify(explanation);
      const key = `${status} ${progress} ${text}`;
      const number =
        numbers.get(key) ??
        judged.verdicts.push({ status, progress, explanation: arrayElement(text) });
      numbers.set(key, number);
      judged.ids.push(row.id);
      judged.verdictOf.push(number);
    } catch (error) {
      judged.failed.push({ id: row.id, error: errorClass(error) });
    }
  }
  return judged;
}

function judgeRow(
  { incentive_id, data }: RowToJudge,
  catalogue: Map<number, Incentive>,
  now: Temporal.Instant,
): Verdict {
  const incentive = catalogue.get(incentive_id);
  if (!incentive) throw new Error("The incentive is not in the catalogue");
  return judge(registry, incentive, { data: JSON.parse(data) as unknown, now });
}

/** JSON has no control characters, so that what JSON escapes in it, quotes and backslashes, is what an array's element does. */
function arrayElement(json: string): string {
  return JSON.stringify(json);
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
