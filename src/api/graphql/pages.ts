/**
 * Every GraphQL list is read in pages, also where no page was asked for: a plugin of graphql.ts. That a page is not too large
 * is graphql_cost.ts's business.
 */
import { lambda, object } from "postgraphile/grafast";
import type { ExecutableStep, FieldArgs } from "postgraphile/grafast";
import { limits } from "./limits.ts";

interface Asked {
  first: number | null | undefined;
  last?: number | null | undefined;
  before?: unknown;
  after?: unknown;
}

interface Paged {
  setFirst(first: ExecutableStep): void;
  setLast(last: ExecutableStep): void;
}

export const pagesPlugin: GraphileConfig.Plugin = {
  name: "PagesPlugin",
  version: "1.0.0",
  schema: {
    hooks: {
      GraphQLObjectType_fields_field_args(args, build, { scope }) {
        if (!isList(scope)) return args;
        const size = `Only the {} \`n\` values: ${limits.pageSize} at the most, ${limits.pageSizeByDefault} if nothing is said.`;
        for (const name of ["first", "last"]) {
          const arg = args[name];
          if (!arg) continue;
          arg.description = build.wrapDescription(size.replace("{}", name), "arg");
          // What one of them is by default depends on the other, so the field's own plan (below) applies them.
          delete arg.applyPlan;
        }
        return args;
      },
      GraphQLObjectType_fields_field(field, _build, { scope }) {
        const { plan } = field;
        if (!isList(scope) || !plan) return field;
        return {
          ...field,
          plan(...given) {
            const $list = plan(...given);
            const [, fieldArgs, info] = given;
            const canGoBack = info.field.args.some(({ name }) => name === "last");
            paginate($list as unknown as Paged, fieldArgs, canGoBack);
            return $list;
          },
        };
      },
    },
  },
};

function isList(scope: { isPgFieldConnection?: boolean; isPgFieldSimpleCollection?: boolean }) {
  return Boolean(scope.isPgFieldConnection ?? scope.isPgFieldSimpleCollection);
}

function paginate($list: Paged, args: FieldArgs, canGoBack: boolean): void {
  const $first = args.getRaw("first");
  if (!canGoBack) return $list.setFirst(lambda(object({ first: $first }), firstOf, true));
  const $asked = object({
    first: $first,
    last: args.getRaw("last"),
    before: args.getRaw("before"),
    after: args.getRaw("after"),
  });
  $list.setFirst(lambda($asked, firstOf, true));
  $list.setLast(lambda($asked, lastOf, true));
}

/** Backwards is who asks for the last ones, or for those before something. */
const isBackwards = ({ first, last, before, after }: Asked): boolean =>
  last != null || (before != null && first == null && after == null);

function firstOf(asked: Asked): number | null {
  return asked.first ?? (isBackwards(asked) ? null : limits.pageSizeByDefault);
}

function lastOf(asked: Asked): number | null {
  return asked.last ?? (isBackwards(asked) ? limits.pageSizeByDefault : null);
}
