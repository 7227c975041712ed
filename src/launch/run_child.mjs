// Runs one program for the launcher and waits for its end, whatever signals arrive meanwhile. Called by the other files of
// the launcher. The launcher must never end before its child: a shell would take the terminal back too early, and a
// supervisor would think that the child is gone.

import { spawn } from "node:child_process";

export function runChild(command, args, { onSpawn, ...options }) {
  const child = spawn(command, args, options);
  if (child.pid !== undefined) onSpawn?.(child.pid);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (data) => (output += data));

  // At a terminal Ctrl-C reaches every process of the group, so the child may hear of it twice; it must not mind.
  const passOn = (signal) => child.kill(signal);
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) process.on(signal, passOn);

  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve({ code, signal, output }));
  }).finally(() => {
    for (const signal of signals) process.off(signal, passOn);
  });
}
