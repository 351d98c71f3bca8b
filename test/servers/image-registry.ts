import type { IncomingHttpHeaders, ServerResponse } from "node:http";
import { sha256Of, type TestImage } from "../builders/layer.ts";
import { type SeenRequest, startHttpServer, type TestServer } from "./http-server.ts";

/** What a registry does wrong with a request; `answered` when it has answered it itself. */
type Fault = (request: SeenRequest, response: ServerResponse) => "answered" | undefined;

export interface ImageRegistry extends AsyncDisposable {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  readonly server: TestServer;
  /** Blobs and manifests that it has, by digest. */
  readonly content: Map<string, Buffer>;
  /** Puts an image under a name and a tag; answers the digest that the tag has. */
  put(repository: string, tag: string, image: TestImage, index?: { digest: string; body: Buffer }): void;
  fault: Fault | undefined;
  /** What was asked, without the token service: `GET manifests/1`. */
  asked(): string[];
}

interface Options {
  /** Asks for a token, which it gives to this login alone. */
  readonly login?: { readonly username: string; readonly password: string };
}

/**
 * A registry that is as strict as the specification: it wants its tokens, names that it knows, media types that fit, and gives parts of
 * blobs. `fault` makes it as bad as a test needs.
 */
export async function startImageRegistry({ login }: Options = {}): Promise<ImageRegistry> {
  const content = new Map<string, Buffer>();
  const tags = new Map<string, string>();
  const registry: { fault: Fault | undefined } = { fault: undefined };
  const server = await startHttpServer((request, response) => {
    if (request.path.startsWith("/token")) return giveToken(request, response);
    if (login && request.headers.authorization !== "Bearer good") return askForToken(request, response);
    if (registry.fault?.(request, response) === "answered") return undefined;
    return giveContent(request, response);
  });

  function giveToken({ headers, path }: SeenRequest, response: ServerResponse): unknown {
    const wanted = `Basic ${btoa(`${login?.username}:${login?.password}`)}`;
    const scope = new URL(path, "http://x").searchParams.get("scope") ?? "";
    const isRight = headers.authorization === wanted && /^repository:[a-z/]+:pull$/.test(scope);
    response.writeHead(isRight ? 200 : 401, { "content-type": "application/json" });
    return response.end(
      isRight ? '{"token":"good"}' : '{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}',
    );
  }

  function askForToken({ headers }: SeenRequest, response: ServerResponse): unknown {
    const realm = `http://${headers.host}/token`;
    response.writeHead(401, { "www-authenticate": `Bearer realm="${realm}",service="test"` });
    return response.end();
  }

  function giveContent({ path, headers, method }: SeenRequest, response: ServerResponse): unknown {
    const [, repository = "", kind = "", reference = ""] =
      /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(path) ?? [];
    const digest = reference.startsWith("sha256:")
      ? reference
      : (tags.get(`${repository}:${reference}`) ?? "");
    const body = content.get(digest);
    if (body === undefined || (kind === "manifests" && !isAccepted(body, headers))) {
      response.writeHead(404, { "content-type": "application/json" });
      return response.end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such thing"}]}');
    }
    const [from, status] = rangeOf(headers, body.length);
    response.writeHead(status, {
      "docker-content-digest": digest,
      "content-length": String(body.length - from),
      ...(status === 206 ? { "content-range": `bytes ${from}-${body.length - 1}/${body.length}` } : {}),
    });
    return response.end(method === "HEAD" ? undefined : body.subarray(from));
  }

  return {
    host: `127.0.0.1:${server.port}`,
    server,
    content,
    get fault() {
      return registry.fault;
    },
    set fault(fault) {
      registry.fault = fault;
    },
    put(repository, tag, { manifest, config, layers }, index) {
      for (const { digest, body } of [manifest, config, ...(index ? [index] : [])]) content.set(digest, body);
      for (const { digest, blob } of layers) content.set(digest, blob);
      tags.set(`${repository}:${tag}`, (index ?? manifest).digest);
    },
    asked: () =>
      server.seen
        .filter(({ path }) => path.startsWith("/v2/"))
        .map(({ method, path }) => `${method} ${path.replace(/^\/v2\/.*\/(manifests|blobs)\//, "$1/")}`),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

function isAccepted(body: Buffer, { accept = "" }: IncomingHttpHeaders): boolean {
  const { mediaType } = JSON.parse(body.toString()) as { mediaType: string };
  return accept.split(", ").includes(mediaType);
}

function rangeOf({ range }: IncomingHttpHeaders, bytes: number): [number, number] {
  const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
  return from > 0 && from < bytes ? [from, 206] : [0, 200];
}

/** An index of these manifests, each for an architecture. */
export function indexOf(manifests: Readonly<Record<string, TestImage["manifest"]>>): {
  digest: string;
  body: Buffer;
} {
  const body = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.index.v1+json",
      manifests: Object.entries(manifests).map(([architecture, manifest]) => ({
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        digest: manifest.digest,
        size: manifest.body.length,
        platform: { os: architecture === "unknown" ? "unknown" : "linux", architecture },
      })),
    }),
  );
  return { digest: sha256Of(body), body };
}
