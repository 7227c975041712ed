/**
 * What `incentives evaluate` shows while rows are judged again: a progress bar on a terminal, else a line every few seconds.
 * It only looks: the work is the worker's, and goes on when nobody looks.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Presets, SingleBar } from "cli-progress";
import type { Pool } from "pg";
import { readProgress } from "./evaluate_again.ts";
import type { AskedAgain } from "./evaluate_again.ts";

export interface WatchOptions {
  pool: Pool;
  asked: AskedAgain[];
  display: Display;
  /** Aborted when somebody has seen enough. */
  enough: AbortSignal;
  /** After how long without any movement to say so, in milliseconds. */
  stillAfterMs: number;
  /** How often to look, in milliseconds. */
  everyMs: number;
}

export interface Display {
  show(done: number, total: number): void;
  say(sentence: string): void;
  end(): void;
}

export const watchDefaults = { stillAfterMs: 10_000, everyMs: 500 } as const;

const nothingMoves =
  "Nothing moves: no worker seems to be running, or it lacks the evaluator (GET /readyz says so). " +
  "Nothing is lost: a worker that is started (npx incentives start) goes on with it.";

/** True when all was judged, false when somebody had seen enough. */
export async function watchEvaluation(options: WatchOptions): Promise<boolean> {
  const { pool, asked, display, enough, stillAfterMs, everyMs } = options;
  const total = asked.reduce((sum, { open }) => sum + open, 0);
  const open = new Map(asked.map((incentive) => [incentive.id, incentive.open]));
  if (total === 0) return true;
  let dueBy: Date | undefined;
  let last = "";
  let lastMoved = Date.now();
  try {
    while (!enough.aborted) {
      const progress = await readProgress(pool, [...open.keys()], dueBy);
      const isMarking = progress.some((incentive) => incentive.isMarking);
      const due = progress.reduce((sum, incentive) => sum + incentive.due, 0);
      const marked = progress.reduce(
        (sum, { id, isMarking: some, marked: so }) =>
          sum + ((some ? so : null) ?? open.get(id) ?? 0),
        0,
      );
      if (!isMarking) dueBy ??= progress[0]?.at ?? new Date();
      display.show(Math.min(Math.max(marked - due, 0), total), total);
      if (!isMarking && due === 0) return true;

      if (last !== `${marked} ${due}`) lastMoved = Date.now();
      else if (Date.now() - lastMoved >= stillAfterMs) {
        display.say(nothingMoves);
        lastMoved = Infinity;
      }
      last = `${marked} ${due}`;
      await sleep(everyMs, undefined, { signal: enough }).catch(() => {});
    }
    return false;
  } finally {
    display.end();
  }
}

/** On a terminal a bar with the rate and the time left; elsewhere a line every five seconds. */
export function createDisplay(stream: NodeJS.WriteStream, total: number): Display {
  return stream.isTTY ? barOn(stream, total) : linesOn(stream);
}

function barOn(stream: NodeJS.WriteStream, total: number): Display {
  const startedAt = Date.now();
  const format =
    "{bar} {percentage}% | {value} of {total} rows | {rate} a second | {eta_formatted} left";
  // Without gracefulExit the bar would take Ctrl-C for itself.
  const bar = new SingleBar({ format, stream, gracefulExit: false }, Presets.shades_classic);
  bar.start(total, 0, { rate: 0 });
  return {
    show: (done) => bar.update(done, { rate: rateOf(done, startedAt) }),
    say: (sentence) => stream.write(`\n${sentence}\n`),
    end: () => bar.stop(),
  };
}

function linesOn(stream: NodeJS.WriteStream): Display {
  const startedAt = Date.now();
  let shownAt = 0;
  return {
    show(done, total) {
      if (Date.now() - shownAt < 5000 && done < total) return;
      shownAt = Date.now();
      const rate = rateOf(done, startedAt);
      const left = rate > 0 ? `, ${Math.ceil((total - done) / rate)} s left` : "";
      stream.write(`${done} of ${total} rows, ${rate} a second${left}\n`);
    },
    say: (sentence) => stream.write(`${sentence}\n`),
    end() {},
  };
}

function rateOf(done: number, startedAt: number): number {
  return Math.round((done * 1000) / Math.max(Date.now() - startedAt, 1));
}
