/**
 * As which user of this machine PostgreSQL's programs run. PostgreSQL refuses root, so for root it is the owner of the
 * data, or the user `postgres`; for everybody else it is themselves. Called by the files that run those programs. Nothing
 * here looks at permission bits: what a user can reach is found out by trying, as that user.
 */
import { execFile } from "node:child_process";
import { chown, stat } from "node:fs/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Without numbers: whoever runs this process. */
export interface ServerUser {
  name: string;
  uid?: number;
  gid?: number;
}

export async function findServerUser(postgresDirectory: string): Promise<ServerUser> {
  if (process.getuid?.() !== 0) return { name: "this user" };
  const owner = await stat(postgresDirectory).catch(() => undefined);
  if (owner && owner.uid !== 0) {
    return { name: `user ${owner.uid}`, uid: owner.uid, gid: owner.gid };
  }
  return (await findPostgresUser()) ?? (await createPostgresUser());
}

/** The standard output of a program, run as that user in English and without our environment: secrets stand there. */
export async function runAs(user: ServerUser, program: string, args: string[]): Promise<string> {
  const { name: _, ...numbers } = user;
  const env = { PATH: "/usr/local/bin:/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" };
  const { stdout } = await run(program, args, { ...numbers, env, cwd: "/" });
  return stdout;
}

/** `needs`: "x" to pass through a folder, "r" to read. */
export async function canReach(user: ServerUser, path: string, needs: "x" | "r"): Promise<boolean> {
  if (user.uid === undefined) return true;
  try {
    await runAs(user, "/bin/sh", ["-c", `test -${needs} "$1"`, "sh", path]);
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === 1) return false;
    throw new Error(
      `This process is root, but may not run programs as ${user.name} (${(error as Error).message}). ` +
        "Run it as an ordinary user, or set DATABASE_URL to a PostgreSQL of your own.",
      { cause: error },
    );
  }
}

export async function giveTo(user: ServerUser, path: string): Promise<void> {
  if (user.uid !== undefined && user.gid !== undefined) await chown(path, user.uid, user.gid);
}

async function findPostgresUser(): Promise<ServerUser | undefined> {
  try {
    const [uid, gid] = await Promise.all([
      run("id", ["-u", "postgres"]),
      run("id", ["-g", "postgres"]),
    ]);
    return { name: "postgres", uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return undefined;
  }
}

async function createPostgresUser(): Promise<ServerUser> {
  try {
    await run("useradd", ["--system", "--user-group", "--no-create-home", "postgres"]).catch(
      async (error: unknown) => {
        // Two starts at once: the other one made it.
        if (!(await findPostgresUser())) throw error;
      },
    );
    const user = await findPostgresUser();
    if (user) return user;
    throw new Error("it is still missing");
  } catch (error) {
    throw new Error(
      `PostgreSQL does not run as root, and the user "postgres" could not be made: ${(error as Error).message.trim()}. ` +
        "Make that user, run this as an ordinary user, or set DATABASE_URL to a PostgreSQL of your own.",
      { cause: error },
    );
  }
}
