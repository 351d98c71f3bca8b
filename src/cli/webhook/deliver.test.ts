import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer as createHttp, type RequestListener } from "node:http";
import { createServer as createHttps } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type CertificateAuthority, makeCertificateAuthority } from "../../../test/servers/certificates.ts";
import { HttpConfig } from "../../server/config.ts";
import { connectListener, type ListenerAnswer, type ListenerOptions } from "./deliver.ts";

let authority: CertificateAuthority;
let directory: string;
const closers: (() => unknown)[] = [];

beforeAll(async () => {
  authority = await makeCertificateAuthority();
  directory = await mkdtemp(join(tmpdir(), "fr-listener-"));
});

afterAll(async () => {
  await authority[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** Listens on loopback and answers with the path that was asked for. Returns the port. */
async function listen(tls?: { key: string; cert: string }): Promise<number> {
  const handler: RequestListener = (request, response) => void response.end(`got\n  ${request.url}\u001b[2J`);
  const server = tls ? createHttps(tls, handler) : createHttp(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(
    () => server.close(),
    () => server.closeAllConnections(),
  );
  return (server.address() as AddressInfo).port;
}

async function deliver(http: object, options: ListenerOptions = {}): Promise<ListenerAnswer> {
  const listener = await connectListener({ http: HttpConfig.parse(http) }, options);
  try {
    return await listener.deliver({ "content-type": "application/json" }, "{}");
  } finally {
    await listener.close();
  }
}

async function fileOf(name: string, text: string): Promise<string> {
  await writeFile(join(directory, name), text);
  return join(directory, name);
}

describe("the configured listener", () => {
  test("is reached on this computer, and its answer is harmless on a terminal", async () => {
    const port = await listen();

    const answer = await deliver({ listen: [`http://0.0.0.0:${port}`] });

    expect(answer).toMatchObject({ status: 200, text: "got /webhook" });
  });

  test("is trusted by its own certificate, whatever name that bears", async () => {
    const certificate = await authority.issue("firerunner.example.org");
    const port = await listen(certificate);
    const certificateFile = await fileOf("server.pem", certificate.cert);
    const keyFile = await fileOf("server.key", certificate.key);

    const answer = await deliver({ listen: [`0.0.0.0:${port}`], tls: { certificateFile, keyFile } });

    expect(answer.status).toBe(200);
  });

  test("is not there when nothing listens, or no address is named", async () => {
    await expect(deliver({ listen: ["http://127.0.0.1:1"] })).rejects.toMatchObject({ code: "cli_door" });
    await expect(deliver({})).rejects.toMatchObject({
      code: "cli_usage",
      hint: expect.stringContaining("--url"),
    });
  });
});

describe("a listener elsewhere", () => {
  test("is verified by the authority that is named", async () => {
    const port = await listen(await authority.issue("localhost"));
    const url = `https://localhost:${port}`;
    const ca = await fileOf("ca.pem", authority.ca);

    expect(await deliver({}, { url, ca })).toMatchObject({ status: 200, text: "got /webhook" });
    await expect(deliver({}, { url })).rejects.toMatchObject({
      code: "cli_door",
      hint: expect.stringContaining("--ca FILE"),
    });
  });

  test("goes unverified only on this computer", async () => {
    const port = await listen(await authority.issue("other.example.org"));

    expect(await deliver({}, { url: `https://127.0.0.1:${port}/x`, insecure: true })).toMatchObject({
      text: "got /x",
    });
    await expect(
      deliver({}, { url: "https://firerunner.example.org/webhook", insecure: true }),
    ).rejects.toMatchObject({ code: "cli_usage" });
  });

  test.each(["firerunner.example.org", "ftp://x/"])("%s is no address", async (url) => {
    await expect(deliver({}, { url })).rejects.toMatchObject({ code: "cli_usage" });
  });
});
