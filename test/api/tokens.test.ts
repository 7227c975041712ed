/** Who a request is made by: what a token may say, and what is answered to those that may not be believed. */
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { SignJWT } from "jose";
import type { JWTPayload } from "jose";
import { Client } from "pg";
import { WebSocket } from "ws";
import { createTokens } from "../../src/api/tokens/tokens.ts";
import { startTestProcess } from "../test_process.ts";
import type { TestProcess } from "../test_process.ts";
import { waitUntil } from "../test_database.ts";

const secret = "a secret for tests, of more than 32 characters";
const key = new TextEncoder().encode(secret);
const inAnHour = () => Math.floor(Date.now() / 1000) + 3600;

let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess();
});
afterAll(() => app.drop());

async function bearer(claims: JWTPayload): Promise<string> {
  const token = await new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(key);
  return `Bearer ${token}`;
}

/** What REST and GraphQL answer to the same header; they must agree. */
async function statusOf(authorization: string): Promise<number> {
  const headers = { authorization };
  const rest = await app.ask("/user/incentives", { headers });
  const graphql = await app.ask("/graphql", { headers, body: { query: "{ __typename }" } });
  expect(graphql.status).toBe(rest.status);
  return rest.status;
}

describe("a token signed with the secret", () => {
  test("names a member by `sub` and says how long", async () => {
    const exp = inAnHour();
    expect(await createTokens(secret).verify(await bearer({ sub: "alice", exp }))).toEqual({
      userId: "alice",
      role: "member",
      expiresAt: exp,
      actsForMembers: false,
    });
  });

  test.each<[string, JWTPayload, string]>([
    ["no sub", { exp: inAnHour() }, "`sub` is missing"],
    ["an empty sub", { sub: "", exp: inAnHour() }, "1 to 255 characters"],
    ["a sub of 256 characters", { sub: "x".repeat(256), exp: inAnHour() }, "1 to 255 characters"],
    ["a sub with a nul", { sub: "a\0b", exp: inAnHour() }, "1 to 255 characters"],
    ["a sub with a lone surrogate", { sub: "a\ud800", exp: inAnHour() }, "1 to 255 characters"],
    ["a role off the list", { sub: "a", exp: inAnHour(), role: "postgres" }, '"operator"'],
    ["several roles", { sub: "a", exp: inAnHour(), role: ["operator"] }, '"operator"'],
    ["no exp", { sub: "a" }, "`exp` is missing"],
    ["an exp that has passed", { sub: "a", exp: inAnHour() - 7200 }, "has expired"],
    ["an nbf to come", { sub: "a", exp: inAnHour(), nbf: inAnHour() - 1800 }, "`nbf`"],
  ])("with %s is refused", async (_what, claims, why) => {
    const { status, headers, body } = await app.ask("/user/incentives", {
      headers: { authorization: await bearer(claims) },
    });
    expect(status).toBe(401);
    expect(headers.get("www-authenticate")).toBe("Bearer");
    expect(body.detail).toContain(why);
  });

  test("is recalled at once after it was verified, until it expires", async () => {
    const tokens = createTokens(secret);
    const soon = Math.floor(Date.now() / 1000) + 2;
    const authorization = await bearer({ sub: "alice", exp: soon });
    expect(tokens.recall(authorization)).toBeUndefined();
    const caller = await tokens.verify(authorization);
    expect(tokens.recall(authorization)).toEqual(caller);
    await new Promise((resolve) => setTimeout(resolve, soon * 1000 - Date.now() + 10));
    expect(tokens.recall(authorization)).toBeUndefined();
    await expect(tokens.verify(authorization)).rejects.toMatchObject({ status: 401 });
  });

  test("that was refused is not recalled", async () => {
    const tokens = createTokens(secret);
    const authorization = await bearer({ sub: "a", exp: inAnHour(), role: "root" });
    await expect(tokens.verify(authorization)).rejects.toMatchObject({ status: 401 });
    expect(tokens.recall(authorization)).toBeUndefined();
  });

  test("may say that it records for members", async () => {
    const authorization = await bearer({ sub: "p", exp: inAnHour(), scope: "x record:members" });
    const verified = await createTokens(secret).verify(authorization);
    expect(verified.actsForMembers).toBe(true);
  });
});

describe("an operator", () => {
  test("is told that a member's routes and fields are not for them", async () => {
    const token = await createTokens(secret).sign("olga", "1h", { role: "operator" });
    const headers = { authorization: `Bearer ${token}` };
    const rest = await app.ask("/user/incentives", { headers });
    expect(rest).toMatchObject({ status: 403, body: { title: "Forbidden" } });
    const graphql = await app.ask("/graphql", {
      headers,
      body: { query: "{ userIncentives { nodes { data } } incentives { nodes { key } } }" },
    });
    expect(graphql.body.errors[0].extensions.code).toBe("FORBIDDEN");
    expect(graphql.body.data).toMatchObject({
      userIncentives: null,
      incentives: { nodes: [{ key: "birth_record" }, { key: "health_data_log" }] },
    });
  });
});

