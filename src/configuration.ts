// The settings, and the only reader of process.env. Called by the commands in cli.ts, which hand the result on; every
// problem is reported at once, by name, and a secret's value is never repeated.

import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { EnvError, makeValidator, cleanEnv } from "envalid";
import { parseCronItems } from "graphile-worker";

// Grafast reads this as soon as it is imported, so this file is imported first (cli.ts).
process.env.GRAPHILE_ENV ??= process.env.NODE_ENV === "production" ? "production" : "development";

const project = dirname(import.meta.dirname);
const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
const nodeEnvs = ["development", "production", "test"] as const;

/** How tokens are verified. */
export interface TokenConfiguration {
  readonly issuer: string | undefined;
  readonly audience: string | undefined;
  /** The claim that may ask for the role `operator`. */
  readonly roleClaim: string;
  /** Where the issuer publishes its keys; undefined: tokens are signed with the secret. */
  readonly jwks:
    | {
        readonly url: string;
        readonly algorithms: string[];
        readonly issuer: string;
        readonly audience: string;
      }
    | undefined;
}

export interface Configuration {
  readonly port: number;
  readonly host: string;
  /** The owner's; undefined when the embedded server is used, or by an API that runs alone. */
  readonly databaseUrl: string | undefined;
  /** The authenticator's; undefined when the embedded server is used, or by a worker that runs alone. */
  readonly authDatabaseUrl: string | undefined;
  /** Whether neither URL was given: the program then runs a PostgreSQL of its own. */
  readonly usesEmbeddedServer: boolean;
  readonly jwtSecret: string | undefined;
  readonly tokens: TokenConfiguration;
  readonly dataDirectory: string;
  readonly dataDirectoryIsDefault: boolean;
  readonly postgresBin: string | undefined;
  readonly cacheRefreshCron: string;
  /** How often at the most the cache is refreshed because somebody changed; undefined: not at all. */
  readonly cacheRefreshOnChangeMs: number | undefined;
  /** How many WebSocket and event-stream connections an API holds at the most. */
  readonly liveConnections: number;
  /** How much each API process keeps of what it answered; 0: nothing. */
  readonly answersMemoryMb: number;
  readonly answersKeptSeconds: number;
  /** What opens /metrics; without it there is none. */
  readonly metricsToken: string | undefined;
  /** Where a worker that runs alone serves /metrics. */
  readonly metricsPort: number | undefined;
  /** Whether GraphQL clients may ask for the schema, and errors suggest names from it. */
  readonly graphqlIntrospection: boolean;
  /** Where operations stand that clients may name instead of sending. */
  readonly persistedOperationsFolder: string | undefined;
  readonly persistedOperationsOnly: boolean;
  /** Requests of one client in a minute; 0: as many as they like. */
  readonly rateLimits: {
    readonly perMember: number;
    readonly perAddress: number;
    readonly failuresPerAddress: number;
    readonly trustedProxies: number;
  };
  /** Whose pages may use the API from a browser. */
  readonly corsOrigins: readonly string[];
  /** How many connections an API process holds at the most. */
  readonly connections: number;
  readonly logLevel: (typeof logLevels)[number];
  readonly nodeEnv: (typeof nodeEnvs)[number];
}

export class ConfigurationError extends Error {
  override name = "ConfigurationError";
}

const port = makeValidator<number>((value) => {
  if (/^\d{1,5}$/.test(value) && Number(value) <= 65535) return Number(value);
  throw new EnvError(`is "${value}"; give a number from 0 (any free port) to 65535.`);
});

const host = makeValidator<string>((value) => {
  if (/^[\w.:-]+$/.test(value)) return value;
  throw new EnvError(`is "${value}"; give an IP address or a host name, such as 0.0.0.0.`);
});

const postgresUrl = makeValidator<string>((value) => {
  const protocol = URL.canParse(value) ? new URL(value).protocol : undefined;
  if (protocol === "postgres:" || protocol === "postgresql:") return value;
  throw new EnvError(
    "is not a PostgreSQL URL; give postgres://user:password@host:5432/database, " +
      "with special characters in the password percent-encoded.",
  );
});

const secret = makeValidator<string>((value) => {
  if (value.length >= 32) return value;
  throw new EnvError(
    `has ${value.length} characters; give at least 32 random ones, such as "openssl rand -hex 32" prints.`,
  );
});

