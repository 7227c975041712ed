/** A network that swallows what is sent on the worker's connections, again and again: nobody touches anything, and work goes on. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, test } from "@jest/globals";
import { createTestDatabase, waitUntil } from "../test_database.ts";
import type { TestDatabase } from "../test_database.ts";
import { inventActions, record } from "./actions.ts";
import type { Model } from "./actions.ts";
import { startCuttableNetwork } from "./cuttable_network.ts";
import type { CuttableNetwork } from "./cuttable_network.ts";
import { checkAtRest, waitForRest } from "./oracle.ts";
import { throwDice } from "./seed.ts";
import { WorkerProcess } from "./worker_process.ts";

const dice = throwDice("dark network");
let database: TestDatabase;
let network: CuttableNetwork;
let worker: WorkerProcess | undefined;

beforeEach(async () => {
  database = await createTestDatabase();
  network = await startCuttableNetwork(database.ownerUrl);
});
afterEach(async () => {
  await worker?.stop();
  await network.close();
  await database.drop();
});

test("a worker whose connections went dark, with work in hand, four times is at work again each time", async () => {
  const model: Model = new Map();
  const heard = new Set<string>();
  const goOn = (count: number) => record(database.pool, model, inventActions(dice, count));
  const isAllJudged = async (): Promise<boolean> => {
    const { rows } = await database.pool.query<{ due: boolean }>(
      "select exists (select from app.user_incentives where evaluation_due) as due",
    );
    return !rows[0]!.due;
  };
  worker = await WorkerProcess.start(network.url, heard);
  for (let time = 0; time < 4; time++) {
    await goOn(1);
    await waitUntil("it is at work", isAllJudged, 30);
    // While it is awake, and waits for more.
    await goOn(1);
    await sleep(dice.between(0, 60));
    network.swallow();
    await sleep(300);
    network.mend();
    await goOn(50);
  }
  await waitForRest(database.pool, 60);
  await checkAtRest(database.pool, { model, heard });
}, 180_000);
