/** Git and Git LFS over HTTP: requests go to GitLab, and links in the answers of LFS are made to lead through the relay. */
import { Transform, type TransformCallback } from "node:stream";
import type { Dispatcher } from "undici";
import type { GitLabHttp } from "../../gitlab/http.ts";
import type { Store } from "../../store/store.ts";
import { Refusal } from "../errors.ts";
import type { ChunkedWork } from "../gateway/admission.ts";
import {
  type Exchange,
  headersFromGuest,
  type Passage,
  passThrough,
  relayHostOf,
  streamAnswer,
} from "../gateway/exchange.ts";
import type { JobSession } from "../gateway/guest.ts";
import { basicCredentials, type GuestCalls } from "./gitlab-calls.ts";
import { currentSession, isSecret } from "./job-session.ts";
import { viaRelay, withRelayLocation } from "./payload.ts";
import type { Redirects } from "./redirects.ts";

interface GitOptions {
  readonly store: Store;
  readonly http: GitLabHttp;
  readonly calls: GuestCalls;
  readonly redirects: Pick<Redirects, "follow">;
  readonly idleTimeoutMs: number;
  readonly pieces: ChunkedWork;
}

interface Git {
  /** Git's own protocol, and the locks of git-lfs. */
  forward(exchange: Exchange): Promise<void>;
  lfsBatch(exchange: Exchange): Promise<void>;
  lfsObject(exchange: Exchange): Promise<void>;
}

/** Git over HTTP for a machine that has a job. Who may read and push what is GitLab's to say, by the credentials git sends. */
export function createGit({ store, http, calls, redirects, idleTimeoutMs, pieces }: GitOptions): Git {
  async function admitGit({ guest, request }: Exchange): Promise<JobSession> {
    const session = await currentSession(store, guest);
    if (session === undefined) throw new Refusal(404, "this machine has no job");
    if (usesToken(session, request.headers.authorization)) session.isTokenSeen = true;
    return session;
  }

  const links = ({ request }: Exchange) => ({ relayHost: relayHostOf(request), http });

  function send(exchange: Exchange, session: JobSession, { body, signal }: Passage) {
    const { request, path, query } = exchange;
    return calls.send(exchange, session, {
      method: request.method as Dispatcher.HttpMethod,
      path: path + query,
      headers: headersFromGuest(request.headers),
      signal,
      headersTimeoutMs: 0,
      bodyTimeoutMs: idleTimeoutMs,
      ...(body ? { body } : {}),
    });
  }

  return {
    async forward(exchange) {
      const session = await admitGit(exchange);
      await passThrough(
        exchange,
        idleTimeoutMs,
        (passage) => send(exchange, session, passage),
        (answer) => streamAnswer(exchange, answer, withRelayLocation(answer.headers, links(exchange))),
      );
    },
    async lfsBatch(exchange) {
      const session = await admitGit(exchange);
      const viaUs = links(exchange);
      await passThrough(
        exchange,
        idleTimeoutMs,
        (passage) => send(exchange, session, passage),
        async (answer) => {
          const { "content-length": _length, ...headers } = answer.headers;
          const rewriter = createHrefRewriter(
            (href) => viaRelay(href, viaUs),
            () => pieces.turn(exchange.guest),
          );
          await streamAnswer(exchange, answer, headers, rewriter);
        },
      );
    },
    async lfsObject(exchange) {
      const session = await admitGit(exchange);
      await passThrough(
        exchange,
        idleTimeoutMs,
        async (passage) => {
          const answer = await send(exchange, session, passage);
          const isDownload = exchange.request.method === "GET";
          return isDownload ? await redirects.follow(exchange, answer, passage.signal) : answer;
        },
        (answer) => streamAnswer(exchange, answer, answer.headers),
      );
    },
  };
}

