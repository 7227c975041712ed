/** What of the cache a client is told over GraphQL: a member's summary, and how old the snapshot is. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { refreshCache } from "../../src/cache/refresh.ts";
import { startTestProcess } from "../test_process.ts";
import type { TestProcess } from "../test_process.ts";
import { waitUntil } from "../test_database.ts";

let app: TestProcess;
beforeAll(async () => {
  app = await startTestProcess();
});
afterAll(() => app.drop());

const query = `{
  userSummary { incentives inProgress completed invalid winnings lastChangedAt }
  cacheStatus { takenAt tookMs everybodyIsLive liveMembers liveSince }
}`;

test("a member reads their summary, the same live and from the snapshot, and whether it is live", async () => {
  const none = await app.graphql("alice", query);
  expect(none.body.data).toEqual({
    userSummary: {
      incentives: 0,
      inProgress: 0,
      completed: 0,
      invalid: 0,
      winnings: [],
      lastChangedAt: null,
    },
    cacheStatus: {
      takenAt: null,
      tookMs: null,
      everybodyIsLive: false,
      liveMembers: 0,
      liveSince: null,
    },
  });

  await app.ask("/user/incentives", {
    user: "alice",
    body: {
      incentive: "birth_record",
      data: { birth_date: "2021-09-15 15:30:00", date: "2021-09-15 17:15:00" },
    },
  });
  await waitUntil("it is completed", async () => {
    const { body } = await app.graphql("alice", query);
    return body.data.userSummary.completed === 1;
  });
  // Another member, whose answer nobody has in memory, and whose status is therefore read anew.
  const live = await app.graphql("bob", `{ cacheStatus { liveMembers liveSince } }`);
  expect(live.body.data.cacheStatus).toEqual({ liveMembers: 1, liveSince: expect.any(String) });
  const before = (await app.graphql("alice", query)).body.data.userSummary;
  expect(before).toEqual({
    incentives: 1,
    inProgress: 0,
    completed: 1,
    invalid: 0,
    winnings: [{ unit: "USD", amount: 25, rewards: 1 }],
    lastChangedAt: expect.any(String),
  });

  await refreshCache(app.database.pool);
  const summary = `{ cached: userSummary { incentives inProgress completed invalid winnings lastChangedAt } }`;
  expect((await app.graphql("alice", summary)).body.data.cached).toEqual(before);
  const status = await app.graphql("carol", `{ cacheStatus { takenAt tookMs liveMembers } }`);
  expect(status.body.data.cacheStatus).toEqual({
    takenAt: expect.any(String),
    tookMs: expect.any(Number),
    liveMembers: 0,
  });
});
