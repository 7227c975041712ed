/** The GraphQL mutation `recordIncentives`: several actions in one request, as the REST route for batches takes them. */
import type { Pool } from "pg";
import { constant, context, object, sideEffect } from "postgraphile/grafast";
import { extendSchema, gql } from "postgraphile/utils";
import type { EvaluatorRegistry } from "../../evaluation/registry.ts";
import { compileSchema } from "../../evaluation/schema_check.ts";
import { recordBatch } from "../batches.ts";
import { graphqlErrorOf } from "./problem.ts";
import { Problem, unprocessable } from "../problems.ts";
import { Batch } from "../rest/bodies.ts";
import type { Caller } from "../tokens/tokens.ts";

export interface RecordIncentivesOptions {
  /** Connects as the authenticator. */
  pool: Pool;
  evaluators: EvaluatorRegistry;
}

const batchSchema = compileSchema(Batch);

export function recordIncentivesPlugin(options: RecordIncentivesOptions): GraphileConfig.Plugin {
  return extendSchema({
    typeDefs: gql`
      """
      One action of several.
      """
      input RecordIncentivesAction {
        """
        The incentive's key.
        """
        incentive: String!
        data: JSON!
        """
        Whose action it is, for a token that says it records for members; otherwise one's own.
        """
        userId: String
        """
        Sent again with the same key, 1 to 255 visible characters, the action is recorded once.
        """
        idempotencyKey: String
      }

      input RecordIncentivesInput {
        clientMutationId: String
        """
        From 1 to 500.
        """
        actions: [RecordIncentivesAction!]!
      }

      """
      What became of one action.
      """
      type RecordIncentivesResult {
        """
        Its place among the actions, from 0.
        """
        index: Int!
        """
        201 when it was recorded; otherwise why not, as REST says it.
        """
        status: Int!
        """
        The id of the user incentive it was recorded in.
        """
        id: BigInt
        """
        Its key was used before, for the same: nothing was recorded now.
        """
        replayed: Boolean
        code: String
        title: String
        detail: String
        errors: [RecordIncentivesError!]
      }

      """
      What is wrong with an action, and where: a JSON pointer into the mutation's input.
      """
      type RecordIncentivesError {
        pointer: String!
        message: String!
      }

      type RecordIncentivesPayload {
        clientMutationId: String
        """
        One for each action, in their order.
        """
        results: [RecordIncentivesResult!]!
        query: Query
      }

      extend type Mutation {
        """
        Records several actions at once. Each succeeds or is refused for itself.
        """
        recordIncentives(input: RecordIncentivesInput!): RecordIncentivesPayload
      }
    `,
    objects: {
      Mutation: {
        plans: {
          recordIncentives(_$root, fieldArgs) {
            const $input = fieldArgs.getRaw("input");
            const $results = sideEffect([context(), $input] as const, ([{ caller }, input]) =>
              recordAll(options, caller, input as { actions: object[] }),
            );
            const $clientMutationId = fieldArgs.getRaw(["input", "clientMutationId"]);
            return object({ results: $results, clientMutationId: $clientMutationId });
          },
        },
      },
      RecordIncentivesPayload: { plans: { query: () => constant(true) } },
    },
  });
}

async function recordAll(
  { pool, evaluators }: RecordIncentivesOptions,
  caller: Caller | undefined,
  { actions }: { actions: object[] },
): Promise<object[]> {
  if (!caller) throw new Error("The context carries no caller");
  const problems = batchSchema.problems({ actions });
  if (problems.length > 0) throw graphqlErrorOf(unprocessable(problems));
  // GraphQL has two ways to leave something out.
  const given = actions.map((action) =>
    Object.fromEntries(Object.entries(action).filter(([, value]) => value !== null)),
  );
  return recordBatch(pool, evaluators, caller, given).catch((error: unknown) => {
    throw error instanceof Problem ? graphqlErrorOf(error) : error;
  });
}
