/**
 * What made a call fail: the error of connect, Node or OpenSSL is looked up in the tables of failures.ts, and where a connection ends
 * without a word, the address is asked what listens there.
 */
import { connect as connectPlainly } from "node:net";
import { connect as connectSecurely } from "node:tls";
import { ConnectError } from "@connectrpc/connect";
import { outOfTime } from "../../base/deadline.ts";
import { systemCode } from "../../base/errors.ts";
import { splitHostPort } from "../../base/host-port.ts";
import type { FlintlockHost } from "./config.ts";
import {
  callFailure,
  errorChain,
  type Failure,
  type FailureRow,
  type HostFacts,
  hostFailure,
} from "./errors.ts";
import {
  closedAtOnce,
  connectionEnded,
  daemonFailures,
  speaksHttp1,
  speaksOther,
  speaksTls,
  transportFailures,
} from "./failures.ts";

/** Of words that nobody knew beforehand; secrets are taken out of the whole message. */
const MOST_FOREIGN_CHARS = 300;
const LIMIT_MS = 2_000;

const tooLate = hostFailure(
  "vm_host_timeout",
  "it did not answer in time",
  "look at the load of the host and at its flintlockd; the limit is vm.flintlock.callTimeout",
);

export function factsOf({ tls, token }: FlintlockHost): HostFacts {
  return { tls: tls !== undefined, certificate: tls?.certificate !== undefined, token: token !== undefined };
}

/** What made a call at this address fail. A connection that ends without a word says more when it never carried an answer. */
export async function diagnose(
  error: unknown,
  address: string,
  facts: HostFacts,
  hasAnswered: boolean,
): Promise<Failure> {
  if (error === outOfTime) return tooLate;
  const failure = failureOf(error, facts);
  if (hasAnswered || (failure !== connectionEnded && failure !== speaksOther)) return failure;
  if (facts.tls) return failure === connectionEnded ? closedAtOnce(facts) : failure;
  const { host, port } = splitHostPort(address);
  return (await sniff(host, port)) ?? failure;
}

/** What an error of connect, Node or flintlockd means. */
export function failureOf(error: unknown, facts: HostFacts): Failure {
  const chain = errorChain(error);
  const text = chain.map(({ message }) => message).join(": ");
  const systems = chain.flatMap((each) =>
    "code" in each && typeof each.code === "string" ? [each.code] : [],
  );
  const grpc = chain.find((each) => each instanceof ConnectError)?.code;
  for (const row of [...transportFailuresFirst(systems), ...daemonFailures, ...transportFailures]) {
    const match = matches(row, systems, grpc, text);
    if (match) return typeof row.means === "function" ? row.means(facts, match) : row.means;
  }
  return callFailure(
    "vm_host_refused",
    `it answered with an error: ${text.split("\n")[0]?.slice(0, MOST_FOREIGN_CHARS)}`,
    "look at flintlockd's log on the host",
    true,
  );
}

/** Rows with a system's code are surer than any text, and those without come after flintlockd's own. */
function transportFailuresFirst(systems: readonly string[]): readonly FailureRow[] {
  return systems.length === 0 ? [] : transportFailures.filter(({ system }) => system !== undefined);
}

function matches(
  row: FailureRow,
  systems: readonly string[],
  grpc: number | undefined,
  text: string,
): RegExpExecArray | undefined {
  if (row.grpc !== undefined && row.grpc !== grpc) return undefined;
  const { system } = row;
  if (system && !systems.some((code) => system.test(code))) return undefined;
  return (row.text ?? /^/).exec(text) ?? undefined;
}

/** What an HTTP/2 client says first, and an empty SETTINGS frame. */
const hello = Buffer.concat([
  Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
]);

/** What listens at an address that ended a plaintext connection: nothing in the error tells. Undefined when this tells no more. */
async function sniff(host: string, port: number): Promise<Failure | undefined> {
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
