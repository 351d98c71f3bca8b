import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { run } from "../../base/process.ts";
import { DAY_MS } from "../../base/units.ts";
import { issueCertificate } from "./issue-certificate.ts";

const now = Date.now();
const order = { validFrom: now - DAY_MS, validUntil: now + 90 * DAY_MS };

async function filesOf(texts: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "fr-issue-"));
  onTestFinished(async () => await rm(directory, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(texts)) await writeFile(join(directory, name), text);
  return directory;
}

test.each([
  "relay.example.org",
  "192.0.2.7",
  "2001:db8::7",
  "::1",
  "fe80::1:2",
  "2001:db8:1:2:3:4:5:6",
  "::ffff:192.0.2.7",
  `${"a".repeat(60)}.example.org`,
])("openssl finds a certificate for %s and its authority in strict order", async (name) => {
  const authority = issueCertificate(order);
  const server = issueCertificate({ ...order, server: { name, issuer: authority } });
  const directory = await filesOf({ ca: authority.certificate, server: server.certificate });
  const args = [
    "verify",
    "-x509_strict",
    "-purpose",
    "sslserver",
    "-check_ss_sig",
    "-CAfile",
    "ca",
    "server",
  ];

  expect(await run("openssl", args, { cwd: directory })).toContain("server: OK");
  const parsed = new X509Certificate(server.certificate);
  expect(parsed.checkHost(name) ?? parsed.checkIP(name)).toBe(name);
  expect(parsed.checkPrivateKey(createPrivateKey(server.key))).toBe(true);
  expect(parsed.checkIssued(new X509Certificate(authority.certificate))).toBe(true);
  expect(Math.abs(Date.parse(parsed.validTo) - order.validUntil)).toBeLessThan(1_000);
});

test("an authority that openssl made, with a name of its own form, goes on signing", async () => {
  const directory = await filesOf({});
  const subject = "/C=DE/O=Company/CN=FireRunner relay authority";
  const made = [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-subj",
    subject,
  ];
  await run("openssl", [...made, "-keyout", "key", "-out", "ca", "-days", "30"], { cwd: directory });
  const [certificate, key] = await Promise.all(
    ["ca", "key"].map(async (name) => await run("cat", [join(directory, name)])),
  );
  const issuer = { certificate: certificate ?? "", key: key ?? "" };
  const server = issueCertificate({ ...order, server: { name: "relay.example.org", issuer } });
  await writeFile(join(directory, "server"), server.certificate);

  const verify = ["verify", "-purpose", "sslserver", "-CAfile", "ca", "server"];
  expect(await run("openssl", verify, { cwd: directory })).toContain("server: OK");
});

test("ends past 2049 are written in the longer form", () => {
  const validUntil = Date.UTC(2061, 5, 1);

  const { certificate } = issueCertificate({ ...order, validUntil });

  expect(Date.parse(new X509Certificate(certificate).validTo)).toBe(validUntil);
});

test("an authority that is no certificate is refused with the place to look at", () => {
  const issuer = { certificate: "nonsense", key: "nonsense" };

  expect(() => issueCertificate({ ...order, server: { name: "x", issuer } })).toThrow(
    expect.objectContaining({ code: "relay_certificate", hint: expect.stringContaining("relay.tls") }),
  );
});
