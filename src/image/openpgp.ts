/**
 * Just enough of OpenPGP to take one public key, by its fingerprint, out of a file that may hold several. Nothing is judged
 * here: whether the key is sound, and what it has signed, is gpgv's to say.
 */
import { createHash } from "node:crypto";

const PUBLIC_KEY = 6;
const SUBKEY = 14;
/** What follows a public key and belongs to it: signatures, user ids, subkeys and attributes, trust and padding. */
const OF_A_KEY: ReadonlySet<number> = new Set([2, 10, 12, 13, SUBKEY, 17, 21]);
const MOST_PACKETS = 10_000;

export interface PublicKey {
  /** 40 hex digits in upper case; undefined for a key of a version that is not used here. */
  readonly fingerprint: string | undefined;
  /** The key with all that belongs to it, as a keyring of its own. */
  readonly bytes: Uint8Array;
}

/** The public keys of a file, armored or binary. Throws for what is no such file. */
export function publicKeysIn(file: Uint8Array): PublicKey[] {
  const keys: { fingerprint: string | undefined; parts: Uint8Array[] }[] = [];
  for (const { tag, body, bytes } of packetsIn(binaryOf(file))) {
    if (tag === PUBLIC_KEY) keys.push({ fingerprint: fingerprintOf(body), parts: [bytes] });
    else if (OF_A_KEY.has(tag)) keys.at(-1)?.parts.push(bytes);
    else throw new Error(`it holds something else than public keys (packet ${tag})`);
  }
  return keys.map(({ fingerprint, parts }) => ({ fingerprint, bytes: Buffer.concat(parts) }));
}

/** gpgv reads no armor: a file as text becomes the bytes that it carries. */
function binaryOf(file: Uint8Array): Uint8Array {
  const text = Buffer.from(file).toString("latin1");
  if (!text.includes("-----BEGIN PGP ")) return file;
  const block = /-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n((?:[^\n]*: [^\n]*\n)*)([^-]*)-----END PGP PUBLIC/g;
  const blocks = [...text.matchAll(block)].map(([, , content = ""]) => {
    // The last line is a checksum against bad telephone lines.
    const lines = content.split(/\r?\n/).filter((line) => !line.startsWith("="));
    return Buffer.from(lines.join(""), "base64");
  });
  if (blocks.length === 0) throw new Error("it holds no public key");
  return Buffer.concat(blocks);
}

interface Packet {
  readonly tag: number;
  readonly body: Uint8Array;
  /** With its header. */
  readonly bytes: Uint8Array;
}

function* packetsIn(data: Uint8Array): Generator<Packet> {
  let at = 0;
  for (let count = 0; at < data.length; count++) {
    const { tag, headerLength, bodyLength } = headerAt(Buffer.from(data.subarray(at, at + 6)));
    const end = at + headerLength + bodyLength;
    if (end > data.length || count >= MOST_PACKETS) throw new Error("it is damaged or cut off");
    yield { tag, body: data.subarray(at + headerLength, end), bytes: data.subarray(at, end) };
    at = end;
  }
}

function headerAt(header: Buffer): { tag: number; headerLength: number; bodyLength: number } {
  const first = header[0] ?? 0;
  if ((first & 0x80) === 0) throw new Error("it is no OpenPGP file");
  const isNew = (first & 0x40) !== 0;
  const tag = isNew ? first & 0x3f : (first >> 2) & 0x0f;
  const length = isNew ? newLength(header) : oldLength(header, first & 0x03);
  if (length === undefined) throw new Error("it is damaged or cut off");
  return { tag, ...length };
}

type Length = { headerLength: number; bodyLength: number } | undefined;

function newLength(header: Buffer): Length {
  const [, first = 256, second = 0] = header;
  if (first < 192) return { headerLength: 2, bodyLength: first };
  if (first < 224 && header.length >= 3)
    return { headerLength: 3, bodyLength: (first - 192) * 256 + second + 192 };
  if (first === 255 && header.length >= 6) return { headerLength: 6, bodyLength: header.readUInt32BE(2) };
  return undefined;
}

/** Type 3 goes on to the end of the file, which no key does. */
function oldLength(header: Buffer, type: number): Length {
  const width = [1, 2, 4][type];
  if (width === undefined || header.length < 1 + width) return undefined;
  return { headerLength: 1 + width, bodyLength: header.readUIntBE(1, width) };
}

function fingerprintOf(body: Uint8Array): string | undefined {
  if (body[0] !== 4) return undefined;
  const head = Buffer.from([0x99, body.length >> 8, body.length & 0xff]);
  return createHash("sha1").update(head).update(body).digest("hex").toUpperCase();
}
