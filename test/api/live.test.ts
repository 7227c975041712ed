/** Completions told to those who stay connected, from outside: over WebSocket and as Server-Sent Events. */
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { WebSocket } from "ws";
import { LiveClients } from "../../src/api/live/clients.ts";
import { createTokens } from "../../src/api/tokens/tokens.ts";
import { openStream, subscribe, tokenOf } from "../live_clients.ts";
import { waitUntil } from "../test_database.ts";
import { jwtSecret, metricsToken, startTestProcess } from "../test_process.ts";
import type { TestProcess } from "../test_process.ts";

const birth = { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" };
const log = ["2021-09-15", "2021-09-14"].map((day) => ({
  date: `${day} 12:00:00`,
  data: [{ type: "mood", value: "happy" }],
}));

let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess();
});
afterAll(() => app.drop());

async function record(user: string, incentive: string, data: unknown): Promise<void> {
  const { status } = await app.ask("/user/incentives", { user, body: { incentive, data } });
  expect(status).toBe(201);
}

/** A WebSocket as it comes, without a client's manners; resolves to the code it is closed with. */
async function closeCode(
  path: string,
  protocol: string | undefined,
  say: (socket: WebSocket) => void = () => {},
): Promise<number> {
  const socket = new WebSocket(app.url.replace("http", "ws") + path, protocol);
  socket.on("error", () => {});
  socket.once("open", () => say(socket));
  return new Promise((resolve) => socket.once("close", resolve));
}

const hello = async (user: string): Promise<string> =>
  JSON.stringify({ type: "connection_init", payload: { Authorization: await tokenOf(user) } });

describe("a member who stays connected", () => {
  test("is told over WebSocket of each of their own completions, once, and of nobody else's", async () => {
    const anna = await subscribe(app.url, await tokenOf("anna"));
    const otherDevice = await subscribe(app.url, await tokenOf("anna"));
    const bela = await subscribe(app.url, await tokenOf("bela"));
    await record("anna", "birth_record", birth);
    await waitUntil("the first is told", async () => anna.told.length === 1);
    await record("bela", "birth_record", birth);
    await record("anna", "health_data_log", log);
    await waitUntil("all are told", async () => anna.told.length + bela.told.length === 3);
    const { body } = await app.ask("/user/incentives", { user: "anna" });
    expect(anna.told.map(({ userIncentive }) => userIncentive)).toEqual(
      body.incentives.map(({ id, incentive }: { id: string; incentive: { key: string } }) => ({
        id,
        status: "completed",
        incentive: { key: incentive.key },
      })),
    );
    await waitUntil("the other device knows", async () => otherDevice.told.length === 2);
    expect(otherDevice.told).toEqual(anna.told);
    expect([anna.errors, bela.errors]).toEqual([[], []]);
    for (const client of [anna, otherDevice, bela]) client.stop();
  });

  test("is told by events what GET /user/incentive/{id} answers, and after a pause exactly what was missed", async () => {
    const authorization = await tokenOf("cleo");
    const first = await openStream(app.url, authorization);
    const fromTheStart = first.lastEventId;
    await record("cleo", "birth_record", birth);
    await waitUntil("it is told", async () => first.events.length === 1);
    const [event] = first.events;
    const id = event!.data.user_incentive.id as string;
    expect(event!.data).toEqual({
      id: expect.stringMatching(/^\d+$/),
      occurred_at: expect.any(String),
      user_incentive: (await app.ask(`/user/incentive/${id}`, { user: "cleo" })).body,
    });
    first.stop();
    await record("cleo", "health_data_log", log);
    await waitUntil("it is judged", async () => {
      const { body } = await app.ask("/user/incentives", { user: "cleo" });
      return body.incentives[1]?.status === "completed";
    });
    const back = await openStream(app.url, authorization, first.lastEventId);
    const another = await openStream(app.url, authorization, fromTheStart);
    await waitUntil("it is told", async () => back.events.length + another.events.length === 3);
    expect(another.events.map(({ data }) => data.id)).toEqual([
      event!.data.id,
      back.events[0]!.data.id,
    ]);
    back.stop();
    another.stop();
  });

  test("is told no longer than their token is valid", async () => {
    const socket = await subscribe(app.url, await tokenOf("dirk", "2s"));
    const stream = await openStream(app.url, await tokenOf("dirk", "2s"));
    await waitUntil("both end", async () => socket.closed.length > 0 && stream.hasEnded);
    expect(socket.closed).toEqual([4403]);
  });

  test("has ten connections at the most, of both kinds", async () => {
    const authorization = await tokenOf("elsa");
    const sockets = await Promise.all(
      Array.from({ length: 9 }, () => subscribe(app.url, authorization)),
    );
    const stream = await openStream(app.url, authorization);
    const { status, body } = await app.ask("/user/incentives/events", { user: "elsa" });
    expect({ status, title: body.title }).toEqual({ status: 429, title: "Too many requests" });
    const tooMany = await subscribe(app.url, authorization);
    expect(tooMany.closed).toEqual([1013]);
    sockets.pop()!.stop();
    await waitUntil("there is room", async () => {
      const client = await subscribe(app.url, authorization);
      client.stop();
      return client.closed.length === 0;
    });
    for (const client of [...sockets, stream]) client.stop();
  });

  test("is counted in the metrics", async () => {
    const text = async (): Promise<string> => {
      const headers = { authorization: `Bearer ${metricsToken}` };
      return (await fetch(`${app.url}/metrics`, { headers })).text();
    };
    const client = await subscribe(app.url, await tokenOf("fred"));
    expect(await text()).toMatch(/incentives_live_clients\{transport="websocket"\} [1-9]/);
    client.stop();
    await waitUntil("all are gone", async () =>
      /incentives_live_clients\{transport="websocket"\} 0/.test(await text()),
    );
    expect(await text()).toMatch(/incentives_live_events_total\{transport="events"\} [1-9]/);
  });
});

