import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { Client } from "pg";
import { readConfiguration } from "../../src/configuration.ts";
import { openEmbeddedServer } from "../../src/database/embedded_server.ts";
import type { EmbeddedServer } from "../../src/database/embedded_server.ts";
import { createLogger } from "../../src/logger.ts";

const logger = createLogger("silent");
let folder: string;
let data: string;
const opened: EmbeddedServer[] = [];
const processes: ChildProcess[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "incentives server "));
  await chmod(folder, 0o755);
  data = join(folder, "data");
});

afterEach(async () => {
  for (const process of processes.splice(0)) process.kill("SIGKILL");
  for (const server of opened.splice(0)) await server.close();
});

afterAll(() => rm(folder, { recursive: true, force: true }));

async function open({ shared = false, directory = data } = {}): Promise<EmbeddedServer> {
  const configuration = readConfiguration({
    INCENTIVES_DATA_DIR: directory,
    INCENTIVES_POSTGRES_BIN: process.env.INCENTIVES_POSTGRES_BIN,
  });
  const server = await openEmbeddedServer({ configuration, logger, shared, durable: false });
  opened.push(server);
  return server;
}

async function startOwner(): Promise<ChildProcess> {
  const script = join(import.meta.dirname, "owner_process.ts");
  const owner = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", script], {
    env: { ...process.env, INCENTIVES_DATA_DIR: data },
    stdio: ["ignore", "pipe", "inherit"],
  });
  processes.push(owner);
  await once(owner.stdout!, "data");
  return owner;
}

async function ask(url: string, query: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(query)).rows;
  } finally {
    await client.end();
  }
}

