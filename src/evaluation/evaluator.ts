/**
 * The adapter an incentive is judged by: one file in `src/evaluators/` exports one `evaluator`.
 *
 * An evaluator is pure: everything it may know is in `facts`. No I/O, no clock, no random numbers, so that a member's
 * whole history can be judged again and comes out the same.
 */
import type { Static, TSchema } from "typebox";
import type { Temporal } from "temporal-polyfill";

export interface Evaluator<Data extends TSchema = TSchema, Criteria extends TSchema = TSchema> {
  /** What `app.incentives.evaluator` calls it; also the name of its file. */
  name: string;
  /** What a member may record, whole: a document is an object schema, a log an array schema. */
  dataSchema: Data;
  /** What an operator may configure in `app.incentives.criteria`. */
  criteriaSchema: Criteria;
  /** What the schema cannot say of criteria, above all that they can never be met. Called only with criteria that fit it. */
  checkCriteria?(criteria: Static<Criteria>): Problem[];
  /**
   * What the schema cannot say of data that is about to be recorded. Called only with data that fits it, and only by the
   * API: what came by SQL is there already, so `evaluate` must have an answer to it.
   */
  checkData?(data: Static<Data>): Problem[];
  /** Called only with `data` and `criteria` that fit the two schemas. It must not change them. */
  evaluate(facts: Facts<Static<Data>, Static<Criteria>>): Verdict;
}

/** Where something does not fit (a JSON pointer, RFC 6901) and what. The message never repeats a value. */
export interface Problem {
  pointer: string;
  message: string;
}

export interface Facts<Data, Criteria> {
  data: Data;
  criteria: Criteria;
  /** The moment of judgement: the transaction's time in the database. */
  now: Temporal.Instant;
}

/** The closed set of answers. `progress` is a share from 0 to 1; `invalid` is an answer, not an error. */
export type Verdict =
  | { status: "completed"; progress: 1; explanation: Reason[] }
  | { status: "in_progress"; progress: number; explanation: Reason[] }
  | { status: "invalid"; progress: 0; explanation: Reason[] };

/** One condition, as a member reads it who asks "why not yet?". Never repeats what a member recorded. */
export interface Reason {
  /** The condition's name in snake_case, stable: clients translate by it. */
  condition: string;
  met: boolean;
  /** One English sentence. */
  message: string;
  /** What the condition asks for, e.g. 7 (days), and what was counted towards it. */
  needed?: number;
  counted?: number;
  /** Where in `data` the cause stands, as a JSON pointer (RFC 6901), for example `/3/date`. */
  pointer?: string;
  /** Entries that did not count, grouped by why; `entries` are positions in the log, at most the first 20. */
  ignored?: { because: string; count: number; entries: number[] }[];
}
