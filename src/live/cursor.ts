/**
 * Where a client is in its member's events, as text that only we can read: a position of the database (which transactions it
 * has seen) and the ids of events that it had seen but not handed on yet. Sent with each event over Server-Sent Events, and
 * brought back as `Last-Event-ID`, so whatever comes back is checked.
 */

export interface Cursor {
  /** A snapshot's text form. */
  position: string;
  /** Ids of events that are due before anything later than the position. */
  pending: readonly string[];
}

const form = /^(\d{1,20}:\d{1,20}:[\d,]*)\|((?:\d{1,19}(?:,\d{1,19}){0,999})?)$/;

export function encodeCursor({ position, pending }: Cursor): string {
  return Buffer.from(`${position}|${pending.join(",")}`, "latin1").toString("base64url");
}

/** Undefined when we cannot have made it. */
export function decodeCursor(text: string): Cursor | undefined {
  const found = form.exec(Buffer.from(text, "base64url").toString("latin1"));
  if (!found) return undefined;
  const [, position = "", pending = ""] = found;
  return { position, pending: pending === "" ? [] : pending.split(",") };
}
