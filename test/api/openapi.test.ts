/** The OpenAPI document: its linter has nothing to say, and each answer in it was provoked over HTTP and fits what it says. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Ajv2020 } from "ajv/dist/2020.js";
import { createTokens } from "../../src/api/tokens/tokens.ts";
import type { OpenapiDocument } from "../../src/api/rest/openapi.ts";
import { startCommitCutter } from "../faults/commit_cutter.ts";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import { jwtSecret, metricsToken, startTestProcess } from "../test_process.ts";
import type { Answer, AskOptions, TestProcess } from "../test_process.ts";

/** One that is well, one whose database is broken, and one whose database is away. */
const processes: TestProcess[] = [];
let well: TestProcess;
let broken: TestProcess;
let away: TestProcess;
let scarce: TestProcess;
let document: OpenapiDocument;

beforeAll(async () => {
  well = await startTestProcess();
  broken = await startTestProcess();
  await broken.database.pool.query("alter view api.incentives rename to elsewhere");
  const database = await createTestDatabase();
  const proxy = await startCommitCutter(database.authenticatorUrl);
  away = await startTestProcess({
    ...database,
    authenticatorUrl: proxy.through(database.authenticatorUrl),
  });
  await proxy.stop();
  scarce = await startTestProcess(undefined, { settings: { RATE_LIMIT_PER_ADDRESS: "1" } });
  processes.push(well, broken, away, scarce);
  document = (await well.ask("/openapi.json")).body as OpenapiDocument;
  for (const [incentive, data] of [
    ["birth_record", birth],
    ["health_data_log", [entry, { ...entry, date: "2021-09-15 17:15" }]],
  ]) {
    await well.ask("/user/incentives", { user, body: { incentive, data } });
  }
  await waitUntil("both are rewarded", async () => {
    const { body } = await well.ask("/user/rewards", { user });
    return body.rewards.length === 2;
  });
}, 60_000);
afterAll(() => Promise.all(processes.map((process) => process.drop())));

