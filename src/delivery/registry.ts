/** The listeners there are: every file in `src/listeners/`. */
import { fileURLToPath } from "node:url";
import { loadAdapters } from "../adapters.ts";
import type { IncentiveCompletedListener } from "./listener.ts";

export type ListenerRegistry = ReadonlyMap<string, IncentiveCompletedListener>;

export function loadListeners(): Promise<ListenerRegistry> {
  return loadAdapters<IncentiveCompletedListener>(
    fileURLToPath(new URL("../listeners", import.meta.url)),
    "listener",
  );
}
