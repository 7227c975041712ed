/**
 * What every answer tells browsers: run nothing, show it in no frame, guess no type, keep no copy. Made once, by server.ts; set by
 * chain.ts and written by send_answer.ts. Who answers may say otherwise of their own answers (`Cache-Control`).
 */
import { IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";
import helmet from "helmet";

/** By their names in small letters; they depend on no request. */
export function securityHeaders(production: boolean): Map<string, string> {
  const response = new ServerResponse(new IncomingMessage(new Socket()));
  // Health data: no proxy and no browser keeps it, unless the answer says how.
  response.setHeader("Cache-Control", "no-store");
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
  setHeaders(response.req, response, () => {});
  return new Map(
    Object.entries(response.getHeaders()).map(([name, value]) => [name, String(value)]),
  );
}
