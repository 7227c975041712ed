/**
 * Installs or upgrades the schema: first graphile-worker's, then ours with graphile-migrate's own command, the same one that
 * a DBA runs by hand. Called by start, by `incentives migrate` and by the tests.
 */
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { Logger } from "../logger.ts";
import { installWorkerSchema } from "../worker/runner.ts";
import { openPool } from "./pools.ts";

const project = fileURLToPath(new URL("../..", import.meta.url));

/** Where graphile-migrate's own actions (.gmrc) find this Node, graphile-worker and a shell's programs. */
const programs = [
  path.dirname(process.execPath),
  path.join(project, "node_modules", ".bin"),
  "/usr/bin",
  "/bin",
].join(path.delimiter);

/** Listed in db/CONVENTIONS.md with the others; not a function in the database, because there is no schema yet. */
const MIGRATE_LOCK = 7401000005;

/** Whoever waits for a table's lock holds up all who come after, readers too: so not for long, and then once more. */
const lockTimeout = "2s";
const pauseMs = 3000;
const attemptsAtMost = 20;

/** `ownerUrl` connects as incentives_owner. Throws with graphile-migrate's own words when a migration fails. */
export async function migrate(ownerUrl: string, logger: Logger): Promise<void> {
  const pool = openPool(ownerUrl, "migrate", 3, logger);
  const turn = await pool.connect();
  try {
    // Processes that start at the same moment take turns; graphile-migrate itself would refuse the second.
    await turn.query("select pg_advisory_lock($1)", [MIGRATE_LOCK]);
    await installWorkerSchema(pool, logger);
    await runMigrations(ownerUrl, logger);
  } finally {
    turn.release(true);
    await pool.end();
  }
}

/** What was migrated before a lock was refused stays; the next attempt goes on from there. */
async function runMigrations(ownerUrl: string, logger: Logger): Promise<void> {
  const command = createRequire(import.meta.url).resolve("graphile-migrate/dist/cli.js");
  for (let attempt = 1; ; attempt++) {
    try {
      await promisify(execFile)(process.execPath, [command, "migrate"], {
        cwd: project,
        env: {
          PATH: programs,
          DATABASE_URL: ownerUrl,
          PGOPTIONS: `-c lock_timeout=${lockTimeout}`,
        },
      });
      return;
    } catch (error) {
      const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
      const isLocked = /due to lock timeout/.test(stdout + stderr);
      if (!isLocked || attempt === attemptsAtMost) {
        throw new Error(`The schema could not be installed:\n${stdout}${stderr}`.trim());
      }
      logger.warn({ attempt }, "a table to migrate is in use; trying again");
      await sleep(pauseMs);
    }
  }
}
