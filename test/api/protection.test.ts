/** What keeps one client from taking what belongs to all: rates, origins, slow and too many connections, a full queue. */
import { connect } from "node:net";
import type { Socket } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { createTokens } from "../../src/api/tokens/tokens.ts";
import { waitUntil } from "../test_database.ts";
import { jwtSecret, startTestProcess } from "../test_process.ts";
import type { Answer, TestProcess } from "../test_process.ts";

let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess();
});
afterAll(() => app.drop());

async function inProcess(
  settings: Record<string, string>,
  look: (limited: TestProcess) => Promise<void>,
): Promise<void> {
  const limited = await startTestProcess(app.database, { settings });
  try {
    await look(limited);
  } finally {
    await limited.stop();
  }
}

const repeat = async (n: number, ask: () => Promise<Answer>): Promise<number[]> => {
  const statuses: number[] = [];
  for (let i = 0; i < n; i++) statuses.push((await ask()).status);
  return statuses;
};

/** Counting begins anew with each minute of the clock. */
async function nextMinuteUnless(secondsAreLeft: number): Promise<void> {
  const left = 60_000 - (Date.now() % 60_000);
  if (left < secondsAreLeft * 1000) await new Promise((resolve) => setTimeout(resolve, left));
}

describe("rates", () => {
  beforeEach(() => nextMinuteUnless(5), 10_000);

  test("one member who asks too much gets a 429 that says when to come back; nobody else does", async () => {
    await inProcess({ RATE_LIMIT_PER_MEMBER: "5" }, async (limited) => {
      const authorization = `Bearer ${await createTokens(jwtSecret).sign("greedy", "1h")}`;
      const ask = () => limited.ask("/user/rewards", { headers: { authorization } });
      // The first verifies the token, and counts for the address.
      expect(await repeat(7, ask)).toEqual([200, 200, 200, 200, 200, 200, 429]);
      const { headers, body } = await ask();
      expect(body).toMatchObject({ status: 429, code: "TOO_MANY_REQUESTS" });
      expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
      expect(headers.get("ratelimit")).toMatch(/^"minute";r=0;t=\d+$/);
      expect(headers.get("ratelimit-policy")).toBe('"minute";q=5;w=60');
      const overGraphql = await limited.ask("/graphql", {
        headers: { authorization },
        body: { query: "{ __typename }" },
      });
      expect(overGraphql.status).toBe(429);
      expect((await limited.ask("/user/rewards", { user: "modest" })).status).toBe(200);
    });
  });

  test("tokens that are tried out are stopped, and members behind the same address are not", async () => {
    await inProcess({ RATE_LIMIT_FAILURES: "3" }, async (limited) => {
      const authorization = `Bearer ${await createTokens(jwtSecret).sign("ann", "1h")}`;
      const known = () => limited.ask("/user/rewards", { headers: { authorization } });
      const wrong = () =>
        limited.ask("/user/rewards", { headers: { authorization: "Bearer a.b.c" } });
      expect((await known()).status).toBe(200);
      expect(await repeat(5, wrong)).toEqual([401, 401, 401, 429, 429]);
      expect((await known()).status).toBe(200);
      expect((await limited.ask("/healthz")).status).toBe(200);
    });
  });

  test("a limit is one over all processes", async () => {
    const settings = { RATE_LIMIT_PER_MEMBER: "20" };
    await nextMinuteUnless(20);
    await inProcess(settings, (one) =>
      inProcess(settings, async (other) => {
        const authorization = `Bearer ${await createTokens(jwtSecret).sign("wanderer", "1h")}`;
        const askOf = (app: TestProcess) => () =>
          app.ask("/user/rewards", { headers: { authorization } });
        await repeat(1, askOf(one));
        await repeat(1, askOf(other));
        expect(await repeat(15, askOf(one))).not.toContain(429);
        await repeat(2, askOf(other));
        await new Promise((resolve) => setTimeout(resolve, 1500));
        // It learns when it has something to say; it may have said the first before it could learn anything.
        await repeat(1, askOf(other));
        await new Promise((resolve) => setTimeout(resolve, 1500));
        const statuses = await repeat(15, askOf(other));
        expect(statuses).toContain(429);
        expect(statuses.indexOf(429)).toBeLessThanOrEqual(4);
      }),
    );
  }, 60_000);

  test("strangers count by their address, as the trusted proxy saw it", async () => {
    const settings = { RATE_LIMIT_PER_ADDRESS: "2", TRUSTED_PROXIES: "1" };
    await inProcess(settings, async (limited) => {
      const from = (address: string) => () =>
        limited.ask("/nothing", { headers: { "x-forwarded-for": `203.0.113.1, ${address}` } });
      expect(await repeat(3, from("198.51.100.1"))).toEqual([404, 404, 429]);
      expect(await repeat(1, from("198.51.100.2"))).toEqual([404]);
    });
  });
});

