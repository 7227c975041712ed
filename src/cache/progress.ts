/**
 * What `cache refresh` and `cache build` show meanwhile: a line for each view as it is done. Called by the commands. It reads
 * what the refresh notes, so it shows the one it waits for just the same.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Pool } from "pg";
import { describeStep, readSteps } from "./status.ts";

const LOOK_EVERY_MS = 250;
const SAY_EVERY_MS = 5000;

/** Says what is done until `work` is; resolves with what that does. A look that fails is left out. */
export async function showProgress<T>(
  pool: Pool,
  work: Promise<T>,
  say: (line: string) => void,
): Promise<T> {
  const done = new AbortController();
  const showing = show(pool, done.signal, say);
  try {
    return await work;
  } finally {
    done.abort();
    await showing;
  }
}

async function show(pool: Pool, done: AbortSignal, say: (line: string) => void): Promise<void> {
  let saidDone = 0;
  let saidAt = Date.now();
  while (!done.aborted) {
    await sleep(LOOK_EVERY_MS, undefined, { signal: done }).catch(() => {});
    const steps = await readSteps(pool).catch(() => []);
    const isDone = steps.filter(({ tookMs }) => tookMs !== null).length;
    if (isDone < saidDone) saidDone = 0; // another refresh
    for (; saidDone < isDone; saidDone += 1, saidAt = Date.now()) {
      say(describeStep(steps, saidDone));
    }
    if (isDone < steps.length && Date.now() - saidAt >= SAY_EVERY_MS) {
      say(describeStep(steps, isDone));
      saidAt = Date.now();
    }
  }
}
