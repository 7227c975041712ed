/** The handlers in front of Express, with a client whose answer is written to after its end. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { expect, test } from "@jest/globals";
import { chain } from "../../src/api/front/chain.ts";
import { createLogger } from "../../src/logger.ts";

test("what is said after the end to a client that does not read harms nobody", async () => {
  const late = Promise.withResolvers<unknown>();
  const server = createServer(
    chain(
      [],
      (_request, response) => {
        response.end(Buffer.alloc(50_000_000));
        // As the event stream says every 15 s that it is still there.
        setTimeout(() => response.write("late", late.resolve), 100);
      },
      createLogger("silent"),
    ),
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
