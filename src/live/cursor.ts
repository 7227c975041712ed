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

const form =
  /^([1-9]\d{0,17}):([1-9]\d{0,17}):((?:\d{1,18}(?:,\d{1,18})*)?)\|((?:\d{1,18}(?:,\d{1,18})*)?)$/;

export function encodeCursor({ position, pending }: Cursor): string {
  return Buffer.from(`${position}|${pending.join(",")}`, "latin1").toString("base64url");
}

/** Undefined when we cannot have made it. What it returns the database can read. */
export function decodeCursor(text: string): Cursor | undefined {
  const found = form.exec(Buffer.from(text, "base64url").toString("latin1"));
  if (!found) return undefined;
  const [, first = "", next = "", open = "", pending = ""] = found;
  const inOrder = [first, ...idsIn(open)].map(BigInt);
  const isSnapshot =
    inOrder.every((xid, at) => at === 0 || xid >= (inOrder[at - 1] ?? xid)) &&
    (open === "" ? BigInt(first) <= BigInt(next) : (inOrder.at(-1) ?? 0n) < BigInt(next));
  return isSnapshot ? { position: `${first}:${next}:${open}`, pending: idsIn(pending) } : undefined;
}

function idsIn(list: string): string[] {
  return list === "" ? [] : list.split(",");
}
