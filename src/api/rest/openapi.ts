/**
 * The OpenAPI 3.1 document of the REST routes, made of the schemas that validate: the bodies (rest_bodies.ts), the evaluators'
 * data, and the answers (rest_answers.ts). Served by openapi_routes.ts. A route is documented in openapi_paths.ts.
 */
import { Type } from "typebox";
import type { TSchema } from "typebox";
import type { EvaluatorRegistry } from "../../evaluation/registry.ts";
import { paths } from "./openapi_paths.ts";
import type { Path } from "./openapi_paths.ts";
import { answers, component } from "./answers.ts";
import { Action, actionsAtMost, Recording } from "./bodies.ts";

export interface OpenapiDocument {
  openapi: string;
  info: { title: string; version: string; description: string; license: object };
  servers: object[];
  security: object[];
  tags: { name: string; description: string }[];
  paths: Record<string, Path>;
  components: { schemas: Record<string, TSchema>; securitySchemes: object };
}

export function openapiDocument(evaluators: EvaluatorRegistry): OpenapiDocument {
  return {
    openapi: "3.1.0",
    info: {
      title: "Incentives",
      version: "1.0.0",
      description:
        "What a member did, what came of it, and what they won. GraphQL at `/graphql` has the same and more.",
      license: { name: "Not for use by others", identifier: "LicenseRef-UNLICENSED" },
    },
    servers: [{ url: "/" }],
    security: [{ token: [] }],
    tags: [
      { name: "Members", description: "For a member's own token." },
      { name: "Operation", description: "For whoever runs this service." },
    ],
    paths,
    components: {
      schemas: { ...bodies(evaluators), ...answers },
      securitySchemes: {
        token: { type: "http", scheme: "bearer", bearerFormat: "JWT" },
        metricsToken: { type: "http", scheme: "bearer" },
      },
    },
  };
}

/** The bodies, with the forms of data there are in the place of "anything". */
function bodies(evaluators: EvaluatorRegistry): Record<string, TSchema> {
  const forms = [...evaluators].flatMap(([name, { records, evaluator }]) => {
    const form: [string, TSchema][] = [[`data_${name}`, evaluator.dataSchema]];
    if (records === "log") form.push([`data_${name}_entry`, entryOf(evaluator.dataSchema)]);
    return form;
  });
  const data = Type.Unsafe({
    description:
      "In the form that the incentive's evaluator asks for; for a log one entry or several.",
    ...(forms.length > 0 && { anyOf: forms.map(([name]) => component(name)) }),
  });
  return {
    ...Object.fromEntries(forms),
    Recording: withData(Recording, data),
    Action: withData(Action, data),
    Batch: Type.Object(
      {
        actions: Type.Array(component("Action"), {
          minItems: 1,
          maxItems: actionsAtMost,
          description: "Each succeeds or is refused for itself.",
        }),
      },
      { additionalProperties: false },
    ),
  };
}

function withData(body: TSchema & { properties: object }, data: TSchema): TSchema {
  return { ...body, properties: { ...body.properties, data } };
}

function entryOf(log: TSchema): TSchema {
  return "items" in log ? (log.items as TSchema) : Type.Unknown();
}
