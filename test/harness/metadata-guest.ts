/** Guests of machines on a stand-in host: what they know is in the metadata that they were given. */

import { Secret } from "../../src/base/secret.ts";
import type { RelayLink } from "../../src/vm/driver.ts";
import type { Boot } from "../flintlockd/options.ts";
import { dialLink, preambleOf } from "../integration/relay-bench.ts";
import { spoken } from "./raw-socket.ts";

/** The way to the relay, as a guest reads it. */
export function linkOfBoot({ metadata }: Pick<Boot, "metadata">): RelayLink {
  const lines = (metadata["firerunner"] ?? "").split("\n");
  const value = (key: string) =>
    lines.find((line) => line.startsWith(`${key}=`))?.slice(key.length + 1) ?? "";
  return {
    address: value("relay"),
    serverName: value("server"),
    ca: Buffer.from(value("ca"), "base64").toString(),
    secret: new Secret(value("secret")),
  };
}

/** Asks for its boot data once, and says what it was answered with. */
export function askForBootData(
  boot: Pick<Boot, "id" | "metadata">,
  link = linkOfBoot(boot),
): Promise<string> {
  const socket = dialLink(link, preambleOf(boot.id, link));
  socket.write("GET /firerunner/boot HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
  socket.on("error", () => {});
  return spoken(socket);
}
