/**
 * The bodies that REST takes, as schemas: routes check by them (recording_routes.ts, recording.ts) and the OpenAPI document shows
 * them (openapi.ts), so that what is written is what holds.
 */
import { Type } from "typebox";

export const actionsAtMost = 500;

export const IdempotencyKey = Type.String({
  pattern: "^[!-~]{1,255}$",
  description: "1 to 255 visible ASCII characters",
});

const recording = {
  incentive: Type.String({ description: "The incentive's key, for example `birth_record`." }),
  data: Type.Unknown({
    description: "What the member did, in the form that the incentive's evaluator asks for.",
  }),
};

export const Recording = Type.Object(recording, { additionalProperties: false });

export const Action = Type.Object(
  {
    ...recording,
    userId: Type.Optional(
      Type.String({
        pattern: "^[^\\u0000\\p{Cs}]{1,255}$",
        description: "a member's id, 1 to 255 characters",
      }),
    ),
    idempotencyKey: Type.Optional(IdempotencyKey),
  },
  { additionalProperties: false },
);

/** Each action is checked for itself, so that a wrong one does not refuse the others. */
export const Batch = Type.Object(
  { actions: Type.Array(Type.Unknown(), { minItems: 1, maxItems: actionsAtMost }) },
  { additionalProperties: false },
);
