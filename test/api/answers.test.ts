/** Answers in memory, from outside: two API processes and a worker on one database, and members who read and write. */
import { on } from "node:events";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Client } from "pg";
import { createTokens } from "../../src/api/tokens/tokens.ts";
import { waitUntil } from "../test_database.ts";
import { jwtSecret, startTestProcess } from "../test_process.ts";
import type { TestProcess } from "../test_process.ts";

const birth = { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" };
const list = "{ userIncentives { nodes { id status } } }";

let one: TestProcess;
let other: TestProcess;
beforeAll(async () => {
  one = await startTestProcess();
  other = await startTestProcess(one.database);
  for (const process of [one, other]) {
    await waitUntil("it answers from memory", async () => {
      const { headers } = await process.ask("/user/rewards", { user: "warm up" });
      return headers.get("x-cache") === "hit";
    });
  }
});
afterAll(async () => {
  await other.stop();
  await one.drop();
});

const record = (process: TestProcess, user: string) =>
  process.ask("/user/incentives", { user, body: { incentive: "birth_record", data: birth } });
const recordEntry = (process: TestProcess, user: string, value: string) =>
  process.ask("/user/incentives", {
    user,
    body: {
      incentive: "health_data_log",
      data: [{ date: "2021-09-15 17:15:00", data: [{ type: "mood", value }] }],
    },
  });
const how = async (process: TestProcess, path: string, user: string) =>
  (await process.ask(path, { user })).headers.get("x-cache");

async function waitUntilJudged(user: string): Promise<void> {
  await waitUntil(`${user} is judged`, async () => {
    const { rows } = await one.database.pool.query(
      "select from app.user_incentives where user_id = $1 and evaluation_due",
      [user],
    );
    return rows.length === 0;
  });
}

describe("a member who reads twice", () => {
  test("is answered from memory the second time, the same bytes and headers, over REST", async () => {
    await record(one, "alice");
    await waitUntilJudged("alice");
    const { body } = await one.ask("/user/incentives", { user: "alice" });
    // What was kept goes once more when the process hears of the verdict, which may be after it is there to read.
    await waitUntil("what is asked again is kept", async () => {
      const { headers } = await one.ask("/user/incentives", { user: "alice" });
      return headers.get("x-cache") === "hit";
    });
    for (const path of [
      "/user/incentives",
      "/user/rewards",
      `/user/incentive/${body.incentives[0].id}`,
    ]) {
      const first = await one.ask(path, { user: "alice" });
      const second = await one.ask(path, { user: "alice" });
      expect(second.headers.get("x-cache")).toBe("hit");
      expect(second.body).toEqual(first.body);
      expect(second.headers.get("etag")).toBe(first.headers.get("etag"));
      expect(second.headers.get("etag")).toMatch(/^"[\w-]{27}"$/);
      expect(second.headers.get("cache-control")).toBe("private, no-cache");
      expect(second.headers.get("vary")).toContain("Authorization");
      expect(second.headers.get("content-type")).toBe("application/json; charset=utf-8");
    }
  });

  test("is answered from memory over GraphQL, by POST and by GET, each form of answer by itself", async () => {
    const ways = [
      (accept: string) =>
        one.ask("/graphql", { user: "alice", body: { query: list }, headers: { accept } }),
      (accept: string) =>
        one.ask(`/graphql?query=${encodeURIComponent(list)}`, {
          user: "alice",
          headers: { accept },
        }),
    ];
    for (const ask of ways) {
      for (const accept of ["application/json", "application/graphql-response+json"]) {
        const first = await ask(accept);
        const second = await ask(accept);
        expect([first, second].map(({ headers }) => headers.get("x-cache"))).toEqual([
          "miss",
          "hit",
        ]);
        expect(second.headers.get("content-type")).toContain(accept);
        expect(second.body).toEqual(first.body);
        expect(second.body.data.userIncentives.nodes).toHaveLength(1);
      }
    }
  });

  test("and has the answer already gets a 304, for a GET", async () => {
    const { headers } = await one.ask("/user/incentives", { user: "alice" });
    const etag = headers.get("etag") ?? "";
    for (const known of [etag, `"x", W/${etag}`, "*"]) {
      const again = await one.ask("/user/incentives", {
        user: "alice",
        headers: { "if-none-match": known },
      });
      const { status, body, headers } = again;
      expect([status, body, headers.get("etag")]).toEqual([304, undefined, etag]);
      // `fetch` has added `Cache-Control: no-cache` to it.
      expect(headers.get("x-cache")).toBe("hit");
    }
    const another = await one.ask("/user/incentives", {
      user: "alice",
      headers: { "if-none-match": '"guessed"' },
    });
    expect(another.status).toBe(200);
    const posted = await one.ask("/graphql", {
      user: "alice",
      body: { query: list },
      headers: { "if-none-match": "*" },
    });
    expect(posted.status).toBe(200);
  });

  test("and wants it asked anew says so", async () => {
    expect(await how(one, "/user/incentives", "alice")).toBe("hit");
    const anew = await one.ask("/user/incentives", {
      user: "alice",
      headers: { "cache-control": "no-cache" },
    });
    expect(anew.headers.get("x-cache")).toBe("miss");
  });
});

describe("what is in memory", () => {
  test("is nobody else's, and nobody's without a valid token", async () => {
    await one.ask("/user/incentives", { user: "alice" });
    const bob = await one.ask("/user/incentives", { user: "bob" });
    expect(bob.body).toEqual({ incentives: [] });
    expect((await one.ask("/user/incentives")).status).toBe(401);

    const short = await createTokens(one.jwtSecret).sign("alice", "1s");
    const headers = { authorization: `Bearer ${short}` };
    expect((await one.ask("/user/incentives", { headers })).headers.get("x-cache")).toBe("hit");
    await waitUntil(
      "the token has expired",
      async () => {
        const { status } = await one.ask("/user/incentives", { headers });
        return status === 401;
      },
      3,
    );
  });

  test("is never a mutation, an error, introspection or a field whose changes are not told", async () => {
    const bodies = [
      { query: "{ __schema { queryType { name } } }" },
      { query: '{ __type(name: "Query") { name } }' },
      { query: "{ query { userIncentives { nodes { id } } } }" },
      { query: '{ node(nodeId: "query") { nodeId } }' },
      { query: "{ userIncentives { nodes { nothing } } }" },
      { query: '{ userIncentive(id: "not an id") { id } }' },
      { query: "{ userIncentives { nodes { id ..." },
      {
        query: `${list.replace("{", "query A {")} mutation B { recordIncentive(input: {incentive: "no", data: {}}) { userIncentive { id } } }`,
        operationName: "A",
      },
    ];
    for (const body of bodies) {
      for (const _twice of [1, 2]) {
        const { headers } = await one.ask("/graphql", { user: "alice", body });
        expect([body.query, headers.get("x-cache")]).toEqual([body.query, null]);
      }
    }
    expect(await how(one, "/user/incentive/999999", "alice")).toBeNull();
    expect(await how(one, "/user/incentive/999999", "alice")).toBeNull();
  });

  test("has the names of a page's own client in it, and they do no harm", async () => {
    const query = "query List { __typename userIncentives { __typename nodes { __typename id } } }";
    const body = { query, operationName: "List", variables: {} };
    expect((await one.ask("/graphql", { user: "alice", body })).headers.get("x-cache")).toBe(
      "miss",
    );
    expect((await one.ask("/graphql", { user: "alice", body })).headers.get("x-cache")).toBe("hit");
  });
});

describe("a member who writes", () => {
  test("reads it in the same moment through the same process, and once it is judged through the other", async () => {
    for (const process of [one, other]) await process.ask("/user/incentives", { user: "carol" });
    for (let round = 1; round <= 30; round += 1) {
      const [writer, reader] = round % 2 ? [one, other] : [other, one];
      const written = await recordEntry(writer, "carol", `round ${round}`);
      expect(written.status).toBe(201);
      const own = await writer.ask("/user/incentives", { user: "carol" });
      expect(own.body.incentives[0].data).toHaveLength(round);
      await waitUntilJudged("carol");
      await waitUntil(
        "the other process has heard of it",
        async () => {
          const { body } = await reader.ask("/user/incentives", { user: "carol" });
          return body.incentives[0].data.length === round;
        },
        1,
      );
    }
  });

  test("over GraphQL reads it at once too", async () => {
    const query = "{ userIncentives { nodes { data } } }";
    const mutation = `mutation ($data: JSON!) {
      recordIncentive(input: {incentive: "birth_record", data: $data}) { userIncentive { id } } }`;
    for (let day = 10; day < 30; day += 1) {
      const data = { ...birth, date: `2021-10-${day} 10:00:00` };
      await one.graphql("dora", query);
      expect((await one.graphql("dora", mutation, { data })).body.errors).toBeUndefined();
      const { body } = await one.graphql("dora", query);
      expect(body.data.userIncentives.nodes).toEqual([{ data }]);
    }
  });

  test("is not given what was being asked before the write was over", async () => {
    for (let round = 1; round <= 20; round += 1) {
      const before = Array.from({ length: 5 }, () => one.ask("/user/incentives", { user: "erin" }));
      await recordEntry(one, "erin", `round ${round}`);
      const { body } = await one.ask("/user/incentives", { user: "erin" });
      expect(body.incentives[0].data).toHaveLength(round);
      await Promise.all(before);
      const after = await one.ask("/user/incentives", { user: "erin" });
      expect(after.body.incentives[0].data).toHaveLength(round);
    }
  });

  test("and goes away before the write is over reads it too when it is", async () => {
    await recordEntry(one, "gus", "before");
    await waitUntilJudged("gus");
    const lock = "select from app.user_incentives where user_id = 'gus' for update";
    const [holder, next] = [await one.database.pool.connect(), await one.database.pool.connect()];
    const untilSoManyWait = (count: number) =>
      waitUntil(`${count} wait for the row`, async () => {
        const { rows } = await one.database.pool.query(
          `select distinct pid from pg_locks where not granted
          and pid in (select pid from pg_stat_activity where datname = current_database())`,
        );
        return rows.length === count;
      });
    await holder.query("begin");
    await holder.query(lock);
    const away = new AbortController();
    const token = await createTokens(jwtSecret).sign("gus", "1h");
    const writing = fetch(`${one.url}/user/incentives`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({
        incentive: "health_data_log",
        data: { date: "2021-09-16 17:15:00", data: [{ type: "mood", value: "after" }] },
      }),
      signal: away.signal,
    });
    await untilSoManyWait(1);
    // From when the write is over the worker is kept away from the row, and tells nobody of it.
    await next.query("begin");
    const locked = next.query(lock);
    await untilSoManyWait(2);
    away.abort();
    await expect(writing).rejects.toThrow(/abort/);
    for (const _twice of [1, 2]) expect(await how(one, "/user/incentives", "gus")).toBe("live");
    await holder.query("rollback");
    await locked;
    await waitUntil("it is read", async () => {
      const { body } = await one.ask("/user/incentives", { user: "gus" });
      return body.incentives[0].data.length === 2;
    });
    await next.query("rollback");
    for (const client of [holder, next]) client.release();
  });
});

