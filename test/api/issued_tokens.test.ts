/** Tokens of an issuer that publishes its keys: seen from outside where it can be, and by the key set where time matters. */
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { SignJWT } from "jose";
import type { JWTPayload } from "jose";
import { KeySet } from "../../src/api/tokens/key_set.ts";
import type { KeySetOptions } from "../../src/api/tokens/key_set.ts";
import { createIssuedTokens } from "../../src/api/tokens/tokens.ts";
import type { Tokens } from "../../src/api/tokens/tokens.ts";
import { createLogger } from "../../src/logger.ts";
import { startTestProcess } from "../test_process.ts";
import type { TestProcess } from "../test_process.ts";
import { aud, iss, startIssuer } from "./issuer.ts";
import type { Issuer } from "./issuer.ts";

const algorithms = ["RS256", "ES256", "EdDSA"];
const now = () => Math.floor(Date.now() / 1000);
const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Renewed as soon as they are asked for, so that a test need not wait. */
function tokensOf(issuer: Issuer, options: Partial<KeySetOptions> = {}): Tokens {
  const keys = new KeySet({
    url: issuer.url,
    algorithms,
    logger: createLogger("silent"),
    pauseMs: 0,
    ...options,
  });
  return createIssuedTokens(keys, { issuer: iss, audience: aud });
}