describe("the embedded server", () => {
  test("is made, with its roles and its database, in a path with a space", async () => {
    const server = await open();
    expect(await ask(server.ownerUrl, "select current_user as name")).toEqual([
      { name: "incentives_owner" },
    ]);
    const found = await ask(
      server.superuserUrl,
      "select datname, pg_get_userbyid(datdba) as owner from pg_database where datname = 'incentives'",
    );
    expect(found).toEqual([{ datname: "incentives", owner: "incentives_owner" }]);
    expect(server.jwtSecret.length).toBeGreaterThanOrEqual(32);
    await expect(ask(server.ownerUrl.replace(/:[^:@]+@/, ":wrong@"), "select")).rejects.toThrow(
      "password authentication failed",
    );
  });

  test("lets the authenticator become a member or an operator, and nothing else", async () => {
    const { authenticatorUrl } = await open();
    for (const role of ["incentives_member", "incentives_operator"]) {
      expect(await ask(authenticatorUrl, `set role ${role}`)).toEqual([]);
    }
    await expect(ask(authenticatorUrl, "set role incentives_owner")).rejects.toThrow("permission");
    const [inherited] = await ask(
      authenticatorUrl,
      "select pg_has_role('incentives_member', 'usage') as yes",
    );
    expect(inherited).toEqual({ yes: false });
  });

  test("keeps its port, passwords and data from one start to the next", async () => {
    const first = await open();
    await ask(first.ownerUrl, "create table kept (id integer)");
    await first.close();
    const second = await open();
    expect(second.ownerUrl).toBe(first.ownerUrl);
    expect(second.jwtSecret).toBe(first.jwtSecret);
    expect(await ask(second.ownerUrl, "select from kept")).toEqual([]);
  });

  test("keeps its secrets to its user", async () => {
    const { dataDirectory } = await open();
    expect((await stat(join(dataDirectory, "secrets.json"))).mode & 0o777).toBe(0o600);
    expect((await stat(join(dataDirectory, "postgres"))).mode & 0o777).toBe(0o700);
  });

  test("writes nothing of what was sent to it into its log", async () => {
    const { ownerUrl, dataDirectory } = await open();
    await expect(ask(ownerUrl, "select 'my secret'::integer")).rejects.toThrow("invalid input");
    await expect(
      ask(
        ownerUrl,
        "create temporary table t (note text check (false)); insert into t values ('my secret')",
      ),
    ).rejects.toThrow("violates");
    expect(await readFile(join(dataDirectory, "postgres.log"), "utf8")).not.toContain("my secret");
  });

  test("is refused to a second owner, who is told which process has it", async () => {
    await open();
    await expect(open()).rejects.toThrow(`in use by process ${process.pid}`);
  });

  test("is won by one of two that start at the same moment", async () => {
    const results = await Promise.allSettled([open(), open(), open()]);
    expect(results.map(({ status }) => status).toSorted()).toEqual([
      "fulfilled",
      "rejected",
      "rejected",
    ]);
  });

  test("is shared by a command while another process owns it, and outlives that command", async () => {
    const owner = await startOwner();
    const guest = await open({ shared: true });
    await guest.close();
    expect(await ask(guest.ownerUrl, "select 1 as one")).toEqual([{ one: 1 }]);
    owner.kill("SIGTERM");
    await once(owner, "exit");
    await expect(ask(guest.ownerUrl, "select 1")).rejects.toThrow("ECONNREFUSED");
  });

  test("is run by a command for a moment, and by commands at once one after the other", async () => {
    const briefly = async (): Promise<string> => {
      const server = await open({ shared: true });
      await ask(server.ownerUrl, "select 1");
      await server.close();
      return server.ownerUrl;
    };
    const [first] = await Promise.all([briefly(), briefly(), briefly()]);
    await expect(ask(first!, "select 1")).rejects.toThrow("ECONNREFUSED");
  });

  test("is taken over when its owner was killed", async () => {
    const owner = await startOwner();
    owner.kill("SIGKILL");
    await once(owner, "exit");
    const server = await open();
    expect(await ask(server.ownerUrl, "select 1 as one")).toEqual([{ one: 1 }]);
  });

  test("starts although its process id now belongs to somebody else", async () => {
    const server = await open();
    await server.close();
    const file = join(server.dataDirectory, "postgres", "postmaster.pid");
    await writeFile(file, `${process.pid}\n${data}/postgres\n0\n5432\n\n127.0.0.1\n0 0\nready\n`);
    const again = await open();
    expect(await ask(again.ownerUrl, "select 1 as one")).toEqual([{ one: 1 }]);
  });

  test("is made anew after an initdb that was killed", async () => {
    const directory = join(folder, "interrupted");
    await mkdir(join(directory, "postgres.new-1", "base"), { recursive: true });
    const server = await open({ directory });
    expect(await ask(server.ownerUrl, "select 1 as one")).toEqual([{ one: 1 }]);
    expect((await readdir(directory)).filter((name) => name.startsWith("postgres.new"))).toEqual(
      [],
    );
  });
});

describe("a data folder that cannot be used is refused, and what to do is said:", () => {
  async function openDamaged(damage: (directory: string) => Promise<void>): Promise<unknown> {
    const directory = await mkdtemp(join(folder, "damaged "));
    await chmod(directory, 0o755);
    await (await open({ directory })).close();
    await damage(directory);
    return open({ directory });
  }

  test("one of another version", async () => {
    const another = openDamaged((directory) =>
      writeFile(join(directory, "postgres", "PG_VERSION"), "14\n"),
    );
    await expect(another).rejects.toThrow(/made by PostgreSQL 14.*INCENTIVES_POSTGRES_BIN/);
  });

  test("one that is not whole", async () => {
    const half = openDamaged((directory) => rm(join(directory, "postgres", "PG_VERSION")));
    await expect(half).rejects.toThrow(/not a whole PostgreSQL data folder.*Restore/);
  });

  test("one whose secrets are gone", async () => {
    const locked = openDamaged((directory) => rm(join(directory, "secrets.json")));
    await expect(locked).rejects.toThrow(/secrets.json is missing.*Restore/);
  });

  test("one whose server does not start, with the end of its log", async () => {
    const broken = openDamaged((directory) =>
      writeFile(join(directory, "postgres", "postgresql.conf"), "nonsense = 1\n"),
    );
    await expect(broken).rejects.toThrow(/did not start[^]*unrecognized configuration parameter/);
  });
});