/** Whether a NOTIFY is of this member's completion. */
async function isEventOf(user: string, payload: string): Promise<boolean> {
  const { first, last } = JSON.parse(payload) as { first: number; last: number };
  const { rowCount } = await one.database.pool.query(
    `select from app.incentive_events as event
    join app.user_incentives as ui on ui.id = event.user_incentive_id
    where ui.user_id = $1 and event.id between $2 and $3`,
    [user, first, last],
  );
  return rowCount === 1;
}

test("whoever hears of a completion reads it at once, through every process", async () => {
  const listener = new Client({ connectionString: one.database.ownerUrl });
  await listener.connect();
  const heard = on(listener, "notification");
  await listener.query("listen incentive_completed");
  for (let round = 1; round <= 50; round += 1) {
    const user = `listens ${round}`;
    const readBoth = () =>
      Promise.all([one, other].map((process) => process.ask("/user/incentives", { user })));
    await readBoth();
    expect((await readBoth()).map(({ headers }) => headers.get("x-cache"))).toEqual(["hit", "hit"]);
    // Not through a process, so that none of them knows.
    const written = one.database.pool.query(
      `insert into app.user_incentives (user_id, incentive_id, data)
      select $1, id, $2 from app.incentives where key = 'birth_record'`,
      [user, birth],
    );
    // What is heard may be of another member, of whom an earlier test did not wait.
    for (;;) {
      const { value } = (await heard.next()) as { value: [{ payload: string }] };
      const answers = await readBoth();
      if (!(await isEventOf(user, value[0].payload))) continue;
      for (const { body } of answers) expect(body.incentives[0]?.status).toBe("completed");
      break;
    }
    await written;
  }
  await listener.end();
});

