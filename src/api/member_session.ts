/** A request's session in the database: the settings it runs with, and a transaction that has them, for REST. */
import type { Pool, PoolClient } from "pg";
import type { Member } from "./tokens.ts";

/** What a request runs as. A role and one setting of our own; no claim becomes a setting by its own name. */
export function sessionSettings(member: Member): Record<string, string> {
  return {
    role: "incentives_member",
    "incentives.user_id": member.userId,
    statement_timeout: "5000",
  };
}

/** Runs `work` in a transaction as this member. What it throws rolls back. */
export async function asMember<T>(
  pool: Pool,
  member: Member,
  work: (client: PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  let broken = false;
  try {
    await client.query("begin");
    const settings = Object.entries(sessionSettings(member));
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
