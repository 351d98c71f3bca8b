import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../../../test/servers/certificates.ts";
import { silentLog } from "../../base/log.ts";
import type { TlsFiles, TlsPair } from "../../base/tls.ts";
import { publicServerName } from "../public/public-server.ts";
import { type CertificateReloader, createCertificateReloader } from "./listener.ts";

type Issued = Awaited<ReturnType<CertificateAuthority["issue"]>>;

let authority: CertificateAuthority;
let first: Issued;
let second: Issued;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let files: TlsFiles;
let used: TlsPair[];
let logged: string[];

beforeAll(async () => {
  authority = await makeCertificateAuthority();
  first = await authority.issue("localhost", 90);
  second = await authority.issue("localhost", 3);
});

afterAll(async () => {
  await authority[Symbol.asyncDispose]();
});

beforeEach(async () => {
  directory = await temporaryDirectory();
  files = { certificateFile: join(directory.path, "tls.crt"), keyFile: join(directory.path, "tls.key") };
  used = [];
  logged = [];
});

afterEach(async () => {
  await directory[Symbol.asyncDispose]();
});

/** As programs that renew certificates do it: each file appears whole, one after the other. */
async function put({ cert, key }: Partial<Issued>): Promise<void> {
  if (key !== undefined) await replace(files.keyFile, key);
  if (cert !== undefined) await replace(files.certificateFile, cert);
}

async function replace(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

async function keep(now = Date.now): Promise<CertificateReloader> {
  const note = (_fields: object, message: string) => void logged.push(message);
  const log = { ...silentLog, info: note, warn: note };
  return await createCertificateReloader(files, {
    ...{ server: publicServerName, log, now },
    onPair: (pair) => used.push(pair),
  });
}

describe("a certificate that changes", () => {
  test("is used from the next look on, and files that did not change are not read again", async () => {
    await put(first);
    const certificates = await keep();
    expect(await certificates.refresh(files)).toBeUndefined();
    await put(second);

    expect(await certificates.refresh(files)).toMatch(
      /^http\.tls: new certificate, valid until \d{4}-\d\d-\d\d$/,
    );
    expect(await certificates.refresh(files)).toBeUndefined();
    expect(used.map(({ cert }) => cert.toString())).toEqual([second.cert]);
    expect(logged).toEqual([
      "the public server has a new certificate",
      "the certificate of the public server expires soon",
    ]);
  });

  test.each([
    ["whose key is not there yet", () => put({ cert: second.cert }), "does not belong"],
    ["that is cut off", () => put({ cert: first.cert.slice(0, 200) }), "damaged"],
    ["that is none", () => put({ cert: "hello" }), "no PEM file"],
    ["whose key is something else", () => put({ key: first.cert }), "holds no private key"],
  ])("to one %s leaves the old one in use, and is said once", async (_what, change, words) => {
    await put(first);
    const certificates = await keep();
    await change();

    const said = await certificates.refresh(files);
    expect(said).toContain(words);
    expect(said).toContain("the old certificate stays");
    expect(await certificates.refresh(files)).toBeUndefined();
    expect(used).toEqual([]);
    expect(certificates.pair.cert.toString()).toBe(first.cert);
    expect(logged).toEqual(["the new certificate cannot be used; the old one stays"]);

    await put(second);
    expect(await certificates.refresh(files)).toContain("new certificate");
    expect(certificates.pair.cert.toString()).toBe(second.cert);
  });
});

describe("at the start", () => {
  test.each([
    [89 * 86_400_000, "the certificate of the public server expires soon"],
    [91 * 86_400_000, "the certificate of the public server has expired"],
    [-86_400_000, "the certificate of the public server is not yet valid"],
  ])("%i ms from now: %s", async (ms, words) => {
    await put(first);

    await keep(() => Date.now() + ms);

    expect(logged).toEqual([words]);
  });

  test("files without a pair that can be used are refused, with the name of the file", async () => {
    await put({ cert: first.cert });

    await expect(keep()).rejects.toMatchObject({
      code: "door_certificate",
      message: expect.stringContaining(files.keyFile),
    });
  });
});