describe("headers", () => {
  test("pages of the origins that were named may use the API, and no others", async () => {
    await inProcess({ CORS_ORIGINS: "https://app.example" }, async (limited) => {
      const preflight = await fetch(`${limited.url}/graphql`, {
        method: "OPTIONS",
        headers: { origin: "https://app.example", "access-control-request-method": "POST" },
      });
      expect(preflight.status).toBe(204);
      expect(preflight.headers.get("access-control-allow-origin")).toBe("https://app.example");
      expect(preflight.headers.get("access-control-allow-headers")).toMatch("Idempotency-Key");
      expect(preflight.headers.get("x-content-type-options")).toBe("nosniff");
      const origins = async (origin: string) =>
        (await limited.ask("/user/rewards", { user: "ann", headers: { origin } })).headers;
      const named = await origins("https://app.example");
      expect(named.get("access-control-allow-origin")).toBe("https://app.example");
      expect(named.get("access-control-expose-headers")).toMatch(/ETag.*Location.*Retry-After/);
      const fromMemory = await origins("https://app.example");
      expect(Object.fromEntries(fromMemory)).toMatchObject({
        "access-control-allow-origin": "https://app.example",
        vary: "Origin, Authorization, Accept",
        "x-cache": "hit",
        "x-content-type-options": "nosniff",
      });
      const other = await origins("https://other.example");
      expect(other.get("access-control-allow-origin")).toBeNull();
    });
    const { headers } = await app.ask("/user/rewards", {
      headers: { origin: "https://app.example" },
    });
    expect(headers.get("access-control-allow-origin")).toBeNull();
  });

  const protecting = {
    "content-security-policy": "default-src 'none';frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "strict-transport-security": "max-age=31536000",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
  };

  test("every answer, errors too, says that nothing is kept, framed, run or guessed", async () => {
    const settings = { NODE_ENV: "production", RATE_LIMIT_PER_ADDRESS: "5" };
    await nextMinuteUnless(5);
    await inProcess(settings, async (production) => {
      const statuses: number[] = [];
      for (const path of ["/healthz", "/nothing", "/user/rewards", "/graphql", "/", "/", "/"]) {
        const { status, headers } = await production.ask(path);
        statuses.push(status);
        expect(Object.fromEntries(headers)).toMatchObject({
          "cache-control": "no-store",
          ...protecting,
        });
        expect(headers.get("x-powered-by")).toBeNull();
      }
      expect(statuses).toEqual([200, 404, 401, 401, 404, 404, 429]);
    });
  }, 15_000);

  test("so does an answer from memory, which its member's browser may keep; a 304 leaves that as it is", async () => {
    await inProcess({ NODE_ENV: "production" }, async (production) => {
      const ask = (headers: Record<string, string> = {}) =>
        production.ask("/user/rewards", { user: "ann", headers });
      const told: object[] = [];
      await waitUntil("it is answered from memory", async () => {
        const headers = Object.fromEntries((await ask()).headers);
        told.push(headers);
        return headers["x-cache"] === "hit";
      });
      for (const headers of told) {
        expect(headers).toMatchObject({ "cache-control": "private, no-cache", ...protecting });
      }
      const { headers } = await ask();
      const known = await ask({ "if-none-match": headers.get("etag")! });
      expect(known.status).toBe(304);
      expect(Object.keys(Object.fromEntries(known.headers))).toEqual([
        "cache-control",
        "connection",
        "date",
        "etag",
        "keep-alive",
        "vary",
        "x-cache",
      ]);
    });
  });
});

/** A connection that is spoken to byte by byte, and what came back on it. */
function open(url: string): { socket: Socket; heard: () => string; closed: Promise<void> } {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  let text = "";
  socket.on("data", (data) => (text += String(data)));
  socket.on("error", () => {});
  return {
    socket,
    heard: () => text,
    closed: new Promise((resolve) => socket.on("close", () => resolve())),
  };
}

