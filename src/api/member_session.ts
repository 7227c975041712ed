/** A request's session in the database: the settings it runs with, and a transaction that has them, for REST. */
import type { Socket } from "node:net";
import type { Pool, PoolClient } from "pg";
import type { Caller } from "./tokens/tokens.ts";

export type SessionCaller = Pick<Caller, "role" | "userId" | "actsForMembers">;

/**
 * What a request runs as: a role, and settings of our own that say who it is and whether it records for others. An operator
 * is no member, so that nothing that filters by the member ever shows them anything.
 */
export function sessionSettings({
  role,
  userId,
  actsForMembers,
}: SessionCaller): Record<string, string> {
  return {
    role: role === "operator" ? "incentives_operator" : "incentives_member",
    [role === "operator" ? "incentives.operator_id" : "incentives.user_id"]: userId,
    ...(actsForMembers && { "incentives.acts_for_members": "on" }),
    statement_timeout: "5000",
    lock_timeout: "3000",
  };
}

/** For what only reads: the database refuses everything else, and nobody need wait for the commit. */
export const readOnly = { transaction_read_only: "on" };

/** Called when a member begins to write; what it returns is called once, when no commit of it can come any more. */
export type WriteListener = (userId: string) => () => void;

const writeListeners = new WeakMap<Pool, WriteListener>();

/** Has `listener` told of each member's writes through this pool, whoever asks for them and whether or not they still wait. */
export function onMemberWrite(pool: Pool, listener: WriteListener): void {
  writeListeners.set(pool, listener);
}

/**
 * A COMMIT whose answer was lost may still be on its way: the server gives up waiting for it after the ten seconds of
 * database/pools.ts.
 */
const commitMayComeForMs = 30_000;

/** Runs `work` in a transaction as this caller. What it throws rolls back. */
export function asMember<T>(
  pool: Pool,
  caller: SessionCaller,
  work: (client: PoolClient) => Promise<T>,
): Promise<T> {
  return inSession(pool, sessionSettings(caller), work);
}

/** The same for what only reads. */
export function readAsMember<T>(
  pool: Pool,
  caller: SessionCaller,
  work: (client: PoolClient) => Promise<T>,
): Promise<T> {
  return inSession(pool, { ...sessionSettings(caller), ...readOnly }, work);
}

/**
 * Runs `work` in a transaction with these settings, which end with it. The pool's connections pipeline (database/pools.ts), so
 * what opens the session travels with the first query of `work`. When it was refused, so is every query after it: without the
 * role the authenticator may do nothing.
 */
export async function inSession<T>(
  pool: Pool,
  settings: Record<string, string>,
  work: (client: PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  const isOver = beginWrite(pool, settings);
  sendTogether(client);
  const opened = Promise.all([
    client.query("begin"),
    client.query({
      name: "open_session",
      text: "select set_config(name, value, true) from unnest($1::text[], $2::text[]) as setting (name, value)",
      values: [Object.keys(settings), Object.values(settings)],
    }),
  ]);
  opened.catch(() => {});
  let result: T;
  try {
    result = await work(client);
    await opened;
  } catch (error) {
    await leave(client, "rollback").catch(() => {});
    isOver();
    // The first failure is the one that says why.
    throw await opened.then(
      () => error,
      (refused: unknown) => refused,
    );
  }
  const left = leave(client, "commit");
  left.then(isOver, () => setTimeout(isOver, commitMayComeForMs).unref());
  if (!isReadOnly(settings)) await left;
  return result;
}

const isReadOnly = (settings: Record<string, string>): boolean =>
  settings.transaction_read_only === "on";

function beginWrite(pool: Pool, settings: Record<string, string>): () => void {
  const userId = settings["incentives.user_id"];
  const isWrite = userId !== undefined && !isReadOnly(settings);
  return (isWrite && writeListeners.get(pool)?.(userId)) || (() => {});
}

/** What is asked in this turn goes out as one packet: each by itself would wake the other side. */
function sendTogether(client: PoolClient): void {
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection;
  stream.cork();
  process.nextTick(() => stream.uncork());
}

/** Gives the connection back when the transaction is over; a broken one is not used again. */
async function leave(client: PoolClient, how: "commit" | "rollback"): Promise<void> {
  try {
    await client.query(how);
  } catch (error) {
    client.release(true);
    throw error;
  }
  client.release();
}
