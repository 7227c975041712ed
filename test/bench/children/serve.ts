/** The messages between a run and its child processes: ready, go, finish, and what came of it. Called by every file here. */
import { once } from "node:events";

/** `prepare` does what is not to be timed, and returns what is. */
export async function serve<Options, Result>(
  prepare: (options: Options) => Promise<(finish: AbortSignal) => Promise<Result>>,
): Promise<void> {
  process.on("disconnect", () => process.exit()); // whoever wanted it is gone
  const run = await prepare(JSON.parse(process.argv[2] ?? "{}") as Options);
  process.send?.("ready");
  await once(process, "message");
  const finish = new AbortController();
  process.once("message", () => finish.abort());
  const result = await run(finish.signal);
  process.send?.(result ?? null);
}
