/** Starts a real server for all tests, in a folder of its own, and installs the schema once as the template. */
import { chmod, mkdtemp, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Client } from "pg";
import { readConfiguration } from "../src/configuration.ts";
import { openEmbeddedServer } from "../src/database/embedded_server.ts";
import { migrate } from "../src/database/migrate.ts";
import { createLogger } from "../src/logger.ts";

export default async function setUp(): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), "incentives test "));
  // As root the server runs as another user, who has to get to its data.
  await chmod(folder, 0o755);
  const logger = createLogger("error");
  const configuration = readConfiguration({
    INCENTIVES_DATA_DIR: path.join(folder, "data"),
    INCENTIVES_POSTGRES_BIN: process.env.INCENTIVES_POSTGRES_BIN,
  });
  const server = await openEmbeddedServer({ configuration, logger, shared: false, durable: false });
  await migrate(server.ownerUrl, logger);
  const client = new Client({ connectionString: server.ownerUrl });
  await client.connect();
  await client.query(await readFile(new URL("../db/demo_catalogue.sql", import.meta.url), "utf8"));
  const { rows } = await client.query<{ version: string }>("select version()");
  await client.end();
  console.log(`\nTests run on ${rows[0]?.version.split(" on ")[0]}.`);
  Object.assign(process.env, {
    TEST_OWNER_URL: server.ownerUrl,
    TEST_AUTHENTICATOR_URL: server.authenticatorUrl,
    TEST_SUPERUSER_URL: server.superuserUrl,
  });
  Object.assign(globalThis, { stopTestServer: { server, folder } });
}
