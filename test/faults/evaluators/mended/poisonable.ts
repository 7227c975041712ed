/** For poison.test.ts: the same evaluator, mended. */
import { Type } from "typebox";
import type { Evaluator } from "../../../../src/evaluation/evaluator.ts";

const dataSchema = Type.Object({ poison: Type.Boolean() }, { additionalProperties: false });
const criteriaSchema = Type.Object({}, { additionalProperties: false });

export const evaluator: Evaluator<typeof dataSchema, typeof criteriaSchema> = {
  name: "poisonable",
  dataSchema,
  criteriaSchema,
  evaluate() {
    return { status: "completed", progress: 1, explanation: [] };
  },
};
