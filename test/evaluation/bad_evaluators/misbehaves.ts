/** Does what its data asks for, which is what an evaluator must never do. */
import { Type } from "typebox";
import type { Evaluator, Verdict } from "../../../src/evaluation/evaluator.ts";

const dataSchema = Type.Object({ does: Type.String(), afterMs: Type.Optional(Type.Integer()) });
const criteriaSchema = Type.Object({});

const hoard: unknown[] = [];

const deeds: Record<string, (afterMs: number) => unknown> = {
  behaves: () => ({ status: "completed", progress: 1, explanation: [] }),
  "says who it is": () => ({
    status: "completed",
    progress: 1,
    explanation: [{ condition: "process", met: true, message: String(process.pid) }],
  }),
  dawdles: () => {
    for (const end = Date.now() + 40; Date.now() < end;);
    return { status: "completed", progress: 1, explanation: [] };
  },
  dies: (afterMs) => {
    for (const end = Date.now() + afterMs; Date.now() < end;);
    process.abort();
  },
  throws: () => {
    throw new RangeError("with what the member recorded in its message");
  },
  "never returns": () => {
    for (;;);
  },
  "never settles": () => new Promise(() => {}),
  "returns nonsense": () => ({ status: "completed", progress: 7, explanation: "yes" }),
  "returns what the database refuses": () => ({
    status: "completed",
    progress: 1,
    explanation: [{ condition: "met", met: true, message: "\0" }],
  }),
  "allocates without end": () => {
    for (;;) hoard.push(Array.from({ length: 10_000 }, () => ({})));
  },
};

export const evaluator: Evaluator<typeof dataSchema, typeof criteriaSchema> = {
  name: "misbehaves",
  dataSchema,
  criteriaSchema,
  evaluate: ({ data }) => deeds[data.does]?.(data.afterMs ?? 0) as Verdict,
};
