/**
 * The roles and the database inside an embedded server: what a DBA does by hand, with db/roles.sql, on a server of their
 * own. Called by embedded_server.ts after every start. The schema is not its business: see migrate.ts.
 */
import { readFile } from "node:fs/promises";
import { Client } from "pg";
import type { ServerSecrets } from "./server_secrets.ts";

export async function ensureDatabase(superuserUrl: string, secrets: ServerSecrets): Promise<void> {
  const roles = await readFile(new URL("../../db/roles.sql", import.meta.url), "utf8");
  const client = new Client({ connectionString: superuserUrl });
  client.on("error", () => {}); // a lost connection fails the query that needs it
  await client.connect();
  try {
    await client.query(roles);
    for (const role of ["incentives_owner", "incentives_authenticator"] as const) {
      await client.query(`alter role ${role} password ${client.escapeLiteral(secrets[role])}`);
    }
    const { rows } = await client.query("select from pg_database where datname = 'incentives'");
    if (rows.length === 0) await client.query("create database incentives owner incentives_owner");
    await client.query("revoke connect, temporary on database incentives from public");
    await client.query("grant connect on database incentives to incentives_authenticator");
  } finally {
    await client.end();
  }
}
