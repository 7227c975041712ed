/** An issuer of tokens: keys of its own, published by a real HTTP server that can rotate them and go away. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, exportSPKI, generateKeyPair, SignJWT } from "jose";
import type { CryptoKey, JWK, JWTPayload } from "jose";

export interface Issuer {
  url: string;
  /** How often its keys were asked for. */
  asked(): number;
  /** Makes a key for this algorithm and publishes it beside those there are. */
  addKey(kid: string, algorithm?: string): Promise<void>;
  removeKey(kid: string): void;
  /** Signs with a key it had at any time. `header` overrides what the token's header says. */
  sign(kid: string, claims?: JWTPayload, header?: object): Promise<string>;
  /** The public key as text, as anybody can have it. */
  publicKey(kid: string): Promise<string>;
  leave(): Promise<void>;
  comeBack(): Promise<void>;
}

interface Key {
  algorithm: string;
  privateKey: CryptoKey;
  publicKey: CryptoKey;
}

export const iss = "https://issuer.example";
export const aud = "incentives";

export async function startIssuer(): Promise<Issuer> {
  const keys = new Map<string, Key>();
  const published = new Map<string, JWK>();
  let asked = 0;
  const server = createServer((_request, response) => {
    asked++;
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ keys: [...published.values()] }));
  });
  const listen = (port: number): Promise<void> =>
    new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  await listen(0);
  const { port } = server.address() as AddressInfo;

  function keyOf(kid: string): Key {
    const key = keys.get(kid);
    if (!key) throw new Error(`There is no key ${kid}`);
    return key;
  }

  return {
    url: `http://127.0.0.1:${port}/jwks.json`,
    asked: () => asked,
    async addKey(kid, algorithm = "RS256") {
      const pair = await generateKeyPair(algorithm, { extractable: true });
      keys.set(kid, { algorithm, ...pair });
      published.set(kid, { ...(await exportJWK(pair.publicKey)), kid, use: "sig", alg: algorithm });
    },
    removeKey: (kid) => void published.delete(kid),
    async sign(kid, claims, header) {
      const { algorithm, privateKey } = keyOf(kid);
      const exp = Math.floor(Date.now() / 1000) + 3600;
      const token = await new SignJWT({ sub: "alice", iss, aud, exp, ...claims })
        .setProtectedHeader({ alg: algorithm, kid, ...header })
        .sign(privateKey);
      return `Bearer ${token}`;
    },
    publicKey: (kid) => exportSPKI(keyOf(kid).publicKey),
    leave: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
    comeBack: () => listen(port),
  };
}
