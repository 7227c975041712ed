/** A request's session in the database: the settings it runs with, and a transaction that has them, for REST. */
import type { Pool, PoolClient } from "pg";
import type { Caller } from "./tokens.ts";

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

/** Runs `work` in a transaction as this caller. What it throws rolls back. */
export async function asMember<T>(
  pool: Pool,
  caller: SessionCaller,
  work: (client: PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  let broken = false;
  try {
    await client.query("begin");
    const settings = Object.entries(sessionSettings(caller));
    await client.query(
      "select set_config(name, value, true) from unnest($1::text[], $2::text[]) as setting (name, value)",
      [settings.map(([name]) => name), settings.map(([, value]) => value)],
    );
    const result = await work(client);
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback").catch(() => {
      broken = true;
    });
    throw error;
  } finally {
    client.release(broken);
  }
}
