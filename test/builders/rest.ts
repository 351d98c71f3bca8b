import { type Clock, systemClock } from "../../src/base/clock.ts";
import { Secret } from "../../src/base/secret.ts";
import { createGitLabHttp } from "../../src/gitlab/http.ts";
import { createGitLabRest } from "../../src/gitlab/rest.ts";
import type { GitLabRest } from "../../src/gitlab/rest-api.ts";
import { answer, type Handler, startHttpServer, type TestServer } from "../servers/http-server.ts";

export const apiToken = new Secret("glpat-the-token-of-the-api");

export interface RestSetUp extends AsyncDisposable {
  readonly rest: GitLabRest;
  readonly server: TestServer;
}

interface RestOptions {
  /** The path under which GitLab lives. */
  readonly under?: string;
  readonly clock?: Clock;
  readonly token?: () => Secret;
  readonly answerTimeoutMs?: number;
}

/** The REST client in front of a GitLab on loopback that answers as the test says. */
export async function aRest(handle: Handler, options: RestOptions = {}): Promise<RestSetUp> {
  const { under = "", clock = systemClock, token = () => apiToken, answerTimeoutMs } = options;
  const server = await startHttpServer(handle);
  const http = createGitLabHttp({ url: server.url + under });
  const timeout = answerTimeoutMs === undefined ? {} : { answerTimeoutMs };
  return {
    rest: createGitLabRest({ http, clock, version: "1.2.3", token, ...timeout }),
    server,
    async [Symbol.asyncDispose]() {
      await http.dispatcher.destroy();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** As `aRest`, with one answer to everything. */
export async function aRestAnswering(
  status: number,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<RestSetUp> {
  return await aRest((_request, response) => answer(response, status, body, headers));
}
