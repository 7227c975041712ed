/** Clients of the live API as others write them: a GraphQL client over WebSocket, and Server-Sent Events read with fetch. */
import { createClient } from "graphql-ws";
import { WebSocket } from "ws";
import { createTokens } from "../src/api/tokens/tokens.ts";
import { jwtSecret } from "./test_process.ts";

const tokens = createTokens(jwtSecret);

export async function tokenOf(user: string, validFor = "1h", role?: "operator"): Promise<string> {
  return `Bearer ${await tokens.sign(user, validFor, { role })}`;
}

export interface Told {
  id: string;
  userIncentive: { id: string; status: string } | null;
}

export interface SocketClient {
  told: Told[];
  errors: unknown[];
  /** The code of each connection's end. */
  closed: number[];
  stop(): void;
}

export const everyCompletion =
  "subscription { incentiveCompleted { id occurredAt userIncentive { id status incentive { key } } } }";

/** Subscribes, and stays connected until stopped; resolves when it is connected. */
export async function subscribe(
  url: string,
  authorization: string | undefined,
  query = everyCompletion,
): Promise<SocketClient> {
  const told: Told[] = [];
  const errors: unknown[] = [];
  const closed: number[] = [];
  const connected = Promise.withResolvers<void>();
  const client = createClient({
    url: `${url.replace("http", "ws")}/graphql`,
    webSocketImpl: WebSocket,
    connectionParams: { authorization },
    lazy: false,
    retryAttempts: 0,
    onNonLazyError: () => {},
    on: {
      connected: () => connected.resolve(),
      closed(event) {
        closed.push((event as { code: number }).code);
        connected.resolve();
      },
    },
  });
  await connected.promise;
  if (closed.length === 0)
    client.subscribe<{ incentiveCompleted: Told }>(
      { query },
      {
        next: ({ data, errors: failed }) => {
          if (data) told.push(data.incentiveCompleted);
          if (failed) errors.push(...failed);
        },
        error: (error) => errors.push(error),
        complete: () => {},
      },
    );
  return { told, errors, closed, stop: () => void client.dispose() };
}

export interface StreamEvent {
  id: string;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- whatever the API answers
  data: any;
}

export interface StreamClient {
  events: StreamEvent[];
  /** What to come back with. */
  lastEventId: string;
  hasEnded: boolean;
  stop(): void;
}

/** Resolves when the stream has begun. */
export async function openStream(
  url: string,
  authorization: string,
  lastEventId?: string,
): Promise<StreamClient> {
  const abort = new AbortController();
  const response = await fetch(`${url}/user/incentives/events`, {
    headers: { authorization, ...(lastEventId && { "last-event-id": lastEventId }) },
    signal: abort.signal,
  });
  if (!response.ok || !response.body) throw new Error(`answered ${response.status}`);
  const client: StreamClient = {
    events: [],
    lastEventId: "",
    hasEnded: false,
    stop: () => abort.abort(),
  };
  const begun = Promise.withResolvers<void>();
  void read(response.body, client, begun.resolve)
    .catch(() => {})
    .finally(() => (client.hasEnded = true));
  await begun.promise;
  return client;
}

async function read(
  body: ReadableStream<Uint8Array>,
  client: StreamClient,
  begun: () => void,
): Promise<void> {
  let text = "";
  for await (const chunk of body.pipeThrough(new TextDecoderStream() as never)) {
    text += String(chunk);
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const fields = new Map(
        text
          .slice(0, end)
          .split("\n")
          .map((line) => line.split(/: (.*)/s) as [string, string]),
      );
      text = text.slice(end + 2);
      client.lastEventId = fields.get("id") ?? client.lastEventId;
      const data = fields.get("data");
      if (data) client.events.push({ id: client.lastEventId, data: JSON.parse(data) });
      begun();
    }
  }
}
