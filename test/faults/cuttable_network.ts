/** A way to PostgreSQL that a test can break: it goes on, swallows what is sent on it, or refuses everybody. */
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";

export interface CuttableNetwork {
  /** The same database, by this way. */
  url: string;
  /** Says nothing any more, on old connections and on new ones. */
  swallow(): void;
  /** Ends all connections and refuses new ones. */
  refuse(): void;
  /** New connections work again; old ones stay as they are. */
  mend(): void;
  close(): Promise<void>;
}

export async function startCuttableNetwork(databaseUrl: string): Promise<CuttableNetwork> {
  const target = new URL(databaseUrl);
  /** Both ends of each connection, and whether it still passes anything on. */
  const connections = new Set<{ ends: Socket[]; isOpen: boolean }>();
  let state: "open" | "swallowing" | "refusing" = "open";
  const server = createServer((near) => {
    if (state === "refusing") return void near.destroy();
    const far = connect(Number(target.port), target.hostname);
    const connection = { ends: [near, far], isOpen: state === "open" };
    connections.add(connection);
    const pass = (from: Socket, to: Socket): void => {
      from.on("data", (data) => connection.isOpen && to.write(data));
      from.on("error", () => {});
      from.on("close", () => {
        to.destroy();
        connections.delete(connection);
      });
    };
    pass(near, far);
    pass(far, near);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = new URL(databaseUrl);
  url.hostname = "127.0.0.1";
  url.port = String((server.address() as AddressInfo).port);
  const cut = (): void => {
    for (const { ends } of connections) for (const end of ends) end.destroy();
  };
  return {
    url: url.href,
    swallow() {
      state = "swallowing";
      for (const connection of connections) connection.isOpen = false;
    },
    refuse() {
      state = "refusing";
      cut();
    },
    mend() {
      state = "open";
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      cut();
      await closed;
    },
  };
}
