/**
 * The database this process works with: the user's own (DATABASE_URL), or the embedded one. Called by start and by the
 * commands.
 */
import { ConfigurationError } from "../configuration.ts";
import type { Configuration } from "../configuration.ts";
import type { Logger } from "../logger.ts";
import { openEmbeddedServer } from "./embedded_server.ts";

export interface ForApi {
  authenticatorUrl: string;
  /** What tokens are signed with; undefined when their issuer publishes its keys (JWKS_URL). */
  jwtSecret: string | undefined;
}

export interface Database {
  isEmbedded: boolean;
  /** Connects as incentives_owner; an API alone need not know it. */
  ownerUrl: string | undefined;
  /** What the API needs. Throws a ConfigurationError that names the setting when it is not set. */
  forApi(): ForApi;
  close(): Promise<void>;
}

/**
 * `own` holds the embedded server for the life of the process, and refuses when another process does; `share` uses the
 * one that runs, or runs one for a moment.
 */
export async function openDatabase(
  configuration: Configuration,
  logger: Logger,
  use: "own" | "share",
): Promise<Database> {
  if (!configuration.usesEmbeddedServer) {
    return {
      isEmbedded: false,
      ownerUrl: configuration.databaseUrl,
      forApi: () => settingsForApi(configuration),
      close: async () => {},
    };
  }
  const server = await openEmbeddedServer({ configuration, logger, shared: use === "share" });
  return {
    isEmbedded: true,
    ownerUrl: server.ownerUrl,
    forApi: () => ({
      authenticatorUrl: server.authenticatorUrl,
      jwtSecret: configuration.tokens.jwks
        ? undefined
        : (configuration.jwtSecret ?? server.jwtSecret),
    }),
    close: () => server.close(),
  };
}

/** For what only the owner can do. Throws a ConfigurationError when DATABASE_URL is not set. */
export function ownerUrlOf(database: Database): string {
  if (database.ownerUrl) return database.ownerUrl;
  throw new ConfigurationError("DATABASE_URL: is not set; this needs the owner's URL");
}

function settingsForApi({ authDatabaseUrl, jwtSecret, tokens }: Configuration): ForApi {
  if (!authDatabaseUrl) {
    throw new ConfigurationError(
      "AUTH_DATABASE_URL: is not set; on your own PostgreSQL the API needs the authenticator's URL",
    );
  }
  if (!jwtSecret && !tokens.jwks) {
    throw new ConfigurationError(
      "JWT_SECRET: is not set; on your own PostgreSQL the API needs the secret that tokens are signed with, or JWKS_URL",
    );
  }
  return { authenticatorUrl: authDatabaseUrl, jwtSecret };
}
