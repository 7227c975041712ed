/**
 * Databases for tests, on the real server that global_setup.ts started: each is a clone of the migrated template, with commits
 * of its own, because what is rolled back never notifies.
 */
import { randomBytes } from "node:crypto";
import { Client, Pool } from "pg";

export interface TestDatabase {
  ownerUrl: string;
  authenticatorUrl: string;
  /** Connects as the owner. */
  pool: Pool;
  drop(): Promise<void>;
}

/** With the demo's two incentives, their rewards and the listener log_completion in it. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const name = `test_${randomBytes(6).toString("hex")}`;
  await asSuperuser(`create database ${name} template incentives owner incentives_owner`);
  const pool = new Pool({
    connectionString: withDatabase(setting("OWNER_URL"), name),
    max: 60,
    pipeline: true,
    options: "-c jit=off",
  });
  pool.on("error", () => {});
  return {
    ownerUrl: withDatabase(setting("OWNER_URL"), name),
    authenticatorUrl: withDatabase(setting("AUTHENTICATOR_URL"), name),
    pool,
    async drop() {
      await pool.end();
      await asSuperuser(`drop database ${name} with (force)`);
    },
  };
}

async function asSuperuser(statement: string): Promise<void> {
  const client = new Client({ connectionString: setting("SUPERUSER_URL") });
  await client.connect();
  try {
    // Two clones of one template at the same moment refuse each other.
    await client.query("select pg_advisory_lock(1)");
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function withDatabase(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
}

function setting(name: string): string {
  const value = process.env[`TEST_${name}`];
  if (!value) throw new Error("global_setup.ts did not run");
  return value;
}

/** Asks until the answer is true, for at most `seconds`; then fails and says what was waited for. */
export async function waitUntil(
  what: string,
  ask: () => Promise<boolean>,
  seconds = 10,
): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  while (!(await ask())) {
    if (Date.now() > deadline) throw new Error(`Waited ${seconds} s until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
