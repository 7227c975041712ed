/** Which address a request counts for. */
import { expect, test } from "@jest/globals";
import { clientAddress } from "../../src/api/front/client_address.ts";

const from = (remoteAddress: string, forwarded?: string) =>
  ({ socket: { remoteAddress }, headers: { "x-forwarded-for": forwarded } }) as never;

test.each([
  ["the connection's own", from("192.0.2.1"), 0, "192.0.2.1"],
  ["IPv4 written as IPv6", from("::ffff:192.0.2.1"), 0, "192.0.2.1"],
  ["no header is believed without a proxy", from("192.0.2.1", "198.51.100.9"), 0, "192.0.2.1"],
  ["what the proxy saw", from("10.0.0.1", "198.51.100.9"), 1, "198.51.100.9"],
  [
    "not what the client says it is",
    from("10.0.0.1", "203.0.113.5, 198.51.100.9"),
    1,
    "198.51.100.9",
  ],
  ["two proxies", from("10.0.0.1", "203.0.113.5, 198.51.100.9, 10.0.0.2"), 2, "198.51.100.9"],
  ["a proxy that says nothing", from("10.0.0.1"), 1, "10.0.0.1"],
  ["no address at all", from("10.0.0.1", "nonsense"), 1, "10.0.0.1"],
  ["an IPv6 network", from("2001:db8:0:7:1234:5678:9abc:def0"), 0, "2001:db8:0:7"],
  ["the same network, shortened", from("2001:db8:0:7::1"), 0, "2001:db8:0:7"],
  ["IPv6's own machine", from("::1"), 0, "0:0:0:0"],
])("%s", (_what, request, trustedProxies, expected) => {
  expect(clientAddress(request, trustedProxies)).toBe(expected);
});
