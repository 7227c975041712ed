/** The commands `incentives cache …`: each says what came of it. Added by cli.ts. */
import type { Command } from "commander";
import type { Pool } from "pg";
import { showProgress } from "./progress.ts";
import { refreshCache } from "./refresh.ts";
import type { Outcome, RefreshOptions } from "./refresh.ts";
import { cacheStatus, describeStatus, readSteps } from "./status.ts";

/** Opens the owner's pool, with at least two connections, for the time of some work. */
export type WithPool = (work: (pool: Pool) => Promise<void>) => Promise<void>;

type Procedure = NonNullable<RefreshOptions["procedure"]>;

const commands: Record<Procedure, { description: string; said: Record<Outcome, string> }> = {
  build: {
    description: "fill the snapshot, after clear or for the first time",
    said: {
      taken: "The cache is built.",
      left: "Another refresh is running; left to it (--wait waits, and then builds).",
      cleared: "The cache was cleared meanwhile; everybody is served live.",
      stopped: "Stopped; the next refresh goes on with it.",
    },
  },
  refresh: {
    description: "take a new snapshot",
    said: {
      taken: "The cache is refreshed.",
      left: "Another refresh is running; left to it (--wait waits, and then refreshes).",
      cleared: "The cache is cleared and everybody is served live; `cache build` fills it.",
      stopped: "Stopped; who has changed since the last whole snapshot is served live.",
    },
  },
  clear: {
    description: "empty the snapshot: everybody is served live until `cache build`",
    said: {
      taken: "The cache is cleared.",
      left: "A refresh is running; nothing was cleared (--wait waits, and then clears).",
      cleared: "The cache is cleared: everybody is served live until `cache build`.",
      stopped: "Stopped midway: everybody is served live; `cache clear` or `cache build` goes on.",
    },
  },
};

export function addCacheCommands(program: Command, withPool: WithPool): void {
  const cache = program.command("cache").description("the snapshot that clients read");
  for (const [procedure, { description, said }] of Object.entries(commands)) {
    cache
      .command(procedure)
      .description(description)
      .option("--wait", "when another refresh is running, wait for it, and then begin")
      .action(({ wait = false }: { wait?: boolean }) =>
        withPool(async (pool) => {
          const told = new AbortController();
          process.once("SIGINT", () => told.abort());
          const say = (line: string): void => console.log(line);
          const work = refreshCache(pool, {
            procedure: procedure as Procedure,
            wait,
            signal: told.signal,
            onNotice: (sentence) => wait && say(sentence),
          });
          const outcome = await showProgress(pool, work, say);
          say(said[outcome]);
          if (outcome === "taken") say(describeStatus(await cacheStatus(pool), []));
        }),
      );
  }
  cache
    .command("status")
    .description("say when the snapshot was taken, how many members are served live, and how long")
    .action(() =>
      withPool(async (pool) =>
        console.log(describeStatus(await cacheStatus(pool), await readSteps(pool))),
      ),
    );
}
