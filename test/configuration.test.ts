import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { ConfigurationError, readConfiguration, settings } from "../src/configuration.ts";

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "incentives configuration "));
});

afterAll(() => rm(folder, { recursive: true }));

function problemsOf(environment: Record<string, string>): string {
  try {
    readConfiguration(environment);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigurationError);
    return (error as Error).message;
  }
  throw new Error("nothing was refused");
}

describe("configuration", () => {
  test("nothing needs to be set", () => {
    expect(readConfiguration({})).toMatchObject({
      port: 5678,
      host: "127.0.0.1",
      databaseUrl: undefined,
      usesEmbeddedServer: true,
      dataDirectoryIsDefault: true,
      cacheRefreshCron: "*/5 * * * *",
      logLevel: "info",
      nodeEnv: "development",
    });
  });

  test("an empty value counts as not set", () => {
    expect(readConfiguration({ PORT: "", DATABASE_URL: " ", JWT_SECRET: "" })).toEqual(
      readConfiguration({}),
    );
  });

  test("every setting is read", async () => {
    const bin = join(folder, "bin");
    const suffix = process.platform === "win32" ? ".exe" : "";
    await mkdir(bin);
    for (const name of ["initdb", "pg_ctl", "postgres"]) {
      await writeFile(join(bin, name + suffix), "");
    }
    const read = readConfiguration({
      PORT: "0",
      HOST: "::",
      DATABASE_URL: "postgres://o:p@db/incentives",
      AUTH_DATABASE_URL: "postgresql://a:p@db/incentives",
      JWT_SECRET: "s".repeat(32),
      JWT_ISSUER: "https://issuer.example",
      JWT_AUDIENCE: "incentives",
      JWT_ROLE_CLAIM: "kind",
      INCENTIVES_DATA_DIR: folder,
      INCENTIVES_POSTGRES_BIN: bin,
      LIVE_CONNECTIONS: "7",
      ANSWERS_MEMORY_MB: "0",
      ANSWERS_KEPT_SECONDS: "5",
      CACHE_REFRESH_CRON: "0 3 * * 1-5",
      GRAPHQL_INTROSPECTION: "on",
      PERSISTED_OPERATIONS_DIR: folder,
      PERSISTED_OPERATIONS_ONLY: "on",
      RATE_LIMIT_PER_MEMBER: "0",
      RATE_LIMIT_PER_ADDRESS: "7",
      RATE_LIMIT_FAILURES: "8",
      TRUSTED_PROXIES: "1",
      CORS_ORIGINS: "https://app.example, http://localhost:3000",
      API_CONNECTIONS: "9",
      LOG_LEVEL: "silent",
      NODE_ENV: "production",
    });
    expect(read).toEqual({
      rateLimits: { perMember: 0, perAddress: 7, failuresPerAddress: 8, trustedProxies: 1 },
      corsOrigins: ["https://app.example", "http://localhost:3000"],
      connections: 9,
      graphqlIntrospection: true,
      persistedOperationsFolder: folder,
      persistedOperationsOnly: true,
      port: 0,
      host: "::",
      databaseUrl: "postgres://o:p@db/incentives",
      authDatabaseUrl: "postgresql://a:p@db/incentives",
      usesEmbeddedServer: false,
      jwtSecret: "s".repeat(32),
      tokens: {
        issuer: "https://issuer.example",
        audience: "incentives",
        roleClaim: "kind",
        jwks: undefined,
      },
      dataDirectory: folder,
      dataDirectoryIsDefault: false,
      postgresBin: bin,
      cacheRefreshCron: "0 3 * * 1-5",
      liveConnections: 7,
      answersMemoryMb: 0,
      answersKeptSeconds: 5,
      logLevel: "silent",
      nodeEnv: "production",
    });
    expect(Object.isFrozen(read)).toBe(true);
  });

  test.each(["DATABASE_URL", "AUTH_DATABASE_URL"])(
    "%s alone is enough to leave the embedded server out",
    (name) => {
      expect(readConfiguration({ [name]: "postgres://u@h/d" }).usesEmbeddedServer).toBe(false);
    },
  );

  test("every problem is reported at once, by name", () => {
    const problems = problemsOf({
      PORT: "65536",
      HOST: "not a host",
      DATABASE_URL: "mysql://h/d",
      JWT_SECRET: "short",
      INCENTIVES_POSTGRES_BIN: folder,
      CACHE_REFRESH_CRON: "61 * * * *",
      LOG_LEVEL: "loud",
      NODE_ENV: "staging",
    });
    const names = problems.split("\n").slice(1);
    expect(names.map((line) => line.trim().split(" ")[0])).toEqual([
      "PORT",
      "HOST",
      "DATABASE_URL",
      "JWT_SECRET",
      "INCENTIVES_POSTGRES_BIN",
      "CACHE_REFRESH_CRON",
      "LOG_LEVEL",
      "NODE_ENV",
    ]);
  });

  test.each<[string, Record<string, string>]>([
    ["JWT_SECRET is set too", { JWT_SECRET: "s".repeat(32), JWT_ISSUER: "i", JWT_AUDIENCE: "a" }],
    ["needs JWT_ISSUER and JWT_AUDIENCE", { JWT_ISSUER: "i" }],
    ["needs JWT_ISSUER and JWT_AUDIENCE", { JWT_AUDIENCE: "a" }],
    ["is not an https URL", { JWKS_URL: "http://issuer.example/jwks.json" }],
    ["give some of RS256,ES256,EdDSA", { JWT_ALGORITHMS: "RS256,HS256" }],
  ])("an issuer's keys are refused when it %s", (why, environment) => {
    expect(problemsOf({ JWKS_URL: "https://issuer.example/jwks.json", ...environment })).toContain(
      why,
    );
  });

  test.each(["1.5", "-1", "80a", "0x50", "99999"])("the port %s is refused", (value) => {
    expect(problemsOf({ PORT: value })).toContain("0 (any free port) to 65535");
  });

  test.each(["* * * *", "often", "* * * * * *"])("the schedule %s is refused", (value) => {
    expect(problemsOf({ CACHE_REFRESH_CRON: value })).toContain("five fields");
  });

  test("how often the cache may be refreshed on change is read as a time, and not at all is the default", () => {
    const read = (value?: string) =>
      readConfiguration({ CACHE_REFRESH_ON_CHANGE: value }).cacheRefreshOnChangeMs;
    expect([read(), read("30s"), read("5m"), read("1h")]).toEqual([
      undefined,
      30_000,
      300_000,
      3_600_000,
    ]);
    for (const value of ["30", "0s", "often", "1d", "-1s"]) {
      expect(problemsOf({ CACHE_REFRESH_ON_CHANGE: value })).toContain("such as 30s");
    }
  });

  test("a secret's value is never repeated", () => {
    const problems = problemsOf({
      DATABASE_URL: "http://owner:hunter2@h/d",
      AUTH_DATABASE_URL: "hunter2",
      JWT_SECRET: "hunter2",
    });
    expect(problems).not.toContain("hunter2");
  });

  test("each setting has a description for the help", () => {
    expect(settings.map(({ name }) => name)).toContain("INCENTIVES_DATA_DIR");
    for (const { description } of settings) expect(description).not.toBe("");
  });
});
