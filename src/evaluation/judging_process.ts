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
import { tookTooLong, within } from "./row_timeout.ts";

/** Rows to judge; what stands in their place is parsed here so that the main process need not look at each of them. */
export interface RowsToJudge {
  /** Of each row, its incentive: `1,1,2`. */
  incentiveIds: string;
  /** Of each row, its data: a line of JSON, which has no line breaks as PostgreSQL writes it. */
  data: string;
}

export interface JudgingTask {
  rows: RowsToJudge;
  /** The positions, from 0, of rows that are not to be judged: this process, or one before it, was ended with them in hand. */
  except: number[];
  incentives: [id: number, incentive: Incentive][];
  /** The moment of judgement, in milliseconds since 1970. */
  now: number;
  /** How long to go on, in milliseconds; the first row is judged in any case. */
  enoughMs: number;
  /** How long one row may take, in milliseconds, when each is watched. */
  rowTimeoutMs?: number;
  /** Where in the positions' file to write which row is in hand, so that who is watching knows which is to blame, and whom to end. */
  slot: number;
}

/** A verdict as JSON, and what is counted of it. */
export interface StoredVerdict {
  incentiveId: number;
  status: Verdict["status"];
  json: string;
}

/** What came of the rows. Many have the same verdict, word for word, and share it. */
export interface Judged {
  verdicts: StoredVerdict[];
  /** For each row the number of its verdict, from 1; 0 or nothing where there is none. */
  verdictOf: number[];
  /** The positions, from 0, of rows that could not be judged, and the class of the error that stood in the way. */
  failed: { position: number; error: string }[];
}

/** When so many rows of an incentive had to be ended, its other rows wait, so that those of other incentives need not. */
const endedAtMost = 2;

const [, , evaluatorsFolder, positionsFile] = process.argv;
const registry = await loadEvaluators(evaluatorsFolder);
const positions = openSync(positionsFile ?? "", "r+");
/** A position, and whose hand it is in. */
const inHand = new Int32Array([-1, process.pid]);

function judgeRows(task: JudgingTask): Judged {
  const { rows, except, incentives, now, enoughMs, rowTimeoutMs, slot } = task;
  const incentiveOf = rows.incentiveIds.split(",").map(Number);
  const catalogue = new Map(incentives);
  const moment = Temporal.Instant.fromEpochMilliseconds(now);
  const deadline = performance.now() + enoughMs;
  const judged: Judged = { verdicts: [], verdictOf: [], failed: [] };
  /** By incentive, the numbers of the verdicts there are. */
  const numbersOf = new Map<number, Map<string, number>>();
  const ended = except.map((position) => incentiveOf[position]!);
  const waits = (incentiveId: number): boolean =>
    ended.length >= endedAtMost && ended.filter((id) => id === incentiveId).length >= endedAtMost;
  for (const [position, data] of rows.data.split("\n").entries()) {
    if (position > 0 && performance.now() >= deadline) break;
    judged.verdictOf.push(0);
    const incentiveId = incentiveOf[position]!;
    if (except.includes(position) || waits(incentiveId)) continue;
    inHand[0] = position;
    writeSync(positions, inHand, 0, 8, 8 * slot);
    try {
      const judgeIt = (): Verdict => judgeRow(catalogue.get(incentiveId), data, moment);
      const { status, progress, explanation } = rowTimeoutMs
        ? within(rowTimeoutMs, judgeIt)
        : judgeIt();
      const json = JSON.stringify({ status, progress, explanation });
      const numbers = numbersOf.get(incentiveId) ?? new Map<string, number>();
      numbersOf.set(incentiveId, numbers);
      const number = numbers.get(json) ?? judged.verdicts.push({ incentiveId, status, json });
      numbers.set(json, number);
      judged.verdictOf[position] = number;
    } catch (error) {
      const failure = errorClass(error);
      judged.failed.push({ position, error: failure });
      if (failure === tookTooLong) ended.push(incentiveId);
    }
  }
  return judged;
}

function judgeRow(incentive: Incentive | undefined, data: string, now: Temporal.Instant): Verdict {
  if (!incentive) throw new Error("The incentive is not in the catalogue");
  return judge(registry, incentive, { data: JSON.parse(data) as unknown, now });
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
