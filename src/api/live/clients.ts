/**
 * The clients that stay connected, over WebSocket and Server-Sent Events alike: who may, how many, and for how long. A
 * connection lasts as long as its token: expired or revoked, it ends within two seconds.
 */
import { countLiveClients } from "../../metrics/registry.ts";
import type { LiveTransport } from "../../metrics/registry.ts";
import { Problem } from "../problems.ts";
import type { Caller, Tokens } from "../tokens/tokens.ts";

const AT_MOST_PER_MEMBER = 10;
const ASK_EVERY_MS = 2000;

export type EndOfConnection = "token" | "stopping";

interface Client {
  caller: Caller;
  authorization: string | undefined;
  end: (why: EndOfConnection) => void;
}

export interface AdmittedClient {
  caller: Caller;
  /** To be called when the connection is gone. Safe to call twice. */
  leave: () => void;
}

export class LiveClients {
  readonly #tokens: Tokens;
  readonly #atMost: number;
  readonly #clients = new Set<Client>();
  readonly #timer: NodeJS.Timeout;
  #isAsking = false;

  constructor(tokens: Tokens, atMost: number) {
    this.#tokens = tokens;
    this.#atMost = atMost;
    this.#timer = setInterval(() => void this.#endWithTheirTokens(), ASK_EVERY_MS);
    this.#timer.unref();
  }

  get isFull(): boolean {
    return this.#clients.size >= this.#atMost;
  }

  /** Throws a `Problem`: 401 and 403 as any route, 429 when this member has too many connections, 503 when there are too many. */
  async enter(
    transport: LiveTransport,
    authorization: string | undefined,
    end: (why: EndOfConnection) => void,
  ): Promise<AdmittedClient> {
    const caller = await this.#tokens.verify(authorization);
    if (caller.role !== "member") {
      throw new Problem(403, "Forbidden", "What a member completes is told to that member only.");
    }
    if (this.isFull) throw tooManyClients();
    if (this.#countOf(caller.userId) >= AT_MOST_PER_MEMBER) {
      throw new Problem(
        429,
        "Too many requests",
        `A member may have ${AT_MOST_PER_MEMBER} live connections; close one.`,
      );
    }
    const client = { caller, authorization, end };
    this.#clients.add(client);
    countLiveClients(transport, 1);
    const leave = (): void => {
      if (this.#clients.delete(client)) countLiveClients(transport, -1);
    };
    return { caller, leave };
  }

  /** Ends every connection; clients come back to another process. */
  stop(): void {
    clearInterval(this.#timer);
    for (const { end } of this.#clients) end("stopping");
  }

  #countOf(userId: string): number {
    let count = 0;
    for (const { caller } of this.#clients) if (caller.userId === userId) count++;
    return count;
  }

  async #endWithTheirTokens(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    for (const client of this.#clients) {
      await this.#tokens.verify(client.authorization).catch((error: unknown) => {
        // Not being able to tell is no reason to end it, while the token has not expired.
        const isRefused = error instanceof Problem && error.status < 500;
        if (isRefused || client.caller.expiresAt <= Date.now() / 1000) client.end("token");
      });
    }
    this.#isAsking = false;
  }
}

export const tooManyClients = (): Problem =>
  new Problem(503, "Unavailable", "There are too many live connections here. Try again later.");
