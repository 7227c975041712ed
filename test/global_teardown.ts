/** Stops the server and removes its folder. */
import { rm } from "node:fs/promises";

export default async function tearDown(): Promise<void> {
  const { stopTestServer } = globalThis as unknown as {
    stopTestServer: { server: { close(): Promise<void> }; folder: string };
  };
  await stopTestServer.server.close();
  await rm(stopTestServer.folder, { recursive: true, force: true });
}
