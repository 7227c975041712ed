/** Commands on a database that has no schema yet say what to do first, instead of repeating PostgreSQL's words. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Client } from "pg";

const name = `empty_${randomBytes(6).toString("hex")}`;
const command = path.join(import.meta.dirname, "..", "src", "cli.ts");

let superuser: Client;
beforeAll(async () => {
  superuser = new Client({ connectionString: process.env.TEST_SUPERUSER_URL! });
  await superuser.connect();
  await superuser.query(`create database ${name} owner incentives_owner`);
});
afterAll(async () => {
  await superuser.query(`drop database ${name} with (force)`);
  await superuser.end();
});

function inEmpty(url: string): string {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
}

test.each([
  ["record --user alice birth_record {}", ["record", "--user", "alice", "birth_record", "{}"]],
  ["evaluate --all", ["evaluate", "--all"]],
  ["jobs failed", ["jobs", "failed"]],
  ["cache status", ["cache", "status"]],
])("incentives %s", async (_command, args) => {
  const env = {
    PATH: process.env.PATH,
    DATABASE_URL: inEmpty(process.env.TEST_OWNER_URL!),
    AUTH_DATABASE_URL: inEmpty(process.env.TEST_AUTHENTICATOR_URL!),
    JWT_SECRET: "a secret for tests, of more than 32 characters",
  };
  const refusal = await promisify(execFile)(process.execPath, [command, ...args], { env }).catch(
    (error: unknown) => error,
  );
  expect(refusal).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("Run `npm start` or `npx incentives migrate` first."),
  });
});