describe("who may not", () => {
  test("nobody without a token, and no operator, opens a stream", async () => {
    const path = "/user/incentives/events";
    for (const [options, status] of [
      [{}, 401],
      [{ headers: { authorization: "Bearer a.b.c" } }, 401],
      [{ user: "olga", role: "operator" }, 403],
    ] as const) {
      const answer = await app.ask(path, options);
      expect(answer.status).toBe(status);
      expect(answer.headers.get("content-type")).toMatch("application/problem+json");
    }
    const { status, body } = await app.ask(path, {
      user: "anna",
      headers: { "last-event-id": "17" },
    });
    expect({ status, detail: body.detail }).toEqual({
      status: 400,
      detail: "Last-Event-ID: send the id of an event as it came.",
    });
  });

  test("nobody without a token, and no operator, subscribes", async () => {
    for (const [authorization, code] of [
      [undefined, 4401],
      ["Bearer a.b.c", 4401],
      [await tokenOf("olga", "1h", "operator"), 4403],
    ] as const) {
      const client = await subscribe(app.url, authorization);
      expect(client.closed).toEqual([code]);
    }
  });

  test("a token in the request that opens the WebSocket is as good", async () => {
    const socket = new WebSocket(
      `${app.url.replace("http", "ws")}/graphql`,
      "graphql-transport-ws",
      {
        headers: { authorization: await tokenOf("gina") },
      },
    );
    await once(socket, "open");
    socket.send(JSON.stringify({ type: "connection_init" }));
    const [answer] = (await once(socket, "message")) as [Buffer];
    expect(JSON.parse(answer.toString())).toEqual({ type: "connection_ack" });
    socket.close();
  });

  test("when a process holds as many connections as it may, the next is asked to come again", async () => {
    const clients = new LiveClients(createTokens(jwtSecret), 2);
    const enter = async (user: string) => clients.enter("websocket", await tokenOf(user), () => {});
    const { leave } = await enter("a");
    await enter("b");
    await expect(enter("c")).rejects.toMatchObject({ status: 503 });
    leave();
    leave();
    await enter("c");
    await expect(enter("d")).rejects.toMatchObject({ status: 503 });
    clients.stop();
  });
});

