/** How an answer stands in the OpenAPI document, errors above all. Used by openapi_paths.ts. */
export interface Answer {
  description: string;
  headers?: Record<string, { description: string; schema: object }>;
  content?: Record<string, { schema: object; example?: unknown }>;
}

export const json = (name: string, example?: unknown): NonNullable<Answer["content"]> => ({
  "application/json": {
    schema: { $ref: `#/components/schemas/${name}` },
    ...(example !== undefined && { example }),
  },
});

export const header = (description: string): { description: string; schema: object } => ({
  description,
  schema: { type: "string" },
});

/** What an answer that can be kept in memory says of itself. */
export const keptHeaders = {
  ETag: header("Of these very bytes; send it as `If-None-Match`."),
  "X-Cache": header(
    "`hit` from memory, `miss` from the database, `live` while it is about to change.",
  ),
};

export const notModified: Record<string, Answer> = {
  304: {
    description: "As it was when the `ETag` sent was answered.",
    headers: { ETag: keptHeaders.ETag },
  },
};

const problems: Record<string, [description: string, code: string, title: string]> = {
  400: [
    "The body is not JSON, or the idempotency key cannot be one.",
    "BAD_REQUEST",
    "Bad request",
  ],
  401: ["There is no token, or it is not valid.", "UNAUTHENTICATED", "Unauthenticated"],
  403: ["The token is not for this.", "FORBIDDEN", "Forbidden"],
  404: ["There is none, or it is somebody else's.", "NOT_FOUND", "Not found"],
  410: ["What was recorded with this idempotency key is gone.", "GONE", "Gone"],
  413: ["The body is too large.", "TOO_LARGE", "Too large"],
  415: ["The body is not `application/json`.", "UNSUPPORTED_MEDIA_TYPE", "Unsupported media type"],
  422: [
    "The body does not fit (`errors` says where), or its idempotency key was used for another one.",
    "UNPROCESSABLE",
    "Unprocessable",
  ],
  429: ["There is too much at once.", "TOO_MANY_REQUESTS", "Too many requests"],
  500: ["A mistake of ours; its reference is in our log.", "INTERNAL_ERROR", "Internal error"],
  503: ["The database cannot be reached at the moment.", "UNAVAILABLE", "Unavailable"],
};

export function problemAnswers(...statuses: number[]): Record<string, Answer> {
  return Object.fromEntries(
    statuses.map((status) => {
      const [description, code, title] = problems[status]!;
      const example = { type: "about:blank", title, status, code, detail: description };
      const answer: Answer = {
        description,
        content: {
          "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" }, example },
        },
        ...(status === 401 && { headers: { "WWW-Authenticate": header("`Bearer`") } }),
        ...(status === 503 && { headers: { "Retry-After": header("In seconds.") } }),
      };
      return [String(status), answer];
    }),
  );
}
