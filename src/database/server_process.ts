/**
 * Starts and stops the embedded server with PostgreSQL's own programs. Called by embedded_server.ts, which holds
 * the folder's lock meanwhile. pg_ctl gives the server a session of its own, so that Ctrl-C does not reach it.
 */
import { open, readFile, readlink, realpath, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import getPort, { clearLockedPorts } from "get-port";
import type { Logger } from "../logger.ts";
import type { DataDirectory } from "./data_directory.ts";
import { isAlive } from "./directory_lock.ts";
import type { PostgresPrograms } from "./postgres_programs.ts";
import { giveTo, runAs } from "./server_user.ts";

const largeLog = 10_000_000;

/**
 * What members record is their own: no statement, no value and no failing row reaches the log. (An error's text may repeat
 * a value, and whoever caused it is told anyway: `log` is one step above `error` here.)
 */
const settings = {
  listen_addresses: "127.0.0.1,::1",
  unix_socket_directories: "", // their paths may not be long
  max_connections: "200",
  shared_buffers: "256MB",
  // A batch of verdicts writes 5 MB before it commits: with room for two, neither waits for the other's to be written.
  wal_buffers: "64MB",
  max_wal_size: "2GB",
  timezone: "UTC",
  log_min_messages: "log",
  log_min_error_statement: "panic",
  log_error_verbosity: "terse",
  log_statement: "none",
  log_parameter_max_length: "0",
  log_parameter_max_length_on_error: "0",
  log_checkpoints: "off",
};
const carelessly = { fsync: "off", synchronous_commit: "off", full_page_writes: "off" };

/** The port. */
export async function startServer(
  directory: DataDirectory,
  { bin }: PostgresPrograms,
  { durable, logger }: { durable: boolean; logger: Logger },
): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    await stopServer(directory, { bin }, logger);
    const logged = await openLog(directory);
    const port = await choosePort(directory);
    const chosen = { port, ...settings, ...(durable ? {} : carelessly) };
    const options = Object.entries(chosen).map(([name, value]) => `-c ${name}=${value}`);
    try {
      const what = ["start", "-w", "-t", "300", "-s", "-D", directory.postgres];
      const how = ["-l", directory.log, "-o", options.join(" ")];
      await runAs(directory.user, join(bin, "pg_ctl"), [...what, ...how]);
      return port;
    } catch (error) {
      const log = (await readFile(directory.log, "utf8").catch(() => "")).slice(logged);
      // Another program took the port meanwhile, or a start that was killed got there after all.
      if (attempt < 3 && /could not bind|could not create|already exists/.test(log)) continue;
      const lines = log.trim().split("\n").slice(-15).join("\n");
      throw new Error(
        `PostgreSQL did not start. ${directory.log} ends with:\n${lines || (error as Error).message}`,
        { cause: error },
      );
    }
  }
}

/** Does nothing when it does not run. */
export async function stopServer(
  directory: DataDirectory,
  { bin }: Pick<PostgresPrograms, "bin">,
  logger?: Logger,
): Promise<void> {
  if (!(await findRunningServer(directory))) return;
  logger?.warn("The database server of an earlier run is still there; starting it anew");
  const stop = (mode: string): Promise<string> =>
    runAs(directory.user, join(bin, "pg_ctl"), [
      "stop",
      "-s",
      "-w",
      "-t",
      "60",
      "-m",
      mode,
      "-D",
      directory.postgres,
    ]);
  try {
    await stop("fast");
  } catch {
    if (await findRunningServer(directory)) await stop("immediate");
  }
}

/** Its port and whether it takes connections; undefined when it does not run. */
export async function findRunningServer({
  postgres,
}: DataDirectory): Promise<{ port: number; isReady: boolean } | undefined> {
  const file = join(postgres, "postmaster.pid");
  const text = await readFile(file, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  const [pid, , , port, , , , status] = text.split("\n");
  if (!isAlive(Number(pid))) return undefined;
  if (process.platform === "linux") {
    // After a restart of a container another process may have the number; PostgreSQL would refuse to start for ever.
    const folder = await readlink(`/proc/${Number(pid)}/cwd`).catch(() => undefined);
    if (folder !== undefined && folder !== (await realpath(postgres))) {
      await rm(file, { force: true });
      return undefined;
    }
  }
  return { port: Number(port), isReady: status?.trim() === "ready" };
}

/** The one it had last time, if it is free: connection strings that people keep go on working. */
async function choosePort({ postgres }: DataDirectory): Promise<number> {
  const last = await readFile(join(postgres, "postmaster.opts"), "utf8").catch(() => "");
  const port = Number(/\bport=(\d+)/.exec(last)?.[1]);
  clearLockedPorts(); // or a server that this same process has just closed would not get its port back
  return getPort(port > 0 ? { port } : {});
}

/** How long the log was. */
async function openLog({ log, user }: DataDirectory): Promise<number> {
  const size = await stat(log).then(
    (found) => found.size,
    () => 0,
  );
  if (size > largeLog) await rename(log, `${log}.1`);
  const file = await open(log, "a", 0o600);
  const length = (await file.stat()).size;
  await file.close();
  await giveTo(user, log);
  return length;
}
