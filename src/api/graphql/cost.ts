/**
 * What a GraphQL operation may ask for when its variables are known: page sizes, and its cost, which is the number of fields
 * that would be answered if every page were full. A plugin of graphql.ts, asked before each operation is planned, over HTTP
 * and WebSocket. Our own, because the library takes a page whose size is a variable, or is left out, for one row.
 */
import {
  getNamedType,
  GraphQLError,
  isInterfaceType,
  isObjectType,
  Kind,
  valueFromASTUntyped,
} from "postgraphile/graphql";
import type {
  FieldNode,
  FragmentDefinitionNode,
  GraphQLNamedType,
  GraphQLSchema,
  OperationDefinitionNode,
  SelectionNode,
  SelectionSetNode,
} from "postgraphile/graphql";
import { limits } from "./limits.ts";

export const costPlugin: GraphileConfig.Plugin = {
  name: "CostPlugin",
  version: "1.0.0",
  grafast: {
    middleware: {
      establishOperationPlan(next, event) {
        checkCost(event);
        return next();
      },
    },
  },
};

interface Operation {
  schema: GraphQLSchema;
  operation: OperationDefinitionNode;
  fragments: Record<string, FragmentDefinitionNode>;
  /** As they were coerced. */
  variableValues: Record<string, unknown>;
}

/** Throws a GraphQLError with a code that names the limit. */
function checkCost(asked: Operation): void {
  const root = asked.schema.getRootType(asked.operation.operation);
  // A fragment costs the same wherever it is spread, and is looked at once: spread in one another they would take for ever.
  const known = new Map<string, number>();
  const cost = costOfSelections(asked, root, asked.operation.selectionSet, known);
  if (cost <= limits.cost) return;
  throw new GraphQLError(
    `This operation may answer more than ${limits.cost} fields. Ask for smaller pages, or fewer fields in them.`,
    { nodes: asked.operation, extensions: { code: "TOO_COSTLY" } },
  );
}

function costOfSelections(
  asked: Operation,
  type: GraphQLNamedType | null | undefined,
  { selections }: SelectionSetNode,
  known: Map<string, number>,
): number {
  return selections.reduce((sum, one) => sum + costOfSelection(asked, type, one, known), 0);
}

function costOfSelection(
  asked: Operation,
  type: GraphQLNamedType | null | undefined,
  selection: SelectionNode,
  known: Map<string, number>,
): number {
  switch (selection.kind) {
    case Kind.FIELD:
      return costOfField(asked, type, selection, known);
    case Kind.INLINE_FRAGMENT: {
      const name = selection.typeCondition?.name.value;
      const narrowed = name === undefined ? type : asked.schema.getType(name);
      return costOfSelections(asked, narrowed, selection.selectionSet, known);
    }
    case Kind.FRAGMENT_SPREAD: {
      const name = selection.name.value;
      const fragment = asked.fragments[name];
      if (!fragment) return 0;
      const cost =
        known.get(name) ??
        costOfSelections(
          asked,
          asked.schema.getType(fragment.typeCondition.name.value),
          fragment.selectionSet,
          known,
        );
      known.set(name, cost);
      return cost;
    }
  }
}

function costOfField(
  asked: Operation,
  type: GraphQLNamedType | null | undefined,
  field: FieldNode,
  known: Map<string, number>,
): number {
  const isComposite = isObjectType(type) || isInterfaceType(type);
  // Not there: __typename, and the schema's own description, which costs no query.
  const definition = isComposite ? type.getFields()[field.name.value] : undefined;
  if (!definition || !field.selectionSet) return 1;
  const isList = definition.args.some(({ name }) => name === "first");
  const rows = isList ? checkPage(asked, field) : 1;
  return (
    1 + rows * costOfSelections(asked, getNamedType(definition.type), field.selectionSet, known)
  );
}

/** How many rows this page has at the most. */
function checkPage({ variableValues }: Operation, field: FieldNode): number {
  const given = Object.fromEntries(
    (field.arguments ?? []).map(({ name, value }) => [
      name.value,
      valueFromASTUntyped(value, variableValues) as unknown,
    ]),
  );
  const refuse = (message: string, code = "BAD_USER_INPUT"): never => {
    throw new GraphQLError(message, { nodes: field, extensions: { code } });
  };
  const { first, last, before, after, offset, orderBy } = given;
  for (const [name, size] of Object.entries({ first, last })) {
    if (typeof size === "number" && (size < 0 || size > limits.pageSize)) {
      refuse(`\`${name}\` must be from 0 to ${limits.pageSize}.`, "PAGE_SIZE");
    }
  }
  if (typeof offset === "number" && offset < 0) refuse("`offset` must not be negative.");
  if (first != null && last != null) refuse("Give `first` or `last`, not both.");
  if (before != null && (after != null || first != null)) {
    refuse("Page forwards by `first` and `after`, or backwards by `last` and `before`.");
  }
  if (last != null && (after != null || offset != null)) {
    refuse("`last` goes with `before` alone, and neither with `after` nor with `offset`.");
  }
  if (Array.isArray(orderBy) && orderBy.length > limits.orderBy) {
    refuse(`\`orderBy\` may name ${limits.orderBy} orders at the most.`);
  }
  const size = first ?? last;
  return typeof size === "number" ? size : limits.pageSizeByDefault;
}
