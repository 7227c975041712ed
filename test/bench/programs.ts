/**
 * The programs a measure runs beside the server: the real worker, load generators and other queues' workers (children/), and
 * Redis. Each is a process of its own and is ended with the run.
 */
import { fork, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import getPort from "get-port";
import { onClose } from "./resources.ts";
import type { BenchDatabase } from "./server.ts";

const quietly = "--disable-warning=ExperimentalWarning";

export interface Child<Result> {
  /** Begins, or does it once more; it was made ready before. Resolves with what it reports at its end. */
  go(): Promise<Result>;
  /** Asks it to come to an end early, if it can; `go` then resolves. */
  finish(): void;
  stop(): Promise<unknown>;
}

/** Runs children/<name>.ts, and resolves when it is ready to go. */
export async function startChild<Result>(name: string, options: object): Promise<Child<Result>> {
  const file = fileURLToPath(new URL(`children/${name}.ts`, import.meta.url));
  const child = fork(file, [JSON.stringify(options)], {
    execArgv: [quietly],
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  const stop = onClose(() => end(child, "SIGKILL"));
  const ended = failWhenEnded(child, name);
  await Promise.race([once(child, "message"), ended]);
  return {
    stop,
    finish: () => void child.send("finish"),
    async go() {
      const answer = once(child, "message");
      child.send("go");
      const [result] = (await Promise.race([answer, ended])) as [Result];
      return result;
    },
  };
}

export const jwtSecret = "a secret for benchmarks, of more than 32 characters";

/** The real process, an API alone, without the limits on what one client may ask. */
export async function startApi(
  { authenticatorUrl }: BenchDatabase,
  settings: Record<string, string>,
): Promise<{ stop: () => Promise<unknown>; url: string }> {
  const cli = fileURLToPath(new URL("../../src/cli.ts", import.meta.url));
  const port = await getPort();
  const child = spawn(process.execPath, [quietly, cli, "start", "--only", "api"], {
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      AUTH_DATABASE_URL: authenticatorUrl,
      JWT_SECRET: jwtSecret,
      PORT: String(port),
      NODE_ENV: "production",
      LOG_LEVEL: "warn",
      RATE_LIMIT_PER_MEMBER: "0",
      RATE_LIMIT_PER_ADDRESS: "0",
      ...settings,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stop = onClose(() => end(child, "SIGTERM"));
  await Promise.race([once(child.stdout, "data"), failWhenEnded(child, "the API")]);
  return { stop, url: `http://127.0.0.1:${port}` };
}

/** The real process. It refreshes no cache, which would fall into some of the measurements. */
export async function startWorker(
  databaseUrl: string,
): Promise<{ stop: () => Promise<unknown>; pid: number }> {
  const cli = fileURLToPath(new URL("../../src/cli.ts", import.meta.url));
  const child = spawn(process.execPath, [quietly, cli, "start", "--only", "worker"], {
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      DATABASE_URL: databaseUrl,
      NODE_ENV: "production",
      LOG_LEVEL: "warn",
      CACHE_REFRESH_CRON: "0 0 1 1 *",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stop = onClose(() => end(child, "SIGTERM"));
  await Promise.race([once(child.stdout, "data"), failWhenEnded(child, "the worker")]);
  return { stop, pid: child.pid! };
}

/** Redis that answers only when its file is on the disk, as PostgreSQL does. Its port. */
export async function startRedis(): Promise<number> {
  const port = await getPort();
  const folder = await mkdtemp(path.join(tmpdir(), "incentives redis "));
  onClose(() => rm(folder, { recursive: true, force: true }));
  const durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];
  const place = ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder];
  const child = spawn("redis-server", [...place, ...durable], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  onClose(() => end(child, "SIGTERM"));
  const ended = failWhenEnded(child, "redis-server (Debian: apt-get install redis-server)");
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const socket = connect(port, "127.0.0.1");
    const found = once(socket, "connect").then(
      () => true,
      () => false,
    );
    if (await Promise.race([found, ended])) {
      socket.destroy();
      return port;
    }
    await sleep(50);
  }
  throw new Error("redis-server did not start");
}

/** Rejects when the process cannot be started, or ends; nobody need be waiting for that. */
function failWhenEnded(child: ChildProcess, name: string): Promise<never> {
  let said = "";
  child.stderr?.on("data", (data: Buffer) => (said = (said + data.toString()).slice(-2000)));
  const ended = Promise.race([
    once(child, "close").then(() => `${name} ended\n${said}`),
    once(child, "error").then(([error]) => `${name}: ${(error as Error).message}`),
  ]).then((reason) => {
    throw new Error(reason);
  });
  ended.catch(() => {});
  return ended;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill(signal);
  const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
  await exited;
  clearTimeout(timer);
}
