/**
 * From which address a request comes, for counting: behind proxies it is what the outermost trusted one saw. An IPv6 address is
 * cut to its network, because whoever has one of them has all the others in it.
 */
import { isIP, isIPv6 } from "node:net";
import type { IncomingMessage } from "node:http";

/** `trustedProxies`: how many stand in front of this process, each of which adds to X-Forwarded-For. */
export function clientAddress(
  { headers, socket }: Pick<IncomingMessage, "headers" | "socket">,
  trustedProxies: number,
): string {
  const forwarded = String(headers["x-forwarded-for"] ?? "").split(",");
  const seen = trustedProxies > 0 ? forwarded.at(-trustedProxies)?.trim() : undefined;
  const address = seen && isIP(seen) ? seen : (socket.remoteAddress ?? "unknown");
  const mapped = /^::ffff:([\d.]+)$/i.exec(address)?.[1];
  if (mapped) return mapped;
  return isIPv6(address) ? networkOf(address) : address;
}

/** The first 64 bits, written in full. */
function networkOf(address: string): string {
  const [head = "", tail = ""] = address.toLowerCase().split("%")[0]?.split("::") ?? [];
  const before = head === "" ? [] : head.split(":");
  const after = tail === "" ? [] : tail.split(":");
  const zeros = Array.from({ length: Math.max(8 - before.length - after.length, 0) }, () => "0");
  const groups = address.includes("::") ? [...before, ...zeros, ...after] : before;
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":");
}
