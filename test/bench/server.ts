/**
 * The server a run measures on, and the databases in it: each is a clone of one migrated template with the demo's catalogue,
 * plus `app.bare`, the same table with the same indexes and foreign keys and no trigger. Called by bench.ts, and by the test
 * with the server that the tests have anyway.
 */
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Client } from "pg";
import { readConfiguration } from "../../src/configuration.ts";
import { openEmbeddedServer } from "../../src/database/embedded_server.ts";
import { migrate } from "../../src/database/migrate.ts";
import { createLogger } from "../../src/logger.ts";
import { onClose } from "./resources.ts";

export interface ServerUrls {
  superuserUrl: string;
  ownerUrl: string;
  authenticatorUrl: string;
}

export interface BenchDatabase {
  name: string;
  ownerUrl: string;
  authenticatorUrl: string;
  /** Connected to it as a superuser. */
  client: Client;
  drop(): Promise<void>;
}

export type Clone = () => Promise<BenchDatabase>;

/** What a member recorded, in time. */
export const birthRecord = '{"birth_date": "2021-09-15 15:30:00", "date": "2021-09-15 17:15:00"}';

/** The same, reported after each number of days that is in time: verdicts differ between members. */
export const birthRecords = Array.from({ length: 365 }, (_, days) => {
  const birth = new Date(Date.UTC(2021, 8, 15 - days)).toISOString().slice(0, 10);
  return birthRecord.replace("2021-09-15", birth);
});

/** PostgreSQL as it runs in production, fsync and all, in a temporary folder. `preload` is a library it starts with. */
export async function startBenchServer(preload?: string): Promise<ServerUrls> {
  const folder = await mkdtemp(path.join(tmpdir(), "incentives bench "));
  onClose(() => rm(folder, { recursive: true, force: true }));
  // As root the server runs as another user, who has to get to its data.
  await chmod(folder, 0o755);
  const logger = createLogger("error");
  const configuration = readConfiguration({
    INCENTIVES_DATA_DIR: path.join(folder, "data"),
    INCENTIVES_POSTGRES_BIN: process.env.INCENTIVES_POSTGRES_BIN,
  });
  if (preload !== undefined) {
    const first = await openEmbeddedServer({ configuration, logger, durable: true });
    const client = await connect(first.superuserUrl);
    await client.query(`alter system set shared_preload_libraries = ${preload}`);
    await client.end();
    await first.close();
  }
  const opening = openEmbeddedServer({ configuration, logger, durable: true });
  onClose(() => opening.then((server) => server.close())); // also when a signal comes meanwhile
  const server = await opening;
  await migrate(server.ownerUrl, logger);
  const client = await connect(server.ownerUrl);
  await client.query(
    await readFile(new URL("../../db/demo_catalogue.sql", import.meta.url), "utf8"),
  );
  await client.end();
  return server;
}

/** Makes the template; `judgedRows` rows that are not due are in both of its tables. */
export async function makeTemplate(urls: ServerUrls, judgedRows: number): Promise<Clone> {
  const template = await createDatabase(urls, "incentives");
  const { client } = template;
  await client.query(`
    create table app.bare (like app.user_incentives including all);
    alter table app.bare
      add foreign key (incentive_id) references app.incentives on delete restrict,
      owner to incentives_owner`);
  await client.query(`
    insert into app.user_incentives (user_id, incentive_id, data, evaluation_due)
    select 'before ' || i, incentives.id, '${birthRecord}', false
    from generate_series(1, ${judgedRows}) as i, app.incentives
    where key = 'birth_record'`);
  await client.query("delete from cache.stale_users");
  await client.query(`
    insert into app.bare (user_id, incentive_id, data, evaluation_due)
    select user_id, incentive_id, data, evaluation_due from app.user_incentives`);
  await client.query("vacuum analyze");
  await client.end();
  return () => createDatabase(urls, template.name);
}

async function createDatabase(urls: ServerUrls, template: string): Promise<BenchDatabase> {
  const name = `bench_${randomBytes(6).toString("hex")}`;
  await administrate(urls, `create database ${name} template ${template} owner incentives_owner`);
  const client = await connect(withDatabase(urls.superuserUrl, name));
  const drop = onClose(async () => {
    await client.end();
    await administrate(urls, `drop database if exists ${name} with (force)`);
  });
  return {
    name,
    ownerUrl: withDatabase(urls.ownerUrl, name),
    authenticatorUrl: withDatabase(urls.authenticatorUrl, name),
    client,
    drop: () => drop().then(() => undefined),
  };
}

async function administrate({ superuserUrl }: ServerUrls, statement: string): Promise<void> {
  const client = await connect(superuserUrl);
  try {
    // Two clones of one template at the same moment refuse each other; the tests take this lock too.
    await client.query("select pg_advisory_lock(1)");
    await client.query(statement);
  } finally {
    await client.end();
  }
}

export async function connect(connectionString: string): Promise<Client> {
  const client = new Client({ connectionString });
  client.on("error", () => {}); // a lost connection fails the query that needs it
  await client.connect();
  return client;
}

function withDatabase(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
}