test("a claim called as a setting becomes none", async () => {
  const claims = { sub: "mallory", exp: inAnHour(), search_path: "app", "incentives.user_id": "x" };
  expect(await statusOf(await bearer(claims))).toBe(200);
  await app.ask("/user/incentives", {
    headers: { authorization: await bearer(claims) },
    body: { incentive: "birth_record", data: { birth_date: "2021-01-01", date: "2021-01-02" } },
  });
  const { rows } = await app.database.pool.query("select user_id from app.user_incentives");
  expect(rows).toEqual([{ user_id: "mallory" }]);
});

describe("revoking", () => {
  const authorize = async (user: string, issuedAt: number | undefined) =>
    bearer({ sub: user, exp: inAnHour(), ...(issuedAt !== undefined && { iat: issuedAt }) });
  const seconds = () => Date.now() / 1000;

  async function revoke(user: string): Promise<void> {
    const { rows } = await app.database.pool.query("select app.revoke_tokens($1), now()", [user]);
    expect(rows).toHaveLength(1);
    const before = await authorize(user, seconds() - 60);
    await waitUntil("the API has heard of it", async () => {
      const { status } = await app.ask("/user/incentives", { headers: { authorization: before } });
      return status === 401;
    });
  }

  test("refuses every token of that member from before, and none from after or of others", async () => {
    const before = await authorize("lena", seconds() - 1);
    const others = await authorize("lenas sister", seconds() - 1);
    expect(await statusOf(before)).toBe(200);
    await revoke("lena");
    const { body } = await app.ask("/user/incentives", { headers: { authorization: before } });
    expect(body.detail).toBe("The token has been revoked.");
    expect(await statusOf(others)).toBe(200);
    expect(await statusOf(await authorize("lena", seconds() + 5))).toBe(200);
  });

  test("refuses those that were issued before it by a clock that is ahead, as far as one may be", async () => {
    const ahead = await authorize("rita", seconds() + 4.5);
    expect(await statusOf(ahead)).toBe(200);
    await revoke("rita");
    expect(await statusOf(ahead)).toBe(401);
    const farAhead = await authorize("sven", seconds() + 60);
    const { body } = await app.ask("/user/incentives", { headers: { authorization: farAhead } });
    expect(body.detail).toBe("The token's `iat` lies in the future.");
  });

  test("asks that member's tokens for `iat` from then on", async () => {
    const undated = await authorize("ida", undefined);
    expect(await statusOf(undated)).toBe(200);
    await revoke("ida");
    const { body } = await app.ask("/user/incentives", { headers: { authorization: undated } });
    expect(body.detail).toContain("`iat`");
  });

  test("is heard of by an API whose listening connection was lost meanwhile", async () => {
    const before = await authorize("mona", seconds() - 1);
    expect(await statusOf(before)).toBe(200);
    const itself = new Client({ connectionString: app.database.authenticatorUrl });
    await itself.connect();
    // At once, so that the notification finds nobody.
    const [{ rows }] = await Promise.all([
      itself.query(`
        select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'incentives live' and datname = current_database()`),
      revoke("mona"),
    ]);
    expect(rows).toHaveLength(1);
    await itself.end();
    expect(await statusOf(before)).toBe(401);
  });

  test("is nothing that a member or an operator can read or do", async () => {
    for (const role of ["incentives_member", "incentives_operator"]) {
      const client = new Client({ connectionString: app.database.authenticatorUrl });
      await client.connect();
      await client.query(`set role ${role}`);
      for (const statement of [
        "select * from api.read_token_revocations()",
        "select app.revoke_tokens('x')",
        "select * from app.token_revocations",
      ]) {
        await expect(client.query(statement)).rejects.toMatchObject({ code: "42501" });
      }
      await client.end();
    }
  });
});

describe("a live connection", () => {
  function connect(authorization: string | string[]): WebSocket {
    const socket = new WebSocket(
      app.url.replace("http", "ws") + "/graphql",
      "graphql-transport-ws",
      {
        headers: { authorization: authorization as string },
      },
    );
    socket.once("open", () => socket.send('{"type":"connection_init"}'));
    return socket;
  }

  test("with two Authorization headers is refused", async () => {
    const each = await Promise.all(
      ["nora", "mallory"].map((sub) => bearer({ sub, exp: inAnHour() })),
    );
    const [code] = (await once(connect(each), "close")) as [number];
    expect(code).toBe(4401);
  });

  test("ends when its token is revoked", async () => {
    const iat = Math.floor(Date.now() / 1000) - 1;
    const socket = connect(await bearer({ sub: "nora", exp: inAnHour(), iat }));
    const [message] = (await once(socket, "message")) as [Buffer];
    expect(JSON.parse(message.toString())).toEqual({ type: "connection_ack" });
    const closed = once(socket, "close");
    await app.database.pool.query("select app.revoke_tokens('nora')");
    const [code] = (await closed) as [number];
    expect(code).toBe(4403);
  });
});
