/**
 * The evaluators there are: every file in `src/evaluators/`, its schemas compiled once. Loaded at start; what cannot be used
 * is refused then, by its file's name.
 */
import { fileURLToPath } from "node:url";
import { loadAdapters } from "../adapters.ts";
import type { Evaluator } from "./evaluator.ts";
import { compileSchema } from "./schema_check.ts";
import type { SchemaCheck } from "./schema_check.ts";

export type EvaluatorRegistry = ReadonlyMap<string, CompiledEvaluator>;

export interface CompiledEvaluator {
  evaluator: Evaluator;
  /** As `app.incentives.records` has it: a log's data is an array, which grows. */
  records: "document" | "log";
  data: SchemaCheck;
  criteria: SchemaCheck;
}

export async function loadEvaluators(
  folder: string = fileURLToPath(new URL("../evaluators", import.meta.url)),
): Promise<EvaluatorRegistry> {
  const evaluators = await loadAdapters<Evaluator>(folder, "evaluator");
  return new Map([...evaluators].map(([name, evaluator]) => [name, compileEvaluator(evaluator)]));
}

/** Throws when it has no `evaluate`, or a schema that cannot be compiled. */
export function compileEvaluator(evaluator: Evaluator): CompiledEvaluator {
  const { name, dataSchema } = evaluator;
  if (typeof evaluator.evaluate !== "function") {
    throw new Error(`src/evaluators/${name}.ts: \`evaluator.evaluate\` must be a function`);
  }
  const data = compile(evaluator, "dataSchema");
  const criteria = compile(evaluator, "criteriaSchema");
  const isLog = "type" in dataSchema && dataSchema.type === "array";
  return { evaluator, records: isLog ? "log" : "document", data, criteria };
}

function compile(evaluator: Evaluator, which: "dataSchema" | "criteriaSchema"): SchemaCheck {
  try {
    return compileSchema(evaluator[which]);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`src/evaluators/${evaluator.name}.ts: \`evaluator.${which}\`: ${reason}`);
  }
}
