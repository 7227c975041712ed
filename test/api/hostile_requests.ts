/**
 * What a suspicious stranger sends to /graphql, and what must come back: for hostile.test.ts, which sends each once, and
 * for memory.test.ts, which sends them ten thousand times. Where a text of the client's could come back, it is the canary.
 */
export const canary = "xqzcanary";

export interface HostileRequest {
  what: string;
  /** The body, sent as JSON; a string is sent as it is. */
  body?: unknown;
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  status: number;
  /** `extensions.code` of the first error; undefined: there is none. */
  code: string | undefined;
}

const query = (text: string, variables: object = {}) => ({ query: text, variables });
const times = (n: number, make: (i: number) => string): string =>
  Array.from({ length: n }, (_, i) => make(i)).join(" ");
const list = (args: string) => query(`{ userIncentives(${args}) { nodes { id } } }`);
const byStatus = `query ($status: String) { userIncentives(filter: { status: { equalTo: $status } }) { nodes { id } } }`;
const nested = (n: number): string =>
  `{ ${"userIncentives { nodes { incentive { ".repeat(n)} id ${"} } }".repeat(n)} }`;

const refused = (what: string, code: string, body: unknown): HostileRequest => ({
  what,
  body,
  status: 400,
  code,
});
/** The operation is executed, and one of its fields is an error. */
const failed = (what: string, code: string | undefined, body: unknown): HostileRequest => ({
  what,
  body,
  status: 200,
  code,
});

