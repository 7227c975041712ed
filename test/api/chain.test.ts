/** The handlers in front of Express, with a client whose answer is written to after its end. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { expect, test } from "@jest/globals";
import { chain } from "../../src/api/front/chain.ts";
import type { Handler } from "../../src/api/front/chain.ts";
import { createLogger } from "../../src/logger.ts";

test("what is said after the end to a client that does not read harms nobody", async () => {
  const late = Promise.withResolvers<unknown>();
  const server = createServer(
    chain({
      handlers: [],
      last: (_request, response) => {
        response.end(Buffer.alloc(50_000_000));
        // As the event stream says every 15 s that it is still there.
        setTimeout(() => response.write("late", late.resolve), 100);
      },
      headers: new Map(),
      logger: createLogger("silent"),
    }),
  ).listen(0);
  await once(server, "listening");
  const socket = connect((server.address() as AddressInfo).port);
  socket.on("error", () => {}).pause();
  socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  expect(await late.promise).toMatchObject({ code: "ERR_STREAM_WRITE_AFTER_END" });
  await new Promise((resolve) => setImmediate(resolve));
  socket.destroy();
  server.close();
});

test("what a handler throws, at once or later, is answered as a problem, and as well protected", async () => {
  const failing: Record<string, Handler> = {
    "/": (_request, _response, next) => next(),
    "/at-once": () => {
      throw new Error("at once");
    },
    "/later": async () => {
      await new Promise((resolve) => setImmediate(resolve));
      throw new Error("later");
    },
    "/handed-on": (_request, _response, next) => next(new Error("handed on")),
  };
  const server = createServer(
    chain({
      handlers: [
        (request, response, next) => failing[request.url ?? ""]?.(request, response, next),
      ],
      last: (_request, response) => response.end("answered"),
      headers: new Map([["X-Frame-Options", "DENY"]]),
      logger: createLogger("silent"),
    }),
  ).listen(0);
  await once(server, "listening");
  for (const path of Object.keys(failing)) {
    const response = await fetch(
      `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`,
    );
    await response.arrayBuffer();
    expect([path, response.status, response.headers.get("x-frame-options")]).toEqual([
      path,
      path === "/" ? 200 : 500,
      "DENY",
    ]);
  }
  server.close();
});
