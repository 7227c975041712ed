/** Says of each GraphQL operation, by its parsed document, whether its answer may be kept in memory. A plugin of the GraphQL preset. */
import type { DocumentNode, GraphQLSchema } from "postgraphile/graphql";
import { TypeInfo, visit, visitWithTypeInfo } from "postgraphile/graphql";
import { settleKeeping } from "../front/answer_from_memory.ts";

/** What the database tells the changes of: these types, reached by these fields. All else is asked for each time. */
const keepableTypes =
  /^(?:Query|PageInfo|(?:Incentive|Reward|IncentiveReward|UserIncentive|UserReward|UserSummary)(?:Connection|Edge)?)$/;
const keepableFields =
  /^(?:(?:incentive|reward|incentiveReward|userIncentive|userReward)s?(?:By[A-Z]\w*)?|userSummary|__typename)$/;

export function keepableQueriesPlugin(): GraphileConfig.Plugin {
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
          const { schema, document, requestContext } = args;
          const request = requestContext?.node?.req;
          settleKeeping(request, judge(schema, document));
          const result = await next();
          if (Symbol.asyncIterator in result || result.errors) settleKeeping(request, false);
          return result;
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
