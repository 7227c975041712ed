/** A process that lets an error slip, for unhandled.test.ts. */
import path from "node:path";
import { Client } from "pg";
import { createLogger } from "../../src/logger.ts";
import { handleUnhandled } from "../../src/unhandled.ts";

handleUnhandled({
  logger: createLogger("silent"),
  restartWorker: (why) => {
    console.log(`restart: ${why}`);
    process.exit(0);
  },
  end: (code) => {
    console.log("ended in order");
    process.exit(code);
  },
});

if (process.argv[2] === "connection") void new Client({ host: "127.0.0.1", port: 1 }).connect();
else void Promise.reject(new TypeError(path.basename(import.meta.filename)));
