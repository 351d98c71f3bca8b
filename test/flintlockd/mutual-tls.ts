/**
 * TLS 1.3 that asks clients for a certificate, as flintlockd does it: with alerts. Node's own server lets a foreign certificate
 * through the handshake and then cuts the connection without a word. socat lets OpenSSL decide; it knows no ALPN, which clients
 * of Node do not ask about.
 */

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../src/demo/workspace.ts";
import { findProgram } from "../../src/vm/local/processes.ts";
import { eventually } from "../harness/eventually.ts";
import type { TlsSecurity } from "./options.ts";

export interface Front {
  readonly port: number;
  close(): Promise<void>;
}

/** Passes what it decrypts on to `target`, a port of this computer. */
export async function startMutualTls(tls: TlsSecurity, port: number, target: number): Promise<Front> {
  const directory = await mkdtemp(join(tmpdir(), "fr-mtls-"));
  const files = { key: tls.key, cert: tls.cert, cafile: tls.clientCa ?? "" };
  for (const [name, pem] of Object.entries(files)) await writeFile(join(directory, name), pem);
  const own = port || (await freePort());
  const listen = [`OPENSSL-LISTEN:${own}`, "bind=127.0.0.1", "fork", "reuseaddr", "backlog=128"];
  const asked = ["verify=1", "openssl-min-proto-version=TLS1.3", "nodelay"];
  const pems = Object.keys(files).map((name) => `${name}=${name}`);
  const address = [...listen, ...asked, ...pems].join(",");
  const program = await findProgram("socat");
  if (program === undefined) throw new Error("socat is not installed");
  const socat = spawn(program, ["-lf/dev/null", address, `TCP4:127.0.0.1:${target},nodelay`], {
    cwd: directory,
    stdio: "ignore",
  });
  const ended = new Promise<void>((resolve) => {
    socat.once("exit", () => resolve());
    socat.once("error", () => resolve());
  });
  await eventually("socat listens", () => answers(own));
  return {
    port: own,
    async close() {
      socat.kill();
      await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", () => end(true));
    socket.once("error", () => end(false));
  });
}
