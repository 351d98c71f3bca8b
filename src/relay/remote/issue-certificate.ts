/**
 * Makes the relay's certificates: an authority, and servers that it signs, with keys on P-256. Node reads certificates but writes none, so
 * what X.509 (RFC 5280) asks of these two kinds is put together here in DER; `openssl verify -x509_strict` holds it in the test.
 */
import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  X509Certificate,
} from "node:crypto";
import { isIP } from "node:net";
import { RelayError } from "../errors.ts";
import type { KeyPair } from "./certificate.ts";

export interface CertificateOrder {
  /** A server's own name or address; without it, the certificate is an authority's, signed by itself. */
  readonly server?: { readonly name: string; readonly issuer: KeyPair };
  /** Epoch ms. */
  readonly validFrom: number;
  readonly validUntil: number;
}

/** X.509 allows 64 characters here. Clients look at the alternative names; some only when they know them. */
const LONGEST_COMMON_NAME = 64;
const SERIAL_BYTES = 16;

/** Makes a key (P-256) and a certificate for it. Throws RelayError `relay_certificate` when the issuer cannot be used. */
export function issueCertificate({ server, validFrom, validUntil }: CertificateOrder): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const key = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const spki = publicKey.export({ type: "spki", format: "der" });
  const subject = nameOf(server?.name);
  try {
    const issuer = server ? readIssuer(server.issuer) : { subject, spki };
    const signer = server ? createPrivateKey(server.issuer.key) : privateKey;
    const toBeSigned = sequence(
      tagged(0, integer(Buffer.from([2]))),
      integer(newSerial()),
      ecdsaWithSha256,
      issuer.subject,
      sequence(time(validFrom), time(validUntil)),
      subject,
      spki,
      tagged(
        3,
        sequence(...(server ? serverExtensions(server.name, spki, issuer.spki) : authorityExtensions(spki))),
      ),
    );
    const signature = sign("sha256", toBeSigned, signer);
    return { certificate: pem(sequence(toBeSigned, ecdsaWithSha256, bits(signature))), key };
  } catch (cause) {
    throw new RelayError("relay_certificate", "making a certificate for the relay failed", {
      cause,
      hint: "look at the files in the state directory's folder relay, or give certificate files of your own as relay.tls",
    });
  }
}

interface Issuer {
  /** DER of its name, byte for byte as it is in its own certificate. */
  readonly subject: Buffer;
  readonly spki: Buffer;
}

function readIssuer({ certificate }: KeyPair): Issuer {
  const { raw, publicKey } = new X509Certificate(certificate);
  const [toBeSigned] = elementsOf(raw);
  // Version, serial number, algorithm, issuer, validity, subject, key.
  const subject = elementsOf(toBeSigned ?? Buffer.alloc(0))[5];
  if (subject === undefined) throw new Error("the authority's certificate names no subject");
  return { subject, spki: publicKey.export({ type: "spki", format: "der" }) };
}

function authorityExtensions(spki: Buffer): Buffer[] {
  return [
    extension("2.5.29.19", sequence(boolean, integer(Buffer.from([0]))), "critical"),
    // To sign certificates, and lists of revoked ones.
    extension("2.5.29.15", der(TAG.bits, Buffer.from([1, 0b0000_0110])), "critical"),
    extension("2.5.29.14", octets(keyId(spki))),
  ];
}

function serverExtensions(name: string, spki: Buffer, issuer: Buffer): Buffer[] {
  const alternative = isIP(name) === 0 ? der(0x82, Buffer.from(name)) : der(0x87, addressBytes(name));
  return [
    extension("2.5.29.19", sequence(), "critical"),
    // To sign handshakes.
    extension("2.5.29.15", der(TAG.bits, Buffer.from([7, 0b1000_0000])), "critical"),
    extension("2.5.29.37", sequence(oid("1.3.6.1.5.5.7.3.1"))),
    extension("2.5.29.14", octets(keyId(spki))),
    extension("2.5.29.35", sequence(der(0x80, keyId(issuer)))),
    extension("2.5.29.17", sequence(alternative)),
  ];
}

