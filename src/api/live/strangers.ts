/**
 * Who has knocked at a live connection and has not said yet who they are, counted by address: otherwise one address that says
 * nothing would hold the places of all. Known members are counted by clients.ts, wherever they are. Called by the WebSocket
 * and by the event stream.
 */
import type { IncomingMessage } from "node:http";
import { clientAddress } from "../front/client_address.ts";
import { Problem } from "../problems.ts";

/** Of all places of the process, what one address may take without a word. */
const partOfPlaces = 1 / 20;
const placesAtLeast = 10;

export class Strangers {
  readonly #atMost: number;
  readonly #trustedProxies: number;
  readonly #addressOf = new Map<IncomingMessage, string>();
  readonly #countAt = new Map<string, number>();

  /** `places`: how many live connections this process holds. */
  constructor(places: number, trustedProxies: number) {
    this.#atMost = Math.max(placesAtLeast, Math.ceil(places * partOfPlaces));
    this.#trustedProxies = trustedProxies;
  }

  /** Until `leave` this request is a stranger's. Throws a 429 `Problem` when its address has too many. */
  enter(request: IncomingMessage): void {
    const address = clientAddress(request, this.#trustedProxies);
    const count = this.#countAt.get(address) ?? 0;
    if (count >= this.#atMost) {
      throw new Problem(
        429,
        "Too many requests",
        `${this.#atMost} connections of this address have not said yet who they are. Try again in a moment.`,
      );
    }
    this.#addressOf.set(request, address);
    this.#countAt.set(address, count + 1);
  }

  /** They are known now, refused or gone. Safe to call twice. */
  leave(request: IncomingMessage): void {
    const address = this.#addressOf.get(request);
    if (address === undefined) return;
    this.#addressOf.delete(request);
    const left = (this.#countAt.get(address) ?? 1) - 1;
    if (left > 0) this.#countAt.set(address, left);
    else this.#countAt.delete(address);
  }
}
