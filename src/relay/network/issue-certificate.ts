import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../base/process.ts";
import { RelayError } from "../errors.ts";

/** PEM of a certificate and of its key. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

export interface CertificateOrder {
  /** A server's own name or address; without it, the certificate is an authority's, signed by itself. */
  readonly server?: { readonly name: string; readonly issuer: KeyPair };
  /** Epoch ms. */
  readonly validFrom: number;
  readonly validUntil: number;
}

/** X.509 allows 64 characters here. Clients look at the alternative names; some only when they know them. */
const LONGEST_COMMON_NAME = 64;

/** Without a configuration of its own, openssl would read the system's. */
const configuration = (names: string) => `
[req]
distinguished_name = nothing
[nothing]
[ca]
default_ca = own
[own]
database = index
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:true,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
${names}
`;

/**
 * Makes a key (P-256) and a certificate for it. Node can read certificates but not write them, so openssl does, in a directory of
 * its own that is gone afterwards. Throws RelayError `relay_certificate`.
 */
export async function issueCertificate(order: CertificateOrder): Promise<KeyPair> {
  const { server, validFrom, validUntil } = order;
  const directory = await mkdtemp(join(tmpdir(), "firerunner-certificate-"));
  const openssl = (...args: string[]) => run("openssl", args, { cwd: directory });
  const put = (name: string, text: string) => writeFile(join(directory, name), text, { mode: 0o600 });
  try {
    const key = newKey();
    await put("key", key);
    await put("index", "");
    await put(
      "configuration",
      configuration(server ? `subjectAltName = ${alternativeName(server.name)}` : ""),
    );
    if (server) await put("issuer", server.issuer.certificate);
    if (server) await put("issuer-key", server.issuer.key);
    const config = ["-config", "configuration"];
    await openssl(
      "req",
      "-new",
      ...config,
      "-key",
      "key",
      "-subj",
      subjectOf(server?.name),
      "-out",
      "request",
    );
    await openssl(
      ...["ca", "-batch", "-notext", ...config, "-in", "request", "-out", "certificate"],
      ...(server ? ["-cert", "issuer", "-keyfile", "issuer-key"] : ["-selfsign", "-keyfile", "key"]),
      ...["-extensions", server ? "server" : "authority"],
      ...["-startdate", asn1Time(validFrom), "-enddate", asn1Time(validUntil)],
    );
    return { certificate: await readFile(join(directory, "certificate"), "utf8"), key };
  } catch (cause) {
    throw new RelayError("relay_certificate", "making a certificate for the relay failed", {
      cause,
      hint: "install openssl, or give certificate files of your own as relay.tls",
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function newKey(): string {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return privateKey.export({ type: "pkcs8", format: "pem" }) as string;
}

function alternativeName(name: string): string {
  return `${isIP(name) === 0 ? "DNS" : "IP"}:${name}`;
}

function subjectOf(name: string | undefined): string {
  if (name === undefined) return "/CN=FireRunner relay authority";
  return `/CN=${name.length <= LONGEST_COMMON_NAME ? name : "FireRunner relay"}`;
}

/** `20261124093000Z` */
function asn1Time(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19).replace(/\D/g, "")}Z`;
}
