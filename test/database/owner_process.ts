/** A process of its own that holds an embedded server until it is killed or told to stop; for embedded_server.test.ts. */
import { readConfiguration } from "../../src/configuration.ts";
import { openEmbeddedServer } from "../../src/database/embedded_server.ts";
import { createLogger } from "../../src/logger.ts";

const server = await openEmbeddedServer({
  configuration: readConfiguration(),
  logger: createLogger("silent"),
  durable: false,
});
process.once("SIGTERM", () => void server.close().then(() => process.exit(0)));
console.log("ready");
setInterval(() => {}, 60_000);
