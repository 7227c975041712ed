/** GET /openapi.json for everybody's tools, and in development GET /docs, the same to read. Mounted by server.ts. */
import { Router } from "express";
import type { EvaluatorRegistry } from "../../evaluation/registry.ts";
import { openapiDocument } from "./openapi.ts";
import { openapiPage } from "./openapi_page.ts";

export function openapiRoutes(evaluators: EvaluatorRegistry, production: boolean): Router {
  // Once: it does not change while the process lives.
  const document = openapiDocument(evaluators);
  const text = JSON.stringify(document);
  const routes = Router().get("/openapi.json", (_request, response) => {
    response.type("application/json").send(text);
  });
  if (production) return routes;
  const page = openapiPage(document);
  return routes.get("/docs", (_request, response) => {
    response.type("html").send(page);
  });
}