const user = "olga";
const birth = { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" };
const entry = { date: "2021-09-14 17:15:00", data: [{ type: "mood", value: "happy" }] };
const body = { incentive: "birth_record", data: birth };
const batch = { actions: [body, { ...body, data: 1 }] };
const keyed = { user, body, headers: { "idempotency-key": "openapi" } };
const textBody = { user, body: "a=b", headers: { "content-type": "text/plain" } };
const operator = { user: "otto", role: "operator" as const };

async function eraseThenRetry(): Promise<Answer> {
  // One entry wins nothing yet; what is rewarded stays.
  const log = { incentive: "health_data_log", data: entry };
  const options = { ...keyed, user: "erased", body: log };
  await well.ask("/user/incentives", options);
  await well.database.pool.query("delete from app.user_incentives where user_id = 'erased'");
  return well.ask("/user/incentives", options);
}

async function readTheFirst(): Promise<Answer> {
  const { body } = await well.ask("/user/incentives", { user });
  return well.ask(`/user/incentive/${body.incentives[0].id}`, { user });
}

/** As far as the first bytes of a stream, and then it is closed. */
async function follow(): Promise<Answer> {
  const { stream, close } = await openStream();
  const { value } = await stream.body!.getReader().read();
  close();
  return { status: stream.status, headers: stream.headers, body: new TextDecoder().decode(value) };
}

async function followTooOften(): Promise<Answer> {
  const streams = await Promise.all(Array.from({ length: 10 }, openStream));
  const answer = await well.ask("/user/incentives/events", { user: "follower" });
  for (const { close } of streams) close();
  return answer;
}

async function openStream(): Promise<{ stream: Response; close: () => void }> {
  const controller = new AbortController();
  const authorization = `Bearer ${await createTokens(jwtSecret).sign("follower", "1h")}`;
  const stream = await fetch(`${well.url}/user/incentives/events`, {
    headers: { authorization },
    signal: controller.signal,
  });
  return { stream, close: () => controller.abort() };
}

const from =
  (which: () => TestProcess, path: string, options: AskOptions = {}) =>
  (): Promise<Answer> =>
    which().ask(path, options);
const ask = (path: string, options: AskOptions = {}) => from(() => well, path, options);
const askBroken = (path: string, options: AskOptions) => from(() => broken, path, options);
const askAway = (path: string, options: AskOptions) => from(() => away, path, options);

const askAgain = (path: string) => async (): Promise<Answer> => {
  const { headers } = await well.ask(path, { user });
  return well.ask(path, { user, headers: { "if-none-match": headers.get("etag")! } });
};
/** Until it is too often: the count begins anew with each minute. */
const askTooOften = (path: string, options: AskOptions) => async (): Promise<Answer> => {
  for (;;) {
    const answer = await scarce.ask(path, { ...options, user: `${Math.random()}` });
    if (answer.status === 429) return answer;
  }
};

const provocations: [
  method: "get" | "post",
  path: string,
  status: number,
  () => Promise<Answer>,
][] = [
  ...["/user/incentives", "/user/rewards", "/user/incentive/{id}"].flatMap(
    (path): typeof provocations => {
      const real = path.replace("{id}", "1");
      return [
        ["get", path, 401, ask(real)],
        ["get", path, 403, ask(real, operator)],
        ["get", path, 304, askAgain(real)],
        ["get", path, 429, askTooOften(real, {})],
        ["get", path, 500, askBroken(real, { user })],
        ["get", path, 503, askAway(real, { user })],
      ];
    },
  ),
  ["get", "/user/incentives", 200, ask("/user/incentives", { user })],
  ["get", "/user/rewards", 200, ask("/user/rewards", { user })],
  ["get", "/user/incentive/{id}", 200, readTheFirst],
  ["get", "/user/incentive/{id}", 404, ask("/user/incentive/999999", { user })],

  ["post", "/user/incentives", 201, ask("/user/incentives", keyed)],
  ["post", "/user/incentives", 201, ask("/user/incentives", keyed)],
  [
    "post",
    "/user/incentives",
    400,
    ask("/user/incentives", { user, body, headers: { "idempotency-key": "a b" } }),
  ],
  [
    "post",
    "/user/incentives",
    422,
    ask("/user/incentives", {
      ...keyed,
      body: { ...body, data: { ...birth, date: "2021-09-16" } },
    }),
  ],
  ["post", "/user/incentives", 410, eraseThenRetry],
  ["post", "/user/incentives/batch", 200, ask("/user/incentives/batch", { user, body: batch })],
  ...[
    { path: "/user/incentives", good: body, wrong: { ...body, data: {} }, large: 101 },
    { path: "/user/incentives/batch", good: batch, wrong: { actions: [] }, large: 1025 },
  ].flatMap(({ path, good, wrong, large }): typeof provocations => [
    ["post", path, 400, ask(path, { user, body: "{" })],
    ["post", path, 401, ask(path, { body: good })],
    ["post", path, 403, ask(path, { ...operator, body: good })],
    ["post", path, 413, ask(path, { user, body: { x: "x".repeat(large * 1024) } })],
    ["post", path, 415, ask(path, textBody)],
    ["post", path, 422, ask(path, { user, body: wrong })],
    ["post", path, 429, askTooOften(path, { body: good })],
    ["post", path, 500, askBroken(path, { user, body: good })],
    ["post", path, 503, askAway(path, { user, body: good })],
  ]),

  ["get", "/user/incentives/events", 200, follow],
  [
    "get",
    "/user/incentives/events",
    400,
    ask("/user/incentives/events", { user, headers: { "last-event-id": "x" } }),
  ],
  ["get", "/user/incentives/events", 401, ask("/user/incentives/events")],
  ["get", "/user/incentives/events", 403, ask("/user/incentives/events", operator)],
  ["get", "/user/incentives/events", 429, followTooOften],
  ["get", "/user/incentives/events", 503, askAway("/user/incentives/events", { user })],

  ["get", "/healthz", 200, ask("/healthz")],
  ["get", "/readyz", 200, ask("/readyz")],
  ["get", "/readyz", 503, askAway("/readyz", {})],
  ["get", "/metrics", 401, ask("/metrics")],
];

/** The schemas alone; strict mode would refuse what is OpenAPI's and not JSON schema's. */
function compile(schema: object): (value: unknown) => string[] {
  const ajv = new Ajv2020({ strict: false, formats: { "date-time": isTime } });
  ajv.addSchema({ $id: "openapi", components: document.components });
  const text = JSON.stringify(schema).replaceAll('"#/', '"openapi#/');
  const validate = ajv.compile(JSON.parse(text) as object);
  return (value) =>
    validate(value) ? [] : (validate.errors ?? []).map((error) => JSON.stringify(error));
}

function isTime(text: string): boolean {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text);
}