describe("over WebSocket", () => {
  test.each([
    ["a query", "{ userIncentives { nodes { id } } }", "Only subscriptions go over WebSocket"],
    [
      "what HTTP would refuse as too much",
      `subscription { incentiveCompleted { ${Array.from({ length: 200 }, (_, at) => `a${at}: id`).join(" ")} } }`,
      "alias",
    ],
    ["an unknown field", "subscription { nobody { id } }", "Cannot query field"],
    [
      "two subscriptions in one",
      "subscription { a: incentiveCompleted { id } b: incentiveCompleted { id } }",
      "must select only one",
    ],
  ])("%s is refused, and the connection stays", async (_what, query, message) => {
    const client = await subscribe(app.url, await tokenOf("hugo"), query);
    await waitUntil("it is refused", async () => client.errors.length > 0);
    expect(JSON.stringify(client.errors)).toMatch(message);
    expect(client.closed).toEqual([]);
    client.stop();
  });

  test("a subscription by POST is told where to go", async () => {
    const { body } = await app.graphql("hugo", "subscription { incentiveCompleted { id } }");
    expect(body.errors[0].message).toMatch("Subscriptions go over WebSocket");
  });

  test.each([
    ["at another path", "/elsewhere", "graphql-transport-ws", 1006],
    ["of another protocol", "/graphql", undefined, 4406],
    ["that says nothing", "/graphql", "graphql-transport-ws", 4408],
  ])("a connection %s is closed", async (_what, path, protocol, code) => {
    expect(await closeCode(path, protocol)).toBe(code);
  });

  test.each([
    ["not JSON", async () => "nonsense", 4400],
    [
      "a subscription before it said who it is",
      async () => '{"type":"subscribe","id":"1","payload":{"query":"{a}"}}',
      4401,
    ],
    ["more than a request may be", async () => "x".repeat(100_001), 1009],
  ])("a client that sends %s is cut off", async (_what, message, code) => {
    const text = await message();
    expect(await closeCode("/graphql", "graphql-transport-ws", (s) => s.send(text))).toBe(code);
  });

  test("a client that never falls silent is cut off", async () => {
    const first = await hello("ida");
    const code = await closeCode("/graphql", "graphql-transport-ws", (socket) => {
      socket.send(first);
      for (let times = 0; times < 400; times++) socket.send('{"type":"ping"}');
    });
    expect(code).toBe(1008);
  });

  test("a client that asks and does not read is cut off, before much is kept for it", async () => {
    const first = await hello("jule");
    const ping = JSON.stringify({ type: "ping", payload: { filler: "x".repeat(90_000) } });
    const code = await closeCode("/graphql", "graphql-transport-ws", (socket) => {
      socket.send(first);
      socket.pause();
      for (let times = 0; times < 200; times++) socket.send(ping);
      setTimeout(() => socket.resume(), 4000);
    });
    expect([1006, 1013]).toContain(code);
    const headers = { authorization: `Bearer ${metricsToken}` };
    const text = await (await fetch(`${app.url}/metrics`, { headers })).text();
    expect(text).toMatch(/incentives_live_clients_dropped_total\{transport="websocket"\} 1/);
  });

  test("a connection has ten subscriptions at the most, and a completed one makes room", async () => {
    const socket = new WebSocket(
      `${app.url.replace("http", "ws")}/graphql`,
      "graphql-transport-ws",
    );
    const answers: { type: string; id?: string }[] = [];
    socket.on("message", (data: Buffer) => answers.push(JSON.parse(data.toString())));
    await once(socket, "open");
    socket.send(await hello("kurt"));
    await waitUntil("it is known", async () => answers.length === 1);
    const ask = (id: string): void =>
      socket.send(
        JSON.stringify({
          type: "subscribe",
          id,
          payload: { query: "subscription { incentiveCompleted { id } }" },
        }),
      );
    for (let id = 0; id <= 10; id++) ask(`s${id}`);
    await waitUntil("the last is refused", async () => answers.length === 2);
    expect(answers[1]).toMatchObject({ type: "error", id: "s10" });
    socket.send(JSON.stringify({ type: "complete", id: "s0" }));
    ask("again");
    await record("kurt", "birth_record", birth);
    await waitUntil("ten are told", async () => answers.length === 12);
    expect(new Set(answers.slice(2).map(({ id }) => id))).toEqual(
      new Set(["again", ...Array.from({ length: 9 }, (_, at) => `s${at + 1}`)]),
    );
    socket.close();
  });
});

test("a process that stops says so to everybody who is connected", async () => {
  const socket = await subscribe(app.url, await tokenOf("lutz"));
  const stream = await openStream(app.url, await tokenOf("lutz"));
  await app.stop();
  await waitUntil("both know", async () => socket.closed.length > 0 && stream.hasEnded);
  expect(socket.closed).toEqual([1001]);
});