test("the same question, asked by many at once, is asked of the database once", async () => {
  const blocker = new Client({ connectionString: one.database.ownerUrl });
  await blocker.connect();
  const waiting = async () => {
    const { rows } = await one.database.pool.query<{ count: number }>(
      `select count(*)::int from pg_locks where relation = 'cache.stale_users'::regclass and not granted
      and database = (select oid from pg_database where datname = current_database())`,
    );
    return rows[0]?.count;
  };
  for (const ask of [
    () => one.ask("/user/incentives", { user: "fay" }),
    () => one.graphql("fay", list),
  ]) {
    await blocker.query("begin; lock table cache.stale_users in access exclusive mode");
    const asked = Array.from({ length: 8 }, ask);
    await waitUntil("one is waiting", async () => (await waiting()) === 1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await waiting()).toBe(1);
    await blocker.query("commit");
    expect((await Promise.all(asked)).map(({ status }) => status)).toEqual(Array(8).fill(200));
  }
  await blocker.end();
});

test("after the catalogue changes everybody reads the new one", async () => {
  await one.graphql("gus", "{ incentives { nodes { name } } }");
  await one.database.pool.query(
    "update app.incentives set name = 'Another name' where key = 'birth_record'",
  );
  await waitUntil(
    "it is read",
    async () => {
      const { body } = await one.graphql("gus", "{ incentives { nodes { name } } }");
      return JSON.stringify(body).includes("Another name");
    },
    1,
  );
});