function usesToken(session: JobSession, authorization: string | undefined): boolean {
  const [, password] = basicCredentials(authorization) ?? [];
  return password !== undefined && isSecret(session.token, password);
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const SPACE = 0x20;
/** A longer text is no link of GitLab's, and is passed on as it is. */
const LONGEST_TEXT_BYTES = 8 * 1024;
const HREF = Buffer.from('"href"');
/** JSON may escape each letter. */
const LONGEST_HREF_BYTES = '"\\u0068\\u0072\\u0065\\u0066"'.length;

type Rewrite = (href: string) => string | undefined;

/**
 * The links (`"href": "…"`) of a JSON text changed by `rewrite` on their way. The text is read as a row of strings and what is between
 * them, so that neither its length nor its depth matters: a piece at a time is held, and at most one string. `rewrite` answers undefined
 * for a link that stays. What is no JSON comes out as it went in. Each piece waits for `turn`, among those of all machines.
 */
export function createHrefRewriter(rewrite: Rewrite, turn: () => Promise<void>): Transform {
  const reading: Reading = { isInLong: false, isEscaped: false, wasHref: false, isNamed: false };
  /** The string that has begun and not ended, with its first quote. */
  let held: Buffer = Buffer.alloc(0);
  return new Transform({
    transform(chunk: Buffer, _encoding, done: TransformCallback) {
      turn().then(() => {
        if (this.destroyed) return;
        const data = held.length > 0 ? Buffer.concat([held, chunk]) : chunk;
        const { parts, heldFrom } = rewritten(reading, data, rewrite);
        held = data.subarray(heldFrom);
        done(null, Buffer.concat(parts));
      }, done);
    },
    flush: (done: TransformCallback) => done(null, held),
  });
}

interface Reading {
  /** Within a string that is too long to be held. */
  isInLong: boolean;
  /** Behind a backslash in a string. */
  isEscaped: boolean;
  /** The last string was the name of a link, and what is read now is what it names. */
  wasHref: boolean;
  isNamed: boolean;
}

/** `data` in parts, up to the string that has not ended in it. */
function rewritten(
  reading: Reading,
  data: Buffer,
  rewrite: Rewrite,
): { parts: readonly Buffer[]; heldFrom: number } {
  const parts: Buffer[] = [];
  let sent = 0;
  for (let at = 0; ; ) {
    const { start, end } = nextText(reading, data, at);
    if (end === undefined) {
      parts.push(data.subarray(sent, start));
      return { parts, heldFrom: start };
    }
    const link = readText(reading, data.subarray(start, end), rewrite);
    if (link !== undefined) {
      parts.push(data.subarray(sent, start), Buffer.from(link));
      sent = end;
    }
    at = end;
  }
}

/** The next string. Without an end it is to be held from its start on, which is the data's end when there is none. */
function nextText(reading: Reading, data: Buffer, from: number): { start: number; end: number | undefined } {
  const start = endOfOthers(reading, data, reading.isInLong ? endOfLong(reading, data, from) : from);
  if (start === data.length) return { start, end: undefined };
  reading.isEscaped = false;
  const end = endOfText(reading, data, start + 1);
  if (end !== undefined || data.length - start <= LONGEST_TEXT_BYTES) return { start, end };
  reading.isInLong = true;
  return { start: data.length, end: undefined };
}

function endOfLong(reading: Reading, data: Buffer, from: number): number {
  const end = endOfText(reading, data, from);
  reading.isInLong = end === undefined;
  reading.wasHref = reading.isNamed = false;
  return end ?? data.length;
}

/** Where the next string begins, behind what is none. */
function endOfOthers(reading: Reading, data: Buffer, from: number): number {
  for (let at = from; at < data.length; at++) {
    const byte = data[at] ?? 0;
    if (byte === QUOTE) return at;
    if (byte === COLON) reading.isNamed = true;
    else if (byte > SPACE) reading.wasHref = reading.isNamed = false;
  }
  return data.length;
}

/** Behind the string that goes on at `from`; undefined when it does not end in `data`. */
function endOfText(reading: Reading, data: Buffer, from: number): number | undefined {
  for (let at = from; at < data.length; at++) {
    const byte = data[at];
    if (reading.isEscaped) reading.isEscaped = false;
    else if (byte === BACKSLASH) reading.isEscaped = true;
    else if (byte === QUOTE) return at + 1;
  }
  return undefined;
}

/** What stands in the place of a string; undefined when it stays. */
function readText(reading: Reading, text: Buffer, rewrite: Rewrite): string | undefined {
  const link = reading.wasHref && reading.isNamed ? rewrittenText(text, rewrite) : undefined;
  reading.wasHref = isHref(text);
  reading.isNamed = false;
  return link;
}

function isHref(text: Buffer): boolean {
  if (text.length === HREF.length) return text.equals(HREF);
  return text.length <= LONGEST_HREF_BYTES && text.includes(BACKSLASH) && parsed(text) === "href";
}

function rewrittenText(text: Buffer, rewrite: Rewrite): string | undefined {
  const href = text.length > LONGEST_TEXT_BYTES ? undefined : parsed(text);
  const link = href === undefined ? undefined : rewrite(href);
  return link === undefined ? undefined : JSON.stringify(link);
}

function parsed(text: Buffer): string | undefined {
  try {
    return JSON.parse(text.toString("utf8")) as string;
  } catch {
    return undefined;
  }
}
