/**
 * Lets a tunnel pass only while its TLS client asks for the host that the tunnel is for: the hello is read off the wire, in records of any
 * size, before a byte of it goes on.
 */
import { Transform } from "node:stream";

/**
 * Which TLS name a tunnel must be for. `required`: it must be TLS, by that name. `checked`: where it begins as TLS does, by that name;
 * other protocols pass. `free`: not looked at.
 */
export type NameRule = "required" | "checked" | "free";

/** Fatal, unrecognized_name: a client that gets it shows what is wrong. */
export const UNRECOGNIZED_NAME_ALERT = Buffer.from([21, 3, 3, 0, 2, 2, 112]);

interface NameCheckOptions {
  /** In lower case. */
  readonly host: string;
  readonly rule: Exclude<NameRule, "free">;
  /** An address is no TLS name: its clients name nobody. */
  readonly isAddress: boolean;
  readonly timeoutMs: number;
}

/** What a client said is not what the way is for. */
export class WrongName extends Error {}

/**
 * The guest's side of a tunnel on its way to a host. Its first bytes are held, some KiB of them at most, until they are known to name the
 * host. A server may ask for a second hello (HelloRetryRequest), and goes by that one: it is held and read as well. Fails with WrongName.
 */
export function createNameCheck(options: NameCheckOptions): Transform {
  const hellos = createHellos(options);
  let timer: NodeJS.Timeout | undefined;
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      expectSoon();
      const { pass, problem } = hellos.push(chunk);
      for (const part of pass) stream.push(part);
      if (hellos.isNamed()) clearTimeout(timer);
      done(problem === undefined ? null : new WrongName(problem));
    },
    flush(done) {
      const isNobody = options.rule === "required" && !hellos.isNamed();
      for (const part of isNobody ? [] : hellos.rest()) stream.push(part);
      done(isNobody ? new WrongName("its client left before it had named a host") : null);
    },
    destroy(error, done) {
      clearTimeout(timer);
      done(error);
    },
  });
  if (options.rule === "required") expectSoon();
  return stream;

  /** Once for the whole connection. */
  function expectSoon(): void {
    const late = new WrongName("its client said nothing in TLS for too long");
    timer ??= setTimeout(() => stream.destroy(late), options.timeoutMs).unref();
  }
}

interface Passage {
  readonly pass: readonly Buffer[];
  readonly problem?: string;
}

/** Holds what is not known yet to be for the host. */
function createHellos(options: NameCheckOptions) {
  let reader: HelloReader | undefined = createHelloReader();
  let isSecond = false;
  let held: Buffer[] = [];

  function rest(): Buffer[] {
    const all = held;
    held = [];
    return all;
  }

  /** Reads on behind a hello that ends within a chunk; lets everything pass once nothing can change any more. */
  function push(chunk: Buffer): Passage {
    if (reader === undefined) return { pass: [chunk] };
    const { result, used } = reader.push(chunk);
    held.push(chunk.subarray(0, used));
    if (result.kind === "more") return { pass: [] };
    const problem = problemWith(result, options, isSecond);
    if (problem !== undefined) return { pass: [], problem };
    reader = result.kind === "hello" && !isSecond ? createHelloReader(true) : undefined;
    isSecond = true;
    const pass = rest();
    if (used === chunk.length) return { pass };
    const further = push(chunk.subarray(used));
    return { ...further, pass: [...pass, ...further.pass] };
  }

  return { push, rest, isNamed: () => isSecond };
}

function problemWith(
  result: HelloResult,
  { host, rule, isAddress }: NameCheckOptions,
  isSecond: boolean,
): string | undefined {
  if (result.kind === "other")
    return isSecond || rule === "checked" ? undefined : `this way is for TLS with ${host} alone`;
  if (result.kind !== "hello") return "its client's TLS hello cannot be read";
  const { name } = result;
  if (name === host || (isAddress && name === undefined)) return undefined;
  return `its client asks for ${name ?? "no name"} by TLS, and this way is for ${host} alone`;
}

/**
 * Reads the server's name (SNI) off the beginning of a TLS connection, as the client sends it. Everything in it is a stranger's: lengths
 * are checked before they are used, nothing beyond one message of bounded length is kept, and each byte is looked at once.
 */
export type HelloResult =
  /** More bytes are needed to know. */
  | { readonly kind: "more" }
  /** The bytes are no client's hello. */
  | { readonly kind: "other" }
  /** They begin as one does, and go on in no way that we would let pass. */
  | { readonly kind: "broken" }
  /** `name` in lower case, undefined where the client names nobody. With ECH it is the outer name: where the connection leads. */
  | { readonly kind: "hello"; readonly name: string | undefined };

interface HelloReader {
  /** With the next bytes; `used` of them belong to the hello, or to what came instead. */
  push(chunk: Buffer): { readonly result: HelloResult; readonly used: number };
}

const CHANGE_CIPHER_SPEC = 20;
const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const EARLY_DATA = 42;
const RECORD_HEADER_BYTES = 5;
const MESSAGE_HEADER_BYTES = 4;
/** A client's hello has 2 KiB; with large key shares, tickets and padding a few more. */
export const MAX_HELLO_BYTES = 16_384;
/** OpenSSL refuses what is longer. */
const SERVERS_MAX_HELLO_BYTES = 131_396;
/** Of records that carry one byte each. */
const MAX_SENT_BYTES = 2 * MAX_HELLO_BYTES;

