/**
 * What each REST route takes and answers, for the OpenAPI document: add a route here when it is added to the API; the test
 * provokes every answer that stands here. Types alone; what they refer to is in openapi.ts.
 */
import { header, json, keptHeaders, notModified, problemAnswers } from "./openapi_answers.ts";
import type { Answer } from "./openapi_answers.ts";
import { birth, mood, reward, userIncentive } from "./openapi_examples.ts";

export type Path = Partial<Record<"get" | "post", Operation>>;

export interface Operation {
  operationId: string;
  summary: string;
  description?: string;
  tags: string[];
  security?: object[];
  parameters?: object[];
  requestBody?: object;
  responses: Record<string, Answer>;
}

const members = { tags: ["Members"] };
const operation = { tags: ["Operation"], security: [] };

export const paths: Record<string, Path> = {
  "/user/incentives": {
    get: {
      ...members,
      operationId: "listUserIncentives",
      summary: "What the member did, and what came of it",
      responses: {
        200: {
          headers: keptHeaders,
          description: "All of them.",
          content: json("UserIncentives", { incentives: [userIncentive] }),
        },
        ...notModified,
        ...problemAnswers(401, 403, 429, 500, 503),
      },
    },
    post: {
      ...members,
      operationId: "recordIncentive",
      summary: "Record an action",
      description:
        "A document replaces the one before; for a log, one entry or an array of entries is added. The body has 100 kB at the most, a log 5,000 entries.",
      parameters: [
        {
          name: "Idempotency-Key",
          in: "header",
          description:
            "1 to 255 visible ASCII characters, in quotes or not. Sent again with the same key and body within 72 hours, the action is recorded once.",
          schema: { type: "string", minLength: 1, maxLength: 514 },
          example: '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
        },
      ],
      requestBody: { required: true, content: json("Recording", birth) },
      responses: {
        201: {
          description: "It is recorded. A replay is answered with the row as it is now.",
          headers: {
            Location: header("Where the user incentive is to be read."),
            "Idempotency-Replayed": header("`true` when the key was used before."),
          },
          content: json("UserIncentive", userIncentive),
        },
        ...problemAnswers(400, 401, 403, 410, 413, 415, 422, 429, 500, 503),
      },
    },
  },
  "/user/incentives/batch": {
    post: {
      ...members,
      operationId: "recordIncentives",
      summary: "Record several actions",
      description:
        "For a client that was offline, and for a partner's server whose token says that it records for members. The body has 1 MB at the most.",
      requestBody: {
        required: true,
        content: json("Batch", { actions: [birth, { ...mood, idempotencyKey: "2021-09-15/2" }] }),
      },
      responses: {
        200: {
          description: "One result for each action; look at the status of each.",
          content: json("BatchResults", {
            results: [
              { index: 0, status: 201, id: "1", replayed: false },
              {
                index: 1,
                status: 422,
                code: "UNPROCESSABLE",
                title: "Unprocessable",
                detail: "The body does not fit; see errors.",
                errors: [
                  { pointer: "/actions/1/data/date", message: "is not a real date and time" },
                ],
              },
            ],
          }),
        },
        ...problemAnswers(400, 401, 403, 413, 415, 422, 429, 500, 503),
      },
    },
  },
  "/user/incentives/events": {
    get: {
      ...members,
      operationId: "followUserIncentives",
      summary: "What the member completes, as it happens",
      description:
        "Server-Sent Events that never end by themselves. Each `incentive_completed` has an id; who comes back with it is told what was missed. Its data are `id`, `occurred_at` and `user_incentive`.",
      parameters: [
        {
          name: "Last-Event-ID",
          in: "header",
          description: "The id of the last event that was read, as it came.",
          schema: { type: "string" },
        },
      ],
      responses: {
        200: {
          description: "The stream.",
          content: { "text/event-stream": { schema: { type: "string" } } },
        },
        ...problemAnswers(400, 401, 403, 429, 503),
      },
    },
  },
  "/user/incentive/{id}": {
    get: {
      ...members,
      operationId: "getUserIncentive",
      summary: "One of them",
      parameters: [{ name: "id", in: "path", required: true, schema: { type: "string" } }],
      responses: {
        200: {
          headers: keptHeaders,
          description: "The user incentive.",
          content: json("UserIncentive", userIncentive),
        },
        ...notModified,
        ...problemAnswers(401, 403, 404, 429, 500, 503),
      },
    },
  },
  "/user/rewards": {
    get: {
      ...members,
      operationId: "listUserRewards",
      summary: "What the member has won",
      responses: {
        200: {
          headers: keptHeaders,
          description: "All of it.",
          content: json("UserRewards", { rewards: [reward] }),
        },
        ...notModified,
        ...problemAnswers(401, 403, 429, 500, 503),
      },
    },
  },
  "/healthz": {
    get: {
      ...operation,
      operationId: "getHealth",
      summary: "Whether this process answers",
      responses: { 200: { description: "It does.", content: json("Health", { status: "ok" }) } },
    },
  },
  "/readyz": {
    get: {
      ...operation,
      operationId: "getReadiness",
      summary: "Whether all that this process needs is well",
      responses: {
        200: {
          description: "It is.",
          content: json("Readiness", { status: "ready", database: true }),
        },
        503: {
          description: "Something is not.",
          content: json("Readiness", { status: "not ready", database: "error ECONNREFUSED" }),
        },
      },
    },
  },
  "/metrics": {
    get: {
      ...operation,
      operationId: "getMetrics",
      summary: "What this process counts, for Prometheus",
      description: "Only where METRICS_TOKEN is set.",
      security: [{ metricsToken: [] }],
      responses: {
        200: {
          description: "The metrics.",
          content: { "text/plain": { schema: { type: "string" } } },
        },
        ...problemAnswers(401),
      },
    },
  },
};
