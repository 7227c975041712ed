/** A `Problem` as GraphQL shows it: the one form of error, in `extensions`. */
import { SafeError } from "postgraphile/grafast";
import type { Problem } from "../problems.ts";

/** `extensions.code` is stable; `extensions.errors` points into the mutation's input. */
export function graphqlErrorOf({ message, code, errors }: Problem): SafeError {
  return new SafeError(message, { code, errors });
}
