import type { Dispatcher } from "undici";
import { jsonOf, readAnswer } from "../gitlab/answer.ts";
import type { GitLabHttp } from "../gitlab/http.ts";
import type { Store } from "../store/store.ts";
import { Refusal } from "./errors.ts";
import { type Exchange, relayHostOf, reply } from "./exchange.ts";
import { headersFromGuest } from "./headers.ts";
import { currentSession, isSecret, type JobSession } from "./job-session.ts";
import type { Redirects } from "./redirects.ts";
import { withRelayHrefs, withRelayLocation } from "./relay-links.ts";
import { type Passage, passThrough, streamAnswer } from "./streaming.ts";

/** Git LFS asks for 100 files at a time. */
const MAX_BATCH_BYTES = 4 * 1024 * 1024;

export interface GitOptions {
  readonly store: Store;
  readonly http: GitLabHttp;
  readonly redirects: Pick<Redirects, "follow">;
  readonly idleTimeoutMs: number;
}

export interface Git {
  /** Git's own protocol, and the locks of git-lfs. */
  forward(exchange: Exchange): Promise<void>;
  lfsBatch(exchange: Exchange): Promise<void>;
  lfsObject(exchange: Exchange): Promise<void>;
}

/** Git over HTTP for a machine that has a job. Who may read and push what is GitLab's to say, by the credentials git sends. */
export function createGit({ store, http, redirects, idleTimeoutMs }: GitOptions): Git {
  async function admitGit({ guest, request }: Exchange): Promise<void> {
    const session = await currentSession(store, guest);
    if (session === undefined) throw new Refusal(404, "this machine has no job");
    if (usesToken(session, request.headers.authorization)) session.isTokenSeen = true;
  }

  const links = ({ request }: Exchange) => ({ relayHost: relayHostOf(request), http });

  function send({ request, path, query }: Exchange, { body, signal }: Passage, drop: string[] = []) {
    return http.forward({
      method: request.method as Dispatcher.HttpMethod,
      path: path + query,
      headers: headersFromGuest(request.headers, drop),
      signal,
      headersTimeoutMs: 0,
      bodyTimeoutMs: idleTimeoutMs,
      ...(body ? { body } : {}),
    });
  }

  return {
    async forward(exchange) {
      await admitGit(exchange);
      await passThrough(
        exchange,
        idleTimeoutMs,
        (passage) => send(exchange, passage),
        (answer) => streamAnswer(exchange, answer, withRelayLocation(answer.headers, links(exchange))),
      );
    },
    async lfsBatch(exchange) {
      await admitGit(exchange);
      await passThrough(
        exchange,
        idleTimeoutMs,
        (passage) => send(exchange, passage, ["accept-encoding"]),
        async (answer) => {
          const whole = await readAnswer(answer, MAX_BATCH_BYTES);
          if (whole.cut !== undefined)
            throw new Refusal(502, "GitLab's list of large files is cut or too long");
          const { "content-length": _length, ...headers } = whole.headers;
          const text = withRelayHrefs(jsonOf(whole), links(exchange)) ?? whole.text;
          reply(exchange.response, whole.status, headers, text);
        },
      );
    },
    async lfsObject(exchange) {
      await admitGit(exchange);
      await passThrough(
        exchange,
        idleTimeoutMs,
        async (passage) => {
          const answer = await send(exchange, passage);
          const isDownload = exchange.request.method === "GET";
          return isDownload ? await redirects.follow(exchange, answer, passage.signal) : answer;
        },
        (answer) => streamAnswer(exchange, answer, answer.headers),
      );
    },
  };
}

function usesToken(session: JobSession, authorization: string | undefined): boolean {
  const encoded = /^Basic ([A-Za-z0-9+/=]+)$/i.exec(authorization ?? "")?.[1];
  if (encoded === undefined) return false;
  const password = Buffer.from(encoded, "base64")
    .toString("utf8")
    .replace(/^[^:]*:/, "");
  return isSecret(session.token, password);
}