function nameOf(server: string | undefined): Buffer {
  const short = server === undefined || server.length > LONGEST_COMMON_NAME ? "FireRunner relay" : server;
  const name = server === undefined ? `${short} authority` : short;
  return sequence(der(TAG.set, sequence(oid("2.5.4.3"), der(TAG.utf8, Buffer.from(name)))));
}

/** As usual: the SHA-1 of the key itself, which is no secret and no signature. */
function keyId(spki: Buffer): Buffer {
  const [, key = Buffer.alloc(0)] = elementsOf(spki);
  return createHash("sha1").update(contentOf(key).subarray(1)).digest();
}

function newSerial(): Buffer {
  const serial = randomBytes(SERIAL_BYTES);
  // Positive, and always of one length.
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial;
}

function addressBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split(".").map(Number));
  const [before = "", behind = ""] = new URL(`http://[${address}]`).hostname.slice(1, -1).split("::");
  const [head, tail] = [before, behind].map((text) => text.split(":").filter((group) => group !== ""));
  const zeros = Array(8 - (head?.length ?? 0) - (tail?.length ?? 0)).fill("0");
  const groups = [...(head ?? []), ...zeros, ...(tail ?? [])].map((group) => Number.parseInt(group, 16));
  return Buffer.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}

function pem(certificate: Buffer): string {
  const lines = certificate.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

// --- DER (X.690) ----------------------------------------------------------------------------------------------------

const TAG = {
  integer: 0x02,
  bits: 0x03,
  octets: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
};

const boolean = der(0x01, Buffer.from([0xff]));
const ecdsaWithSha256 = sequence(oid("1.2.840.10045.4.3.2"));

function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const long = length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...(length < 128 ? [length] : long)]), content]);
}

function sequence(...elements: readonly Buffer[]): Buffer {
  return der(TAG.sequence, Buffer.concat(elements));
}

function tagged(number: number, element: Buffer): Buffer {
  return der(0xa0 + number, element);
}

/** Big-endian bytes of a number that is not negative, without zeros in front. */
function integer(bytes: Buffer): Buffer {
  return der(TAG.integer, bytes);
}

function octets(content: Buffer): Buffer {
  return der(TAG.octets, content);
}

/** Whole bytes. */
function bits(content: Buffer): Buffer {
  return der(TAG.bits, Buffer.concat([Buffer.from([0]), content]));
}

function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  return der(TAG.oid, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]));
}

function base128(value: number): number[] {
  const digits = [value & 0x7f];
  for (let left = value >> 7; left > 0; left >>= 7) digits.unshift((left & 0x7f) | 0x80);
  return digits;
}

/** Two digits of the year until 2049, as X.509 asks, and four afterwards. */
function time(at: number): Buffer {
  const digits = `${new Date(at).toISOString().slice(0, 19).replace(/\D/g, "")}Z`;
  if (new Date(at).getUTCFullYear() >= 2050) return der(TAG.generalizedTime, Buffer.from(digits));
  return der(TAG.utcTime, Buffer.from(digits.slice(2)));
}

function extension(id: string, value: Buffer, critical?: "critical"): Buffer {
  return sequence(oid(id), ...(critical ? [boolean] : []), octets(value));
}

/** The elements within one that Node has read before, and so is well formed. */
function elementsOf(whole: Buffer): Buffer[] {
  const content = contentOf(whole);
  const elements: Buffer[] = [];
  for (let at = 0; at < content.length; ) {
    const { start, length } = headerOf(content.subarray(at));
    elements.push(content.subarray(at, at + start + length));
    at += start + length;
  }
  return elements;
}

function contentOf(element: Buffer): Buffer {
  const { start, length } = headerOf(element);
  return element.subarray(start, start + length);
}

function headerOf(element: Buffer): { readonly start: number; readonly length: number } {
  const first = element[1] ?? 0;
  if (first < 0x80) return { start: 2, length: first };
  const bytes = first & 0x7f;
  return { start: 2 + bytes, length: element.readUIntBE(2, bytes) };
}
