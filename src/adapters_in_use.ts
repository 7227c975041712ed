/**
 * Holds the names in the database against the adapters in the folders. Called at start and by /readyz: a name without its
 * adapter must be heard of, because its rows wait, or its events go undelivered, until the adapter is there.
 */
import type { Pool } from "pg";
import type { ListenerRegistry } from "./delivery/registry.ts";
import { checkCriteria } from "./evaluation/judge.ts";
import type { EvaluatorRegistry } from "./evaluation/registry.ts";

/** One sentence for each thing that is missing or does not fit; empty when all is well. `pool` connects as the owner. */
export async function findAdapterProblems(
  pool: Pool,
  evaluators: EvaluatorRegistry,
  listeners: ListenerRegistry,
): Promise<string[]> {
  const incentives = await pool.query<IncentiveInUse>(
    "select key, evaluator, records, criteria from app.incentives order by key",
  );
  const active = await pool.query<{ name: string }>(
    "select name from app.incentive_listeners where is_active order by name",
  );
  return [
    ...incentives.rows.flatMap((incentive) => problemsOfIncentive(incentive, evaluators)),
    ...active.rows
      .filter(({ name }) => !listeners.has(name))
      .map(({ name }) => `listener ${name}: there is no src/listeners/${name}.ts`),
  ];
}

interface IncentiveInUse {
  key: string;
  evaluator: string;
  records: string;
  criteria: unknown;
}

function problemsOfIncentive(
  { key, evaluator, records, criteria }: IncentiveInUse,
  evaluators: EvaluatorRegistry,
): string[] {
  const adapter = evaluators.get(evaluator);
  if (!adapter) return [`incentive ${key}: there is no src/evaluators/${evaluator}.ts`];
  const expected = adapter.records;
  return [
    ...(records === expected ? [] : [`incentive ${key}: records must be '${expected}'`]),
    ...checkCriteria(evaluators, evaluator, criteria).map(
      ({ pointer, message }) => `incentive ${key}: criteria${pointer} ${message}`,
    ),
  ];
}
