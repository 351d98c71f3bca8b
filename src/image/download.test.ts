import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startCompanyProxy } from "../../test/servers/company-proxy.ts";
import type { Clock } from "../base/clock.ts";
import { download, downloadSmall } from "./download.ts";

const content = Buffer.from("0123456789".repeat(20_000));
const sha256 = createHash("sha256").update(content).digest("hex");
const noWaiting: Clock = { now: () => 0, sleep: async () => {} };

let directory: string;
let server: Server;
let url: string;
let ranges: (string | undefined)[];
let answer: (request: IncomingMessage, response: ServerResponse, count: number) => void;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "download-"));
  ranges = [];
  answer = serve;
  server = createServer((request, response) => {
    ranges.push(request.headers.range);
    answer(request, response, ranges.length);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/file`;
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(directory, { recursive: true });
});

/** A server that knows ranges. */
function serve(request: IncomingMessage, response: ServerResponse): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  if (from >= content.length) {
    response.writeHead(416, { "content-range": `bytes */${content.length}` }).end();
    return;
  }
  response
    .writeHead(from > 0 ? 206 : 200, { "content-length": content.length - from })
    .end(content.subarray(from));
}

/** The first answer is cut after `bytes`; later ones are whole. */
function cutFirst(bytes: number): typeof answer {
  return (request, response, count) => {
    if (count > 1) return serve(request, response);
    response.writeHead(200, { "content-length": content.length });
    response.write(content.subarray(0, bytes));
    // Not before they have arrived: what is under way when a connection breaks is lost.
    const timer = setInterval(() => {
      if (statSync(`${target()}.part`, { throwIfNoEntry: false })?.size !== bytes) return;
      clearInterval(timer);
      response.destroy();
    }, 10);
  };
}

const target = () => join(directory, "file");
const MAX_BYTES = 1_000_000;
const wanted = () => ({
  url,
  target: target(),
  sha256,
  maxBytes: MAX_BYTES,
  plainHttp: false,
  clock: noWaiting,
});

describe("a download", () => {
  test("appears whole, with progress on the way", async () => {
    const seen: number[] = [];

    await download({ ...wanted(), onBytes: (done, total) => seen.push(done / (total ?? 1)) });

    expect(readFileSync(target()).equals(content)).toBe(true);
    expect(seen.at(-1)).toBe(1);
    expect(existsSync(`${target()}.part`)).toBe(false);
  });

  test("comes through a company's proxy, and tells when that leads nowhere", async () => {
    const port = (server.address() as AddressInfo).port;
    await using proxy = await startCompanyProxy({ routes: { "mirror.company.test:80": port } });
    const named = { origin: proxy.url, namedBy: "proxy.url" };
    const proxies = { http: named, https: named, except: [], ca: undefined };
    const behind = { ...wanted(), plainHttp: true, proxies };

    await download({ ...behind, url: "http://mirror.company.test/file" });

    expect(readFileSync(target()).equals(content)).toBe(true);
    expect(proxy.asked).toEqual(["GET http://mirror.company.test/file"]);
    const elsewhere = download({ ...behind, url: "https://other.company.test/file", target: `${target()}2` });
    await expect(elsewhere).rejects.toMatchObject({
      code: "image_download_failed",
      message: expect.stringContaining("answers 502"),
    });
  });

  test("goes on where a connection was cut", async () => {
    answer = cutFirst(50_000);

    await download(wanted());

    expect(ranges).toEqual([undefined, "bytes=50000-"]);
    expect(readFileSync(target()).equals(content)).toBe(true);
  });

  test("goes on where an earlier run was killed", async () => {
    writeFileSync(`${target()}.part`, content.subarray(0, 1_000));

    await download(wanted());

    expect(ranges).toEqual(["bytes=1000-"]);
    expect(readFileSync(target()).equals(content)).toBe(true);
  });

  test("needs nothing more when the earlier run had everything", async () => {
    writeFileSync(`${target()}.part`, content);

    await download(wanted());

    expect(readFileSync(target()).equals(content)).toBe(true);
  });

  test("starts over when the server knows no ranges", async () => {
    writeFileSync(`${target()}.part`, "other");
    answer = (_, response) => response.end(content);

    await download(wanted());

    expect(readFileSync(target()).equals(content)).toBe(true);
  });

  test("starts over when what an earlier run left belongs to another file", async () => {
    writeFileSync(`${target()}.part`, "x".repeat(1_000));

    await download(wanted());

    expect(ranges).toEqual(["bytes=1000-", undefined]);
    expect(readFileSync(target()).equals(content)).toBe(true);
  });

  test("with the wrong sha256 is refused and leaves nothing", async () => {
    await expect(download({ ...wanted(), sha256: "0".repeat(64) })).rejects.toMatchObject({
      code: "image_download_wrong",
    });

    expect(existsSync(target())).toBe(false);
    expect(existsSync(`${target()}.part`)).toBe(false);
  });

  test("is tried again after a server error, and not after a refusal", async () => {
    answer = (request, response, count) =>
      count === 1 ? response.writeHead(503).end() : serve(request, response);
    await download(wanted());
    expect(ranges).toHaveLength(2);

    answer = (_, response) => response.writeHead(404).end();
    await expect(download({ ...wanted(), target: join(directory, "b") })).rejects.toMatchObject({
      code: "image_download_failed",
      retryable: false,
    });
    expect(ranges).toHaveLength(3);
  });

  test("from a server that is not there fails with what to do", async () => {
    const gone = { ...wanted(), url: "http://127.0.0.1:1/file" };

    await expect(download(gone)).rejects.toMatchObject({
      code: "image_download_failed",
      retryable: true,
      hint: expect.stringContaining("--runner PATH"),
    });
  });

  test("stops at once when it is aborted", async () => {
    const controller = new AbortController();
    answer = (_, response) => {
      response.writeHead(200, { "content-length": content.length });
      response.write("x");
      controller.abort(new Error("enough"));
    };

    await expect(download({ ...wanted(), signal: controller.signal })).rejects.toThrow("enough");
  });
});

describe("what is longer than it may be", () => {
  test.each([
    ["and says so", true],
    ["and does not say so", false],
  ])("is refused, %s", async (_, hasLength) => {
    let sent = 0;
    answer = (_request, response) => {
      response.writeHead(200, hasLength ? { "content-length": 1e12 } : {});
      const more = () => {
        sent += content.length;
        if (!response.destroyed) response.write(content, more);
      };
      more();
    };

    await expect(download(wanted())).rejects.toMatchObject({ code: "image_download_wrong" });
    await expect(downloadSmall({ url, maxBytes: 1_000, plainHttp: false })).rejects.toMatchObject({
      code: "image_download_wrong",
    });

    expect(existsSync(target())).toBe(false);
    expect(sent).toBeLessThan(1e8);
  });
});

describe("a download without TLS", () => {
  test.each([
    "http://mirror.example.org/file",
    "http://10.1.2.3/file",
    "ftp://127.0.0.1/file",
    "http://127.0.0.1.example.org/",
  ])("from %s is refused before anything is asked", async (from) => {
    await expect(download({ ...wanted(), url: from })).rejects.toMatchObject({
      code: "image_download_insecure",
    });
    await expect(downloadSmall({ url: from, maxBytes: 9, plainHttp: false })).rejects.toMatchObject({
      code: "image_download_insecure",
    });
  });

  test("from another computer is for those who say so", async () => {
    const elsewhere = { url: "http://gitlab-mirror.invalid/file", maxBytes: 9, plainHttp: true };

    await expect(downloadSmall(elsewhere)).rejects.toMatchObject({ code: "image_download_failed" });
  });

  test("is not reached by a redirect", async () => {
    answer = (_, response) => response.writeHead(302, { location: "http://mirror.example.org/file" }).end();

    await expect(download(wanted())).rejects.toMatchObject({
      code: "image_download_insecure",
      message: expect.stringContaining("http://mirror.example.org/file"),
    });
  });
});

describe("a redirect", () => {
  test("is followed", async () => {
    answer = (request, response, count) =>
      count === 1 ? response.writeHead(302, { location: "/elsewhere" }).end() : serve(request, response);

    await download(wanted());

    expect(readFileSync(target()).equals(content)).toBe(true);
  });

  test("that never ends is given up", async () => {
    answer = (_, response) => response.writeHead(302, { location: url }).end();

    await expect(downloadSmall({ url, maxBytes: 9, plainHttp: false })).rejects.toMatchObject({
      code: "image_download_failed",
    });
    expect(ranges.length).toBeLessThan(10);
  });
});
