/**
 * GraphQL errors as clients may see them: our own codes pass, everything else becomes a reference that is found in the log.
 * No text repeats a value, a path of the server or SQL. Used by graphql.ts; REST's errors are in problems.ts, and what the
 * database says means the same in both.
 */
import { isSafeError } from "postgraphile/grafast";
import type { SafeError } from "postgraphile/grafast";
import { GraphQLError, Kind, print } from "postgraphile/graphql";
import type { Logger } from "../../logger.ts";
import { graphqlErrorOf } from "./problem.ts";
import { tookTooLong, toProblem } from "../problems.ts";

export function createMaskError(logger: Logger) {
  return (error: GraphQLError): GraphQLError => {
    const { nodes, source, positions, path } = error;
    const { message, extensions } = whatToSay(error, logger);
    return new GraphQLError(message, {
      nodes: nodes ?? null,
      source: source ?? null,
      positions: positions ?? null,
      path: path ?? null,
      extensions,
    });
  };
}

interface Said {
  message: string;
  extensions: Record<string, unknown>;
}

function whatToSay(error: GraphQLError, logger: Logger): Said {
  const cause = error.originalError;
  if (cause && isSafeError(cause)) return saySafely(cause);
  if (cause && !(cause instanceof GraphQLError)) {
    const { message, extensions } = graphqlErrorOf(toProblem(cause, logger));
    return { message, extensions: { ...extensions } };
  }
  if (typeof error.extensions.code === "string") return error;
  // The specification's own words about variables and operations repeat what was sent.
  const variable = error.nodes?.find((node) => node.kind === Kind.VARIABLE_DEFINITION);
  if (variable) {
    const what = `${print(variable.variable)} is missing or no value of the type ${print(variable.type)}.`;
    return { message: what, extensions: { code: "BAD_USER_INPUT" } };
  }
  if (/^(Unknown operation|Must provide)/.test(error.message)) {
    const message = "`operationName` must name an operation of the document.";
    return { message, extensions: { code: "BAD_USER_INPUT" } };
  }
  return { message: error.message, extensions: { code: "INTERNAL_ERROR" } };
}

/** What the library says when planning or executing took too long. */
export function isTimeout(error: unknown): boolean {
  return (
    error instanceof Error &&
    isSafeError(error) &&
    /took too long|timeout exceeded/i.test(error.message)
  );
}

/** Ours carry a code. */
function saySafely(error: SafeError): Said {
  const { message, extensions } = error;
  if (typeof extensions?.code === "string") return { message, extensions };
  if (isTimeout(error)) {
    const { message, extensions } = graphqlErrorOf(tookTooLong());
    return { message, extensions: { ...extensions } };
  }
  return { message, extensions: { code: "BAD_USER_INPUT" } };
}
