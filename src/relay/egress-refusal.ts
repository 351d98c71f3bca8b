import { STATUS_CODES } from "node:http";
import { causeIn } from "../base/errors.ts";
import { Refusal } from "./errors.ts";

const LONGEST_PHRASE = 200;

/** Why a guest does not get to a host: 403 where it may not, 502 and 504 where the host cannot be reached. */
export class EgressRefusal extends Refusal {
  /** Without the host's name: for lines that have it already. */
  readonly reason: string;

  constructor(status: number, message: string, reason: string, options: { cause?: unknown } = {}) {
    super(status, `${message}: ${reason}`, options);
    this.reason = reason;
  }
}

/** For the status line of an answer: some programs, apt among them, show nothing else of it. */
export function statusPhrase({ status, reason }: Pick<EgressRefusal, "status" | "reason">): string {
  const phrase = `${STATUS_CODES[status] ?? "Refused"} by FireRunner: ${reason}`;
  return phrase.replace(/[^\x20-\x7e]/g, "?").slice(0, LONGEST_PHRASE);
}

export function refusalIn(error: unknown): EgressRefusal | undefined {
  return causeIn(error, EgressRefusal);
}

const wordsOfCodes: Readonly<Record<string, string>> = {
  ECONNREFUSED: "the connection was refused: nobody listens there",
  ECONNRESET: "the connection was broken off",
  UND_ERR_SOCKET: "the connection was broken off",
  EHOSTUNREACH: "there is no way to that host",
  ENETUNREACH: "there is no way to that network",
  ETIMEDOUT: "it did not answer in time",
  UND_ERR_CONNECT_TIMEOUT: "it did not answer in time",
  UND_ERR_BODY_TIMEOUT: "it fell silent",
  UND_ERR_HEADERS_TIMEOUT: "it did not answer in time",
  ENOTFOUND: "there is no such name",
  ENODATA: "the name has no address",
  EAI_AGAIN: "no name server answered",
  ETIMEOUT: "no name server answered",
  ESERVFAIL: "the name server failed",
  EREFUSED: "the name server refused to answer",
};

/** What went wrong on the way to a host, in words that hold nothing of this computer's own. */
export function reasonOf(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (at.name === "TimeoutError") return "it did not answer in time";
    const words = wordsOfCodes[(at as NodeJS.ErrnoException).code ?? ""];
    if (words !== undefined) return words;
  }
  return "it did not answer";
}
