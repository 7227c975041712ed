/** The messages between a run and its child processes: ready, go, finish, and what came of it. Called by every file here. */
import { once } from "node:events";

/** `prepare` does what is not to be timed, and returns what is; that is done as often as it is asked for. */
export async function serve<Options, Result>(
  prepare: (options: Options) => Promise<(finish: AbortSignal) => Promise<Result>>,
): Promise<void> {
  process.on("disconnect", () => process.exit()); // whoever wanted it is gone
  const run = await prepare(JSON.parse(process.argv[2] ?? "{}") as Options);
  process.send?.("ready");
  for (;;) {
    await once(process, "message");
    const finish = new AbortController();
    const onFinish = (): void => finish.abort();
    process.once("message", onFinish);
    const result = await run(finish.signal);
    process.off("message", onFinish);
    process.send?.(result ?? null);
  }
}
