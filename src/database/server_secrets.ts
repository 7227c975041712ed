/**
 * The embedded server's passwords and the key that signs tokens: made once, kept in the data folder, readable to its owner
 * alone. Called by whoever opens the server. They are written before the server's data is made, so that there is never a
 * server whose password nobody knows.
 */
import { randomBytes } from "node:crypto";
import { chown, open, readFile, rename, stat } from "node:fs/promises";
import type { DataDirectory } from "./data_directory.ts";

export interface ServerSecrets {
  postgres: string;
  incentives_owner: string;
  incentives_authenticator: string;
  jwtSecret: string;
}

const names = ["postgres", "incentives_owner", "incentives_authenticator", "jwtSecret"] as const;

/** Undefined when there are none yet. */
export async function readSecrets({ secrets }: DataDirectory): Promise<ServerSecrets | undefined> {
  let text: string;
  try {
    text = await readFile(secrets, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new Error(
      `${secrets} cannot be read: ${(error as Error).message}. Run this as the user who owns that file, ` +
        "or set INCENTIVES_DATA_DIR to a folder of your own.",
      { cause: error },
    );
  }
  const found = parse(text);
  if (found) return found;
  throw new Error(`${secrets} is damaged. Restore it from a backup.`);
}

export async function createSecrets(directory: DataDirectory): Promise<ServerSecrets> {
  const made = Object.fromEntries(
    names.map((name) => [name, randomBytes(32).toString("base64url")]),
  );
  await writePrivately(directory.secrets, `${JSON.stringify(made, null, 2)}\n`);
  const { uid, gid } = await stat(directory.path);
  if (process.getuid?.() === 0) await chown(directory.secrets, uid, gid);
  return made as unknown as ServerSecrets;
}

/** All of it or nothing, and on the disk when this returns. */
async function writePrivately(path: string, text: string): Promise<void> {
  const file = await open(`${path}.new`, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
}

function parse(text: string): ServerSecrets | undefined {
  try {
    const found = JSON.parse(text) as Record<string, unknown> | null;
    const isWhole = names.every((name) => typeof found?.[name] === "string" && found[name]);
    return isWhole ? (found as unknown as ServerSecrets) : undefined;
  } catch {
    return undefined;
  }
}
