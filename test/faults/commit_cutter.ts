/**
 * A TCP proxy in front of PostgreSQL that can lose the reply to a COMMIT of a recording: it is done, and nobody is told. Or it
 * breaks the connection and brings the COMMIT later.
 */
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { once } from "node:events";

export interface CommitCutter {
  /** `url` of the server, through this proxy. */
  through(url: string): string;
  /** Loses the reply to the COMMIT of the next recording, and the connection with it. */
  cutNext(): void;
  /** Breaks the connection at the COMMIT of the next recording, which the server gets when what is returned is called. */
  holdNext(): () => void;
  /** How many replies were lost. */
  cuts(): number;
  stop(): Promise<void>;
}

/** A message "simple query" of the protocol: Q, its length, the text, a zero byte. */
const commit = "Q\0\0\0\x0bcommit\0";

export async function startCommitCutter(serverUrl: string): Promise<CommitCutter> {
  const { hostname, port } = new URL(serverUrl);
  const sockets = new Set<Socket>();
  let armed = false;
  let held: PromiseWithResolvers<void> | undefined;
  let cuts = 0;

  const proxy = createServer((client) => {
    const server = connect(Number(port), hostname);
    let recording = false;
    let cut = false;
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on("error", end).on("close", end);
      socket.on("close", () => sockets.delete(socket));
    }
    client.on("data", (data) => {
      const text = data.toString("latin1");
      recording ||= text.includes("record_incentive");
      if (text.endsWith(commit)) {
        cut = armed && recording;
        if (cut) armed = false;
        const isToBeHeld = held && recording ? held : undefined;
        recording = false;
        if (isToBeHeld) {
          held = undefined;
          client.off("close", end).destroy();
          return void isToBeHeld.promise.then(() => server.write(data));
        }
      }
      server.write(data);
    });
    server.on("data", (data) => {
      if (!cut) return void (client.writable && client.write(data));
      // The server answers, so it has committed.
      cuts++;
      end();
    });
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");

  return {
    through(url) {
      const changed = new URL(url);
      changed.host = `127.0.0.1:${(proxy.address() as AddressInfo).port}`;
      return changed.href;
    },
    cutNext() {
      armed = true;
    },
    holdNext() {
      held = Promise.withResolvers<void>();
      return held.resolve;
    },
    cuts: () => cuts,
    async stop() {
      for (const socket of sockets) socket.destroy();
      proxy.close();
      await once(proxy, "close");
    },
  };
}
