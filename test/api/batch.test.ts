/** Several actions in one request, over REST and GraphQL: each succeeds or is refused for itself. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { problemOfCode } from "../../src/api/problems.ts";
import { loadEvaluators } from "../../src/evaluation/registry.ts";
import { startTestProcess } from "../test_process.ts";
import type { Answer, TestProcess } from "../test_process.ts";

let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess();
});
afterAll(() => app.drop());

const birth = { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" };
const entry = { date: "2021-09-15 17:15:00", data: [{ type: "mood", value: "happy" }] };
const log = { incentive: "health_data_log", data: entry };

function send(
  user: string,
  actions: unknown,
  options: { actsForMembers?: boolean; headers?: Record<string, string> } = {},
): Promise<Answer> {
  return app.ask("/user/incentives/batch", { user, body: { actions }, ...options });
}

async function dataOf(user: string, incentive = "health_data_log"): Promise<unknown> {
  const { rows } = await app.database.pool.query<{ data: unknown }>(
    `select data
    from app.user_incentives as ui
    join app.incentives on incentives.id = ui.incentive_id
    where user_id = $1 and key = $2`,
    [user, incentive],
  );
  return rows[0]?.data;
}

describe("a batch", () => {
  test("records what is right and refuses what is wrong, with pointers into the request", async () => {
    const { status, body } = await send("alice", [
      log,
      { incentive: "marathon", data: {} },
      { incentive: "birth_record", data: birth },
      { incentive: "birth_record", data: { ...birth, date: "2021-02-30 10:00:00" } },
      { incentive: "health_data_log", data: [entry, { ...entry, date: 1 }] },
      "nonsense",
      { ...log, extra: 1 },
      { ...log, data: { ...entry, date: "2021-09-16 10:00:00" } },
    ]);
    expect(status).toBe(200);
    expect(
      body.results.map(({ index, status, code, errors }: Record<string, any>) => [
        index,
        status,
        code,
        errors?.[0].pointer,
      ]),
    ).toEqual([
      [0, 201, undefined, undefined],
      [1, 422, "UNPROCESSABLE", "/actions/1/incentive"],
      [2, 201, undefined, undefined],
      [3, 422, "UNPROCESSABLE", "/actions/3/data/date"],
      [4, 422, "UNPROCESSABLE", "/actions/4/data/1/date"],
      [5, 422, "UNPROCESSABLE", "/actions/5"],
      [6, 422, "UNPROCESSABLE", "/actions/6/extra"],
      [7, 201, undefined, undefined],
    ]);
    expect(body.results[0]).toEqual({
      index: 0,
      status: 201,
      id: expect.stringMatching(/^\d+$/),
      replayed: false,
    });
    expect(body.results[7].id).toBe(body.results[0].id);
    expect(await dataOf("alice")).toEqual([entry, { ...entry, date: "2021-09-16 10:00:00" }]);
    expect(await dataOf("alice", "birth_record")).toEqual(birth);
    const one = await app.ask(`/user/incentive/${body.results[2].id}`, { user: "alice" });
    expect(one.body.data).toEqual(birth);
  });

  test("sent again with its keys is recorded once, also what was new the second time", async () => {
    const first = [
      { ...log, idempotencyKey: "1" },
      { ...log, idempotencyKey: "2" },
    ];
    await send("berta", first);
    const { body } = await send("berta", [...first, { ...log, idempotencyKey: "3" }]);
    expect(body.results.map(({ replayed }: { replayed: boolean }) => replayed)).toEqual([
      true,
      true,
      false,
    ]);
    expect(await dataOf("berta")).toHaveLength(3);
  });

  test("refuses a key that another action of it uses, or that was used for something else", async () => {
    await send("carla", [{ ...log, idempotencyKey: "1" }]);
    const { body } = await send("carla", [
      { ...log, idempotencyKey: "2" },
      { ...log, idempotencyKey: "2" },
      { incentive: "birth_record", data: birth, idempotencyKey: "1" },
    ]);
    expect(body.results).toMatchObject([
      { status: 201 },
      { status: 422, errors: [{ pointer: "/actions/1/idempotencyKey" }] },
      { status: 422, code: "IDEMPOTENCY_KEY_REUSED" },
    ]);
    expect(await dataOf("carla", "birth_record")).toBeUndefined();
  });

  test("keeps a log within 5,000 entries: what fits is added, in order, and the keys of the rest stay free", async () => {
    await app.database.pool.query(
      `insert into app.user_incentives (user_id, incentive_id, data)
      select 'dora', incentives.id, (select jsonb_agg($1::jsonb) from generate_series(1, 4997))
      from app.incentives where key = 'health_data_log'`,
      [JSON.stringify(entry)],
    );
    const { body } = await send("dora", [
      { ...log, data: [entry, entry], idempotencyKey: "1" },
      { ...log, data: [entry, entry], idempotencyKey: "2" },
      { ...log, idempotencyKey: "3" },
    ]);
    expect(body.results).toMatchObject([
      { status: 201 },
      { status: 422, errors: [{ pointer: "/actions/1/data" }] },
      { status: 201 },
    ]);
    expect(await dataOf("dora")).toHaveLength(5000);
    const { rows } = await app.database.pool.query(
      "select key from app.idempotency_keys where caller_id = 'dora' order by key",
    );
    expect(rows).toEqual([{ key: "1" }, { key: "3" }]);
  });

  test.each<[string, unknown, string]>([
    ["no actions", [], "/actions"],
    ["501 actions", Array.from({ length: 501 }, () => log), "/actions"],
    ["actions that are no array", log, "/actions"],
  ])("is refused as a whole for %s", async (_what, actions, pointer) => {
    expect(await send("eve", actions)).toMatchObject({
      status: 422,
      body: { errors: [{ pointer }] },
    });
  });

  test("is refused as a whole with an Idempotency-Key, without a token, and beyond 1 MB", async () => {
    expect((await send("eve", [log], { headers: { "idempotency-key": "x" } })).status).toBe(400);
    expect((await app.ask("/user/incentives/batch", { body: { actions: [log] } })).status).toBe(
      401,
    );
    const large = { ...log, data: Array.from({ length: 2000 }, () => entry) };
    const { status, body } = await send(
      "eve",
      Array.from({ length: 10 }, () => large),
    );
    expect({ status, detail: body.detail }).toEqual({
      status: 413,
      detail: "The body has more than 1024 kB; send less at a time.",
    });
  });
});

describe("for other members", () => {
  const forBob = { ...log, userId: "bob" };

  test("a member's own token records for nobody else", async () => {
    const { body } = await send("mallory", [forBob, { ...log, userId: "mallory" }]);
    expect(body.results).toMatchObject([
      { status: 403, code: "FORBIDDEN", errors: [{ pointer: "/actions/0/userId" }] },
      { status: 201 },
    ]);
    expect(await dataOf("bob")).toBeUndefined();
  });

  test("nor does the database let it, if the API did", async () => {
    const client = await app.database.pool.connect();
    try {
      await client.query("begin");
      await client.query("set local incentives.user_id = 'mallory'");
      await expect(
        client.query("select * from api.record_incentives($1)", [
          JSON.stringify([{ incentive: "health_data_log", data: [entry], user_id: "bob" }]),
        ]),
      ).rejects.toMatchObject({ code: "42501" });
    } finally {
      await client.query("rollback");
      client.release();
    }
  });

  test("a partner's server records for many, each wins for themselves, and the partner sees none of it", async () => {
    const members = Array.from({ length: 500 }, (_, i) => `member-${i}`);
    const actions = members.map((userId) => ({ ...log, userId, idempotencyKey: userId }));
    const since = performance.now();
    const { body } = await send("partner", actions, { actsForMembers: true });
    console.log(`500 actions for 500 members took ${Math.round(performance.now() - since)} ms`);
    expect(body.results.every(({ status }: { status: number }) => status === 201)).toBe(true);
    const again = await send("partner", actions, { actsForMembers: true });
    expect(again.body.results.every(({ replayed }: { replayed: boolean }) => replayed)).toBe(true);
    const { rows } = await app.database.pool.query(
      "select count(*)::int as members, sum(jsonb_array_length(data))::int as entries from app.user_incentives where user_id like 'member-%'",
    );
    expect(rows).toEqual([{ members: 500, entries: 500 }]);
    expect((await app.ask("/user/incentives", { user: "partner" })).body).toEqual({
      incentives: [],
    });
  });

  test("a partner's keys are not the member's", async () => {
    await send("partner", [{ ...log, userId: "nina", idempotencyKey: "k" }], {
      actsForMembers: true,
    });
    const { body } = await send("nina", [{ ...log, idempotencyKey: "k" }]);
    expect(body.results).toMatchObject([{ status: 201, replayed: false }]);
    expect(await dataOf("nina")).toHaveLength(2);
  });
});

test("batches that share members and keys, in opposite orders and at once, all get through", async () => {
  const actions = Array.from({ length: 100 }, (_, i) => ({
    ...log,
    userId: `crowd-${i}`,
    idempotencyKey: `crowd-${i}`,
  }));
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, i) =>
      send("partner", i % 2 ? actions : actions.toReversed(), { actsForMembers: true }),
    ),
  );
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
  const { rows } = await app.database.pool.query(
    "select sum(jsonb_array_length(data))::int as entries from app.user_incentives where user_id like 'crowd-%'",
  );
  expect(rows).toEqual([{ entries: 100 }]);
});

test("the most entries of a log are the same for the database, the evaluator and the words of the refusal", async () => {
  const { rows } = await app.database.pool.query<{ most: number }>(
    "select substring(prosrc from 'entries_at_most constant integer := (\\d+)')::int as most from pg_proc where proname = 'add_to_log'",
  );
  const evaluators = await loadEvaluators();
  const { maxItems } = evaluators.get("health_data_log")!.evaluator.dataSchema as {
    maxItems?: number;
  };
  const words = problemOfCode("IN003").errors[0]?.message.replace(",", "");
  expect(rows).toEqual([{ most: maxItems }]);
  expect(words).toMatch(` ${maxItems} entries`);
});

test("GraphQL's recordIncentives gives the same results", async () => {
  const { body } = await app.graphql(
    "gerda",
    `mutation ($actions: [RecordIncentivesAction!]!) {
      recordIncentives(input: { actions: $actions, clientMutationId: "c" }) {
        clientMutationId
        results { index status id replayed code title detail errors { pointer message } }
        query { userIncentives { nodes { data } } }
      }
    }`,
    {
      actions: [
        { ...log, idempotencyKey: null },
        { ...log, userId: "bob" },
        { incentive: "birth_record", data: { birth_date: 1 } },
      ],
    },
  );
  expect(body).toEqual({
    data: {
      recordIncentives: {
        clientMutationId: "c",
        results: [
          {
            index: 0,
            status: 201,
            id: expect.stringMatching(/^\d+$/),
            replayed: false,
            code: null,
            title: null,
            detail: null,
            errors: null,
          },
          expect.objectContaining({
            index: 1,
            status: 403,
            code: "FORBIDDEN",
            errors: [expect.objectContaining({ pointer: "/actions/1/userId" })],
          }),
          expect.objectContaining({
            index: 2,
            status: 422,
            errors: expect.arrayContaining([
              { pointer: "/actions/2/data/date", message: "is missing" },
            ]),
          }),
        ],
        query: { userIncentives: { nodes: [{ data: [entry] }] } },
      },
    },
  });
});

test("an operator records nothing, over REST and GraphQL", async () => {
  const operator = { user: "otto", role: "operator" as const };
  const overRest = await app.ask("/user/incentives/batch", {
    ...operator,
    body: { actions: [log] },
  });
  expect(overRest).toMatchObject({ status: 403, body: { code: "FORBIDDEN" } });
  for (const mutation of [
    "recordIncentive(input: $input) { userIncentive { id } }",
    "recordIncentives(input: $input) { results { index } }",
  ]) {
    const several = mutation.startsWith("recordIncentives");
    const { body } = await app.ask("/graphql", {
      ...operator,
      body: {
        query: `mutation ($input: RecordIncentive${several ? "s" : ""}Input!) { ${mutation} }`,
        variables: { input: several ? { actions: [log] } : log },
      },
    });
    expect(body.errors[0].extensions.code).toBe("FORBIDDEN");
  }
  expect(await dataOf("otto")).toBeUndefined();
});

test("GraphQL refuses more than 500 actions as a whole", async () => {
  const { body } = await app.graphql(
    "gerda",
    `mutation ($actions: [RecordIncentivesAction!]!) {
      recordIncentives(input: { actions: $actions }) { results { index } }
    }`,
    { actions: Array.from({ length: 501 }, () => log) },
  );
  expect(body.errors[0].extensions).toMatchObject({
    code: "UNPROCESSABLE",
    errors: [{ pointer: "/actions" }],
  });
});
