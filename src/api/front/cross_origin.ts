/** Lets pages of the origins in CORS_ORIGINS use the API; without that setting no page of another origin may. */
import cors from "cors";
import type { Handler } from "./chain.ts";

/** `headers` go with the answer to a preflight, which is answered here. */
export function crossOrigin(origins: readonly string[], headers: Map<string, string>): Handler[] {
  if (origins.length === 0) return [];
  const setHeaders: Handler = ({ method }, response, next) => {
    if (method === "OPTIONS") response.setHeaders(headers);
    next();
  };
  return [
    setHeaders,
    cors({
      origin: [...origins],
      methods: ["GET", "POST"],
      allowedHeaders: [
        "Authorization",
        "Content-Type",
        "Idempotency-Key",
        "If-None-Match",
        "Last-Event-ID",
      ],
      exposedHeaders: [
        "ETag",
        "Location",
        "RateLimit",
        "RateLimit-Policy",
        "Retry-After",
        "X-Cache",
      ],
      // The token is a header that the page sets; no cookie is of use here.
      credentials: false,
      maxAge: 600,
    }),
  ];
}
