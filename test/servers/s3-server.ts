import { createHash, createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

/**
 * A server of the kind S3 that takes nothing on trust: it puts each request's signature together again from what arrived, by the
 * protocol's description and not by our client's code, and says why one is wrong. It keeps its objects in memory.
 */
export interface S3Server extends AsyncDisposable {
  readonly url: string;
  readonly accessKey: string;
  readonly secretKey: string;
  readonly bucket: string;
  readonly region: string;
  readonly objects: Map<string, S3Object>;
  /** `PUT name 200`, oldest first. */
  readonly requests: string[];
  /** Answers the next requests in the place of the server. */
  readonly faults: ((request: IncomingMessage, response: ServerResponse) => void)[];
}

interface S3Object {
  readonly body: Buffer;
  readonly metadata: Readonly<Record<string, string>>;
  readonly storedAt: Date;
}

const MOST_SKEW_MS = 15 * 60_000;
const PAGE = 2;

export async function startS3Server(tls?: { key: string; cert: string }): Promise<S3Server> {
  const [accessKey, secretKey, bucket, region] = ["AKIDTEST", "secret/with+letters", "caches", "eu-test-1"];
  const objects = new Map<string, S3Object>();
  const requests: string[] = [];
  const faults: S3Server["faults"] = [];

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const fault = faults.shift();
    if (fault) return fault(request, response);
    const url = new URL(request.url ?? "", "http://s3");
    const name = decodeURIComponent(url.pathname.slice(bucket.length + 2));
    response.once("finish", () =>
      requests.push(`${request.method} ${name || url.search} ${response.statusCode}`),
    );
    const why = whyNot(request, url, { accessKey, secretKey, region });
    if (why) return refuse(response, 403, "SignatureDoesNotMatch", why);
    if (url.pathname.split("/")[1] !== bucket) return refuse(response, 404, "NoSuchBucket", "no such bucket");
    if (name === "") return list(objects, url, response);
    await serve(objects, name, request, response);
  }

  const listener = (request: IncomingMessage, response: ServerResponse) => {
    handle(request, response).catch(() => response.destroy());
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    ...{ accessKey, secretKey, bucket, region, objects, requests, faults },
    url: `${tls ? "https" : "http"}://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, { "content-type": "application/xml" });
  response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`);
}

async function serve(
  objects: S3Server["objects"],
  name: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const object = objects.get(name);
  if (request.method === "PUT") {
    if (request.headers["content-length"] === undefined)
      return refuse(
        response,
        411,
        "MissingContentLength",
        "You must provide the Content-Length HTTP header.",
      );
    const body = await buffer(request);
    objects.set(name, { body, metadata: metadataOf(request), storedAt: new Date() });
    return void response.writeHead(200, { etag: etagOf(body) }).end();
  }
  if (request.method === "DELETE") {
    objects.delete(name);
    return void response.writeHead(204).end();
  }
  if (!object) return refuse(response, 404, "NoSuchKey", "The specified key does not exist.");
  const { "if-match": wanted, range } = request.headers;
  if (wanted !== undefined && wanted !== etagOf(object.body))
    return refuse(response, 412, "PreconditionFailed", "At least one of the pre-conditions did not hold.");
  const [, first = "0", last = ""] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
  const end = last === "" ? object.body.length : Math.min(object.body.length, Number(last) + 1);
  const part = object.body.subarray(Number(first), end);
  response.writeHead(range === undefined ? 200 : 206, {
    "content-length": part.length,
    "last-modified": object.storedAt.toUTCString(),
    etag: etagOf(object.body),
    ...object.metadata,
  });
  response.end(request.method === "HEAD" ? undefined : part);
}

function list(objects: S3Server["objects"], { searchParams }: URL, response: ServerResponse): void {
  if (searchParams.get("list-type") !== "2") {
    refuse(response, 400, "InvalidRequest", "only version 2");
    return;
  }
  const names = [...objects.keys()]
    .filter((name) => name.startsWith(searchParams.get("prefix") ?? ""))
    .toSorted();
  const start = Number(searchParams.get("continuation-token") ?? "0");
  const contents = names.slice(start, start + PAGE).map((name) => {
    const { body, storedAt } = objects.get(name) as S3Object;
    const etag = etagOf(body).replaceAll('"', "&quot;");
    return `<Contents><Key>${name}</Key><LastModified>${storedAt.toISOString()}</LastModified><ETag>${etag}</ETag><Size>${body.length}</Size></Contents>`;
  });
  const more = start + PAGE < names.length;
  const next = more ? `<NextContinuationToken>${start + PAGE}</NextContinuationToken>` : "";
  response.writeHead(200, { "content-type": "application/xml" });
  response.end(
    `<?xml version="1.0"?><ListBucketResult><IsTruncated>${more}</IsTruncated>${next}${contents.join("")}</ListBucketResult>`,
  );
}

function metadataOf({ headers }: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      name.startsWith("x-amz-meta-") ? [[name, String(value)]] : [],
    ),
  );
}

function etagOf(body: Buffer): string {
  return `"${createHash("md5").update(body).digest("hex")}"`;
}

interface Keys {
  readonly accessKey: string;
  readonly secretKey: string;
  readonly region: string;
}

/** Why the signature in the header (version 4) is not good; undefined when it is. */
function whyNot({ method, headers }: IncomingMessage, url: URL, keys: Keys): string | undefined {
  const given =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/.exec(
      headers.authorization ?? "",
    );
  if (!given) return "there is no signature of version 4";
  const [, accessKey, day = "", region = "", signed = "", signature] = given;
  const time = String(headers["x-amz-date"]);
  const at = Date.parse(time.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"));
  if (accessKey !== keys.accessKey || region !== keys.region) return "another key, or another region";
  if (!time.startsWith(day) || Math.abs(Date.now() - at) > MOST_SKEW_MS) return "the request is not of now";
  const names = signed.split(";");
  const mustBe = ["host", ...Object.keys(headers).filter((name) => name.startsWith("x-amz-"))];
  const unsigned = mustBe.find((name) => !names.includes(name));
  if (unsigned) return `${unsigned} is not signed`;
  if (headers["x-amz-content-sha256"] !== "UNSIGNED-PAYLOAD") return "the payload's hash is missing";
  const canonical = [
    method,
    url.pathname,
    [...url.searchParams]
      .map((pair) => pair.map(encoded).join("="))
      .toSorted()
      .join("&"),
    ...names.map((name) => `${name}:${String(headers[name]).trim()}`),
    "",
    signed,
    "UNSIGNED-PAYLOAD",
  ].join("\n");
  const scope = `${day}/${region}/s3/aws4_request`;
  const toSign = ["AWS4-HMAC-SHA256", time, scope, createHash("sha256").update(canonical).digest("hex")].join(
    "\n",
  );
  const key = [day, region, "s3", "aws4_request"].reduce<Buffer>(
    (last, part) => createHmac("sha256", last).update(part).digest(),
    Buffer.from(`AWS4${keys.secretKey}`),
  );
  const expected = createHmac("sha256", key).update(toSign).digest("hex");
  return expected === signature ? undefined : "the signature is not that of this request";
}

function encoded(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
