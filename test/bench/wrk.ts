/** How many requests a second a server answers, as wrk counts them (Debian: apt-get install wrk). Called by reads.ts. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { WrongCounts } from "./counts.ts";

export interface Load {
  url: string;
  connections: number;
  seconds: number;
  headers?: Record<string, string>;
  /** Posted as JSON. */
  body?: string;
}

/** Throws when an answer was neither a 200 nor a 304, or none came. */
export async function requestsPerSecond(load: Load): Promise<number> {
  const script = fileURLToPath(new URL("children/post.lua", import.meta.url));
  const { stdout } = await promisify(execFile)(
    "wrk",
    [
      "-t1",
      `-c${load.connections}`,
      `-d${load.seconds}s`,
      ...Object.entries(load.headers ?? {}).flatMap(([name, value]) => ["-H", `${name}: ${value}`]),
      ...(load.body === undefined ? [] : ["-s", script]),
      load.url,
    ],
    { env: { PATH: process.env.PATH, BODY: load.body } },
  ).catch((error: unknown) => {
    throw new Error("wrk did not run (Debian: apt-get install wrk)", { cause: error });
  });
  const rate = Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]);
  if (/Non-2xx|Socket errors/.test(stdout) || !(rate > 0)) {
    throw new WrongCounts(`wrk on ${load.url}:\n${stdout}`);
  }
  return rate;
}
