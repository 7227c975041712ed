/**
 * Says of each GraphQL operation, by its parsed document, whether its answer may be kept in memory, and has a mutation forget
 * its member's answers, over HTTP and WebSocket alike. A plugin of the GraphQL preset.
 */
import type { DocumentNode, GraphQLSchema } from "postgraphile/graphql";
import { getOperationAST, TypeInfo, visit, visitWithTypeInfo } from "postgraphile/graphql";
import { memberHash } from "../../cache/answers.ts";
import type { Answers } from "../../cache/answers.ts";
import { settleKeeping } from "../front/answer_from_memory.ts";

/** What the database tells the changes of: these types, reached by these fields. All else is asked for each time. */
const keepableTypes =
  /^(?:Query|PageInfo|(?:Incentive|Reward|IncentiveReward|UserIncentive|UserReward|UserSummary)(?:Connection|Edge)?)$/;
const keepableFields =
  /^(?:(?:incentive|reward|incentiveReward|userIncentive|userReward)s?(?:By[A-Z]\w*)?|userSummary|__typename)$/;

export function keepableQueriesPlugin(answers: Answers): GraphileConfig.Plugin {
  const verdicts = new WeakMap<DocumentNode, boolean>();
  const judge = (schema: GraphQLSchema, document: DocumentNode): boolean => {
    const verdict = verdicts.get(document) ?? isKeepable(schema, document);
    verdicts.set(document, verdict);
    return verdict;
  };
  return {
    name: "KeepableQueriesPlugin",
    version: "1.0.0",
    grafast: {
      middleware: {
        async execute(next, { args }) {
          const { schema, document, operationName, requestContext } = args;
          const request = requestContext?.node?.req;
          const operation = getOperationAST(document, operationName)?.operation;
          const { caller } = args.contextValue as Grafast.Context;
          const forget = (): void => {
            if (operation === "mutation" && caller) answers.forget([memberHash(caller.userId)]);
          };
          settleKeeping(request, judge(schema, document));
          forget();
          try {
            const result = await next();
            if (Symbol.asyncIterator in result || result.errors) settleKeeping(request, false);
            return result;
          } finally {
            forget();
          }
        },
      },
    },
  };
}

/** The whole document is looked at: every operation, and every field of the root type wherever it is reached. */
function isKeepable(schema: GraphQLSchema, document: DocumentNode): boolean {
  const types = new TypeInfo(schema);
  const root = schema.getQueryType();
  let keepable = true;
  visit(
    document,
    visitWithTypeInfo(types, {
      OperationDefinition({ operation }) {
        if (operation !== "query") keepable = false;
      },
      Field({ name }) {
        const parent = types.getParentType();
        const isIntrospection = name.value === "__schema" || name.value === "__type";
        const isKnown = keepableTypes.test(parent?.name ?? "");
        const isTold = parent !== root || keepableFields.test(name.value);
        if (isIntrospection || !isKnown || !isTold) keepable = false;
      },
    }),
  );
  return keepable;
}
