/**
 * What an operator may send to change the catalogue, as schemas, and their check. Used by catalogue.ts. No message repeats a
 * value; a pointer starts at the mutation's input.
 */
import { Temporal } from "temporal-polyfill";
import { Type } from "typebox";
import type { Static, TSchema } from "typebox";
import { compileSchema } from "../../evaluation/schema_check.ts";
import { findUnstorable } from "../../evaluation/storable.ts";
import { unprocessable } from "../problems.ts";
import type { FieldProblem } from "../problems.ts";

const Key = Type.String({
  pattern: "^[a-z][a-z0-9_]{0,62}$",
  description: "snake_case: small letters, digits and _, at most 63, the first a letter",
});
const Name = Type.String({ minLength: 1, maxLength: 200 });
const Time = Type.Union([Type.String(), Type.Null()]);
const Amount = Type.String({
  pattern: "^\\d{1,10}(\\.\\d{1,2})?$",
  description: "a number from 0 to 9999999999.99 with at most two decimals",
});
const RewardKeys = Type.Array(Type.String(), { maxItems: 100 });

const exactly = { additionalProperties: false };
const changeable = {
  name: Name,
  description: Type.String({ maxLength: 5000 }),
  evaluator: Type.String(),
  criteria: Type.Unknown(),
  isActive: Type.Boolean(),
  startsAt: Time,
  endsAt: Time,
};
const reward = { name: Name, kind: Name, amount: Amount, unit: Name };

const inputs = {
  createIncentive: Type.Object(
    {
      key: Key,
      ...Type.Partial(Type.Object(changeable)).properties,
      name: Name,
      evaluator: changeable.evaluator,
      criteria: changeable.criteria,
      rewards: Type.Optional(RewardKeys),
    },
    exactly,
  ),
  updateIncentive: Type.Object(
    { key: Type.String(), ...Type.Partial(Type.Object(changeable)).properties },
    exactly,
  ),
  createReward: Type.Object({ key: Key, ...reward }, exactly),
  updateReward: Type.Object(
    { key: Type.String(), ...Type.Partial(Type.Object(reward)).properties },
    exactly,
  ),
  setIncentiveRewards: Type.Object({ incentive: Type.String(), rewards: RewardKeys }, exactly),
  setListenerActive: Type.Object({ name: Type.String(), isActive: Type.Boolean() }, exactly),
};

type Inputs = typeof inputs;
export type InputName = keyof Inputs;
export type Input<Name extends InputName> = Static<Inputs[Name]>;

const checks = Object.fromEntries(
  Object.entries(inputs).map(([name, schema]) => [name, compileSchema(schema as TSchema)]),
);

/** These may be null, which is not the same as being left out. */
const clearable = new Set(["startsAt", "endsAt"]);

/** What was given, without what was left out by null. Throws a 422 `Problem`. */
export function checkInput<Name extends InputName>(name: Name, given: object): Input<Name> {
  const input = Object.fromEntries(
    Object.entries(given).filter(([field, value]) => value !== null || clearable.has(field)),
  );
  if ("amount" in input) input.amount = String(input.amount);
  refuse([
    ...findUnstorable(input),
    ...(checks[name]?.problems(input) ?? []),
    ...checkTimes(input),
  ]);
  return input as Input<Name>;
}

/** Throws a 422 `Problem` when there are problems. */
export function refuse(problems: FieldProblem[]): void {
  if (problems.length > 0) throw unprocessable(problems);
}

/** Whether an incentive's two times are in order, when both are there. */
export function checkOrder(startsAt: unknown, endsAt: unknown): FieldProblem[] {
  if (typeof startsAt !== "string" || typeof endsAt !== "string") return [];
  const starts = Temporal.Instant.from(startsAt);
  const isLater = Temporal.Instant.compare(starts, Temporal.Instant.from(endsAt)) < 0;
  return isLater ? [] : [{ pointer: "/endsAt", message: "must be after startsAt" }];
}

function checkTimes(input: Record<string, unknown>): FieldProblem[] {
  return [...clearable]
    .filter((field) => typeof input[field] === "string" && !isTime(input[field]))
    .map((field) => ({
      pointer: `/${field}`,
      message: "must be a time with its zone, such as 2021-09-15T17:15:00Z",
    }));
}

function isTime(text: string): boolean {
  try {
    Temporal.Instant.from(text);
    return /^\d{4}-/.test(text);
  } catch {
    return false;
  }
}
