/**
 * What this process counts, for operators (/metrics). Every room may import this file and none other of this room, and it
 * imports no room. Labels are keys and names from the catalogue and the code: never a member, a row or what was recorded.
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";

export const metrics = new Registry();

const evaluations = new Counter({
  name: "incentives_evaluations_total",
  help: "Rows judged, by the incentive's key and the verdict's status.",
  labelNames: ["incentive", "status"],
  registers: [metrics],
});
const handedOver = new Counter({
  name: "incentives_rows_handed_over_total",
  help: "Rows that could not be judged among others and were handed to a job of their own.",
  registers: [metrics],
});
const batchRows = new Histogram({
  name: "incentives_batch_rows",
  help: "Rows in a batch of evaluation.",
  buckets: [1, 3, 10, 30, 100, 300, 1000, 3000],
  registers: [metrics],
});
const batchSeconds = new Histogram({
  name: "incentives_batch_duration_seconds",
  help: "How long a batch of evaluation took, from claim to commit.",
  buckets: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10],
  registers: [metrics],
});
const deliveries = new Counter({
  name: "incentives_deliveries_total",
  help: "Calls of a listener, by its name and how they ended.",
  labelNames: ["listener", "outcome"],
  registers: [metrics],
});
const runnerRestarts = new Counter({
  name: "incentives_runner_restarts_total",
  help: "How often the runner of jobs ended by itself and was started again.",
  registers: [metrics],
});
const liveClients = new Gauge({
  name: "incentives_live_clients",
  help: "Clients that stay connected to be told what they complete, by how: websocket or events.",
  labelNames: ["transport"],
  registers: [metrics],
});
const liveEvents = new Counter({
  name: "incentives_live_events_total",
  help: "Events told to clients that stay connected.",
  labelNames: ["transport"],
  registers: [metrics],
});
const droppedClients = new Counter({
  name: "incentives_live_clients_dropped_total",
  help: "Clients that were cut off because they did not read what they were told.",
  labelNames: ["transport"],
  registers: [metrics],
});

const answers = new Counter({
  name: "incentives_answers_total",
  help: "Answers to members' reads: from memory (hit), asked for and kept (miss), asked for and not kept (live); and whether the client had it already (304).",
  labelNames: ["how", "not_modified"],
  registers: [metrics],
});
const answersForgotten = new Counter({
  name: "incentives_answers_forgotten_total",
  help: "Times that answers were forgotten, of some members, or of everybody (all).",
  labelNames: ["whose"],
  registers: [metrics],
});
const answersKept = new Gauge({
  name: "incentives_answers_kept",
  help: "Answers in memory.",
  registers: [metrics],
});
const answersBytes = new Gauge({
  name: "incentives_answers_bytes",
  help: "What the answers in memory take.",
  registers: [metrics],
});

/** Call it when the batch is committed: what was rolled back was not judged. */
export function countEvaluated(incentiveKey: string, status: string, rows: number): void {
  evaluations.inc({ incentive: incentiveKey, status }, rows);
}

/** Call it once a batch that claimed anything. */
export function observeBatch(rows: number, seconds: number): void {
  batchRows.observe(rows);
  batchSeconds.observe(seconds);
}

export function countHandedOver(rows: number = 1): void {
  handedOver.inc(rows);
}

export type DeliveryOutcome = "delivered" | "failed" | "not_wanted";

export function countDelivery(listener: string, outcome: DeliveryOutcome): void {
  deliveries.inc({ listener, outcome });
}

export function countRunnerRestart(): void {
  runnerRestarts.inc();
}

/** Over WebSocket, or as Server-Sent Events. */
export type LiveTransport = "websocket" | "events";

export function countLiveClients(transport: LiveTransport, change: 1 | -1): void {
  liveClients.inc({ transport }, change);
}

export function countLiveEvent(transport: LiveTransport): void {
  liveEvents.inc({ transport });
}

export function countDroppedClient(transport: LiveTransport): void {
  droppedClients.inc({ transport });
}

// Looked up once: this is counted for every hit.
const answersBy = {
  hit: [answers.labels("hit", "false"), answers.labels("hit", "true")],
  miss: [answers.labels("miss", "false"), answers.labels("miss", "true")],
  live: [answers.labels("live", "false"), answers.labels("live", "true")],
} as const;

export function countAnswer(how: keyof typeof answersBy, isNotModified: boolean): void {
  answersBy[how][isNotModified ? 1 : 0].inc();
}

export function countForgotten(whose: "members" | "all"): void {
  answersForgotten.inc({ whose });
}

export function setAnswersKept({
  answers: count,
  bytes,
}: {
  answers: number;
  bytes: number;
}): void {
  answersKept.set(count);
  answersBytes.set(bytes);
}
