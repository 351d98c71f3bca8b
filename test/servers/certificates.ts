import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../src/base/process.ts";

interface Certificate {
  readonly key: string;
  readonly cert: string;
}

export interface CertificateAuthority {
  /** PEM of the authority's own certificate. */
  readonly ca: string;
  /** A certificate for `host`, valid for `days` from now; negative days make one that has expired. */
  issue(host: string, days?: number): Promise<Certificate>;
  [Symbol.asyncDispose](): Promise<void>;
}

const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** A certificate authority made by openssl in a directory of its own. */
export async function makeCertificateAuthority(): Promise<CertificateAuthority> {
  const cwd = await mkdtemp(join(tmpdir(), "fr-ca-"));
  const openssl = (...args: string[]) => run("openssl", args, { cwd });
  const read = (file: string) => readFile(join(cwd, file), "utf8");
  const self = ["-subj", "/CN=test-authority", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"];
  await openssl("req", "-x509", ...newKey, ...self);

  async function issue(host: string, days = 2): Promise<Certificate> {
    await writeFile(join(cwd, "names"), `subjectAltName=${isIP(host) ? "IP" : "DNS"}:${host}\n`);
    await openssl("req", ...newKey, "-subj", `/CN=${host}`, "-keyout", "host.key", "-out", "host.csr");
    const issuer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"];
    await openssl("x509", "-req", ...issuer, "-in", "host.csr", "-out", "host.pem", "-days", String(days));
    return { key: await read("host.key"), cert: await read("host.pem") };
  }

  const ca = await read("ca.pem");
  return { ca, issue, [Symbol.asyncDispose]: () => rm(cwd, { recursive: true, force: true }) };
}
