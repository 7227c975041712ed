/** The whole process on a database of its own, and a client that speaks HTTP to it, for tests that look from outside. */
import { createTokens } from "../src/api/tokens/tokens.ts";
import { readConfiguration } from "../src/configuration.ts";
import { createLogger } from "../src/logger.ts";
import type { Logger } from "../src/logger.ts";
import { start } from "../src/start.ts";
import { createTestDatabase } from "./test_database.ts";
import type { TestDatabase } from "./test_database.ts";

export const jwtSecret = "a secret for tests, of more than 32 characters";
export const metricsToken = "another-secret-for-tests-of-more-than-32";

export interface TestProcess {
  database: TestDatabase;
  url: string;
  jwtSecret: string;
  /** Sends a request as a member (or, without one, as nobody) and reads the answer's JSON. */
  ask(path: string, options?: AskOptions): Promise<Answer>;
  graphql(user: string | undefined, query: string, variables?: object): Promise<Answer>;
  /** Ends the process; the database stays. */
  stop(): Promise<void>;
  /** Ends the process and drops the database. */
  drop(): Promise<void>;
}

export interface AskOptions {
  user?: string | undefined;
  /** The token says that its holder records for other members. */
  actsForMembers?: boolean;
  role?: "operator";
  method?: string;
  /** Sent as JSON; a string is sent as it is. */
  body?: unknown;
  headers?: Record<string, string>;
}

export interface Answer {
  status: number;
  headers: Headers;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- whatever the API answers
  body: any;
}

export interface TestProcessOptions {
  /** Settings beside those that every test needs. */
  settings?: Record<string, string>;
  logger?: Logger;
}

export async function startTestProcess(
  existing?: TestDatabase,
  { settings = {}, logger = createLogger("silent") }: TestProcessOptions = {},
): Promise<TestProcess> {
  const database = existing ?? (await createTestDatabase());
  const configuration = readConfiguration({
    PORT: "0",
    DATABASE_URL: database.ownerUrl,
    AUTH_DATABASE_URL: database.authenticatorUrl,
    JWT_SECRET: jwtSecret,
    METRICS_TOKEN: metricsToken,
    NODE_ENV: "test",
    // Tests ask more than a client does.
    RATE_LIMIT_PER_MEMBER: "0",
    RATE_LIMIT_PER_ADDRESS: "0",
    RATE_LIMIT_FAILURES: "0",
    ...settings,
  });
  const running = await start({ configuration, logger });
  const url = `http://127.0.0.1:${running.apiPort}`;
  const tokens = createTokens(jwtSecret);

  async function ask(
    path: string,
    { user, actsForMembers, role, method, body, headers }: AskOptions = {},
  ) {
    const response = await fetch(url + path, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers: {
        ...(user && {
          authorization: `Bearer ${await tokens.sign(user, "1h", { actsForMembers, role })}`,
        }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: text === "" ? undefined : (JSON.parse(text) as unknown),
    };
  }

  return {
    database,
    url,
    jwtSecret,
    ask,
    graphql: (user, query, variables = {}) => ask("/graphql", { user, body: { query, variables } }),
    stop: () => running.stop(),
    async drop() {
      await running.stop();
      await database.drop();
    },
  };
}
