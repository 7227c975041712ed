/**
 * Judges rows in a process of its own (workerpool), beside the main process's work with the database. Called by the batch. An
 * evaluator that never returns, or allocates without end, is ended with its process: its row gets an error, and the others
 * are judged again in a new one. Not in threads: a thread that asks for a lot of memory at once takes the whole process with
 * it, whatever its limit says.
 */
import {
  accessSync,
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import workerpool from "workerpool";
import type { Incentive } from "./judge.ts";
import type { Judged, JudgingTask, RowsToJudge } from "./judging_process.ts";
import { tookTooLong } from "./row_timeout.ts";

export type { Judged, RowsToJudge, StoredVerdict } from "./judging_process.ts";

export interface JudgingPoolOptions {
  evaluatorsFolder: string;
  /** How many processes wait for the first row; there is one at the most. */
  ready: 0 | 1;
  /** How long one row may take before its process is ended, in milliseconds. */
  rowTimeoutMs: number;
  /** How long one may take in the seconds after that, when each row is watched from within its process, which costs some time. */
  watchedRowTimeoutMs: number;
  /**
   * How long rows may take one after the other; the rest is left unjudged then. Whoever asks holds a transaction meanwhile, which
   * the server ends when nothing happens in it for 10 s (database/pools.ts), and that would be so at each try.
   */
  enoughMs: number;
  /** How long all rows of a call may take once one was too long; the rest is left unjudged then. */
  deadlineMs: number;
  /** How much memory a process's JavaScript may take, in MB. Buffers are outside of it; the time bounds those. */
  memoryMb: number;
}

export const judgingDefaults = {
  evaluatorsFolder: fileURLToPath(new URL("../evaluators", import.meta.url)),
  ready: 1,
  rowTimeoutMs: 500,
  watchedRowTimeoutMs: 100,
  enoughMs: 1000,
  deadlineMs: 3000,
  memoryMb: 256,
} as const;

/** For rows that could not be judged among others: in a process that is made for the first of them. */
export const judgingAlone = {
  ...judgingDefaults,
  ready: 0,
  rowTimeoutMs: 1200,
  watchedRowTimeoutMs: 1000,
} as const;

/** Where one row took too long, others may. */
const watchForMs = 10_000;

export class JudgingPool {
  readonly #pool: workerpool.Pool;
  readonly #options: JudgingPoolOptions;
  readonly #folder: string;
  /** One number for each call under way: the position of the row in hand, written by the process that has it. */
  readonly #positions: number;
  readonly #slots = new Set<number>();
  #watchUntil = 0;

  constructor(options: JudgingPoolOptions) {
    this.#options = options;
    this.#folder = mkdtempSync(path.join(inMemory(), "incentives-judging-"));
    const file = path.join(this.#folder, "positions");
    this.#positions = openSync(file, "w+");
    this.#pool = workerpool.pool(fileURLToPath(new URL("./judging_process.ts", import.meta.url)), {
      workerType: "process",
      minWorkers: options.ready,
      maxWorkers: 1,
      // For how long one that hangs is asked to end, twice, before it is ended.
      workerTerminateTimeout: 50,
      forkArgs: [options.evaluatorsFolder, file],
      forkOpts: {
        // Nothing of our environment: the secrets are there.
        env: {},
        // Text is passed on as it is, instead of being escaped once more.
        serialization: "advanced",
        execArgv: [
          `--max-old-space-size=${options.memoryMb}`,
          "--disable-warning=ExperimentalWarning",
        ],
      },
      // What it prints is swallowed: its last words when it runs out of memory are of no use to anybody.
      emitStdStreams: true,
    });
  }

  /** What came of the rows: of all of them, unless there was no time for some. Never of none. */
  async judge(
    rows: RowsToJudge,
    incentives: ReadonlyMap<number, Incentive>,
    now: number,
  ): Promise<Judged> {
    const failed: Judged["failed"] = [];
    const deadline = Date.now() + this.#options.deadlineMs;
    do {
      const except = failed.map(({ position }) => position);
      const answer = await this.#judgeUntilFailure({
        rows,
        except,
        incentives: [...incentives],
        now,
        ...(Date.now() < this.#watchUntil && { rowTimeoutMs: this.#options.watchedRowTimeoutMs }),
      });
      failed.push(...("verdicts" in answer ? answer.failed : [answer]));
      if (failed.at(-1)?.error === tookTooLong) this.#watchUntil = Date.now() + watchForMs;
      if ("verdicts" in answer) return { ...answer, failed };
    } while (Date.now() < deadline);
    return { verdicts: [], verdictOf: [], failed };
  }

  async close(): Promise<void> {
    await this.#pool.terminate(true);
    closeSync(this.#positions);
    rmSync(this.#folder, { recursive: true });
  }

  /** What came of the rows; or, when the process had to be ended, the row that was in its hand. */
  async #judgeUntilFailure(
    what: Omit<JudgingTask, "enoughMs" | "slot">,
  ): Promise<Judged | Judged["failed"][number]> {
    const slot = this.#takeSlot();
    const task: JudgingTask = { ...what, enoughMs: this.#options.enoughMs, slot };
    let isEnded = false;
    const stopWatching = this.#watch(slot, (pid) => {
      isEnded = true;
      endProcess(pid);
    });
    try {
      return await this.#exec(task);
    } catch (error) {
      const { position } = this.#inHand(slot);
      // Before its first row it was not an evaluator that failed: closing, or an adapter that cannot be loaded.
      if (position < 0) throw error;
      return { position, error: isEnded ? tookTooLong : "EvaluationTookTooMuchMemory" };
    } finally {
      stopWatching();
      this.#slots.delete(slot);
    }
  }

  async #exec(task: JudgingTask): Promise<Judged> {
    const exec = async () => (await this.#pool.exec("judgeRows", [task])) as Judged;
    return exec().catch((error: unknown) => {
      // A process that died while it had nothing to do is noticed when it is asked, and replaced then.
      const isDead = error instanceof workerpool.TerminateError;
      if (isDead && this.#inHand(task.slot).position < 0) return exec();
      throw error;
    });
  }

  #takeSlot(): number {
    let slot = 0;
    while (this.#slots.has(slot)) slot += 1;
    this.#slots.add(slot);
    writeSync(this.#positions, new Int32Array([-1, 0]), 0, 8, 8 * slot);
    return slot;
  }

  /** The position of the row that is being judged, and the process that does; the position is -1 before there is one. */
  #inHand(slot: number): { position: number; pid: number } {
    const inHand = new Int32Array([-1, 0]);
    readSync(this.#positions, inHand, 0, 8, 8 * slot);
    const [position = -1, pid = 0] = inHand;
    return { position, pid };
  }

  /** Calls `tooLong` with the process when the same row stays in its hand for longer than a row may take. */
  #watch(slot: number, tooLong: (pid: number) => void): () => void {
    let last = -1;
    let since = Date.now();
    const timer = setInterval(() => {
      const { position, pid } = this.#inHand(slot);
      if (position !== last) {
        last = position;
        since = Date.now();
      } else if (position >= 0 && Date.now() - since >= this.#options.rowTimeoutMs) {
        tooLong(pid);
      }
    }, this.#options.rowTimeoutMs / 10);
    return () => clearInterval(timer);
  }
}

/**
 * Not the library's `cancel`: when the process dies by itself just then, out of memory most likely, the library waits for that for
 * ever, and judges nothing any more. A process that is gone, however it went, is noticed and replaced.
 */
function endProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone already.
  }
}

/**
 * A folder for the positions' file. It is written for each row, and on a disk every write waits when the file system commits
 * its journal, as it does for each of PostgreSQL's commits: a drain took a fifth longer.
 */
function inMemory(): string {
  const sharedMemory = "/dev/shm";
  try {
    accessSync(sharedMemory, constants.W_OK);
    return sharedMemory;
  } catch {
    return tmpdir(); // Not Linux.
  }
}
