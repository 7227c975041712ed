/**
 * The PostgreSQL that is used when no DATABASE_URL is set. Called by open.ts, and by the tests for a server of their own.
 * One process owns a data folder and runs its server; brief commands use the one that runs, or run one for a moment and
 * wait for one another. A server that outlived a killed owner is started anew by the next one.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import type { Configuration } from "../configuration.ts";
import type { Logger } from "../logger.ts";
import { prepareDataDirectory } from "./data_directory.ts";
import type { DataDirectory } from "./data_directory.ts";
import { readLockOwner, tryToLock } from "./directory_lock.ts";
import { ensureDatabase } from "./ensure_database.ts";
import { findPrograms } from "./postgres_programs.ts";
import { checkDataVersion, createData, hasData } from "./server_data.ts";
import { findRunningServer, startServer, stopServer } from "./server_process.ts";
import { createSecrets, readSecrets } from "./server_secrets.ts";
import type { ServerSecrets } from "./server_secrets.ts";

export interface EmbeddedServerOptions {
  configuration: Pick<Configuration, "dataDirectory" | "dataDirectoryIsDefault" | "postgresBin">;
  logger: Logger;
  /** Use the server of another process if there is one; otherwise run one until close(). */
  shared?: boolean;
  /** False trades safety in a power cut for speed; for tests. */
  durable?: boolean;
}

export interface EmbeddedServer {
  superuserUrl: string;
  ownerUrl: string;
  authenticatorUrl: string;
  jwtSecret: string;
  /** Not always the one that was asked for: see data_directory.ts. */
  dataDirectory: string;
  /** Stops the server if this process runs it. Safe to call twice. */
  close(): Promise<void>;
}

const patience = { start: 30_000, shared: 120_000 };

export async function openEmbeddedServer({
  configuration,
  logger,
  shared = false,
  durable = true,
}: EmbeddedServerOptions): Promise<EmbeddedServer> {
  const directory = await prepareDataDirectory(configuration, logger);
  const deadline = Date.now() + (shared ? patience.shared : patience.start);
  for (;;) {
    const release = tryToLock(directory, shared);
    if (release) {
      return await runServer({ directory, configuration, logger, durable, release });
    }
    const owner = readLockOwner(directory);
    const isKept = owner !== undefined && !owner.isBrief;
    const found = shared && isKept ? await visitServer(directory) : undefined;
    if (found) return found;
    if ((isKept && !shared) || Date.now() > deadline) {
      throw new Error(
        `The data in ${directory.path} is in use by process ${owner?.pid ?? "unknown"}. Stop that process, ` +
          "or set INCENTIVES_DATA_DIR to another folder.",
      );
    }
    await sleep(100);
  }
}

async function runServer({
  directory,
  configuration,
  logger,
  durable,
  release,
}: {
  directory: DataDirectory;
  configuration: EmbeddedServerOptions["configuration"];
  logger: Logger;
  durable: boolean;
  release: () => void;
}): Promise<EmbeddedServer> {
  let close = async (): Promise<void> => release();
  try {
    const programs = await findPrograms(configuration, directory.user, logger);
    const secrets = await ensureData(directory, { programs, logger, durable });
    const stop = async (): Promise<void> => {
      await stopServer(directory, programs).finally(release);
    };
    let closing: Promise<void> | undefined;
    close = () => (closing ??= stop());
    const port = await startServer(directory, programs, { durable, logger });
    const server = describe({ directory, port, secrets, close });
    await ensureDatabase(server.superuserUrl, secrets);
    return server;
  } catch (error) {
    await close().catch(() => undefined);
    throw error;
  }
}

async function ensureData(
  directory: DataDirectory,
  {
    programs,
    logger,
    durable,
  }: { programs: Awaited<ReturnType<typeof findPrograms>>; logger: Logger; durable: boolean },
): Promise<ServerSecrets> {
  const known = await readSecrets(directory);
  if (await hasData(directory)) {
    await checkDataVersion(directory, programs);
    if (known) return known;
    throw new Error(
      `${directory.secrets} is missing, and with it the passwords of the data in ${directory.postgres}. ` +
        `Restore it from a backup, or delete ${directory.postgres} to begin anew.`,
    );
  }
  const secrets = known ?? (await createSecrets(directory));
  logger.info(`Making a PostgreSQL ${programs.major} database in ${directory.path}`);
  await createData(directory, programs, { password: secrets.postgres, durable });
  return secrets;
}

/** Undefined while the server of the other process is not ready for us. */
async function visitServer(directory: DataDirectory): Promise<EmbeddedServer | undefined> {
  const running = await findRunningServer(directory);
  const secrets = await readSecrets(directory);
  if (!running?.isReady || !secrets) return undefined;
  const close = async (): Promise<void> => {};
  const server = describe({ directory, port: running.port, secrets, close });
  const client = new Client({ connectionString: server.authenticatorUrl });
  client.on("error", () => {});
  return client.connect().then(
    () => client.end().then(() => server),
    () => undefined,
  );
}

function describe({
  directory,
  port,
  secrets,
  close,
}: {
  directory: DataDirectory;
  port: number;
  secrets: ServerSecrets;
  close: () => Promise<void>;
}): EmbeddedServer {
  const url = (
    role: "postgres" | "incentives_owner" | "incentives_authenticator",
    database: string,
  ): string => `postgres://${role}:${secrets[role]}@127.0.0.1:${port}/${database}`;
  return {
    superuserUrl: url("postgres", "postgres"),
    ownerUrl: url("incentives_owner", "incentives"),
    authenticatorUrl: url("incentives_authenticator", "incentives"),
    jwtSecret: secrets.jwtSecret,
    dataDirectory: directory.path,
    close,
  };
}