/** Reads one hello, in records of any size. `isSecond`: after the first one, where something else may come as well. */
export function createHelloReader(isSecond = false): HelloReader {
  const header = Buffer.alloc(RECORD_HEADER_BYTES);
  const message: number[] = [];
  let headerLength = 0;
  let recordLeft = 0;
  let isSkipped = false;
  let sent = 0;

  function nextByte(byte: number): HelloResult {
    sent += 1;
    if (sent > MAX_SENT_BYTES) return { kind: "broken" };
    if (recordLeft === 0) return nextOfHeader(byte);
    recordLeft -= 1;
    if (isSkipped) return { kind: "more" };
    message.push(byte);
    return evaluateMessage(message, isSecond);
  }

  function nextOfHeader(byte: number): HelloResult {
    header[headerLength] = byte;
    headerLength += 1;
    if (!isExpected(byte)) return { kind: message.length === 0 ? "other" : "broken" };
    if (headerLength < RECORD_HEADER_BYTES) return { kind: "more" };
    headerLength = 0;
    recordLeft = header.readUInt16BE(3);
    isSkipped = header[0] === CHANGE_CIPHER_SPEC;
    // Empty records are forbidden, and cost the sender next to nothing.
    return { kind: recordLeft === 0 || recordLeft > MAX_HELLO_BYTES ? "broken" : "more" };
  }

  /** Between two hellos of one client an empty change of ciphers may stand, for the sake of old boxes on the way. */
  function isExpected(byte: number): boolean {
    if (headerLength === 2) return byte === 3;
    if (headerLength > 2 || byte === HANDSHAKE) return true;
    return isSecond && message.length === 0 && byte === CHANGE_CIPHER_SPEC;
  }

  return {
    push(chunk) {
      for (const [index, byte] of chunk.entries()) {
        const result = nextByte(byte);
        if (result.kind !== "more") return { result, used: index + 1 };
      }
      return { result: { kind: "more" }, used: chunk.length };
    },
  };
}

/** Of as many bytes of the message as are here. */
function evaluateMessage(message: readonly number[], isSecond: boolean): HelloResult {
  if (message[0] !== CLIENT_HELLO) return { kind: isSecond ? "other" : "broken" };
  if (message.length < MESSAGE_HEADER_BYTES + 2) return { kind: "more" };
  const [, high = 0, middle = 0, low = 0, major = 0, minor = 0] = message;
  const length = high * 65_536 + middle * 256 + low;
  // Behind the first hello, something encrypted may by chance begin as a hello does, but hardly for so many bytes.
  const isHello = length <= SERVERS_MAX_HELLO_BYTES && major === 3 && minor <= 4;
  if (!isHello && isSecond) return { kind: "other" };
  if (!isHello || length > MAX_HELLO_BYTES - MESSAGE_HEADER_BYTES) return { kind: "broken" };
  if (message.length < MESSAGE_HEADER_BYTES + length) return { kind: "more" };
  return nameIn(Buffer.from(message).subarray(MESSAGE_HEADER_BYTES));
}

/** Version, random, session, cipher suites, compression, extensions. */
function nameIn(hello: Buffer): HelloResult {
  const body = reader(hello);
  body.take(2 + 32);
  body.take(body.number(1));
  body.take(body.number(2));
  body.take(body.number(1));
  const hasNoExtensions = !body.isBroken() && body.left() === 0;
  const names = hasNoExtensions ? [] : namesInExtensions(body.take(body.number(2)));
  if (body.isBroken() || body.left() > 0 || names === undefined) return { kind: "broken" };
  // Two names, or one in a form of its own: whom the server would believe is not for us to guess.
  const [name, ...others] = names;
  return others.length > 0 || name === "" ? { kind: "broken" } : { kind: "hello", name };
}

function namesInExtensions(bytes: Buffer): string[] | undefined {
  const extensions = reader(bytes);
  const names: string[] = [];
  while (extensions.left() > 0) {
    const type = extensions.number(2);
    const content = extensions.take(extensions.number(2));
    // What is sent early may be followed by another hello that nobody could tell from it.
    if (extensions.isBroken() || type === EARLY_DATA) return undefined;
    if (type === SERVER_NAME) names.push(...namesIn(content));
  }
  return extensions.isBroken() ? undefined : names;
}

/** An empty string stands for what is no host name. */
function namesIn(extension: Buffer): string[] {
  const outer = reader(extension);
  const list = reader(outer.take(outer.number(2)));
  if (outer.isBroken() || outer.left() > 0 || list.left() === 0) return [""];
  const names: string[] = [];
  while (list.left() > 0) {
    const type = list.number(1);
    const name = list.take(list.number(2)).toString("latin1");
    const isName = !list.isBroken() && type === 0 && /^[A-Za-z0-9_.-]{1,255}$/.test(name);
    if (!isName) return [""];
    names.push(name.toLowerCase().replace(/\.$/, ""));
  }
  return names;
}

/** Takes bytes off a buffer. After a take beyond its end it is broken, and gives nothing more. */
function reader(bytes: Buffer) {
  let at = 0;
  let broken = false;
  function take(length: number): Buffer {
    if (broken || at + length > bytes.length) broken = true;
    if (broken) return Buffer.alloc(0);
    at += length;
    return bytes.subarray(at - length, at);
  }
  return {
    take,
    number(length: 1 | 2): number {
      const part = take(length);
      return part.length === length ? part.readUIntBE(0, length) : 0;
    },
    left: () => (broken ? 0 : bytes.length - at),
    isBroken: () => broken,
  };
}