const bearerToken = makeValidator<string>((value) => {
  if (/^[\x21-\x7e]{32,}$/.test(value)) return value;
  throw new EnvError(
    'cannot be sent as a bearer token; give at least 32 characters without spaces, such as "openssl rand -hex 32" prints.',
  );
});

const wholeNumber = makeValidator<number>((value) => {
  if (/^[1-9]\d{0,6}$/.test(value)) return Number(value);
  throw new EnvError(`is "${value}"; give a whole number, such as 2000.`);
});

const wholeNumberOrZero = makeValidator<number>((value) => {
  if (/^\d{1,6}$/.test(value)) return Number(value);
  throw new EnvError(`is "${value}"; give a whole number, such as 64, or 0.`);
});

const path = makeValidator<string>((value) => resolve(value));

const origins = makeValidator<string[]>((value) => {
  const given = value.split(",").map((origin) => origin.trim());
  const wrong = given.find((origin) => !URL.canParse(origin) || new URL(origin).origin !== origin);
  if (wrong === undefined) return given;
  throw new EnvError(
    `has "${wrong}"; give origins, such as https://app.example, with commas between.`,
  );
});

const existingFolder = makeValidator<string>((value) => {
  const folder = resolve(value);
  if (existsSync(folder)) return folder;
  throw new EnvError(`is "${folder}", which is not there; give a folder.`);
});

const postgresBin = makeValidator<string>((value) => {
  const folder = resolve(value);
  const suffix = process.platform === "win32" ? ".exe" : "";
  const missing = ["initdb", "pg_ctl", "postgres"].filter(
    (program) => !existsSync(join(folder, program + suffix)),
  );
  if (missing.length === 0) return folder;
  throw new EnvError(
    `is "${folder}", which has no ${missing.join(", ")}; give the bin folder of a PostgreSQL 15 or newer.`,
  );
});

const cron = makeValidator<string>((value) => {
  try {
    parseCronItems([{ task: "cron", match: value }]);
    return value;
  } catch (error) {
    const reason = String((error as Error).message).replace(/ in item 0 of \w+ call/, "");
    throw new EnvError(
      `is "${value}" (${reason}); give five fields in UTC, such as "*/5 * * * *".`,
    );
  }
});

/** In milliseconds. */
const duration = makeValidator<number>((value) => {
  const [, count, unit = ""] = /^([1-9]\d{0,4})([smh])$/.exec(value) ?? [];
  const ms = { s: 1000, m: 60_000, h: 3_600_000 }[unit];
  if (ms !== undefined) return Number(count) * ms;
  throw new EnvError(`is "${value}"; give a number and one of s, m, h, such as 30s.`);
});

function oneOf<const Choice extends string>(choices: readonly Choice[]) {
  return makeValidator<Choice>((value) => {
    const found = choices.find((choice) => choice === value);
    if (found !== undefined) return found;
    throw new EnvError(`is "${value}"; give one of ${choices.join(", ")}.`);
  });
}

const jwksUrl = makeValidator<string>((value) => {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const isHere = /^(localhost|127\.0\.0\.1|\[::1\])$/.test(url?.hostname ?? "");
  if (url?.protocol === "https:" || (url?.protocol === "http:" && isHere)) return value;
  throw new EnvError(
    "is not an https URL; give where the issuer publishes its keys, such as https://issuer.example/jwks.json.",
  );
});

const text = makeValidator<string>((value) => value.trim());

const signatures = ["RS256", "ES256", "EdDSA"];

const algorithms = makeValidator<string[]>((value) => {
  const given = value.split(",").map((name) => name.trim());
  if (given.every((name) => signatures.includes(name))) return given;
  throw new EnvError(`is "${value}"; give some of ${signatures.join(",")}.`);
});

