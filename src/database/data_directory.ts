/**
 * The folder in which the embedded server keeps everything: where it is, and what lies where in it. Called before the
 * server is opened. A folder that somebody named is used or refused, never replaced by another; the default one is
 * replaced, out loud, when the server's user cannot get there (a project below /root, or in a private temporary folder).
 */
import { createHash } from "node:crypto";
import { chmod, mkdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Configuration } from "../configuration.ts";
import type { Logger } from "../logger.ts";
import { canReach, findServerUser } from "./server_user.ts";
import type { ServerUser } from "./server_user.ts";

export const machineDirectory = "/var/lib/incentives";

export interface DataDirectory {
  path: string;
  /** PostgreSQL's own. */
  postgres: string;
  log: string;
  secrets: string;
  lock: string;
  owner: string;
  user: ServerUser;
}

export async function prepareDataDirectory(
  configuration: Pick<Configuration, "dataDirectory" | "dataDirectoryIsDefault">,
  logger: Logger,
): Promise<DataDirectory> {
  const wanted = configuration.dataDirectory;
  const user = await findServerUser(join(wanted, "postgres"));
  if (await canReach(user, await nearestFolder(dirname(wanted)), "x")) return layOut(wanted, user);
  if (!configuration.dataDirectoryIsDefault) {
    throw new Error(
      `INCENTIVES_DATA_DIR is ${wanted}, where user ${user.name}, as whom PostgreSQL runs, cannot go. ` +
        `Allow it to pass through the folders above (chmod a+x), or choose a folder such as ${machineDirectory}/data.`,
    );
  }
  const project = dirname(wanted);
  const hash = createHash("sha256").update(project).digest("hex").slice(0, 8);
  const path = join(machineDirectory, `${basename(project)}-${hash}`);
  logger.warn(
    `User ${user.name}, as whom PostgreSQL runs, cannot go into ${project}: the data is in ${path}`,
  );
  return layOut(path, await findServerUser(join(path, "postgres")));
}

async function layOut(path: string, user: ServerUser): Promise<DataDirectory> {
  if (process.platform !== "win32" && /["$`\\\n]/.test(path)) {
    throw new Error(
      `${path} has a character that pg_ctl cannot cope with (one of " $ \` \\). Choose another.`,
    );
  }
  await makeFolder(path);
  if (!(await canReach(user, path, "x"))) {
    // The folder is ours: others may pass through it, and find only files that are closed to them.
    await chmod(path, (await stat(path)).mode | 0o011);
  }
  const inside = (name: string): string => join(path, name);
  return {
    path,
    postgres: inside("postgres"),
    log: inside("postgres.log"),
    secrets: inside("secrets.json"),
    lock: inside("lock"),
    owner: inside("owner.json"),
    user,
  };
}

async function makeFolder(path: string): Promise<void> {
  try {
    const first = await mkdir(path, { recursive: true });
    // Whatever the umask: the server's user must get through the folders that were just made.
    for (let made = path; first && made.length >= first.length; made = dirname(made)) {
      await chmod(made, 0o755);
    }
  } catch (error) {
    throw new Error(
      `The data folder ${path} cannot be made: ${(error as Error).message}. ` +
        "Set INCENTIVES_DATA_DIR to a folder you may write to.",
      { cause: error },
    );
  }
}

async function nearestFolder(path: string): Promise<string> {
  const exists = await stat(path).then(
    () => true,
    () => false,
  );
  return exists || dirname(path) === path ? path : nearestFolder(dirname(path));
}