describe("an answer fits the document:", () => {
  test.each(provocations)("%s %s, %d", async (method, route, status, provoke) => {
    const answer = await provoke();
    expect(answer.status).toBe(status);
    const documented = document.paths[route]?.[method]?.responses[status];
    const type = answer.headers.get("content-type")?.split(";")[0] ?? "";
    const schema = documented?.content?.[type]?.schema;
    if (status === 304) {
      expect({ documented, body: answer.body }).toEqual({
        documented: expect.any(Object),
        body: undefined,
      });
    } else {
      expect({ type, schema }).toEqual({ type, schema: expect.any(Object) });
      expect(compile(schema!)(answer.body)).toEqual([]);
    }
    const always = Object.keys(documented?.headers ?? {}).filter(
      (name) => name !== "Idempotency-Replayed",
    );
    expect(always.filter((name) => !answer.headers.has(name))).toEqual([]);
  });

  test("get /metrics, 200", async () => {
    const headers = { authorization: `Bearer ${metricsToken}` };
    const response = await fetch(`${well.url}/metrics`, { headers });
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toMatch("text/plain");
  });

  test("and none was left out", () => {
    const documented = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, { responses }]) =>
        Object.keys(responses).map((status) => `${method} ${path} ${status}`),
      ),
    );
    const provoked = provocations.map(([method, path, status]) => `${method} ${path} ${status}`);
    expect([...new Set(provoked), "get /metrics 200"].sort()).toEqual(documented.sort());
  });
});

test("the schemas refuse what they should", () => {
  const problems = compile({ $ref: "#/components/schemas/UserIncentive" });
  expect(problems({ id: "1" })).not.toEqual([]);
});

test("what is documented as a body is what the evaluators ask for", () => {
  const problems = compile({ $ref: "#/components/schemas/Recording" });
  expect(problems(body)).toEqual([]);
  expect(problems({ incentive: "health_data_log", data: [entry] })).toEqual([]);
  expect(problems({ incentive: "health_data_log", data: entry })).toEqual([]);
  expect(problems({ ...body, data: { birth_date: 1 } })).not.toEqual([]);
});

test("Redocly's linter has nothing to say", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "incentives openapi "));
  try {
    const file = path.join(folder, "openapi.json");
    await writeFile(file, JSON.stringify(document));
    const linter = createRequire(import.meta.url).resolve("@redocly/cli/bin/cli.js");
    // Health routes ask for nothing that could be wrong.
    const rules = ["--extends=recommended-strict", "--skip-rule=operation-4xx-response"];
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [linter, "lint", file, "--format=json", ...rules],
      {
        cwd: folder,
        env: { REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" },
      },
    );
    expect((JSON.parse(stdout) as { problems: unknown[] }).problems).toEqual([]);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("the page to read shows every route, and nothing on it is loaded from elsewhere", async () => {
  const page = await (await fetch(`${well.url}/docs`)).text();
  for (const route of Object.keys(document.paths)) expect(page).toContain(route);
  expect(page).not.toMatch(/src=|href="(?!#|\/openapi\.json)|@import|url\(/);
});
