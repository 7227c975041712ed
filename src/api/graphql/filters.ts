/**
 * What each GraphQL list can be filtered and ordered by: these columns and no others. Plugins of graphql.ts. A member's rows are
 * found by an index first and are few, the catalogue is a handful, so each of these is cheap. What a member recorded and why it
 * was judged so (`data`, `explanation`) is never here: a filter would be a search in health data.
 *
 * Everything is forbidden by default (`closedByDefault`), so that a new view offers nothing until it stands here.
 */
import { PostGraphileConnectionFilterPreset } from "postgraphile-plugin-connection-filter";
import { jsonPgSmartTags } from "postgraphile/utils";

/** For the preset's `schema.defaultBehavior`. */
export const closedByDefault = "-attribute:filterBy -attribute:orderBy";

const columns: Record<string, Record<string, "filter" | "order" | "both">> = {
  user_incentives: {
    incentive_id: "filter",
    status: "filter",
    completed_at: "both",
    created_at: "both",
    updated_at: "both",
  },
  user_rewards: {
    incentive_id: "filter",
    reward_id: "filter",
    user_incentive_id: "filter",
    won_at: "both",
  },
  incentives: {
    key: "both",
    name: "order",
    is_active: "filter",
    starts_at: "both",
    ends_at: "both",
  },
  rewards: { key: "both", name: "order", kind: "filter" },
  incentive_rewards: { incentive_id: "filter", reward_id: "filter" },
};

const behaviors = { filter: "+filterBy", order: "+orderBy", both: "+filterBy +orderBy" };

const tagsPlugin = jsonPgSmartTags({
  version: 1,
  config: {
    class: Object.fromEntries(
      Object.entries(columns).map(([view, uses]) => [
        `api.${view}`,
        {
          attribute: Object.fromEntries(
            Object.entries(uses).map(([column, use]) => [
              column,
              { tags: { behavior: behaviors[use] } },
            ]),
          ),
        },
      ]),
    ),
  },
});

export const filtersPreset: GraphileConfig.Preset = {
  extends: [PostGraphileConnectionFilterPreset],
  plugins: [tagsPlugin],
  disablePlugins: [
    // One way to filter, not two.
    "PgConditionArgumentPlugin",
    "PgConditionCustomFieldsPlugin",
    // A filter is a few comparisons, not a language: nothing nested, nothing that joins.
    "PgConnectionArgFilterLogicalOperatorsPlugin",
    "PgConnectionArgFilterForwardRelationsPlugin",
    "PgConnectionArgFilterBackwardRelationsPlugin",
    "PgConnectionArgFilterComputedAttributesPlugin",
    "PgConnectionArgFilterCompositeTypeAttributesPlugin",
    "PgConnectionArgFilterRecordFunctionsPlugin",
  ],
  schema: {
    connectionFilterAllowedOperators: [
      "equalTo",
      "in",
      "isNull",
      "lessThan",
      "lessThanOrEqualTo",
      "greaterThan",
      "greaterThanOrEqualTo",
    ],
    connectionFilterArrays: false,
    connectionFilterAllowedFieldTypes: ["String", "Int", "BigInt", "Boolean", "Datetime"],
    connectionFilterAllowNullInput: true,
    connectionFilterAllowEmptyObjectInput: true,
  },
};
