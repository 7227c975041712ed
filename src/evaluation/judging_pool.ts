/**
 * Judges rows in threads (piscina), beside the main thread's work with the database. Called by the batch. An evaluator that
 * never returns, or allocates without end, is ended with its thread: its row gets an error, and the others are judged again
 * in a new thread. It must always answer, with one entry for each row.
 */
import { fileURLToPath } from "node:url";
import { Piscina } from "piscina";
import type { Incentive } from "./judge.ts";
import type { JudgedRow, JudgingTask, RowToJudge } from "./judging_thread.ts";

export type { JudgedRow, RowToJudge } from "./judging_thread.ts";

export interface JudgingPoolOptions {
  evaluatorsFolder: string;
  threads: number;
  /** How long one row may take, in milliseconds. */
  rowTimeoutMs: number;
  /** How long all rows of a call may take once one was too long; the rest is left unjudged then. */
  deadlineMs: number;
  /** How much memory a thread's JavaScript may take, in MB. Buffers are outside of it; the time bounds those. */
  memoryMb: number;
}

export const judgingDefaults = {
  evaluatorsFolder: fileURLToPath(new URL("../evaluators", import.meta.url)),
  threads: 1,
  rowTimeoutMs: 1000,
  deadlineMs: 3000,
  memoryMb: 256,
} as const;

export class JudgingPool {
  readonly #pool: Piscina<JudgingTask, JudgedRow[]>;
  readonly #options: JudgingPoolOptions;

  constructor(options: JudgingPoolOptions) {
    this.#options = options;
    const { evaluatorsFolder, threads, memoryMb } = options;
    this.#pool = new Piscina({
      filename: fileURLToPath(new URL("./judging_thread.ts", import.meta.url)),
      workerData: { evaluatorsFolder },
      minThreads: 1,
      maxThreads: threads,
      resourceLimits: { maxOldGenerationSizeMb: memoryMb, maxYoungGenerationSizeMb: 64 },
      // Nothing of the environment, where the secrets are.
      env: {},
      execArgv: ["--disable-warning=ExperimentalWarning"],
    });
    // Each task's own promise says what went wrong with it.
    this.#pool.on("error", () => {});
  }

  /** The rows judged, in any order: all of them, unless the deadline passed. */
  async judge(
    rows: RowToJudge[],
    incentives: ReadonlyMap<number, Incentive>,
    now: number,
  ): Promise<JudgedRow[]> {
    const failed: JudgedRow[] = [];
    const deadline = Date.now() + this.#options.deadlineMs;
    let left = rows;
    do {
      const answer = await this.#judgeUntilFailure({ rows: left, incentives, now });
      if (Array.isArray(answer)) return [...failed, ...answer];
      const culprit = left[answer.position];
      if (culprit) failed.push({ id: culprit.id, error: answer.error });
      left = left.filter((row) => row !== culprit);
    } while (left.length > 0 && Date.now() < deadline);
    return failed;
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }

  /** The rows judged; or, when the thread had to be ended, the row that was in its hand. */
  async #judgeUntilFailure(
    task: Omit<JudgingTask, "position">,
  ): Promise<JudgedRow[] | { position: number; error: string }> {
    const position = new SharedArrayBuffer(4);
    const inHand = new Int32Array(position).fill(-1);
    const abort = new AbortController();
    const stopWatching = this.#watch(inHand, () => abort.abort());
    try {
      return await this.#pool.run({ ...task, position }, { signal: abort.signal });
    } catch (error) {
      const at = Atomics.load(inHand, 0);
      // Before its first row it was not an evaluator that failed: closing, or an adapter that cannot be loaded.
      if (at < 0) throw error;
      const tooLong = abort.signal.aborted;
      return {
        position: at,
        error: tooLong ? "EvaluationTookTooLong" : "EvaluationTookTooMuchMemory",
      };
    } finally {
      stopWatching();
    }
  }

  /** Calls `tooLong` when the same row stays in hand for longer than a row may take. */
  #watch(inHand: Int32Array, tooLong: () => void): () => void {
    let last = -1;
    let since = Date.now();
    const timer = setInterval(() => {
      const current = Atomics.load(inHand, 0);
      if (current !== last) {
        last = current;
        since = Date.now();
      } else if (current >= 0 && Date.now() - since >= this.#options.rowTimeoutMs) {
        tooLong();
      }
    }, this.#options.rowTimeoutMs / 10);
    return () => clearInterval(timer);
  }
}
