/** Memory stays flat through thousands of hostile requests: of a real process, as the operating system counts it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createTokens } from "../../src/api/tokens/tokens.ts";
import { createTestDatabase } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";
import { jwtSecret, metricsToken } from "../test_process.ts";
import { hostileRequests } from "./hostile_requests.ts";

const requests = process.env.FAULTS === "long" ? 10_000 : 2000;
const cli = path.join(import.meta.dirname, "..", "..", "src", "cli.ts");

let database: TestDatabase;
let url: string;
let stop: () => Promise<unknown>;
beforeAll(async () => {
  database = await createTestDatabase();
  const child = spawn(
    process.execPath,
    // As in a small container; without a limit Node.js takes what is there before it tidies up.
    [
      "--max-old-space-size=256",
      "--disable-warning=ExperimentalWarning",
      cli,
      "start",
      "--only",
      "api",
    ],
    {
      env: {
        PATH: process.env.PATH,
        PORT: "0",
        AUTH_DATABASE_URL: database.authenticatorUrl,
        JWT_SECRET: jwtSecret,
        METRICS_TOKEN: metricsToken,
        LOG_LEVEL: "fatal",
        NODE_ENV: "production",
        RATE_LIMIT_PER_MEMBER: "0",
      },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  const ended = once(child, "exit");
  stop = () => (child.kill(), ended);
  const [said] = await once(child.stdout, "data");
  url = /http:\/\/localhost:\d+/.exec(String(said))?.[0] ?? "nothing";
});
afterAll(async () => {
  await stop();
  await database.drop();
});

async function megabytes(): Promise<number> {
  const headers = { authorization: `Bearer ${metricsToken}` };
  const text = await (await fetch(`${url}/metrics`, { headers })).text();
  return Number(/^process_resident_memory_bytes (\d+)/m.exec(text)?.[1]) / 1024 / 1024;
}

test(`${requests} hostile requests leave memory as it was`, async () => {
  const authorization = `Bearer ${await createTokens(jwtSecret).sign("eve", "1h")}`;
  let sent = 0;
  const send = async (until: number): Promise<void> => {
    while (sent < until) {
      sent += 1;
      const {
        body,
        method = "POST",
        path = "/graphql",
        headers,
      } = hostileRequests[sent % hostileRequests.length]!;
      // Never twice the same, so that nothing kept from one helps with the next.
      const text = JSON.stringify(body ?? {}).replace(/^\{"query":"/, `$&# ${sent}\\n`);
      const response = await fetch(url + path, {
        method,
        headers: { authorization, "content-type": "application/json", ...headers },
        ...(method !== "GET" && { body: typeof body === "string" ? body : text }),
      });
      await response.arrayBuffer();
      if (response.status >= 500 || response.status === 429)
        throw new Error(String(response.status));
    }
  };
  const sendAll = (until: number) => Promise.all(Array.from({ length: 8 }, () => send(until)));
  const seen: number[] = [];
  for (let part = 1; part <= 8; part++) {
    await sendAll((requests * part) / 8);
    seen.push(Math.round(await megabytes()));
  }
  console.log(`${requests} hostile requests; MB resident after each eighth: ${seen.join(", ")}`);
  // What a process takes on its way to full speed is taken by then; a leak would go on.
  expect(Math.max(...seen.slice(4)) - Math.max(...seen.slice(0, 4))).toBeLessThan(40);
  // With the library's own bounds for plans it is more: 437 after 10,000 requests.
  expect(Math.max(...seen)).toBeLessThan(400);
}, 300_000);
