/**
 * The embedded server's data on disk: makes it with initdb, and refuses what this PostgreSQL cannot use. Called by
 * embedded_server.ts, which holds the folder's lock meanwhile. It never deletes data that was once whole.
 */
import { mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { DataDirectory } from "./data_directory.ts";
import type { PostgresPrograms } from "./postgres_programs.ts";
import { giveTo, runAs } from "./server_user.ts";

export async function hasData({ postgres }: DataDirectory): Promise<boolean> {
  // An empty folder, such as a mounted one, holds nothing to lose.
  await rmdir(postgres).catch(() => undefined);
  return stat(postgres).then(
    () => true,
    () => false,
  );
}

/** Made beside its place and moved there when it is whole, so that an interrupted one is never taken for a server. */
export async function createData(
  directory: DataDirectory,
  { bin, major }: PostgresPrograms,
  { password, durable }: { password: string; durable: boolean },
): Promise<void> {
  const { path, user, postgres } = directory;
  for (const name of await readdir(path)) {
    if (name.startsWith("postgres.new"))
      await rm(join(path, name), { recursive: true, force: true });
  }
  const unfinished = join(path, `postgres.new-${process.pid}`);
  const passwordFile = `${unfinished}.password`;
  try {
    await mkdir(unfinished, { mode: 0o700 });
    await writeFile(passwordFile, password, { mode: 0o600 });
    await giveTo(user, unfinished);
    await giveTo(user, passwordFile);
    await runAs(user, join(bin, "initdb"), [
      `--pgdata=${unfinished}`,
      "--username=postgres",
      `--pwfile=${passwordFile}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--data-checksums",
      ...(await localeOptions(major)),
      ...(durable ? [] : ["--no-sync"]),
    ]);
    await rename(unfinished, postgres);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true });
    const reason = (error as { stderr?: string }).stderr || (error as Error).message;
    throw new Error(`PostgreSQL's data could not be made in ${path}:\n${reason.trim()}`, {
      cause: error,
    });
  } finally {
    await rm(passwordFile, { force: true });
  }
}

export async function checkDataVersion(
  { postgres, path }: DataDirectory,
  { major }: PostgresPrograms,
): Promise<void> {
  const found = await readFile(join(postgres, "PG_VERSION"), "utf8").catch(() => undefined);
  if (found === undefined) {
    throw new Error(
      `${postgres} is not a whole PostgreSQL data folder. Restore ${path} from a backup, or delete ${postgres} to begin anew.`,
    );
  }
  if (Number(found) === major) return;
  const old = found.trim();
  throw new Error(
    `${postgres} was made by PostgreSQL ${old}, and this is PostgreSQL ${major}. Go on with version ${old} by setting ` +
      "INCENTIVES_POSTGRES_BIN to its bin folder, or move the data with pg_dump and pg_restore into a new " +
      "INCENTIVES_DATA_DIR.",
  );
}

/** Since version 17 PostgreSQL brings a UTF-8 locale that is the same everywhere; before, the machine's is used. */
async function localeOptions(major: number): Promise<string[]> {
  if (major >= 17) {
    return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"];
  }
  const known = await runAs({ name: "this user" }, "locale", ["-a"]).catch(() => "");
  return [/^C\.utf-?8$/im.test(known) ? "--locale=C.UTF-8" : "--locale=C"];
}
