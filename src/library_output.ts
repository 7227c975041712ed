/**
 * What libraries print to the console: they repeat what clients sent (a cursor, an id, variables), so their words are left
 * out and only the place is logged. Called by the command `start`, once a process; what this program says itself goes
 * through the logger, or to standard output by console.log.
 */
import path from "node:path";
import type { Logger } from "./logger.ts";

export function silenceLibraries(logger: Logger): void {
  for (const method of ["error", "warn", "dir", "trace"] as const) {
    console[method] = () => {
      logger.warn({ from: whoPrints(new Error().stack) }, "a library wrote to the console");
    };
  }
}

/** The file and line that called the console. */
function whoPrints(stack = ""): string {
  const place = /([^\s(]+:\d+):\d+\)?$/.exec(stack.split("\n")[2] ?? "")?.[1] ?? "unknown";
  return place.split(`node_modules${path.sep}`).at(-1) ?? place;
}
