/**
 * What every answer tells browsers: run nothing, show it in no frame, guess no type, keep no copy. Called by server.ts, first
 * in the chain. Handlers behind it may say otherwise of their own answers (`Cache-Control`).
 */
import helmet from "helmet";
import type { Handler } from "./chain.ts";

export function securityHeaders(production: boolean): Handler {
  const setHeaders = helmet({
    // An API's answers load nothing; the pages of development do.
    contentSecurityPolicy: production && {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
    },
    // Whoever serves it over TLS decides for that name, and not for its neighbours.
    strictTransportSecurity: production && { maxAge: 31_536_000, includeSubDomains: false },
    referrerPolicy: { policy: "no-referrer" },
    xFrameOptions: { action: "deny" },
  });
  return (request, response, next) => {
    // Health data: no proxy and no browser keeps it, unless the answer says how.
    response.setHeader("Cache-Control", "no-store");
    setHeaders(request, response, next);
  };
}
