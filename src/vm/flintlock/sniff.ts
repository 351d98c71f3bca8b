import { connect as connectPlainly } from "node:net";
import { connect as connectSecurely } from "node:tls";
import { systemCode } from "../../base/errors.ts";
import type { Failure } from "./failure.ts";
import { speaksHttp1, speaksOther, speaksTls } from "./transport-failures.ts";

const LIMIT_MS = 2_000;
/** What an HTTP/2 client says first, and an empty SETTINGS frame. */
const hello = Buffer.concat([
  Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
]);

/** What listens at an address that ended a plaintext connection: nothing in the error tells. Undefined when this tells no more. */
export async function sniff(host: string, port: number): Promise<Failure | undefined> {
  const first = await firstBytes(host, port);
  // Most servers with TLS close without a word when they hear anything else.
  if (first.length === 0) return (await answersTls(host, port)) ? speaksTls : undefined;
  if (isTlsRecord(first)) return speaksTls;
  if (first.toString("latin1").startsWith("HTTP/1")) return speaksHttp1;
  return isSettingsFrame(first) ? undefined : speaksOther;
}

/** An alert (21) or a handshake (22) of a version 3.x. */
function isTlsRecord(bytes: Buffer): boolean {
  return (bytes[0] === 21 || bytes[0] === 22) && bytes[1] === 3;
}

/** An HTTP/2 server's first word. */
function isSettingsFrame(bytes: Buffer): boolean {
  return bytes[3] === 4;
}

function firstBytes(host: string, port: number): Promise<Buffer> {
  return new Promise((resolve) => {
    const done = (bytes: Buffer) => {
      socket.destroy();
      resolve(bytes);
    };
    const nothing = () => done(Buffer.alloc(0));
    const socket = connectPlainly({ host, port, timeout: LIMIT_MS }, () => socket.write(hello));
    socket.once("data", done).on("error", nothing).once("timeout", nothing).once("close", nothing);
  });
}

/** Whether it answers in TLS at all; who it is does not matter here, and nothing is said to it. */
function answersTls(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const done = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    const options = { host, port, timeout: LIMIT_MS, rejectUnauthorized: false, ALPNProtocols: ["h2"] };
    const socket = connectSecurely(options, () => done(true));
    socket.on("error", (error) => done(/ALERT/.test(systemCode(error) ?? "")));
    socket.once("timeout", () => done(false)).once("close", () => done(false));
  });
}
