/** What verifies the tokens of a running API, as it is configured. Called by start; the command `token` only signs. */
import type { Pool } from "pg";
import { ConfigurationError } from "../../configuration.ts";
import type { Configuration } from "../../configuration.ts";
import type { LiveSubscriber } from "../../live/subscriber.ts";
import type { Logger } from "../../logger.ts";
import { KeySet } from "./key_set.ts";
import { Revocations } from "./revocations.ts";
import { createIssuedTokens, createTokens } from "./tokens.ts";
import type { SigningTokens, Tokens } from "./tokens.ts";

export interface OpenTokensOptions {
  configuration: Configuration;
  /** What tokens are signed with when no issuer is configured. */
  jwtSecret: string | undefined;
  /** Connects as the authenticator. */
  pool: Pool;
  live: LiveSubscriber;
  logger: Logger;
}

export interface OpenTokens extends Tokens {
  /** Whether it can be told who is asking, for /readyz. */
  isReady(): true | string;
  stop(): Promise<void>;
}

export async function openTokens(options: OpenTokensOptions): Promise<OpenTokens> {
  const { configuration, jwtSecret, pool, live, logger } = options;
  const revocations = new Revocations(pool, logger);
  await revocations.start(live);
  const stop = (): Promise<void> => revocations.stop();
  const { roleClaim, jwks } = configuration.tokens;
  if (!jwks) {
    const tokens = createTokens(checkSecret(jwtSecret), { ...configuration.tokens, revocations });
    return {
      ...tokens,
      stop,
      isReady: () => revocations.isKnown() || "revoked tokens not read yet",
    };
  }
  const keys = new KeySet({ ...jwks, logger });
  return {
    ...createIssuedTokens(keys, { ...jwks, roleClaim, revocations }),
    stop,
    isReady() {
      if (!revocations.isKnown()) return "revoked tokens not read yet";
      return keys.edition === undefined ? "the issuer's keys cannot be fetched" : true;
    },
  };
}

/** What signs tokens to try things with, as this configuration's API accepts them. Throws when another issues them. */
export function tokensToSign(
  { tokens }: Configuration,
  jwtSecret: string | undefined,
): SigningTokens {
  return createTokens(checkSecret(jwtSecret), tokens);
}

function checkSecret(jwtSecret: string | undefined): string {
  if (jwtSecret) return jwtSecret;
  throw new ConfigurationError(
    "JWKS_URL: is set, so tokens come from its issuer and not from here",
  );
}
