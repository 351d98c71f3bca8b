/** Logins of a job, in the order in which the official runner takes them: its `DOCKER_AUTH_CONFIG`, then what GitLab sends with it. */

import { Secret } from "../base/secret.ts";
import type { Credentials } from "../registry/credentials.ts";
import { loginsIn } from "../registry/credentials.ts";
import type { ImageReference } from "./reference.ts";

export interface SentLogin {
  readonly type?: string | null | undefined;
  readonly url?: string | null | undefined;
  readonly username?: string | null | undefined;
  readonly password?: string | null | undefined;
}

export interface JobLogins {
  /** That of the longest part of the image's name; undefined for nobody's. */
  of(reference: ImageReference): Credentials | undefined;
  /** What could not be used, for the job's log. */
  readonly problem: string | undefined;
}

export function jobLogins(dockerConfig: string | undefined, sent: readonly SentLogin[]): JobLogins {
  const own = dockerConfig?.trim() ? loginsIn(dockerConfig) : new Map<string, undefined>();
  const logins = new Map<string, Credentials | undefined>();
  const add = (key: string, login: Credentials | undefined) => {
    const path = pathOf(key);
    if (path !== "" && !logins.has(path)) logins.set(path, login);
  };
  for (const [key, login] of own ?? []) add(key, login);
  for (const { type, url, username, password } of sent)
    if (type === "registry" && url && username)
      add(url, { kind: "password", username, password: new Secret(password ?? "") });
  return {
    problem:
      own === undefined ? "DOCKER_AUTH_CONFIG is no configuration of docker, and is left out" : undefined,
    of(reference) {
      const found = placesOf(reference).find((place) => logins.has(place));
      return found === undefined ? undefined : logins.get(found);
    },
  };
}

/** From the image up to its registry, and without `library/`, which nobody writes. */
function placesOf({ registry, repository }: ImageReference): string[] {
  const parts = repository.split("/");
  const places = parts.map((_, index) => [registry, ...parts.slice(0, parts.length - index)].join("/"));
  const short = /^library\/(.+)$/.exec(repository)?.[1];
  return [...(short === undefined ? [] : [`${registry}/${short}`]), ...places, registry];
}

/** An address with a scheme stands for its host, however it goes on: docker once wrote them so. */
function pathOf(key: string): string {
  const withScheme = /^https?:\/\/([^/]*)/i.exec(key)?.[1];
  if (withScheme !== undefined) {
    const host = withScheme.toLowerCase();
    return host === "index.docker.io" ? "docker.io" : host;
  }
  const plain = key.replace(/\/$/, "").replace(/(\/[^/]*):[^/:]*$/, "$1");
  const slash = plain.indexOf("/");
  return slash < 0 ? plain.toLowerCase() : plain.slice(0, slash).toLowerCase() + plain.slice(slash);
}
