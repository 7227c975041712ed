/** What a process loads: a worker nothing of what the API is made of. Seen in real processes. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createTestDatabase } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";

const checkout = path.dirname(path.dirname(import.meta.dirname));
const preload = path.join(import.meta.dirname, "watched_imports.mjs");

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

/** Runs `start` until it is ready, or ends by itself. */
async function runStart(
  part: string,
  missing = "",
): Promise<{ code: number | null; text: string; loaded: string[] }> {
  const child = spawn(
    process.execPath,
    ["--import", preload, path.join(checkout, "src", "cli.ts"), "start", "--only", part],
    {
      env: {
        DATABASE_URL: database.ownerUrl,
        AUTH_DATABASE_URL: database.authenticatorUrl,
        JWT_SECRET: "a secret for tests, of more than 32 characters",
        PORT: "0",
        LOG_LEVEL: "silent",
        MISSING: missing,
      },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (data: string) => {
      text += data;
      if (/is ready/.test(data)) child.kill();
    });
  }
  const [code] = (await once(child, "close")) as [number | null];
  const loaded = /^loaded (.*)$/m.exec(text)?.[1] ?? "[]";
  return { code, text, loaded: JSON.parse(loaded) as string[] };
}

const ofTheApi = ["express", "postgraphile", "grafast", "graphql", "graphql-ws", "ws"];

test("a worker that runs alone loads nothing of what the API is made of", async () => {
  const { code, loaded } = await runStart("worker");
  expect(code).toBe(0);
  expect(loaded).toContain("graphile-worker");
  expect(loaded.filter((name) => ofTheApi.includes(name))).toEqual([]);
});

test("an API loads all of it, and says what is missing", async () => {
  const { code, loaded } = await runStart("api");
  expect(code).toBe(0);
  expect(loaded).toEqual(expect.arrayContaining(ofTheApi));
  for (const missing of ["express", "postgraphile"]) {
    const ended = await runStart("api", missing);
    expect(ended.code).toBe(1);
    expect(ended.text).toMatch(`incentives: Cannot find package '${missing}`);
  }
});
