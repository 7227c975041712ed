/**
 * Tells the API processes who is being judged, and waits until they have heard, so that none of them answers from memory what a
 * completion that is announced a moment later makes untrue (db: app.notify_judging). Called with each claim. A process that
 * does not say so in time is not waited for again until it does.
 */
import { randomUUID } from "node:crypto";
import type { Pool, PoolClient } from "pg";
import { errorClass } from "../error_class.ts";
import type { Judging } from "../evaluation/batch.ts";
import type { Logger } from "../logger.ts";

/** Much longer than a process on a busy machine needs; one that is stopped costs it once. */
const waitAtMostMs = 1000;
/** Where nobody answers from memory it is asked only now and then whether somebody does: one that has just begun keeps little. */
const askEveryMs = 500;

interface Announcement {
  heardBy: Set<number>;
  /** Known when the database has answered. */
  awaited: number[] | undefined;
  done: () => void;
}

/** `pool` lends it one connection, until `stopping` is aborted; what is judged after that is not told ahead. */
export function announceJudging(
  pool: Pool,
  logger: Logger,
  stopping: AbortSignal,
): NonNullable<Judging["announce"]> {
  const open = new Map<string, Announcement>();
  const silent = new Set<number>();
  const prefix = randomUUID().slice(0, 8);
  let count = 0;
  /** When it turned out that there is nobody to tell. */
  let nobodyAt = -Infinity;

  const look = ({ heardBy, awaited, done }: Announcement): void => {
    if (awaited?.every((pid) => heardBy.has(pid) || silent.has(pid))) done();
  };
  const connection = lendConnection(pool, stopping, (pid, token) => {
    silent.delete(pid);
    const announcement = open.get(token);
    announcement?.heardBy.add(pid);
    if (announcement) look(announcement);
  });
  const giveUp = ({ heardBy, awaited, done }: Announcement): void => {
    for (const pid of awaited ?? []) if (!heardBy.has(pid)) silent.add(pid);
    done();
  };
  const tell = async (token: string, ids: string[], announcement: Announcement): Promise<void> => {
    const client = await connection();
    const { rows } = await client.query<{ pid: number }>({
      name: "notify_judging",
      text: "select pid from app.notify_judging($1, $2) as pid",
      values: [ids, token],
    });
    announcement.awaited = rows.map(({ pid }) => pid);
    nobodyAt = rows.length === 0 ? performance.now() : -Infinity;
    look(announcement);
  };

  return (ids) =>
    new Promise((resolve) => {
      const isNobody = performance.now() - nobodyAt < askEveryMs;
      if (ids.length === 0 || isNobody || stopping.aborted) return resolve();
      const token = `${prefix}-${(count += 1)}`;
      const done = (): void => {
        clearTimeout(timer);
        open.delete(token);
        resolve();
      };
      const announcement: Announcement = { heardBy: new Set(), awaited: undefined, done };
      // It may be this process that was late: what has arrived meanwhile is heard before anybody is called silent.
      const timer = setTimeout(() => setImmediate(giveUp, announcement), waitAtMostMs);
      open.set(token, announcement);
      tell(token, ids, announcement).catch((error: unknown) => {
        logger.warn({ error: errorClass(error) }, "who is being judged could not be told");
        done();
      });
    });
}

/** Made when it is first asked for, and again after it was lost. */
function lendConnection(
  pool: Pool,
  stopping: AbortSignal,
  onHeard: (pid: number, token: string) => void,
): () => Promise<PoolClient> {
  let lent: Promise<PoolClient> | undefined;
  const lend = async (): Promise<PoolClient> => {
    const client = await pool.connect();
    let isLent = true;
    const giveBack = (): void => {
      if (!isLent) return;
      isLent = false;
      lent = undefined;
      stopping.removeEventListener("abort", giveBack);
      client.off("error", giveBack).off("end", giveBack);
      client.release(true);
    };
    client.on("error", giveBack).on("end", giveBack);
    stopping.addEventListener("abort", giveBack);
    client.on("notification", ({ processId, payload = "" }) => onHeard(processId, payload));
    if (stopping.aborted) giveBack();
    try {
      // What it says is of use now or never, so nobody need wait until it is on disk.
      await client.query("set synchronous_commit = off");
      await client.query("listen members_heard");
    } catch (error) {
      giveBack();
      throw error;
    }
    return client;
  };
  return () =>
    (lent ??= lend().catch((error: unknown) => {
      lent = undefined;
      throw error;
    }));
}
