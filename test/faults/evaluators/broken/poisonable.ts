/** For poison.test.ts: throws on a marked row, with what was recorded in its message. */
import { Type } from "typebox";
import type { Evaluator } from "../../../../src/evaluation/evaluator.ts";

const dataSchema = Type.Object({ poison: Type.Boolean() }, { additionalProperties: false });
const criteriaSchema = Type.Object({}, { additionalProperties: false });

export const evaluator: Evaluator<typeof dataSchema, typeof criteriaSchema> = {
  name: "poisonable",
  dataSchema,
  criteriaSchema,
  evaluate({ data }) {
    if (data.poison) throw new TypeError(`cannot judge ${JSON.stringify(data)}`);
    return { status: "completed", progress: 1, explanation: [] };
  },
};
