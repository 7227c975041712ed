/**
 * GraphQL's answers as HTTP: each refusal has a code and words of our own (the library's repeat headers and have no code), and
 * when nothing could be read because the database is away, slow or full, it is a 503 and not a 200. A plugin of graphql.ts.
 */
import type { BufferResult, RequestDigest } from "postgraphile/grafserv";
import type { ExecutionResult } from "postgraphile/graphql";
import { isTimeout } from "./errors.ts";
import { problemOfDatabaseError } from "../problems.ts";

const refusals: Record<number, { code: string; message: string }> = {
  400: {
    code: "BAD_REQUEST",
    message: 'Send one JSON object: {"query": "…", "variables": {…}, "operationName": "…"}.',
  },
  405: {
    code: "METHOD_NOT_ALLOWED",
    message: "Send operations by POST; queries may come by GET too.",
  },
  406: {
    code: "NOT_ACCEPTABLE",
    message: "Accept application/graphql-response+json or application/json.",
  },
  413: { code: "TOO_LARGE", message: "The body has more than 100 kB; send less at once." },
  415: { code: "UNSUPPORTED_MEDIA_TYPE", message: "Send the body as application/json." },
  500: { code: "INTERNAL_ERROR", message: "Something went wrong here." },
};

export function transportPlugin(): GraphileConfig.Plugin {
  /** Requests of which nothing could be read. */
  const unavailable = new WeakSet<object>();
  return {
    name: "TransportPlugin",
    version: "1.0.0",
    grafast: {
      middleware: {
        async execute(next, { args }) {
          const result = await next();
          const request = args.requestContext?.http;
          if (request && isUnavailable(result as ExecutionResult)) unavailable.add(request);
          return result;
        },
      },
    },
    grafserv: {
      middleware: {
        async processRequest(next, { requestDigest }) {
          const result = await next();
          if (result?.type !== "buffer") return result;
          nameAsJson(result, requestDigest);
          if (unavailable.has(requestDigest)) {
            return {
              ...result,
              statusCode: 503,
              headers: { ...result.headers, "retry-after": "2" },
            };
          }
          return result.statusCode >= 400 ? explain(result, requestDigest) : result;
        },
      },
    },
  };
}

function isUnavailable({ data, errors }: ExecutionResult): boolean {
  if (!errors?.length || Object.values(data ?? {}).some((value) => value !== null)) return false;
  return errors.every(
    ({ originalError: cause }) => problemOfDatabaseError(cause)?.status === 503 || isTimeout(cause),
  );
}

/** Who does not say what they accept gets plain JSON, as the specification asks, with the statuses of the newer type. */
function nameAsJson({ headers }: BufferResult, { headers: { accept } }: RequestDigest): void {
  const isGraphql = headers["content-type"]?.startsWith("application/graphql-response+json");
  if (isGraphql && (accept === undefined || accept === "*/*")) {
    headers["content-type"] = "application/json; charset=utf-8";
  }
}

/** What was refused before it was read as an operation; errors of operations have codes of their own. */
function explain(result: BufferResult, { path }: RequestDigest): BufferResult {
  const refusal = refusals[result.statusCode];
  const isGraphql = result.headers["content-type"]?.includes("json") && path === "/graphql";
  if (!refusal || !isGraphql) return result;
  const { errors } = JSON.parse(result.buffer.toString("utf8")) as ExecutionResult;
  const [first] = errors ?? [];
  if (!first || (first.extensions?.code && !first.extensions.statusCode)) return result;
  const said = first.extensions?.code ? { message: first.message, ...first.extensions } : refusal;
  const { message, code } = said as typeof refusal;
  const buffer = Buffer.from(JSON.stringify({ errors: [{ message, extensions: { code } }] }));
  const headers = {
    ...result.headers,
    "content-length": String(buffer.length),
    ...(result.statusCode === 405 && { allow: "GET, POST" }),
    // The rest of such a body is not read.
    ...(result.statusCode === 413 && { connection: "close" }),
  };
  return { ...result, headers, buffer };
}