describe("over HTTP", () => {
  let issuer: Issuer;
  let app: TestProcess;
  beforeAll(async () => {
    issuer = await startIssuer();
    await issuer.addKey("rsa");
    await issuer.addKey("ec", "ES256");
    await issuer.addKey("ed", "EdDSA");
    await issuer.addKey("pss", "PS256");
    app = await startTestProcess(undefined, {
      settings: {
        JWT_SECRET: "",
        JWKS_URL: issuer.url,
        JWT_ISSUER: iss,
        JWT_AUDIENCE: aud,
        JWT_ROLE_CLAIM: "https://example.com/role",
      },
    });
  });
  afterAll(async () => {
    await app.drop();
    await issuer.leave();
  });

  /** REST and GraphQL must agree. */
  async function answersTo(authorization: string): Promise<{ status: number; detail?: string }> {
    const headers = authorization === "" ? {} : { authorization };
    const rest = await app.ask("/user/incentives", { headers });
    const graphql = await app.ask("/graphql", { headers, body: { query: "{ __typename }" } });
    expect(graphql.status).toBe(rest.status);
    return { status: rest.status, detail: rest.body.detail };
  }

  test.each(["rsa", "ec", "ed"])("a token signed with the key %s is accepted", async (kid) => {
    expect(await answersTo(await issuer.sign(kid))).toMatchObject({ status: 200 });
  });

  const signed =
    (claims: JWTPayload, header?: object, kid = "rsa") =>
    () =>
      issuer.sign(kid, claims, header);
  const refused: [string, () => Promise<string>, RegExp][] = [
    ["no token", async () => "", /Send the header/],
    [
      "alg none without a signature",
      async () => `Bearer ${encode({ alg: "none" })}.${encode({ sub: "a", exp: now() + 60 })}.`,
      /Send the header/,
    ],
    [
      "alg none with one",
      async () => `Bearer ${encode({ alg: "none" })}.${encode({ sub: "a", exp: now() + 60 })}.AAAA`,
      /signed with RS256 or ES256 or EdDSA/,
    ],
    ["an algorithm that is not configured", signed({}, {}, "pss"), /signed with RS256 or/],
    ["a kid that is a path", signed({}, { kid: "../../../../dev/null" }), /does not have/],
    ["a kid that is SQL", signed({}, { kid: "x' union select 'secret" }), /does not have/],
    ["another key's kid", signed({}, { kid: "ec" }), /does not have/],
    ["an exp that has passed", signed({ exp: now() - 60 }), /has expired/],
    ["an nbf to come", signed({ nbf: now() + 60 }), /`nbf`/],
    ["an exp as text", signed({ exp: String(now() + 60) as never }), /not valid|`exp`/],
    ["an iat as text", signed({ iat: "yesterday" as never }), /not valid|`iat`/],
    ["a wrong iss", signed({ iss: "https://evil.example" }), /`iss`/],
    ["no iss", signed({ iss: undefined as never }), /`iss`/],
    ["a wrong aud", signed({ aud: "somebody else" }), /`aud`/],
    ["an array aud without ours", signed({ aud: ["a", "b"] }), /`aud`/],
    ["no aud", signed({ aud: undefined as never }), /`aud`/],
    ["a role off the list", signed({ "https://example.com/role": "postgres" }), /"operator"/],
    ["the role null", signed({ "https://example.com/role": null }), /"operator"/],
  ];
  test.each(refused)("%s is refused", async (_what, make, why) => {
    const { status, detail } = await answersTo(await make());
    expect(status).toBe(401);
    expect(detail).toMatch(why);
  });

  test("HS256 signed with the public RSA key is refused", async () => {
    const key = new TextEncoder().encode(await issuer.publicKey("rsa"));
    const token = await new SignJWT({ sub: "eve", iss, aud, exp: now() + 60 })
      .setProtectedHeader({ alg: "HS256", kid: "rsa" })
      .sign(key);
    const { status, detail } = await answersTo(`Bearer ${token}`);
    expect(status).toBe(401);
    expect(detail).toMatch(/signed with RS256 or/);
  });

  test.each<[string, JWTPayload]>([
    ["an array aud that holds ours", { aud: ["a", aud] }],
    ["a claim called role, where another is configured", { role: "operator" }],
    ["claims called as settings", { search_path: "app", "incentives.operator_id": "x" }],
  ])("%s is accepted, as a member", async (_what, claims) => {
    expect(await answersTo(await issuer.sign("rsa", claims))).toMatchObject({ status: 200 });
  });

  test("the configured claim asks for an operator", async () => {
    const authorization = await issuer.sign("rsa", { "https://example.com/role": "operator" });
    expect(await app.ask("/user/incentives", { headers: { authorization } })).toMatchObject({
      status: 403,
    });
  });

  test("two Authorization headers are refused, whichever comes first", async () => {
    const good = await issuer.sign("rsa");
    const other = await issuer.sign("rsa", { sub: "mallory" });
    for (const path of ["/user/incentives", "/graphql", "/healthz"]) {
      const { status, body } = await sendTwice(`${app.url}${path}`, [good, other]);
      expect(status).toBe(401);
      expect(body).toContain("Send one header `Authorization`");
    }
  });

  test("no key is asked for that a token names by a URL", async () => {
    let asked = 0;
    const elsewhere = createServer((_request, response) => {
      asked++;
      response.end("{}");
    });
    await new Promise<void>((resolve) => elsewhere.listen(0, "127.0.0.1", resolve));
    const jku = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/`;
    const authorization = await issuer.sign("rsa", {}, { jku, x5u: jku, kid: jku });
    expect(await answersTo(authorization)).toMatchObject({ status: 401 });
    expect(asked).toBe(0);
    await new Promise((resolve) => elsewhere.close(resolve));
  });

  // The last, because it takes the issuer away.
  test("while the issuer is away its tokens go on, and a key nobody knows is a 503", async () => {
    await issuer.leave();
    expect(await answersTo(await issuer.sign("rsa", { sub: "bob" }))).toMatchObject({
      status: 200,
    });
    const unknown = await issuer.sign("rsa", {}, { kid: "new" });
    // The issuer was asked a moment ago, for the keys above that are not there.
    const deadline = Date.now() + 15_000;
    let answer = await app.ask("/user/incentives", { headers: { authorization: unknown } });
    while (answer.status === 401 && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      answer = await app.ask("/user/incentives", { headers: { authorization: unknown } });
    }
    expect(answer).toMatchObject({ status: 503, body: { code: "UNAVAILABLE" } });
    expect(answer.headers.get("retry-after")).toBe("2");
    expect((await app.ask("/readyz")).body.tokens).toBe(true);
  });
});

describe("the keys", () => {
  test("that come later are found at once, and those that left are not accepted any more", async () => {
    const issuer = await startIssuer();
    await issuer.addKey("old");
    const tokens = tokensOf(issuer);
    const old = await issuer.sign("old");
    await tokens.verify(old);
    await tokens.verify(old);
    expect(tokens.recall(old)).toMatchObject({ userId: "alice" });

    await issuer.addKey("new");
    issuer.removeKey("old");
    await tokens.verify(await issuer.sign("new"));
    expect(tokens.recall(old)).toBeUndefined();
    await expect(tokens.verify(old)).rejects.toMatchObject({ status: 401 });
    await issuer.leave();
  });

  test("are renewed in the background, so that one that left is missed without a new one", async () => {
    const issuer = await startIssuer();
    await issuer.addKey("a");
    await issuer.addKey("b");
    const tokens = tokensOf(issuer, { renewAfterMs: 50 });
    const token = await issuer.sign("a");
    await tokens.verify(token);
    await tokens.verify(token);
    expect(tokens.recall(token)).toBeDefined();
    issuer.removeKey("a");
    const deadline = Date.now() + 5000;
    while (tokens.recall(token) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await expect(tokens.verify(token)).rejects.toMatchObject({ status: 401 });
    await issuer.leave();
  });

  test("are asked for once, however many tokens are made up", async () => {
    const issuer = await startIssuer();
    await issuer.addKey("a");
    const tokens = tokensOf(issuer, { pauseMs: 60_000 });
    await tokens.verify(await issuer.sign("a"));
    for (let i = 0; i < 100; i++) {
      const madeUp = await issuer.sign("a", {}, { kid: `key ${i}` });
      await expect(tokens.verify(madeUp)).rejects.toMatchObject({ status: 401 });
    }
    expect(issuer.asked()).toBe(1);
    await issuer.leave();
  });

  test("are not there when the issuer was never reached: 503 until it is, without asking each time", async () => {
    const issuer = await startIssuer();
    await issuer.addKey("a");
    const token = await issuer.sign("a");
    await issuer.leave();
    const tokens = tokensOf(issuer, { pauseMs: 300 });
    for (let i = 0; i < 3; i++) {
      await expect(tokens.verify(token)).rejects.toMatchObject({ status: 503 });
    }
    await issuer.comeBack();
    await new Promise((resolve) => setTimeout(resolve, 350));
    await expect(tokens.verify(token)).resolves.toMatchObject({ userId: "alice" });
    await issuer.leave();
  });

  test("are not relied on for ever without the issuer", async () => {
    const issuer = await startIssuer();
    await issuer.addKey("a");
    const tokens = tokensOf(issuer, { trustForMs: 200 });
    const token = await issuer.sign("a");
    await tokens.verify(token);
    await issuer.leave();
    await expect(tokens.verify(token)).resolves.toMatchObject({ userId: "alice" });
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect(tokens.recall(token)).toBeUndefined();
    await expect(tokens.verify(token)).rejects.toMatchObject({ status: 503 });
  });
});

/** fetch would join them into one. */
function sendTwice(
  url: string,
  authorizations: string[],
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = authorizations.flatMap((value) => ["Authorization", value]);
    const { host } = new URL(url);
    request(url, { headers: ["Host", host, ...headers] }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => (body += part));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    })
      .on("error", reject)
      .end();
  });
}
