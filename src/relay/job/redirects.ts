import type { Dispatcher } from "undici";
import { formatHostPort } from "../../base/host-port.ts";
import { header } from "../../gitlab/answer.ts";
import type { GitLabHttp } from "../../gitlab/http.ts";
import type { Dialer } from "../egress/egress-dialer.ts";
import {
  type Destination,
  EgressRefusal,
  isListed,
  parseTarget,
  reasonOf,
  refusalIn,
  type Target,
} from "../egress/egress-policy.ts";
import { Refusal } from "../errors.ts";
import type { Audit } from "../gateway/audit.ts";
import type { Exchange } from "../gateway/exchange.ts";
import { discard, headersFromGuest } from "../gateway/exchange.ts";
import type { Guest } from "../gateway/guest.ts";

const MOST_REDIRECTS = 3;
/** Not for anybody but GitLab itself. */
const credentialHeaders = ["job-token", "private-token", "authorization", "cookie"];

export interface RedirectsOptions {
  readonly http: GitLabHttp;
  readonly dialer: Dialer;
  readonly audit: Audit;
  /** `host[:port]` that may be private. */
  readonly objectStorage: readonly string[];
  readonly idleTimeoutMs: number;
}

/**
 * Where GitLab's answers point to: other servers of its own, or object storage. Reached for the guest, which needs no other network
 * for them, at public addresses and at hosts the operator has listed, whatever the pool's egress: it is GitLab that names them.
 */
export interface Redirects {
  /** Fetches with GET until there is no redirect any more. Throws Refusal 502. */
  follow(
    exchange: Exchange,
    answer: Dispatcher.ResponseData,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData>;
  /** Throws Refusal 502 when the place must not be reached. */
  destination(guest: Guest, url: URL): Destination;
}

export function createRedirects(options: RedirectsOptions): Redirects {
  const { http, dialer, audit, idleTimeoutMs } = options;

  function destination(guest: Guest, url: URL): Destination {
    const target = parseTarget(url.host, url.protocol === "https:" ? 443 : 80);
    if (target === undefined) throw new Refusal(502, "GitLab redirects to an address that cannot be used");
    const named = isListed(options.objectStorage, target);
    const reached: Destination = { target, named, addresses: named ? "any" : false };
    try {
      dialer.check(reached);
    } catch (error) {
      throw closed(guest, target, error);
    }
    return reached;
  }

  function closed(guest: Guest, target: Target, cause: unknown): Refusal {
    const name = formatHostPort(target);
    audit.refused(guest, target, "GitLab's redirect leads to an address that is not public");
    return new Refusal(
      502,
      `GitLab redirects to ${name}, which is not public; list it in relay.objectStorage if it is yours`,
      { cause },
    );
  }

  async function fetchFrom({ guest, request }: Exchange, url: URL, signal: AbortSignal) {
    const isGitLab = url.origin === http.origin;
    const wanted = {
      origin: url.origin,
      path: url.pathname + url.search,
      method: "GET",
      headers: headersFromGuest(request.headers, isGitLab ? [] : credentialHeaders),
      headersTimeout: idleTimeoutMs,
      bodyTimeout: idleTimeoutMs,
      signal,
    } as const;
    if (isGitLab) return await http.dispatcher.request(wanted);
    const reached = destination(guest, url);
    const { target } = reached;
    try {
      const answer = await dialer.request(reached, wanted);
      audit.connected(guest, target);
      return answer;
    } catch (error) {
      const refusal = refusalIn(error);
      if (refusal?.status === 403) throw closed(guest, target, error);
      const reason = refusal?.reason ?? reasonOf(error);
      audit.failed(guest, target, reason);
      throw new EgressRefusal(
        502,
        `${formatHostPort(target)}, to which GitLab redirects, cannot be reached`,
        reason,
        { cause: error },
      );
    }
  }

  return {
    destination,
    async follow(exchange, first, signal) {
      let answer = first;
      for (let hops = 0; isRedirect(answer); hops++) {
        const url = redirectUrl(answer, http.origin);
        discard(answer.body);
        if (hops === MOST_REDIRECTS)
          throw new Refusal(502, "GitLab's answer leads through too many redirects");
        answer = await fetchFrom(exchange, url, signal);
      }
      return answer;
    },
  };
}

export function isRedirect({ statusCode }: Dispatcher.ResponseData): boolean {
  return [301, 302, 303, 307, 308].includes(statusCode);
}

/** Throws Refusal 502 for a redirect to nowhere. */
export function redirectUrl(answer: Dispatcher.ResponseData, base: string): URL {
  const url = URL.parse(header(answer, "location") ?? "", base);
  if (url !== null && (url.protocol === "https:" || url.protocol === "http:")) return url;
  throw new Refusal(502, "GitLab redirects without saying where to");
}
