/** A PostgreSQL of a test's own, to be restarted under everybody's feet with its own programs. */
import { appendFile, chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Pool } from "pg";
import { readConfiguration } from "../../src/configuration.ts";
import { prepareDataDirectory } from "../../src/database/data_directory.ts";
import { openEmbeddedServer } from "../../src/database/embedded_server.ts";
import { migrate } from "../../src/database/migrate.ts";
import { findPrograms } from "../../src/database/postgres_programs.ts";
import { runAs } from "../../src/database/server_user.ts";
import { createLogger } from "../../src/logger.ts";

export interface RestartableServer {
  ownerUrl: string;
  authenticatorUrl: string;
  /** Connects as the owner; a broken connection is replaced at the next use. */
  pool: Pool;
  restart(mode: "fast" | "immediate"): Promise<void>;
  drop(): Promise<void>;
}

/** With these settings of PostgreSQL's. */
export async function startRestartableServer(
  settings: Record<string, string | number> = {},
): Promise<RestartableServer> {
  const folder = await mkdtemp(path.join(tmpdir(), "incentives faults "));
  await chmod(folder, 0o755);
  const logger = createLogger("silent");
  const configuration = readConfiguration({
    INCENTIVES_DATA_DIR: path.join(folder, "data"),
    INCENTIVES_POSTGRES_BIN: process.env.INCENTIVES_POSTGRES_BIN,
  });
  const server = await openEmbeddedServer({ configuration, logger, durable: false });
  const directory = await prepareDataDirectory(configuration, logger);
  const { bin } = await findPrograms(configuration, directory.user, logger);
  const control = (...what: string[]) =>
    runAs(directory.user, path.join(bin, "pg_ctl"), [...what, "-s", "-D", directory.postgres]).then(
      () => {},
    );
  const restart = (mode: string) => control("restart", "-w", "-m", mode, "-l", directory.log);
  // What nobody waited for is lost in a crash, for as long after it as PostgreSQL allows.
  const all = { wal_writer_delay: "10s", ...settings };
  const lines = Object.entries(all).map(([name, value]) => `${name} = ${value}\n`);
  await appendFile(path.join(directory.postgres, "postgresql.conf"), lines.join(""));
  await restart("fast");
  await migrate(server.ownerUrl, logger);
  const preparing = new Pool({ connectionString: server.ownerUrl, max: 1 });
  await preparing.query(await readFile("db/demo_catalogue.sql", "utf8"));
  // What was committed must outlive an immediate shutdown; the machine itself stays up. A session that is there already
  // would not hear of it, so none is kept.
  await preparing.query("alter database incentives set synchronous_commit = on");
  await preparing.end();
  const pool = new Pool({ connectionString: server.ownerUrl, max: 20 });
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  return {
    ownerUrl: server.ownerUrl,
    authenticatorUrl: server.authenticatorUrl,
    pool,
    restart,
    async drop() {
      await pool.end();
      await server.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
