/**
 * What REST answers, as schemas: for the OpenAPI document (openapi.ts), whose test holds each answer against them. The database
 * makes the JSON (rest.ts), so nothing is checked by them at run time.
 */
import { Type } from "typebox";
import type { TSchema } from "typebox";

/** One of the components below, by its name. */
export const component = (name: string): TSchema =>
  Type.Unsafe({ $ref: `#/components/schemas/${name}` });

const strict = { additionalProperties: false };
const id = Type.String({ pattern: "^[1-9][0-9]*$" });
const time = Type.String({ format: "date-time" });
const named = Type.Object({ key: Type.String(), name: Type.String() }, strict);

const Reason = Type.Object(
  {
    condition: Type.String({ description: "The condition's name, stable: translate by it." }),
    met: Type.Boolean(),
    message: Type.String({ description: "One English sentence." }),
    needed: Type.Optional(Type.Number()),
    counted: Type.Optional(Type.Number()),
    pointer: Type.Optional(Type.String({ description: "Where in `data` the cause stands." })),
    ignored: Type.Optional(
      Type.Array(
        Type.Object({
          because: Type.String(),
          count: Type.Integer(),
          entries: Type.Array(Type.Integer(), { description: "Places in the log, the first 20." }),
        }),
      ),
    ),
  },
  { description: "One condition of an incentive, and whether it is met." },
);

const UserIncentive = Type.Object(
  {
    id,
    incentive: named,
    status: Type.Enum(["in_progress", "completed", "invalid"]),
    progress: Type.Number({ minimum: 0, maximum: 1 }),
    data: Type.Unknown({ description: "What the member recorded." }),
    explanation: Type.Array(component("Reason")),
    completed_at: Type.Unsafe({ type: ["string", "null"], format: "date-time" }),
    created_at: time,
    updated_at: time,
  },
  { ...strict, description: "What a member did for an incentive, and what came of it." },
);

const UserReward = Type.Object(
  {
    id,
    reward: Type.Object(
      {
        key: Type.String(),
        name: Type.String(),
        kind: Type.String(),
        amount: Type.Number({ description: "How much of `unit` was won." }),
        unit: Type.String(),
      },
      strict,
    ),
    incentive: named,
    won_at: time,
  },
  { ...strict, description: "A reward that a member has won." },
);

const FieldProblem = Type.Object(
  {
    pointer: Type.String({ description: "A JSON pointer into the request's body." }),
    message: Type.String(),
  },
  strict,
);

const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    code: Type.String({ description: "For programs: stable, and the same as in GraphQL." }),
    detail: Type.String({ description: "For people." }),
    errors: Type.Optional(Type.Array(component("FieldProblem"))),
  },
  { ...strict, description: "An error (RFC 9457). It repeats nothing of what was sent." },
);

const ActionRecorded = Type.Object(
  {
    index: Type.Integer({ description: "The action's place in the request, from 0." }),
    status: Type.Unsafe({ const: 201 }),
    id,
    replayed: Type.Boolean({
      description: "Its idempotency key was used before, for the same; nothing was recorded now.",
    }),
  },
  strict,
);

const ActionRefused = Type.Object(
  {
    index: Type.Integer({ description: "The action's place in the request, from 0." }),
    status: Type.Integer({ minimum: 400 }),
    code: Type.String(),
    title: Type.String(),
    detail: Type.String(),
    errors: Type.Array(component("FieldProblem")),
  },
  strict,
);

const readiness = Type.Object(
  { status: Type.Enum(["ready", "not ready"]) },
  {
    additionalProperties: Type.Unsafe({ type: ["boolean", "string"] }),
    description: "Each part by its name: true, or what is wrong with it.",
  },
);

export const answers: Record<string, TSchema> = {
  Reason,
  UserIncentive,
  UserIncentives: Type.Object({ incentives: Type.Array(component("UserIncentive")) }, strict),
  UserReward,
  UserRewards: Type.Object({ rewards: Type.Array(component("UserReward")) }, strict),
  ActionRecorded,
  ActionRefused,
  BatchResults: Type.Object(
    {
      results: Type.Array(
        Type.Unsafe({ anyOf: [component("ActionRecorded"), component("ActionRefused")] }),
        { description: "One for each action, in their order." },
      ),
    },
    strict,
  ),
  FieldProblem,
  Problem,
  Health: Type.Object({ status: Type.Unsafe({ const: "ok" }) }, strict),
  Readiness: readiness,
};
