/** Operators, seen from outside: what they read, what they change, what is kept of it, and what is nobody's business but a member's. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createTokens } from "../../src/api/tokens/tokens.ts";
import { buildTasks } from "../../src/worker/tasks.ts";
import { waitUntil } from "../test_database.ts";
import { startTestProcess } from "../test_process.ts";
import type { Answer, TestProcess } from "../test_process.ts";

const tokens = createTokens("a secret for tests, of more than 32 characters");
let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess();
});
afterAll(() => app.drop());

async function asOperator(query: string, variables: object = {}, to = app): Promise<Answer> {
  const token = await tokens.sign("olga", "1h", { role: "operator" });
  const headers = { authorization: `Bearer ${token}` };
  return to.ask("/graphql", { headers, body: { query, variables } });
}

const mutations = {
  createIncentive:
    "incentive { key records criteria isActive startsAt endsAt incentiveRewards { nodes { reward { key } } } }",
  updateIncentive: "incentive { key name criteria isActive startsAt endsAt }",
  createReward: "reward { key amount }",
  updateReward: "reward { key name amount }",
  setIncentiveRewards: "incentive { key incentiveRewards { nodes { reward { key } } } }",
  setListenerActive: "incentiveListener { name isActive }",
};
type MutationName = keyof typeof mutations;

function textOf(name: MutationName): string {
  const type = `${name.charAt(0).toUpperCase()}${name.slice(1)}Input!`;
  return `mutation ($input: ${type}) { ${name}(input: $input) { ${mutations[name]} } }`;
}

const change = (name: MutationName, input: object): Promise<Answer> =>
  asOperator(textOf(name), { input });

const pointersOf = ({ body }: Answer): string[] =>
  body.errors[0].extensions.errors.map(({ pointer }: { pointer: string }) => pointer);

const steps = {
  key: "log_often",
  name: "Log often",
  evaluator: "health_data_log",
  criteria: { required_days: 3, within_days: 7 },
};

describe("an operator changes the catalogue:", () => {
  test("a new reward and a new incentive that pays it, which a member can win at once", async () => {
    const input = { key: "bonus", name: "Bonus", kind: "points", amount: "12.50", unit: "points" };
    expect((await change("createReward", input)).body).toEqual({
      data: { createReward: { reward: { key: "bonus", amount: "12.50" } } },
    });
    const born = {
      key: "second_birth",
      name: "Second birth",
      evaluator: "birth_record",
      criteria: { report_within_days: 3650 },
      rewards: ["bonus"],
      endsAt: "2999-01-01T00:00:00+02:00",
    };
    expect((await change("createIncentive", born)).body).toEqual({
      data: {
        createIncentive: {
          incentive: {
            key: "second_birth",
            records: "document",
            criteria: { report_within_days: 3650 },
            isActive: true,
            startsAt: null,
            endsAt: expect.stringContaining("2998-12-31T22:00:00"),
            incentiveRewards: { nodes: [{ reward: { key: "bonus" } }] },
          },
        },
      },
    });
    const data = { birth_date: "2021-01-01", date: "2021-01-02" };
    await app.ask("/user/incentives", { user: "mia", body: { incentive: "second_birth", data } });
    await waitUntil("the bonus is won", async () => {
      const { body } = await app.ask("/user/rewards", { user: "mia" });
      return body.rewards[0]?.reward.amount === 12.5;
    });
  });

  test("of an incentive only what is given; null takes a time away", async () => {
    await change("createIncentive", { ...steps, startsAt: "2020-01-01T00:00:00Z" });
    expect(
      (await change("updateIncentive", { key: "log_often", name: "Log more", isActive: false }))
        .body.data.updateIncentive.incentive,
    ).toMatchObject({
      name: "Log more",
      isActive: false,
      criteria: steps.criteria,
      startsAt: expect.stringContaining("2020"),
    });
    const cleared = await change("updateIncentive", { key: "log_often", startsAt: null });
    expect(cleared.body.data.updateIncentive.incentive).toMatchObject({
      name: "Log more",
      startsAt: null,
    });
  });

  test("at the same moment as another, and neither change is lost", async () => {
    const key = "log_often";
    const all = [
      { name: "A" },
      { description: "B" },
      { isActive: true },
      { endsAt: "2999-01-01T00:00:00Z" },
    ];
    const answers = await Promise.all(
      all.map((some) => change("updateIncentive", { key, ...some })),
    );
    for (const { body } of answers) expect(body.errors).toBeUndefined();
    const { rows } = await app.database.pool.query(
      "select name, description, is_active, ends_at is not null as ends from app.incentives where key = $1",
      [key],
    );
    expect(rows).toEqual([{ name: "A", description: "B", is_active: true, ends: true }]);
  });

  test("what an incentive pays, and of a reward only what is given", async () => {
    const pays = async (rewards: string[]) =>
      (await change("setIncentiveRewards", { incentive: "health_data_log", rewards })).body.data
        .setIncentiveRewards.incentive.incentiveRewards.nodes;
    expect(await pays(["log_points", "birth_gift_card"])).toHaveLength(2);
    expect(await pays(["log_points"])).toEqual([{ reward: { key: "log_points" } }]);
    const { body } = await change("updateReward", { key: "log_points", amount: 150 });
    expect(body.data.updateReward.reward).toEqual({
      key: "log_points",
      name: "Points for logging",
      amount: "150.00",
    });
  });

  test("whether a listener is told", async () => {
    for (const isActive of [false, true]) {
      const { body } = await change("setListenerActive", { name: "log_completion", isActive });
      expect(body.data.setListenerActive.incentiveListener).toEqual({
        name: "log_completion",
        isActive,
      });
    }
  });
});

describe("a change is refused with a pointer, and nothing is written:", () => {
  test.each<[string, MutationName, object, string]>([
    [
      "criteria that do not fit",
      "createIncentive",
      { ...steps, criteria: { required_days: "3" } },
      "/criteria/required_days",
    ],
    ["criteria that are no object", "createIncentive", { ...steps, criteria: 7 }, "/criteria"],
    [
      "criteria nobody can meet",
      "createIncentive",
      { ...steps, criteria: { required_days: 9, within_days: 7 } },
      "/criteria/required_days",
    ],
    [
      "criteria with an unknown property",
      "createIncentive",
      { ...steps, criteria: { ...steps.criteria, x: 1 } },
      "/criteria/x",
    ],
    [
      "criteria with a nul",
      "createIncentive",
      { ...steps, criteria: { ...steps.criteria, types: ["\0"] } },
      "/criteria/types/0",
    ],
    ["an unknown evaluator", "createIncentive", { ...steps, evaluator: "__proto__" }, "/evaluator"],
    ["a key that is no key", "createIncentive", { ...steps, key: "Log Often" }, "/key"],
    ["a key that is taken", "createIncentive", { ...steps, key: "birth_record" }, "/key"],
    ["an empty name", "createIncentive", { ...steps, name: "" }, "/name"],
    [
      "an unknown reward",
      "createIncentive",
      { ...steps, rewards: ["log_points", "gold"] },
      "/rewards/1",
    ],
    [
      "a time without a zone",
      "createIncentive",
      { ...steps, startsAt: "2021-01-01T00:00" },
      "/startsAt",
    ],
    [
      "a day that is not",
      "createIncentive",
      { ...steps, startsAt: "2021-02-30T00:00:00Z" },
      "/startsAt",
    ],
    [
      "an end before the start",
      "createIncentive",
      { ...steps, startsAt: "2021-02-02T00:00:00Z", endsAt: "2021-02-01T00:00:00Z" },
      "/endsAt",
    ],
    ["an unknown incentive", "updateIncentive", { key: "marathon", name: "x" }, "/key"],
    [
      "an evaluator of the other form",
      "updateIncentive",
      { key: "birth_record", evaluator: "health_data_log" },
      "/evaluator",
    ],
    [
      "changed criteria that do not fit",
      "updateIncentive",
      { key: "birth_record", criteria: {}, evaluator: "nobody" },
      "/evaluator",
    ],
    [
      "a reward that is taken",
      "createReward",
      { key: "log_points", name: "x", kind: "x", amount: "1", unit: "x" },
      "/key",
    ],
    ["an amount below nothing", "updateReward", { key: "log_points", amount: "-1" }, "/amount"],
    [
      "an amount with three decimals",
      "updateReward",
      { key: "log_points", amount: "1.005" },
      "/amount",
    ],
    [
      "an amount that is no number",
      "updateReward",
      { key: "log_points", amount: "NaN" },
      "/amount",
    ],
    ["an unknown reward to change", "updateReward", { key: "gold", name: "x" }, "/key"],
    [
      "an unknown incentive that pays",
      "setIncentiveRewards",
      { incentive: "marathon", rewards: [] },
      "/incentive",
    ],
    ["an unknown listener", "setListenerActive", { name: "nobody", isActive: true }, "/name"],
  ])("%s", async (_what, name, input, pointer) => {
    const count = async () =>
      (await app.database.pool.query("select count(*) from app.catalogue_changes")).rows[0].count;
    const before = await count();
    const answer = await change(name, {
      ...(name === "createIncentive" && { key: "x" }),
      ...input,
    });
    expect(answer.body.errors[0].extensions.code).toBe("UNPROCESSABLE");
    expect(pointersOf(answer)).toContain(pointer);
    expect(answer.body.data[name]).toBeNull();
    expect(await count()).toBe(before);
  });
});

describe("what was changed", () => {
  const latest = `{ catalogueChanges(last: 1) { nodes { changedBy through kind change key before after } } }`;

  test("is kept with who, before and after", async () => {
    await change("updateReward", { key: "log_points", name: "Points" });
    const { body } = await asOperator(latest);
    expect(body.data.catalogueChanges.nodes).toEqual([
      {
        changedBy: "olga",
        through: "api",
        kind: "rewards",
        change: "update",
        key: "log_points",
        before: expect.objectContaining({ name: "Points for logging" }),
        after: expect.objectContaining({ name: "Points" }),
      },
    ]);
  });

  test("by SQL is kept with the role that was logged in; what changed nothing is not", async () => {
    const { pool } = app.database;
    await pool.query("update app.incentives set name = 'Birth' where key = 'birth_record'");
    await pool.query("update app.incentives set name = 'Birth' where key = 'birth_record'");
    await pool.query(`
      delete from app.incentive_rewards
      where incentive_id = (select id from app.incentives where key = 'birth_record')`);
    const { rows } = await pool.query(`
      select changed_by, through, kind, change, key
      from app.catalogue_changes
      order by id desc
      limit 2`);
    const itself = { changed_by: "incentives_owner", through: "database", key: "birth_record" };
    expect(rows).toEqual([
      { ...itself, kind: "incentive_rewards", change: "delete" },
      { ...itself, kind: "incentives", change: "update" },
    ]);
  });

  test.each([
    "update app.catalogue_changes set changed_by = 'somebody else'",
    "delete from app.catalogue_changes",
    "truncate app.catalogue_changes",
    "truncate app.incentive_rewards",
    "truncate app.incentive_listeners",
    "update app.member_lookups set reason = 'x'",
  ])("stays: %s", async (statement) => {
    await expect(app.database.pool.query(statement)).rejects.toMatchObject({ code: "IN001" });
  });
});

describe("an operator reads", () => {
  test("the catalogue, its listeners and the totals", async () => {
    const { body } = await asOperator(`{
      incentives { nodes { key total { isSuppressed } } }
      rewards { nodes { key } }
      incentiveListeners { nodes { name isActive } }
      incentiveTotals { nodes { members isSuppressed } }
    }`);
    expect(body.errors).toBeUndefined();
    expect(body.data.incentiveListeners.nodes).toEqual([
      { name: "log_completion", isActive: true },
    ]);
    expect(body.data.incentives.nodes[0].total.isSuppressed).toBe(true);
  });

  test("jobs: their state, ids, and an error's class, never what else a payload holds", async () => {
    const { pool } = app.database;
    await pool.query(`
      select graphile_worker.add_job(
        'somebody_elses', '{"id": "12", "incentive_id": "canary", "note": "canary"}', run_at => now() + interval '1 day'
      )`);
    await pool.query(`
      select graphile_worker.add_job(
        'deliver_incentive_completed', '[{"listener": "x", "event_id": "7"}, {"listener": "x", "event_id": "8"}]',
        run_at => now() + interval '1 day'
      )`);
    const ask = () =>
      asOperator("{ jobs { nodes { id task ids entries state attempts maxAttempts error } } }");
    expect((await ask()).body.data.jobs.nodes).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          task: "somebody_elses",
          ids: { id: "12" },
          state: "scheduled",
          error: null,
        }),
        expect.objectContaining({
          task: "deliver_incentive_completed",
          ids: { listener: "x", event_id: "7" },
          entries: 2,
        }),
      ]),
    );
    for (const [error, shown] of [
      ["canary felt sad", null],
      ["TypeError", "TypeError"],
      ["Error: canary", "Error"],
      ["connection lost: error 57P01", "connection lost: error 57P01"],
      ["error 22P02: canary", "error 22P02"],
      ["Error 42: canary", "Error 42"],
    ]) {
      await pool.query(
        "update graphile_worker._private_jobs set last_error = $1, attempts = max_attempts where run_at > now()",
        [error],
      );
      const { body } = await ask();
      const parked = body.data.jobs.nodes.filter(
        ({ state }: { state: string }) => state === "parked",
      );
      const errors = parked.map((job: { task: string; error: unknown }) => [job.task, job.error]);
      // What others write is never known to be a class or a code.
      expect(Object.fromEntries(errors)).toMatchObject({
        deliver_incentive_completed: shown,
        somebody_elses: null,
      });
      expect(JSON.stringify(body)).not.toContain("canary");
    }
    await pool.query(
      "select graphile_worker.complete_jobs(array(select id from graphile_worker.jobs))",
    );
  });

  test("jobs: the database knows which tasks are ours", async () => {
    const { rows } = await app.database.pool.query("select app.own_tasks() as tasks");
    const nothing = undefined as never;
    const { signal } = new AbortController();
    const tasks = buildTasks({
      pool: nothing,
      evaluators: new Map(),
      judges: nothing,
      judgesAlone: nothing,
      listeners: new Map(),
      logger: nothing,
      stopping: signal,
      outOfTime: signal,
    });
    expect(rows[0].tasks.toSorted()).toEqual(Object.keys(tasks).toSorted());
  });

  test.each([
    "{ userIncentives { nodes { data } } }",
    `{ userIncentive(id: "1") { data } }`,
    "{ userRewards { nodes { wonAt } } }",
    "{ userSummary { completed } }",
    "{ incentives { nodes { userIncentives { nodes { data } } } } }",
    "{ rewards { nodes { userRewards { nodes { wonAt } } } } }",
    `mutation { recordIncentive(input: { incentive: "birth_record", data: { birth_date: "2021-01-01", date: "2021-01-02" } }) { userIncentive { id } } }`,
    `mutation { recordIncentives(input: { actions: [{ incentive: "birth_record", data: { birth_date: "2021-01-01", date: "2021-01-02" } }] }) { results { status } } }`,
  ])("nothing of a member, and is told so: %s", async (query) => {
    const { body } = await asOperator(query);
    expect(body.errors[0].extensions.code).toBe("FORBIDDEN");
    expect(JSON.stringify(body.data ?? null)).not.toContain("2021");
  });

  test.each(["/user/incentives", "/user/incentive/1", "/user/rewards", "/user/incentives/events"])(
    "nothing at %s",
    async (path) => {
      const token = await tokens.sign("olga", "1h", { role: "operator" });
      const answer = await app.ask(path, { headers: { authorization: `Bearer ${token}` } });
      expect(answer).toMatchObject({ status: 403, body: { code: "FORBIDDEN" } });
    },
  );
});

describe("a member", () => {
  test.each(Object.keys(mutations) as MutationName[])("may not %s", async (name) => {
    const input = {
      createIncentive: steps,
      updateIncentive: { key: "birth_record", name: "x" },
      createReward: { key: "x", name: "x", kind: "x", amount: "1", unit: "x" },
      updateReward: { key: "log_points", name: "x" },
      setIncentiveRewards: { incentive: "birth_record", rewards: [] },
      setListenerActive: { name: "log_completion", isActive: false },
    }[name];
    const { body } = await app.graphql("mia", textOf(name), { input });
    expect(body.errors[0].extensions.code).toBe("FORBIDDEN");
  });

  test.each([
    "{ jobs { nodes { id } } }",
    "{ catalogueChanges { nodes { id } } }",
    "{ incentiveListeners { nodes { name } } }",
    "{ incentiveTotals { nodes { members } } }",
  ])("may not read %s", async (query) => {
    const { body } = await app.graphql("mia", query);
    expect(body.errors[0].extensions.code).toBe("FORBIDDEN");
  });

  test("whose partner records for members is no operator", async () => {
    const token = await tokens.sign("partner", "1h", { actsForMembers: true });
    const { body } = await app.ask("/graphql", {
      headers: { authorization: `Bearer ${token}` },
      body: { query: "{ jobs { nodes { id } } }" },
    });
    expect(body.errors[0].extensions.code).toBe("FORBIDDEN");
  });
});

describe("looking up a member", () => {
  const lookUp = `mutation ($userId: String!, $reason: String!) {
    lookUpMember(input: { userId: $userId, reason: $reason }) { userIncentives { status data incentive { key } } }
  }`;
  const variables = { userId: "mia", reason: "asked why nothing was paid" };

  test("is not there unless it was granted", async () => {
    const { body } = await asOperator(lookUp, variables);
    expect(body.errors[0].message).toContain("lookUpMember");
    expect(body.data).toBeUndefined();
  });

  test("where it was granted shows one member, to operators alone, and is kept", async () => {
    const { pool } = app.database;
    await pool.query(
      "grant execute on function api.look_up_member(text, text) to incentives_operator",
    );
    const another = await startTestProcess(app.database);
    const { body } = await asOperator(lookUp, variables, another);
    expect(body.data.lookUpMember.userIncentives).toEqual([
      expect.objectContaining({ status: "completed", incentive: { key: "second_birth" } }),
    ]);
    const without = await asOperator(lookUp, { ...variables, reason: " " }, another);
    expect(without.body.errors).toHaveLength(1);
    const asMember = await another.graphql("mia", lookUp, variables);
    expect(asMember.body.errors[0].extensions.code).toBe("FORBIDDEN");
    const after = await asOperator("{ userIncentives { nodes { data } } }", {}, another);
    expect(after.body.errors[0].extensions.code).toBe("FORBIDDEN");
    await another.stop();
    const { rows } = await pool.query(
      "select operator_id, user_id, reason from app.member_lookups",
    );
    expect(rows).toEqual([{ operator_id: "olga", user_id: "mia", reason: variables.reason }]);
  });
});
