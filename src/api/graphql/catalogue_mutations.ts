/** The GraphQL mutations by which operators change the catalogue. A plugin of graphql.ts; catalogue.ts does it. */
import type { Pool } from "pg";
import { access, constant, context, object, sideEffect } from "postgraphile/grafast";
import type { FieldArgs, Step } from "postgraphile/grafast";
import { extendSchema } from "postgraphile/utils";
import type { EvaluatorRegistry } from "../../evaluation/registry.ts";
import { catalogueWrites } from "./catalogue.ts";
import type { InputName } from "./catalogue_inputs.ts";
import { catalogueTypes } from "./catalogue_types.ts";
import { graphqlErrorOf } from "./problem.ts";
import { asMember } from "../member_session.ts";
import { forbidden, Problem } from "../problems.ts";
import type { Caller } from "../tokens/tokens.ts";

export interface CatalogueMutationsOptions {
  /** Connects as the authenticator. */
  pool: Pool;
  evaluators: EvaluatorRegistry;
}

const names = Object.keys(catalogueWrites) as InputName[];

export function catalogueMutationsPlugin(
  options: CatalogueMutationsOptions,
): GraphileConfig.Plugin {
  return extendSchema((build) => {
    const { incentives, rewards, incentive_listeners: listeners } = build.pgResources;
    if (!incentives || !rewards || !listeners) throw new Error("The catalogue is not in api");
    const query = (): Step => constant(true);
    const foundBy = ($payload: Step): Step => access($payload, "id");
    const incentive = ($payload: Step): Step => incentives.get({ id: foundBy($payload) } as never);
    const reward = ($payload: Step): Step => rewards.get({ id: foundBy($payload) } as never);
    const incentiveListener = ($payload: Step): Step =>
      listeners.get({ name: foundBy($payload) } as never);
    return {
      typeDefs: catalogueTypes,
      objects: {
        Mutation: {
          plans: Object.fromEntries(names.map((name) => [name, planWrite(options, name)])),
        },
        IncentivePayload: { plans: { incentive, query } },
        RewardPayload: { plans: { reward, query } },
        ListenerPayload: { plans: { incentiveListener, query } },
      },
    };
  });
}

function planWrite(options: CatalogueMutationsOptions, name: InputName) {
  return (_$root: Step, fieldArgs: FieldArgs): Step => {
    const $input = fieldArgs.getRaw("input");
    const $id = sideEffect([context(), $input] as const, ([{ caller }, input]) =>
      write(options, name, caller, input as object),
    );
    return object({ id: $id, clientMutationId: fieldArgs.getRaw(["input", "clientMutationId"]) });
  };
}

async function write(
  { pool, evaluators }: CatalogueMutationsOptions,
  name: InputName,
  caller: Caller | undefined,
  input: object,
): Promise<number | string> {
  try {
    if (caller?.role !== "operator") throw forbidden("This is for operators.");
    const { clientMutationId: _, ...given } = input as Record<string, unknown>;
    return await asMember(pool, caller, (client) =>
      catalogueWrites[name](client, evaluators, given),
    );
  } catch (error) {
    throw error instanceof Problem ? graphqlErrorOf(error) : error;
  }
}
