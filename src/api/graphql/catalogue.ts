/**
 * Changing the catalogue, for operators: each change is checked first, an incentive's criteria by its evaluator's schema, and
 * then written in the same transaction. Called by catalogue_mutations.ts. Who changed what is kept by the database.
 */
import type { PoolClient } from "pg";
import { checkCriteria } from "../../evaluation/judge.ts";
import type { EvaluatorRegistry } from "../../evaluation/registry.ts";
import { checkInput, checkOrder, refuse } from "./catalogue_inputs.ts";
import type { Input, InputName } from "./catalogue_inputs.ts";
import { unprocessable } from "../problems.ts";
import type { FieldProblem } from "../problems.ts";

type Client = Pick<PoolClient, "query">;

/** A row of app.incentives, as far as it is written here. */
interface Incentive {
  id?: number;
  key: string;
  name: string;
  description: string;
  evaluator: string;
  records: string;
  criteria: unknown;
  is_active: boolean;
  starts_at: string | null;
  ends_at: string | null;
}

/** By what its row is found again: the id, or a listener's name. `client` is in an operator's transaction. */
type Write = (
  client: Client,
  evaluators: EvaluatorRegistry,
  given: object,
) => Promise<number | string>;

/** Each throws a 422 `Problem` whose pointers start at the mutation's input. */
export const catalogueWrites: Record<InputName, Write> = {
  async createIncentive(client, evaluators, given) {
    const { rewards = [], ...input } = checkInput("createIncentive", given);
    const records = evaluators.get(input.evaluator)?.records ?? "";
    const blank = { description: "", is_active: true, starts_at: null, ends_at: null };
    const incentive = { ...blank, records, ...rowOf(input) } as Incentive;
    refuse([...checkIncentive(evaluators, incentive), ...(await checkRewards(client, rewards))]);
    const id = await askForId(client, "select api.create_incentive($1) as id", incentive);
    await client.query("select api.set_incentive_rewards($1, $2)", [id, rewards]);
    return id;
  },

  async updateIncentive(client, evaluators, given) {
    const input = checkInput("updateIncentive", given);
    const before = await lockIncentive(client, input.key, "/key");
    const incentive = { ...before, ...rowOf(input) };
    refuse(checkIncentive(evaluators, incentive));
    return askForId(client, "select api.update_incentive($1) as id", incentive);
  },

  createReward: (client, _evaluators, given) =>
    askForId(client, "select api.create_reward($1) as id", checkInput("createReward", given)),

  updateReward: (client, _evaluators, given) =>
    askForId(client, "select api.update_reward($1) as id", checkInput("updateReward", given)),

  async setIncentiveRewards(client, _evaluators, given) {
    const { incentive: key, rewards } = checkInput("setIncentiveRewards", given);
    const { id } = await lockIncentive(client, key, "/incentive");
    refuse(await checkRewards(client, rewards));
    await client.query("select api.set_incentive_rewards($1, $2)", [id, rewards]);
    return id;
  },

  async setListenerActive(client, _evaluators, given) {
    const { name, isActive } = checkInput("setListenerActive", given);
    const { rows } = await client.query<{ found: true | null }>(
      "select api.set_listener_active($1, $2) as found",
      [name, isActive],
    );
    if (!rows[0]?.found) throw missing("/name", "listener");
    return name;
  },
};

function rowOf({ isActive, startsAt, endsAt, ...same }: Partial<Input<"updateIncentive">>): object {
  return {
    ...same,
    ...(isActive !== undefined && { is_active: isActive }),
    ...(startsAt !== undefined && { starts_at: startsAt }),
    ...(endsAt !== undefined && { ends_at: endsAt }),
  };
}

/** What the database cannot say, or would say less well. */
function checkIncentive(evaluators: EvaluatorRegistry, incentive: Incentive): FieldProblem[] {
  const { evaluator, records, criteria, starts_at: startsAt, ends_at: endsAt } = incentive;
  const compiled = evaluators.get(evaluator);
  if (!compiled) return [{ pointer: "/evaluator", message: "there is no such evaluator" }];
  if (compiled.records !== records) {
    const message = `must be one whose data is a ${records}; make another incentive`;
    return [{ pointer: "/evaluator", message }];
  }
  if (typeof criteria !== "object" || criteria === null || Array.isArray(criteria)) {
    return [{ pointer: "/criteria", message: "must be object" }];
  }
  const problems = checkCriteria(evaluators, evaluator, criteria);
  return [
    ...problems.map(({ pointer, message }) => ({ pointer: `/criteria${pointer}`, message })),
    ...checkOrder(startsAt, endsAt),
  ];
}

async function lockIncentive(
  client: Client,
  key: string,
  pointer: string,
): Promise<Incentive & { id: number }> {
  const { rows } = await client.query<{ incentive: (Incentive & { id: number }) | null }>(
    "select api.lock_incentive($1) as incentive",
    [key],
  );
  const incentive = rows[0]?.incentive;
  if (!incentive) throw missing(pointer, "incentive");
  return incentive;
}

async function checkRewards(client: Client, keys: string[]): Promise<FieldProblem[]> {
  const { rows } = await client.query<{ key: string }>(
    "select key from api.rewards where key = any ($1)",
    [keys],
  );
  const known = new Set(rows.map(({ key }) => key));
  return keys.flatMap((key, position) =>
    known.has(key) ? [] : [{ pointer: `/rewards/${position}`, message: "there is no such reward" }],
  );
}

async function askForId(client: Client, text: string, row: object): Promise<number> {
  const { rows } = await client
    .query<{ id: number | null }>(text, [JSON.stringify(row)])
    .catch((error: unknown) => {
      const isTaken = (error as { code?: unknown }).code === "23505";
      throw isTaken ? unprocessable([{ pointer: "/key", message: "is taken" }]) : error;
    });
  const id = rows[0]?.id;
  if (id === null || id === undefined) throw missing("/key", "reward");
  return id;
}

const missing = (pointer: string, what: string): Error =>
  unprocessable([{ pointer, message: `there is no such ${what}` }]);
