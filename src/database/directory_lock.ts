/**
 * One process at a time runs the server of a data folder. Called by embedded_server.ts. The lock must be gone the moment
 * its holder is, however it ends, and must exist before there is a server to ask: so it is the operating system's lock on
 * a file, which Node offers only through SQLite. A file with a process id in it would have to be guessed about after a
 * crash, and a lock inside PostgreSQL does not cover making and starting it. No data is in that file.
 */
import { chmodSync, chownSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import type { DataDirectory } from "./data_directory.ts";

export interface LockOwner {
  pid: number;
  /** A command that needs the server for a moment, and not the process that keeps it running. */
  isBrief: boolean;
}

const sqliteBusy = 5;

/** The function that gives the lock back, or undefined while another process has it. */
export function tryToLock(directory: DataDirectory, isBrief: boolean): (() => void) | undefined {
  let file: DatabaseSync | undefined;
  try {
    file = new DatabaseSync(directory.lock, { timeout: 0 });
    file.exec("pragma journal_mode = memory; begin exclusive");
    chmodSync(directory.lock, 0o600); // whoever may read it could hold it
    giveToOwnerOf(directory.path, directory.lock);
    writeFileSync(directory.owner, JSON.stringify({ pid: process.pid, isBrief }));
    giveToOwnerOf(directory.path, directory.owner);
  } catch (error) {
    if (file?.isOpen) file.close();
    if ((error as { errcode?: number }).errcode === sqliteBusy) return undefined;
    throw new Error(
      `${directory.lock} cannot be locked: ${(error as Error).message}. Run this as the user who owns that folder, ` +
        "or set INCENTIVES_DATA_DIR to a folder of your own.",
      { cause: error },
    );
  }
  return () => {
    if (!file.isOpen) return;
    rmSync(directory.owner, { force: true });
    file.close();
  };
}

/** Who has the lock; undefined when that is not written down yet, or any more. */
export function readLockOwner({ owner }: DataDirectory): LockOwner | undefined {
  try {
    const found = JSON.parse(readFileSync(owner, "utf8")) as LockOwner;
    return isAlive(found.pid) ? found : undefined;
  } catch {
    return undefined;
  }
}

export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** What root leaves in somebody's folder stays theirs. */
function giveToOwnerOf(folder: string, path: string): void {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = statSync(folder);
  chownSync(path, uid, gid);
}
