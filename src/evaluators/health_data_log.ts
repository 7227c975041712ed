/**
 * Judges a log of moods, symptoms and the like: enough different days within a span of days. Entries stand in any order, as
 * members log late or from two devices, and none makes the whole log invalid, because a log only grows: an entry that
 * cannot count is left out, and the explanation says which and why.
 */
import { Type } from "typebox";
import type { Static } from "typebox";
import type { Evaluator, Facts, Reason, Verdict } from "../evaluation/evaluator.ts";
import { isInTheFuture, MemberTime, parseMemberTime } from "../evaluation/member_time.ts";

/** As `app.add_to_log` has it. */
const entriesAtMost = 5000;

const itemType = Type.String({ minLength: 1, maxLength: 64 });

const entrySchema = Type.Object(
  {
    date: MemberTime,
    data: Type.Array(
      Type.Object(
        {
          type: itemType,
          // One schema with three types, not a union of three: a value that does not fit is then one problem, not four.
          value: Type.Unsafe<string | number | boolean>({
            type: ["string", "number", "boolean"],
            maxLength: 2000,
          }),
        },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: 100 },
    ),
  },
  { additionalProperties: false },
);

const dataSchema = Type.Array(entrySchema, { maxItems: entriesAtMost });

const criteriaSchema = Type.Object(
  {
    required_days: Type.Integer({ minimum: 1, maximum: entriesAtMost }),
    within_days: Type.Integer({ minimum: 1 }),
    types: Type.Optional(
      Type.Array(itemType, {
        minItems: 1,
        maxItems: 20,
        uniqueItems: true,
        description: "Only entries with an item of one of these types count; left out, all do.",
      }),
    ),
  },
  { additionalProperties: false },
);

type Entry = Static<typeof entrySchema>;
type Criteria = Static<typeof criteriaSchema>;

export const evaluator: Evaluator<typeof dataSchema, typeof criteriaSchema> = {
  name: "health_data_log",
  dataSchema,
  criteriaSchema,
  checkCriteria: ({ required_days, within_days }) =>
    required_days > within_days
      ? [{ pointer: "/required_days", message: "must not be more than within_days" }]
      : [],
  checkData: (entries) =>
    entries.flatMap(({ date }, position) =>
      parseMemberTime(date)
        ? []
        : [{ pointer: `/${position}/date`, message: "is not a real date and time" }],
    ),
  evaluate({ data, criteria, now }): Verdict {
    const days = data.map(dayOrWhyNot(criteria, now));
    const best = bestSpan(
      days.filter((day) => typeof day === "number"),
      criteria.within_days,
    );
    const explanation = [explain(criteria, best, days)];
    return best.count >= criteria.required_days
      ? { status: "completed", progress: 1, explanation }
      : { status: "in_progress", progress: best.count / criteria.required_days, explanation };
  },
};

const whysNot = [
  "date_is_not_real",
  "in_the_future",
  "duplicate",
  "of_another_type",
  "outside_the_best_span",
] as const;
type WhyNot = (typeof whysNot)[number];

/** Which calendar day an entry counts for, or why it does not count. To be asked of one entry after the other. */
function dayOrWhyNot({ types }: Criteria, now: Facts<unknown, unknown>["now"]) {
  const wanted = types && new Set(types);
  const seen = new Set<string>();
  return ({ date, data }: Entry): number | WhyNot => {
    const time = parseMemberTime(date);
    if (!time) return "date_is_not_real";
    if (isInTheFuture(time, now)) return "in_the_future";
    // The order of properties says nothing, so the content is written out in one order.
    const content = JSON.stringify([date, ...data.flatMap(({ type, value }) => [type, value])]);
    if (seen.size === seen.add(content).size) return "duplicate";
    if (wanted && !data.some(({ type }) => wanted.has(type))) return "of_another_type";
    return time.day;
  };
}

interface Span {
  firstDay: number;
  lastDay: number;
  /** How many different days of it count. */
  count: number;
}

/** The span of `withinDays` consecutive days with the most of these days in it; of several, the latest. */
function bestSpan(days: number[], withinDays: number): Span {
  const ascending = [...new Set(days)].sort((a, b) => a - b);
  let best: Span = { firstDay: Infinity, lastDay: -Infinity, count: 0 };
  let start = 0;
  for (const [end, lastDay] of ascending.entries()) {
    while (lastDay - ascending[start]! >= withinDays) start++;
    const count = end - start + 1;
    if (count >= best.count) best = { firstDay: ascending[start]!, lastDay, count };
  }
  return best;
}

function explain(criteria: Criteria, best: Span, days: (number | WhyNot)[]): Reason {
  const { required_days: needed, within_days, types } = criteria;
  const ofTypes = types ? ` with an entry of the type ${types.join(" or ")}` : "";
  return {
    condition: "days_logged",
    met: best.count >= needed,
    message: `To be logged: ${quantity(needed, "different day")}${ofTypes} within ${quantity(within_days, "day")}.`,
    needed,
    counted: best.count,
    ignored: groupIgnored(days, best),
  };
}

function groupIgnored(days: (number | WhyNot)[], best: Span): NonNullable<Reason["ignored"]> {
  const positions: Record<WhyNot, number[]> = {
    date_is_not_real: [],
    in_the_future: [],
    duplicate: [],
    of_another_type: [],
    outside_the_best_span: [],
  };
  days.forEach((day, position) => {
    if (typeof day === "string") positions[day].push(position);
    else if (day < best.firstDay || day > best.lastDay) {
      positions.outside_the_best_span.push(position);
    }
  });
  return whysNot
    .map((because) => ({
      because,
      count: positions[because].length,
      entries: positions[because].slice(0, 20),
    }))
    .filter(({ count }) => count > 0);
}

function quantity(number: number, unit: string): string {
  return `${number} ${unit}${number === 1 ? "" : "s"}`;
}