describe("connections", () => {
  test("a slow head and a slow body are closed", async () => {
    const head = open(app.url);
    head.socket.write("GET /user/rewards HTTP/1.1\r\nhost: x\r\n");
    const drip = setInterval(() => head.socket.write("x-a: b\r\n"), 500);
    const body = open(app.url);
    body.socket.write(
      "POST /user/incentives HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
    );
    const dripBody = setInterval(() => body.socket.write(" "), 1000);
    await Promise.all([head.closed, body.closed]);
    clearInterval(drip);
    clearInterval(dripBody);
    expect(head.heard()).toMatch(/^HTTP\/1.1 408/);
    expect(body.heard()).toMatch(/^HTTP\/1.1 4(01|08)/);
  }, 30_000);

  test("what comes without end behind a GET is not waited for, nor kept", async () => {
    const token = await createTokens(jwtSecret).sign("ann", "1h");
    for (const path of ["/graphql?query=%7B__typename%7D", "/user/rewards"]) {
      const endless = open(app.url);
      endless.socket.write(
        `GET ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ntransfer-encoding: chunked\r\n\r\n4\r\nmore\r\n`,
      );
      await waitUntil("it is answered", async () => /^HTTP\/1.1 200/.test(endless.heard()), 5);
      endless.socket.destroy();
    }
  });

  test("clients that do not read are cut before they fill the memory, and others are answered meanwhile", async () => {
    await app.database.pool.query(
      `insert into app.user_incentives (user_id, incentive_id, data, evaluation_due)
       select 'wide', id, jsonb_build_object('text', (select string_agg(md5(n::text), '') from generate_series(1, 600000) as n)), false
       from app.incentives where key = 'birth_record'`,
    );
    await app.database.pool.query("select app.mark_stale(array['wide'])");
    const token = await createTokens(jwtSecret).sign("wide", "1h");
    const slow = Array.from({ length: 20 }, () => {
      const connection = open(app.url);
      connection.socket.pause();
      const request = `GET /user/incentives HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\n\r\n`;
      connection.socket.write(request.repeat(4));
      return connection;
    });
    let cut = 0;
    for (const { closed } of slow) void closed.then(() => (cut += 1));
    for (let i = 0; i < 20; i++) {
      expect((await app.ask("/user/rewards", { user: "ann" })).status).toBe(200);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    // Who does not read does not hear that they were cut.
    for (const { socket } of slow) socket.resume();
    await waitUntil("most of them find themselves cut", async () => cut >= 10);
    for (const { socket } of slow) socket.destroy();
  }, 60_000);

  test("what asks for another protocol where there is none is refused, closed, and may break off", async () => {
    const ask =
      "GET /elsewhere HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    // It reads nothing and closes nothing by itself.
    const kept = connect({ port: Number(new URL(app.url).port), allowHalfOpen: true });
    kept.on("error", () => {}).write(ask);
    const ended = new Promise((resolve) => kept.once("end", resolve));
    kept.resume();
    await ended;
    await waitUntil("the other side is closed too", async () => {
      kept.write("?");
      return kept.destroyed;
    });
    for (let i = 0; i < 100; i++) {
      const { socket, closed } = open(app.url);
      await new Promise((resolve) => socket.once("connect", resolve));
      socket.write(ask);
      setTimeout(() => socket.resetAndDestroy(), i % 3);
      await closed;
    }
    expect((await app.ask("/healthz")).status).toBe(200);
  });

  test("those who watch, however many, ask the database one after the other", async () => {
    const locked = await app.database.pool.connect();
    await locked.query("begin");
    await locked.query("lock table app.incentives in access exclusive mode");
    const watching = Array.from({ length: 50 }, () => app.ask("/readyz"));
    const waiting = async () => {
      const { rows } = await app.database.pool.query(
        `select distinct pid from pg_locks where not granted
        and relation = 'app.incentives'::regclass and database = (select oid from pg_database where datname = current_database())`,
      );
      return rows.length;
    };
    await waitUntil("one asks", async () => (await waiting()) > 0);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await waiting()).toBe(1);
    await locked.query("rollback");
    locked.release();
    const statuses = (await Promise.all(watching)).map(({ status }) => status);
    expect(new Set(statuses)).toEqual(new Set([200]));
  });

  test("too many of them are answered with a 503, those who watch are not", async () => {
    await inProcess({ API_CONNECTIONS: "5" }, async (limited) => {
      const held = Array.from({ length: 5 }, () => open(limited.url));
      await Promise.all(
        held.map(({ socket }) => new Promise((resolve) => socket.once("connect", resolve))),
      );
      const { status, headers } = await limited.ask("/user/rewards", { user: "ann" });
      expect([status, headers.get("retry-after"), headers.get("connection")]).toEqual([
        503,
        "2",
        "close",
      ]);
      expect((await limited.ask("/healthz")).status).toBe(200);
      for (const { socket } of held) socket.destroy();
      await waitUntil(
        "there is room again",
        async () => (await limited.ask("/user/rewards", { user: "ann" })).status === 200,
      );
    });
  });
});
