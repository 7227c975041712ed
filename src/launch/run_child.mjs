// Runs one program for the launcher and waits for its end, whatever signals arrive meanwhile. Called by the other files of
// the launcher. The launcher must never end before its child: a shell would take the terminal back too early, and a
// supervisor would think that the child is gone.

import { spawn } from "node:child_process";
import { isatty } from "node:tty";

export function runChild(command, args, { onSpawn, ...options }) {
  const child = spawn(command, args, options);
  if (child.pid !== undefined) onSpawn?.(child.pid);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (data) => (output += data));

  const passOn = (signal) => child.kill(signal);
  // At a terminal, Ctrl-C reaches every process of the group: passed on, it would arrive twice.
  const interrupt = (signal) => {
    if (![0, 1, 2].some((stream) => isatty(stream))) child.kill(signal);
  };
  const handlers = Object.entries({ SIGINT: interrupt, SIGTERM: passOn, SIGHUP: passOn });
  for (const [signal, handler] of handlers) process.on(signal, handler);

  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve({ code, signal, output }));
  }).finally(() => {
    for (const [signal, handler] of handlers) process.off(signal, handler);
  });
}