const specifications = {
  PORT: port({ default: 5678, desc: "port of the API; 0 takes any free one" }),
  HOST: host({ default: "127.0.0.1", desc: "address the API listens on" }),
  DATABASE_URL: postgresUrl({
    default: undefined,
    desc: "PostgreSQL 15 or newer as incentives_owner; without it an embedded server is run",
  }),
  AUTH_DATABASE_URL: postgresUrl({
    default: undefined,
    desc: "the same database as incentives_authenticator, for the API",
  }),
  JWT_SECRET: secret({
    default: undefined,
    desc: "signs the members' tokens, at least 32 characters; the embedded server has its own",
  }),
  JWKS_URL: jwksUrl({
    default: undefined,
    desc: "where the issuer of tokens publishes its keys, instead of JWT_SECRET",
  }),
  JWT_ALGORITHMS: algorithms({
    default: signatures,
    desc: "what tokens may be signed with, beside JWKS_URL",
  }),
  JWT_ISSUER: text({
    default: undefined,
    desc: "what a token's iss must be; needed beside JWKS_URL",
  }),
  JWT_AUDIENCE: text({
    default: undefined,
    desc: "what a token's aud must be or hold; needed beside JWKS_URL",
  }),
  JWT_ROLE_CLAIM: text({
    default: "role",
    desc: 'the claim of a token that may say "operator"',
  }),
  INCENTIVES_DATA_DIR: path({
    default: join(project, ".data"),
    desc: "folder of the embedded server's data",
  }),
  INCENTIVES_POSTGRES_BIN: postgresBin({
    default: undefined,
    desc: "bin folder of a PostgreSQL to run embedded instead of the packaged one",
  }),
  CACHE_REFRESH_CRON: cron({
    default: "*/5 * * * *",
    desc: "when the cache is refreshed: minute hour day month weekday, in UTC",
  }),
  CACHE_REFRESH_ON_CHANGE: duration({
    default: undefined,
    desc: "refresh the cache when somebody changed, at most every so often, such as 30s; off without it",
  }),
  LIVE_CONNECTIONS: wholeNumber({
    default: 2000,
    desc: "WebSocket and event-stream connections an API holds at the most",
  }),
  ANSWERS_MEMORY_MB: wholeNumberOrZero({
    default: 64,
    desc: "how much each API process keeps in memory of what it answered; 0 switches it off",
  }),
  ANSWERS_KEPT_SECONDS: wholeNumber({
    default: 60,
    desc: "for how long at the most it is kept",
  }),
  METRICS_TOKEN: bearerToken({
    default: undefined,
    desc: "opens /metrics to who sends it as a bearer token; without it there is none",
  }),
  METRICS_PORT: port({
    default: undefined,
    desc: "port of /metrics for a worker that runs alone; beside an API it is on the API's",
  }),
  GRAPHQL_INTROSPECTION: oneOf(["on", "off"])({
    default: undefined,
    desc: "on or off: whether clients may ask for the schema; off in production if not set",
  }),
  PERSISTED_OPERATIONS_DIR: existingFolder({
    default: undefined,
    desc: "folder of GraphQL operations (<name>.graphql) that clients may name instead of sending",
  }),
  PERSISTED_OPERATIONS_ONLY: oneOf(["on", "off"])({
    default: "off",
    desc: "on: GraphQL operations that are sent instead of named are refused",
  }),
  RATE_LIMIT_PER_MEMBER: wholeNumberOrZero({
    default: 1200,
    desc: "requests of one member in a minute; 0: as many as they like",
  }),
  RATE_LIMIT_PER_ADDRESS: wholeNumberOrZero({
    default: 600,
    desc: "requests in a minute from one address whose token is not known yet; 0: no limit",
  }),
  RATE_LIMIT_FAILURES: wholeNumberOrZero({
    default: 60,
    desc: "refused tokens in a minute from one address; 0: no limit",
  }),
  TRUSTED_PROXIES: wholeNumberOrZero({
    default: 0,
    desc: "how many proxies stand in front of the API, each of which adds to X-Forwarded-For",
  }),
  CORS_ORIGINS: origins({
    default: undefined,
    desc: "origins whose pages may use the API, such as https://app.example,https://www.example",
  }),
  API_CONNECTIONS: wholeNumber({
    default: 5000,
    desc: "connections an API process holds at the most",
  }),
  LOG_LEVEL: oneOf(logLevels)({ default: "info", desc: logLevels.join(", ") }),
  NODE_ENV: oneOf(nodeEnvs)({ default: "development", desc: nodeEnvs.join(", ") }),
};

/** For a command's help: every setting with its description and default, in order. */
export const settings = Object.entries(specifications).map(([name, { desc, ...rest }]) => ({
  name,
  description: desc ?? "",
  default: rest.default === undefined ? undefined : String(rest.default),
}));

