/**
 * The process's log: one JSON object a line, on standard error, so that standard output stays for people. Everybody logs
 * through it. It must never be given what a member recorded: ids, names, counts and error classes only.
 */
import { pino, destination } from "pino";
import type { Logger } from "pino";

export type { Logger } from "pino";

export function createLogger(level: string): Logger {
  return pino({ name: "incentives", level }, destination({ dest: 2, sync: true }));
}
