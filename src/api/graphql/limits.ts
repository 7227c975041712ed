/**
 * How large a GraphQL operation may be, as rules of validation: they look at the document alone, before anything is planned.
 * Each refusal names its limit and has a code of its own. Used by graphql_documents.ts; what depends on the values of
 * variables, page sizes and cost, is in graphql_pages.ts.
 */
import { maxAliasesRule } from "@escape.tech/graphql-armor-max-aliases";
import { maxDepthRule } from "@escape.tech/graphql-armor-max-depth";
import { GraphQLError, Kind } from "postgraphile/graphql";
import type { SelectionSetNode, ValidationContext, ValidationRule } from "postgraphile/graphql";

export const limits = {
  /** Words and signs of a document. */
  tokens: 2000,
  aliases: 15,
  depth: 12,
  /** Fields of an operation's first level. */
  rootFields: 10,
  pageSize: 500,
  pageSizeByDefault: 50,
  orderBy: 5,
  /** Fields that would be answered if every page were full. */
  cost: 50_000,
} as const;

export const limitRules: ValidationRule[] = [
  maxAliasesRule({
    n: limits.aliases,
    allowList: [],
    propagateOnRejection: false,
    onReject: [
      reporting("TOO_MANY_ALIASES", `An operation may have ${limits.aliases} aliases at the most.`),
    ],
  }),
  maxDepthRule({
    n: limits.depth,
    flattenFragments: true,
    propagateOnRejection: false,
    onReject: [reporting("TOO_DEEP", `Fields may be nested ${limits.depth} deep at the most.`)],
  }),
  limitRootFields,
];

/** The libraries' own words are neither stable nor ours; what counts is that they found too much. */
function reporting(code: string, message: string) {
  return (context: ValidationContext | null): void => {
    context?.reportError(new GraphQLError(message, { extensions: { code } }));
  };
}

function limitRootFields(context: ValidationContext): ReturnType<ValidationRule> {
  return {
    OperationDefinition(operation) {
      if (countFields(context, operation.selectionSet, new Set()) <= limits.rootFields) return;
      context.reportError(
        new GraphQLError(
          `An operation may ask for ${limits.rootFields} fields of its first level at the most.`,
          { nodes: operation, extensions: { code: "TOO_MANY_ROOT_FIELDS" } },
        ),
      );
    },
  };
}

/** A fragment counts once, as it is merged. */
function countFields(
  context: ValidationContext,
  { selections }: SelectionSetNode,
  seen: Set<string>,
): number {
  let fields = 0;
  for (const selection of selections) {
    if (selection.kind === Kind.FIELD) fields += 1;
    else if (selection.kind === Kind.INLINE_FRAGMENT) {
      fields += countFields(context, selection.selectionSet, seen);
    } else if (!seen.has(selection.name.value)) {
      seen.add(selection.name.value);
      const fragment = context.getFragment(selection.name.value);
      if (fragment) fields += countFields(context, fragment.selectionSet, seen);
    }
  }
  return fields;
}