export function readConfiguration(
  environment: Record<string, string | undefined> = process.env,
): Configuration {
  const given = Object.fromEntries(
    Object.entries(environment).filter(([, value]) => value !== undefined && value.trim() !== ""),
  );
  const values = cleanEnv(given, specifications, { reporter: refuse });
  if (values.METRICS_PORT !== undefined && !values.METRICS_TOKEN) {
    throw new ConfigurationError(
      "METRICS_PORT: needs METRICS_TOKEN, which opens /metrics; set both",
    );
  }
  checkTokens(values);
  if (values.PERSISTED_OPERATIONS_ONLY === "on" && !values.PERSISTED_OPERATIONS_DIR) {
    throw new ConfigurationError(
      "PERSISTED_OPERATIONS_ONLY: needs PERSISTED_OPERATIONS_DIR, where the operations stand; set both",
    );
  }
  return Object.freeze({
    port: values.PORT,
    host: values.HOST,
    databaseUrl: values.DATABASE_URL,
    authDatabaseUrl: values.AUTH_DATABASE_URL,
    usesEmbeddedServer: !values.DATABASE_URL && !values.AUTH_DATABASE_URL,
    jwtSecret: values.JWT_SECRET,
    tokens: {
      issuer: values.JWT_ISSUER,
      audience: values.JWT_AUDIENCE,
      roleClaim: values.JWT_ROLE_CLAIM,
      // Both are there: checkTokens.
      jwks: values.JWKS_URL
        ? {
            url: values.JWKS_URL,
            algorithms: values.JWT_ALGORITHMS,
            issuer: values.JWT_ISSUER ?? "",
            audience: values.JWT_AUDIENCE ?? "",
          }
        : undefined,
    },
    dataDirectory: values.INCENTIVES_DATA_DIR,
    dataDirectoryIsDefault: given["INCENTIVES_DATA_DIR"] === undefined,
    postgresBin: values.INCENTIVES_POSTGRES_BIN,
    cacheRefreshCron: values.CACHE_REFRESH_CRON,
    cacheRefreshOnChangeMs: values.CACHE_REFRESH_ON_CHANGE,
    liveConnections: values.LIVE_CONNECTIONS,
    answersMemoryMb: values.ANSWERS_MEMORY_MB,
    answersKeptSeconds: values.ANSWERS_KEPT_SECONDS,
    metricsToken: values.METRICS_TOKEN,
    metricsPort: values.METRICS_PORT,
    graphqlIntrospection:
      (values.GRAPHQL_INTROSPECTION ?? (values.NODE_ENV === "production" ? "off" : "on")) === "on",
    persistedOperationsFolder: values.PERSISTED_OPERATIONS_DIR,
    persistedOperationsOnly: values.PERSISTED_OPERATIONS_ONLY === "on",
    rateLimits: {
      perMember: values.RATE_LIMIT_PER_MEMBER,
      perAddress: values.RATE_LIMIT_PER_ADDRESS,
      failuresPerAddress: values.RATE_LIMIT_FAILURES,
      trustedProxies: values.TRUSTED_PROXIES,
    },
    corsOrigins: values.CORS_ORIGINS ?? [],
    connections: values.API_CONNECTIONS,
    logLevel: values.LOG_LEVEL,
    nodeEnv: values.NODE_ENV,
  });
}

/** One way to sign, so that no token is believed for a key that was meant for the other. */
function checkTokens(values: {
  JWKS_URL: string | undefined;
  JWT_SECRET: string | undefined;
  JWT_ISSUER: string | undefined;
  JWT_AUDIENCE: string | undefined;
}): void {
  if (!values.JWKS_URL) return;
  if (values.JWT_SECRET) {
    throw new ConfigurationError("JWKS_URL: JWT_SECRET is set too; set one of them");
  }
  if (!values.JWT_ISSUER || !values.JWT_AUDIENCE) {
    throw new ConfigurationError(
      "JWKS_URL: needs JWT_ISSUER and JWT_AUDIENCE, because the keys may sign for others too; set all three",
    );
  }
}

function refuse({ errors }: { errors: Record<string, Error | undefined> }): void {
  const problems = Object.entries(errors).map(([name, error]) => `  ${name} ${error?.message}`);
  if (problems.length === 0) return;
  throw new ConfigurationError(`These settings cannot be used:\n${problems.join("\n")}`);
}
