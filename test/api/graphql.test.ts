/** GraphQL as clients use it: pages, filters, orders, time-outs, masked errors, persisted operations, and what the specification asks. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { auditServer } from "graphql-http";
import { pino } from "pino";
import { createTokens } from "../../src/api/tokens/tokens.ts";
import { jwtSecret, startTestProcess } from "../test_process.ts";
import type { TestProcess } from "../test_process.ts";

let app: TestProcess;
let log = "";
beforeAll(async () => {
  const stream = new Writable({
    write(line, _encoding, done) {
      log += String(line);
      done();
    },
  });
  app = await startTestProcess(undefined, { logger: pino({ level: "info" }, stream) });
  await app.database.pool.query(`
    insert into app.rewards (key, name, kind, amount, unit)
    select 'reward_' || n, 'Reward ' || n, 'points', n, 'points' from generate_series(1, 120) as n;
    insert into app.incentive_rewards (incentive_id, reward_id)
    select incentive.id, reward.id from app.incentives as incentive, app.rewards as reward
    where incentive.key = 'birth_record' and reward.key like 'reward%'`);
});
afterAll(() => app.drop());

async function data(query: string, variables?: object) {
  const { body } = await app.graphql("ann", query, variables);
  expect(body.errors).toBeUndefined();
  return body.data;
}

describe("a list is read in pages", () => {
  const keys = (page: { nodes: { key: string }[] }) => page.nodes.map(({ key }) => key);

  test("of 50 where nothing is said, also when it is nested or its size is a variable that is null", async () => {
    const { rewards, nested, byVariable } = await data(`query ($n: Int) {
      rewards { nodes { key } pageInfo { hasNextPage endCursor } totalCount }
      byVariable: rewards(first: $n) { nodes { key } }
      nested: incentiveByKey(key: "birth_record") { incentiveRewards { nodes { rewardId } } }
    }`);
    expect(rewards).toMatchObject({ totalCount: 122, pageInfo: { hasNextPage: true } });
    expect(rewards.nodes).toHaveLength(50);
    expect(byVariable.nodes).toHaveLength(50);
    expect(nested.incentiveRewards.nodes).toHaveLength(50);
    const next = await data("query ($after: Cursor) { rewards(after: $after) { nodes { key } } }", {
      after: rewards.pageInfo.endCursor,
    });
    expect(next.rewards.nodes).toHaveLength(50);
    expect(keys(next.rewards)).not.toEqual(expect.arrayContaining(keys(rewards).slice(-1)));
  });

  test("of up to 500, forwards and backwards", async () => {
    const { all, last } = await data(
      "{ all: rewards(first: 500) { nodes { key } edges { cursor } } last: rewards(last: 3) { nodes { key } } }",
    );
    expect(all.nodes).toHaveLength(122);
    expect(keys(last)).toEqual(keys(all).slice(-3));
    const before = all.edges[100].cursor;
    const back = await data(
      "query ($before: Cursor) { rewards(before: $before) { nodes { key } } }",
      { before },
    );
    expect(keys(back.rewards)).toEqual(keys(all).slice(50, 100));
  });

  test("and the schema has no list that is not", async () => {
    const { __schema } = await data(
      "{ __schema { types { name fields { name args { name } type { kind name ofType { kind name } } } } } }",
    );
    const unpaged = __schema.types
      .filter(({ name }: { name: string }) => !/^__|Connection$/.test(name))
      .flatMap((type: { name: string; fields: Field[] | null }) =>
        (type.fields ?? [])
          .filter(({ type: { kind, name, ofType } }) =>
            [kind, ofType?.kind, name, ofType?.name].some((word) =>
              /LIST|Connection$/.test(word ?? ""),
            ),
          )
          .filter(({ args }) => !args.some(({ name }) => name === "first"))
          .map((field) => `${type.name}.${field.name}`),
      );
    // What a mutation answers is as long as what it was given.
    expect(unpaged.filter((name: string) => !/(Payload|Result)\./.test(name))).toEqual([]);
  });
});

interface Field {
  name: string;
  args: { name: string }[];
  type: { kind: string; name: string | null; ofType: { kind: string; name: string | null } | null };
}

describe("a list is filtered and ordered", () => {
  beforeAll(async () => {
    const birth = { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" };
    const entry = { date: "2021-09-15 17:15:00", data: [{ type: "mood", value: "happy" }] };
    await data(
      `mutation ($birth: JSON!, $entry: JSON!) {
        a: recordIncentive(input: { incentive: "birth_record", data: $birth }) { userIncentive { id } }
        b: recordIncentive(input: { incentive: "health_data_log", data: $entry }) { userIncentive { id } }
      }`,
      { birth, entry },
    );
    await app.database.pool.query(
      "update app.user_incentives set created_at = '2020-01-01' where incentive_id = (select id from app.incentives where key = 'birth_record')",
    );
  });
  const read = async (args: string): Promise<string[]> =>
    (
      await data(`{ userIncentives${args} { nodes { incentive { key } } } }`)
    ).userIncentives.nodes.map(({ incentive }: { incentive: { key: string } }) => incentive.key);

  test.each([
    ['(filter: { createdAt: { lessThan: "2021-01-01T00:00:00Z" } })', ["birth_record"]],
    ['(filter: { createdAt: { greaterThan: "2021-01-01T00:00:00Z" } })', ["health_data_log"]],
    [
      '(filter: { status: { in: ["completed", "in_progress"] } }, orderBy: CREATED_AT_ASC)',
      ["birth_record", "health_data_log"],
    ],
    ["(orderBy: [CREATED_AT_DESC])", ["health_data_log", "birth_record"]],
    ['(filter: { status: { equalTo: "invalid" } })', []],
    ["(filter: { incentiveId: { equalTo: 0 } })", []],
  ])("%s", async (args, expected) => {
    expect(await read(args)).toEqual(expected);
  });

  test("by the columns that were chosen, and never by what was recorded", async () => {
    const { filter, order } = await data(`{
      filter: __type(name: "UserIncentiveFilter") { inputFields { name } }
      order: __type(name: "UserIncentiveOrderBy") { enumValues { name } }
    }`);
    expect(filter.inputFields.map(({ name }: { name: string }) => name).sort()).toEqual([
      "completedAt",
      "createdAt",
      "incentiveId",
      "status",
      "updatedAt",
    ]);
    expect(order.enumValues.map(({ name }: { name: string }) => name).join()).not.toMatch(
      /DATA|EXPLANATION/,
    );
  });
});

describe("what takes too long is ended by PostgreSQL", () => {
  test("a slow query: a 503 with the code TIMEOUT after 5 s, and no query goes on", async () => {
    await app.database.pool.query(`create or replace view api.rewards as
      select id, key, name, kind, amount, unit from app.rewards, lateral (select pg_sleep(60)) as slow`);
    const begun = performance.now();
    const { status, headers, body } = await app.graphql("ann", "{ rewards { nodes { key } } }");
    expect(performance.now() - begun).toBeLessThan(9000);
    expect({ status, code: body.errors[0].extensions.code, data: body.data }).toEqual({
      status: 503,
      code: "TIMEOUT",
      data: { rewards: null },
    });
    expect(headers.get("retry-after")).toMatch(/^\d+$/);
    const { rows } = await app.database.pool.query(
      "select query from pg_stat_activity where datname = current_database() and state = 'active' and query like '%rewards%' and pid <> pg_backend_pid()",
    );
    expect(rows).toEqual([]);
  }, 20_000);

  test("a lock that somebody holds: the same after 3 s, over GraphQL and REST", async () => {
    const client = await app.database.pool.connect();
    await client.query("begin; lock table app.incentives in access exclusive mode");
    const [graphql, rest] = await Promise.all([
      app.graphql("ann", "{ incentives { nodes { key } } }"),
      app.ask("/user/incentives", { user: "ann" }),
    ]);
    await client.query("rollback");
    client.release();
    expect([graphql.status, graphql.body.errors[0].extensions.code]).toEqual([503, "TIMEOUT"]);
    expect([rest.status, rest.body.code]).toEqual([503, "TIMEOUT"]);
  }, 20_000);
});

test("an error that is ours to mend is masked, with a reference that is found in the log", async () => {
  await app.database.pool.query(`create or replace view api.rewards as
    select id, key, name, kind, (amount / (id - id))::numeric(12, 2) as amount, unit from app.rewards`);
  const { body } = await app.graphql("ann", "{ rewards { nodes { amount } } }");
  const [error] = body.errors;
  expect(error.extensions.code).toBe("INTERNAL_ERROR");
  expect(error.path).toEqual(["rewards"]);
  expect(JSON.stringify(body)).not.toMatch(/division|zero|select|api\.|\.ts/i);
  const reference = /[0-9a-f-]{36}/.exec(error.message)?.[0] ?? "no reference";
  const line = log.split("\n").find((text) => text.includes(reference));
  expect(JSON.parse(line ?? "{}")).toMatchObject({ reference, error: "error 22012", level: 50 });
});

test("every MUST, SHOULD and MAY of GraphQL over HTTP is kept (graphql-http's audits)", async () => {
  const token = await createTokens(jwtSecret).sign("ann", "1h");
  const authenticated: typeof fetch = (url, init) => {
    const headers = new Headers(init?.headers);
    headers.set("authorization", `Bearer ${token}`);
    return fetch(url, { ...init, headers });
  };
  const results = await auditServer({ url: `${app.url}/graphql`, fetchFn: authenticated });
  const broken = results.filter(({ status }) => status !== "ok").map(({ name }) => name);
  expect(results.length).toBeGreaterThan(50);
  expect(broken).toEqual([]);
}, 60_000);

describe("in production", () => {
  let folder: string;
  let production: TestProcess;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "incentives operations "));
    await writeFile(
      path.join(folder, "mine.graphql"),
      "query Mine($first: Int) { userIncentives(first: $first) { nodes { status } } }",
    );
    production = await startTestProcess(undefined, {
      settings: { NODE_ENV: "production", PERSISTED_OPERATIONS_DIR: folder },
    });
  });
  afterAll(async () => {
    await production.drop();
    await rm(folder, { recursive: true });
  });
  const codeOf = async (body: object, from = production) =>
    (await from.ask("/graphql", { user: "ann", body })).body.errors?.[0].extensions.code;

  test("nobody may ask for the schema, and errors suggest no names", async () => {
    expect(await codeOf({ query: "{ __schema { types { name } } }" })).toBe(
      "INTROSPECTION_DISABLED",
    );
    expect(await codeOf({ query: '{ __type(name: "Query") { name } }' })).toBe(
      "INTROSPECTION_DISABLED",
    );
    const query = "{ userIncentivez { nodes { id } } }";
    const messages = async (from: TestProcess) =>
      (await from.graphql("ann", query)).body.errors[0].message;
    expect(await messages(production)).not.toMatch("Did you mean");
    expect(await messages(app)).toMatch("Did you mean");
    expect((await production.ask("/graphiql", { user: "ann" })).status).toBe(404);
  });

  test("an operation may be named instead of sent", async () => {
    for (const body of [
      { documentId: "mine", variables: { first: 1 } },
      { extensions: { persistedQuery: { version: 1, sha256Hash: "mine" } } },
    ]) {
      const { body: answer } = await production.ask("/graphql", { user: "ann", body });
      expect(answer).toEqual({ data: { userIncentives: { nodes: [] } } });
    }
    expect(await codeOf({ documentId: "../mine" })).toBe("PERSISTED_OPERATION_NOT_FOUND");
    expect(await codeOf({ query: "{ __typename }" })).toBeUndefined();
  });

  test("what is sent instead of named is refused where it was asked for", async () => {
    const strict = await startTestProcess(production.database, {
      settings: { PERSISTED_OPERATIONS_DIR: folder, PERSISTED_OPERATIONS_ONLY: "on" },
    });
    try {
      expect(await codeOf({ query: "{ __typename }" }, strict)).toBe("PERSISTED_OPERATIONS_ONLY");
      expect(await codeOf({ documentId: "mine" }, strict)).toBeUndefined();
    } finally {
      await strict.stop();
    }
  });

  test("an operation that does not fit the schema stops the start, by its name", async () => {
    const file = path.join(folder, "wrong.graphql");
    await writeFile(file, "{ noSuchField }");
    const starting = startTestProcess(production.database, {
      settings: { PERSISTED_OPERATIONS_DIR: folder },
    });
    await expect(starting).rejects.toThrow(/PERSISTED_OPERATIONS_DIR: wrong.graphql/);
    await rm(file);
  });
});