export const hostileRequests: HostileRequest[] = [
  refused("first: 2147483647", "PAGE_SIZE", list("first: 2147483647")),
  refused("first: 501", "PAGE_SIZE", list("first: 501")),
  refused("first: -1", "PAGE_SIZE", list("first: -1")),
  refused("last: 501", "PAGE_SIZE", list("last: 501")),
  refused("first: 9 digits more than Int", "GRAPHQL_VALIDATION_FAILED", list("first: 99999999999")),
  refused("first: text", "GRAPHQL_VALIDATION_FAILED", list(`first: "${canary}"`)),
  refused(
    "first: 501 in a variable",
    "PAGE_SIZE",
    query("query ($n: Int) { userIncentives(first: $n) { nodes { id } } }", { n: 501 }),
  ),
  refused(
    "first: text in a variable",
    "BAD_USER_INPUT",
    query("query ($n: Int) { userIncentives(first: $n) { nodes { id } } }", { n: canary }),
  ),
  refused("first and last", "BAD_USER_INPUT", list("first: 1, last: 1")),
  refused("offset: -1", "BAD_USER_INPUT", list("offset: -1")),
  refused(
    "a nested page of 501",
    "PAGE_SIZE",
    query("{ incentives { nodes { userIncentives(first: 501) { nodes { id } } } } }"),
  ),
  refused(
    "20 aliases",
    "TOO_MANY_ALIASES",
    query(`{ ${times(20, (i) => `a${i}: userIncentives { nodes { id } }`)} }`),
  ),
  refused(
    "1,000 aliases",
    "TOO_MANY_TOKENS",
    query(`{ ${times(1000, (i) => `a${i}: userIncentives { nodes { id } }`)} }`),
  ),
  refused(
    "20 fields of the first level",
    "TOO_MANY_ROOT_FIELDS",
    query(`{ userIncentives { nodes { id } } ${"cacheStatus { takenAt } ".repeat(20)} }`),
  ),
  refused("nesting of 5", "TOO_DEEP", query(nested(5))),
  refused("nesting of 500", "TOO_MANY_TOKENS", query(nested(500))),
  refused(
    "a fragment cycle",
    "GRAPHQL_VALIDATION_FAILED",
    query("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }"),
  ),
  refused(
    "fragments that double a hundred times",
    "TOO_COSTLY",
    query(
      `{ ...f0 } ${times(100, (i) => `fragment f${i} on Query { ...f${i + 1} ...f${i + 1} }`)}
       fragment f100 on Query { userIncentives { nodes { id } } }`,
    ),
  ),
  refused(
    "1,900 times the same field",
    "GRAPHQL_VALIDATION_FAILED",
    query(`{ userIncentives { nodes { ${"id ".repeat(1900)} } } }`),
  ),
  refused(
    "full pages in full pages",
    "TOO_COSTLY",
    query(
      "{ incentives(first: 500) { nodes { userIncentives(first: 500) { nodes { id data } } } } }",
    ),
  ),
  refused(
    "5,000 orders in a variable",
    "BAD_USER_INPUT",
    query(
      "query ($by: [UserIncentiveOrderBy!]) { userIncentives(orderBy: $by) { nodes { id } } }",
      { by: Array.from({ length: 5000 }, () => "CREATED_AT_ASC") },
    ),
  ),
  refused(
    "a filter by what was recorded",
    "GRAPHQL_VALIDATION_FAILED",
    list(`filter: { data: { equalTo: "${canary}" } }`),
  ),
  refused("no operation", "GRAPHQL_PARSE_FAILED", query("")),
  refused("a text that is not closed", "GRAPHQL_PARSE_FAILED", query(`{ a(b: "${canary}`)),
  refused("a text where a name belongs", "GRAPHQL_PARSE_FAILED", query(`{ "${canary}" }`)),
  refused("an operationName that is not there", "BAD_USER_INPUT", {
    query: "query A { __typename }",
    operationName: canary,
  }),
  refused("a batch", "BAD_REQUEST", [query("{ __typename }"), query("{ __typename }")]),
  refused("a body that is not JSON", "BAD_REQUEST", `{"query": "${canary}`),
  refused("an empty body", "BAD_REQUEST", ""),
  refused("variables that are an array", "BAD_REQUEST", {
    query: "{ __typename }",
    variables: [canary],
  }),
  refused("a query that is a number", "BAD_REQUEST", { query: 7 }),
  refused(
    "a lone surrogate in the document",
    "GRAPHQL_PARSE_FAILED",
    query(
      String.raw`{ userIncentives(filter: { status: { equalTo: "\ud800" } }) { nodes { id } } }`,
    ),
  ),
  failed("a lone surrogate in a variable", undefined, query(byStatus, { status: "\ud800" })),
  failed("a nul character in a variable", "BAD_USER_INPUT", query(byStatus, { status: "\0" })),
  failed(
    "__proto__ in the variables",
    undefined,
    `{"query":"{ __typename }","variables":{"__proto__":{"a":1}}}`,
  ),
  failed(
    "__proto__ in the body",
    undefined,
    `{"query":"{ __typename }","__proto__":{"query":"{ no }"}}`,
  ),
  failed("a cursor that is none", "BAD_USER_INPUT", list(`after: "${canary}"`)),
  failed("a cursor of another order", "BAD_USER_INPUT", list('after: "WyJuYXR1cmFsIiwxXQ=="')),
  failed(
    "a date that is none",
    "BAD_USER_INPUT",
    list(`filter: { createdAt: { greaterThan: "${canary}" } }`),
  ),
  failed(
    "an id of 30 digits",
    "BAD_USER_INPUT",
    query(`{ userIncentive(id: "${"9".repeat(30)}") { id } }`),
  ),
  failed(
    "an id that is a text",
    "BAD_USER_INPUT",
    query(`{ userIncentive(id: "${canary}") { id } }`),
  ),
  failed("a nodeId that is none", undefined, query(`{ node(nodeId: "${canary}") { nodeId } }`)),
  {
    what: "a mutation by GET",
    method: "GET",
    path: "/graphql?query=mutation%7B__typename%7D",
    status: 405,
    code: "METHOD_NOT_ALLOWED",
  },
  {
    what: "PUT",
    method: "PUT",
    body: query("{ __typename }"),
    status: 405,
    code: "METHOD_NOT_ALLOWED",
  },
  {
    what: "a body of more than 100 kB",
    body: query("{ __typename }", { a: canary.repeat(12_000) }),
    status: 413,
    code: "TOO_LARGE",
  },
  {
    what: "a body of another type",
    body: "{ __typename }",
    headers: { "content-type": `text/${canary}` },
    status: 415,
    code: "UNSUPPORTED_MEDIA_TYPE",
  },
  {
    what: "a form",
    body: "query=%7B__typename%7D",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    status: 415,
    code: "UNSUPPORTED_MEDIA_TYPE",
  },
  {
    what: "HTML is wanted",
    body: query("{ __typename }"),
    headers: { accept: "text/html" },
    status: 406,
    code: "NOT_ACCEPTABLE",
  },
];
