/**
 * Ends what takes too long without ending its process. Used by the judging process, for a while after it had to be ended: to
 * watch costs a fifth of a millisecond, and what native code does cannot be ended so.
 */
import { Script } from "node:vm";

/** What is said of a row that took too long, as an error's class. */
export const tookTooLong = "EvaluationTookTooLong";

// Only what a script calls can be ended.
const script = new Script("globalThis.incentivesCall()");

/** Returns what it returns, and throws what it throws; an error named EvaluationTookTooLong after so many milliseconds. */
export function within<T>(timeoutMs: number, call: () => T): T {
  Object.assign(globalThis, { incentivesCall: call });
  try {
    return script.runInThisContext({ timeout: timeoutMs }) as T;
  } catch (error) {
    const { code } = (error ?? {}) as { code?: unknown };
    if (code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
    throw Object.assign(new Error("An evaluation took too long"), { name: tookTooLong });
  }
}