test("when the listening connection breaks nothing old is answered, and soon there is memory again", async () => {
  const authenticator = new Client({ connectionString: one.database.authenticatorUrl });
  await authenticator.connect();
  for (let round = 1; round <= 5; round += 1) {
    await recordEntry(one, "hal", `round ${round}`);
    await waitUntilJudged("hal");
    await waitUntil(
      "it is in memory",
      async () => (await how(one, "/user/incentives", "hal")) === "hit",
    );
    const { rows } = await authenticator.query<{ pid: number }>(
      `select pid, pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'incentives live' and datname = current_database()`,
    );
    await waitUntil("it is gone", async () => {
      const pids = rows.map(({ pid }) => pid);
      const left = await authenticator.query("select from pg_stat_activity where pid = any ($1)", [
        pids,
      ]);
      return left.rows.length === 0;
    });
    await one.database.pool.query(
      "update app.user_incentives set status = 'invalid', explanation = to_jsonb($1::int) where user_id = 'hal'",
      [round],
    );
    const { body, headers } = await one.ask("/user/incentives", { user: "hal" });
    expect([headers.get("x-cache"), body.incentives[0].explanation]).not.toEqual([
      "hit",
      round - 1,
    ]);
    expect(body.incentives[0].explanation).toBe(round);
  }
  await authenticator.end();
});
