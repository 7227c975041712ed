/** What keeps one address from taking the live places of all, and from trying tokens out over WebSocket. */
import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { WebSocket } from "ws";
import { tokenOf } from "../live_clients.ts";
import { waitUntil } from "../test_database.ts";
import { startTestProcess } from "../test_process.ts";
import type { TestProcess } from "../test_process.ts";

let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess(undefined, {
    settings: { LIVE_CONNECTIONS: "20", TRUSTED_PROXIES: "1", RATE_LIMIT_FAILURES: "3" },
  });
});
afterAll(() => app.drop());

const here = "198.51.100.1";
const elsewhere = "198.51.100.2";

interface Refused {
  status: number;
  headers: Record<string, unknown>;
  body: { code: string; detail: string };
}

/** A WebSocket from this address that says nothing by itself; or how its upgrade was refused. */
function open(address: string): Promise<WebSocket | Refused> {
  const headers = { "x-forwarded-for": address };
  const url = `${app.url.replace("http", "ws")}/graphql`;
  const socket = new WebSocket(url, "graphql-transport-ws", { headers });
  return new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.once("open", () => resolve(socket));
    socket.once("unexpected-response", (_request, response) => {
      const { statusCode: status = 0, headers: answered } = response;
      let text = "";
      response.on("data", (part: Buffer) => (text += String(part)));
      response.on("end", () => resolve({ status, headers: answered, body: JSON.parse(text) }));
    });
  });
}

async function opened(address: string): Promise<WebSocket> {
  const socket = await open(address);
  if (socket instanceof WebSocket) return socket;
  throw new Error(`refused with ${socket.status}`);
}

function say(socket: WebSocket, authorization: string): void {
  socket.send(
    JSON.stringify({ type: "connection_init", payload: { Authorization: authorization } }),
  );
}

/** What a WebSocket of this address is closed with when it says so; 0 when it is welcome. */
async function answerTo(authorization: string, address: string): Promise<number> {
  const socket = await opened(address);
  const answer = new Promise<number>((resolve) => {
    socket.once("message", () => resolve(0));
    socket.once("close", resolve);
  });
  say(socket, authorization);
  const code = await answer;
  socket.terminate();
  return code;
}

describe("connections that do not say who they are", () => {
  test("are at most so many of one address, and others find a place meanwhile", async () => {
    const silent = await Promise.all(Array.from({ length: 10 }, () => opened(here)));
    const refused = (await open(here)) as Refused;
    expect(refused).toMatchObject({ status: 429, body: { code: "TOO_MANY_REQUESTS" } });
    expect(refused.headers).toMatchObject({ "retry-after": "3", connection: "close" });
    const stream = await app.ask("/user/incentives/events", {
      user: "anna",
      headers: { "x-forwarded-for": here },
    });
    expect(stream.status).toBe(429);
    expect(await answerTo(await tokenOf("anna"), elsewhere)).toBe(0);

    // Who is known does not count any more, nor does who has gone.
    say(silent[0]!, await tokenOf("bela"));
    silent[1]!.terminate();
    await waitUntil("there is room for two", async () => {
      const two = await Promise.all([open(here), open(here)]);
      for (const one of two) if (one instanceof WebSocket) one.terminate();
      return two.every((one) => one instanceof WebSocket);
    });
    expect(silent[0]!.readyState).toBe(WebSocket.OPEN);
    for (const socket of silent) socket.terminate();
  });

  test("of an event stream count while it is found out who they are, and not longer", async () => {
    for (let times = 0; times < 12; times++) {
      const { status } = await app.ask("/user/incentives/events", {
        user: "anna",
        headers: { "x-forwarded-for": here, "last-event-id": "17" },
      });
      expect(status).toBe(400);
    }
  });

  test("that break off in the middle of it leave no trace", async () => {
    for (let times = 0; times < 12; times++) {
      const { port } = new URL(app.url);
      const headers = { connection: "Upgrade", upgrade: "websocket", "x-forwarded-for": here };
      const asked = request({ port, path: "/graphql", headers });
      const answered = new Promise((resolve) => asked.on("response", resolve).on("error", resolve));
      asked.end();
      const { statusCode } = (await answered) as { statusCode?: number };
      expect(statusCode).toBe(400);
    }
  });
});

test("tokens that are tried out over WebSocket are stopped, over HTTP too, and a known member is not", async () => {
  const left = 60_000 - (Date.now() % 60_000);
  if (left < 5000) await new Promise((resolve) => setTimeout(resolve, left));
  const address = "198.51.100.3";
  const known = await tokenOf("cleo");
  const headers = { "x-forwarded-for": address };
  expect(await answerTo(known, address)).toBe(0);
  const codes: number[] = [];
  for (let times = 0; times < 5; times++) codes.push(await answerTo("Bearer a.b.c", address));
  expect(codes).toEqual([4401, 4401, 4401, 1013, 1013]);
  const { status } = await app.ask("/user/rewards", { user: "new here", headers });
  expect(status).toBe(429);
  expect(await answerTo(known, address)).toBe(0);
  expect(await answerTo(await tokenOf("dora"), elsewhere)).toBe(0);
});

test("why a connection is closed is cut between characters to what the frame has room for", async () => {
  const socket = await opened(elsewhere);
  const closed = new Promise<[number, string]>((resolve) =>
    socket.once("close", (code, reason) => resolve([code, reason.toString()])),
  );
  const subscription = {
    type: "subscribe",
    id: "ж".repeat(100),
    payload: { query: "subscription { incentiveCompleted { id } }" },
  };
  socket.once("message", () => {
    for (let twice = 0; twice < 2; twice++) socket.send(JSON.stringify(subscription));
  });
  say(socket, await tokenOf("emil"));
  const said = `Subscriber for ${"ж".repeat(54)}`;
  expect(await closed).toEqual([4409, said]);
  expect(Buffer.byteLength(said)).toBe(123);
});
