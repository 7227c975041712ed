/**
 * Everything around an evaluator: data that does not fit, incentives that are not open, and verdicts that are nonsense. Called
 * for each row by the batch; the two checks by whoever records or configures. Pure, as evaluators are, and it must have an
 * answer to any JSON value: only wrong criteria and a wrong evaluator make it throw, and no message repeats data.
 */
import type { Temporal } from "temporal-polyfill";
import type { Problem, Reason, Verdict } from "./evaluator.ts";
import type { CompiledEvaluator, EvaluatorRegistry } from "./registry.ts";
import { problemsAtMost } from "./schema_check.ts";
import { findUnstorable } from "./storable.ts";

/** What judging needs of a row in `app.incentives`. */
export interface Incentive {
  evaluator: string;
  criteria: unknown;
  is_active: boolean;
  /** In milliseconds since 1970; infinite where it is in the database. */
  starts_at: number | null;
  ends_at: number | null;
}

/** Throws when there is no such evaluator, its criteria do not fit, or what it says is no verdict. */
export function judge(
  registry: EvaluatorRegistry,
  incentive: Incentive,
  { data, now }: { data: unknown; now: Temporal.Instant },
): Verdict {
  const compiled = find(registry, incentive.evaluator);
  const [misfit] = criteriaProblems(compiled, incentive.criteria);
  if (misfit) {
    throw new Error(`criteria of ${incentive.evaluator}: ${misfit.pointer} ${misfit.message}`);
  }
  const problem = compiled.data.firstProblem(data);
  if (problem) return invalidData(problem);

  const verdict = compiled.evaluator.evaluate({ data, criteria: incentive.criteria, now });
  assertVerdict(incentive.evaluator, verdict);
  return holdBackUnlessOpen(verdict, whyNotOpen(incentive, now));
}

/** What is wrong with an incentive's criteria: its evaluator's schema, and what that cannot say. */
export function checkCriteria(
  registry: EvaluatorRegistry,
  evaluator: string,
  criteria: unknown,
): Problem[] {
  return criteriaProblems(find(registry, evaluator), criteria);
}

/**
 * What is wrong with data that is about to be recorded, the first 20: a whole document, or an array of a log's new entries.
 * A pointer may name a property that is not known; so it is for the client who sent it, not for a log.
 */
export function checkData(registry: EvaluatorRegistry, name: string, data: unknown): Problem[] {
  const { data: schema, evaluator } = find(registry, name);
  const unstorable = findUnstorable(data);
  if (unstorable.length > 0) return unstorable;
  const problems = schema.problems(data);
  if (problems.length > 0) return problems;
  return (evaluator.checkData?.(data) ?? []).slice(0, problemsAtMost);
}

function find(registry: EvaluatorRegistry, name: string): CompiledEvaluator {
  const compiled = registry.get(name);
  if (!compiled) throw new Error(`there is no src/evaluators/${name}.ts`);
  return compiled;
}

function criteriaProblems(
  { criteria: schema, evaluator }: CompiledEvaluator,
  criteria: unknown,
): Problem[] {
  const problems = schema.problems(criteria);
  return problems.length > 0 ? problems : (evaluator.checkCriteria?.(criteria) ?? []);
}

/** One reason: the first, because what came by SQL may be wrong in a million places. */
function invalidData({ pointer, message }: Problem): Verdict {
  const sentence = `What was recorded does not fit: it ${message}.`;
  const reason = { condition: "data_fits", met: false, message: sentence, pointer };
  return { status: "invalid", progress: 0, explanation: [reason] };
}

/** From `starts_at` on, until just before `ends_at`. */
function whyNotOpen(incentive: Incentive, now: Temporal.Instant): string | undefined {
  const { is_active, starts_at, ends_at } = incentive;
  if (!is_active) return "This incentive is switched off.";
  if (starts_at !== null && now.epochMilliseconds < starts_at) {
    return "This incentive has not started yet.";
  }
  if (ends_at !== null && now.epochMilliseconds >= ends_at) return "This incentive is over.";
  return undefined;
}

/**
 * An incentive that is not open completes nobody. Progress stays what it was, 1 included: it is how far the member got, and
 * the explanation says what holds it back. What is invalid stays so: that is what its member can mend.
 */
function holdBackUnlessOpen(verdict: Verdict, whyNot: string | undefined): Verdict {
  if (whyNot === undefined || verdict.status === "invalid") return verdict;
  const reason: Reason = { condition: "incentive_open", met: false, message: whyNot };
  return {
    status: "in_progress",
    progress: verdict.progress,
    explanation: [reason, ...verdict.explanation],
  };
}

/** An evaluator is somebody's code: what it says goes into the database only if it is one of the closed set. */
function assertVerdict(evaluator: string, verdict: unknown): asserts verdict is Verdict {
  const { status, progress, explanation } = (verdict ?? {}) as Record<keyof Verdict, unknown>;
  const refuse = (why: string): never => {
    throw new Error(`src/evaluators/${evaluator}.ts returned ${why}`);
  };
  if (status !== "completed" && status !== "in_progress" && status !== "invalid") {
    refuse("a status that is not completed, in_progress or invalid");
  }
  if (typeof progress !== "number" || !(progress >= 0 && progress <= 1)) {
    refuse("a progress that is not from 0 to 1");
  }
  if (status === "completed" && progress !== 1) refuse("completed with a progress that is not 1");
  if (status === "invalid" && progress !== 0) refuse("invalid with a progress that is not 0");
  if (!Array.isArray(explanation) || !explanation.every(isReason)) {
    refuse("an explanation that is not an array of reasons");
  }
}

function isReason(reason: unknown): boolean {
  const { condition, met, message } = (reason ?? {}) as Record<keyof Reason, unknown>;
  return typeof condition === "string" && typeof met === "boolean" && typeof message === "string";
}
