import type { Dispatcher } from "undici";
import type { GitLabHttp } from "../../gitlab/http.ts";
import type { Store } from "../../store/store.ts";
import { Refusal } from "../errors.ts";
import {
  type Exchange,
  headersFromGuest,
  type Passage,
  passThrough,
  relayHostOf,
  streamAnswer,
} from "../gateway/exchange.ts";
import type { ChunkedWork } from "../gateway/fair-queue.ts";
import type { JobSession } from "../gateway/guest.ts";
import { basicCredentials, type GuestCalls } from "./guest-calls.ts";
import { currentSession, isSecret } from "./job-session.ts";
import { createHrefRewriter } from "./lfs-hrefs.ts";
import { viaRelay, withRelayLocation } from "./payload.ts";
import type { Redirects } from "./redirects.ts";

export interface GitOptions {
  readonly store: Store;
  readonly http: GitLabHttp;
  readonly calls: GuestCalls;
  readonly redirects: Pick<Redirects, "follow">;
  readonly idleTimeoutMs: number;
  readonly pieces: ChunkedWork;
}

export interface Git {
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
