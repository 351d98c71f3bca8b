/**
 * Reads layers: tar archives of anybody's making, as they come, piece by piece. It reads them as Go's archive/tar does, since podman and
 * docker use that, and refuses what no honest layer has. Nothing is held but one header and what belongs to it.
 */
import { BLOCK_BYTES } from "../../image/oci/tar.ts";
import type { EntryKind, RawHeader, ScannedEntry } from "./entry.ts";
import { applyPax, type PaxOverrides, parsePaxRecords } from "./pax.ts";
import { LayerRefusal } from "./refusal.ts";

/** What is made of an archive. All bytes come to `raw` or to `body`, in their order; they are good until the call of `write` returns. */
export interface TarSink {
  entry(entry: ScannedEntry): void;
  body(bytes: Buffer): void;
  raw(bytes: Buffer): void;
}

/** As much as Go takes for a pax header or a long name. */
const META_BYTES_MAX = 1024 ** 2;

const kinds: Readonly<Record<string, EntryKind>> = {
  "0": "file",
  "\0": "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "device",
  "4": "device",
  "5": "directory",
  "6": "fifo",
};

type State = "header" | "meta" | "body" | "padding" | "rest";

/** Overrides of the next entry, from the headers before it. */
interface Pending {
  readonly pax: PaxOverrides;
  readonly name?: string | undefined;
  readonly target?: string | undefined;
}

export class TarScanner {
  readonly #sink: TarSink;
  #state: State = "header";
  /** How much is still missing of what the state waits for. */
  #missing = BLOCK_BYTES;
  #held: Buffer[] = [];
  #index = 0;
  #paddingBytes = 0;
  #meta = { type: "", bytes: 0 };
  #pending: Pending = { pax: {} };

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  /** Throws LayerRefusal. */
  write(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      const piece = chunk.subarray(at, at + Math.min(this.#missing, chunk.length - at));
      at += piece.length;
      this.#missing -= piece.length;
      this.#take(piece);
    }
  }

  /** The archive has ended. Throws LayerRefusal when it did so in the middle. */
  end(): void {
    const isBetween = this.#state === "header" && this.#missing === BLOCK_BYTES;
    if (this.#state !== "rest" && !isBetween) throw new LayerRefusal("its archive ends in the middle");
  }

  #take(piece: Buffer): void {
    switch (this.#state) {
      case "body":
        this.#sink.body(piece);
        if (this.#missing === 0) this.#afterBody();
        return;
      case "padding":
      case "rest":
        this.#sink.raw(piece);
        if (this.#missing === 0) this.#waitFor("header", BLOCK_BYTES);
        return;
      default:
        this.#gather(piece);
    }
  }

  #gather(piece: Buffer): void {
    // What a chunk holds is good only until the next one comes.
    if (this.#missing > 0) {
      this.#held.push(Buffer.from(piece));
      return;
    }
    const whole = this.#held.length === 0 ? piece : Buffer.concat([...this.#held, piece]);
    this.#held = [];
    this.#sink.raw(whole);
    if (this.#state === "header") this.#onHeader(whole);
    else this.#onMeta(whole.subarray(0, this.#meta.bytes));
  }

  #waitFor(next: State, bytes: number): void {
    this.#state = next;
    this.#missing = bytes;
  }

  #afterBody(): void {
    if (this.#paddingBytes > 0) this.#waitFor("padding", this.#paddingBytes);
    else this.#waitFor("header", BLOCK_BYTES);
  }

  #onHeader(block: Buffer): void {
    const header = readHeader(block);
    if (header === undefined) this.#waitFor("rest", Number.POSITIVE_INFINITY);
    else if ("xgLK".includes(header.type)) this.#onMetaHeader(header);
    else this.#onEntry(header);
  }

  #onMetaHeader(header: RawHeader): void {
    if (!(header.bytes >= 0 && header.bytes <= META_BYTES_MAX))
      throw new LayerRefusal("a header is too long");
    this.#meta = header;
    if (header.bytes === 0) this.#onMeta(Buffer.alloc(0));
    else this.#waitFor("meta", Math.ceil(header.bytes / BLOCK_BYTES) * BLOCK_BYTES);
  }

  /** What is said of all entries (g) counts for none, as with podman. */
  #onMeta(content: Buffer): void {
    const { type } = this.#meta;
    if (type === "x") this.#pending = { ...this.#pending, pax: parsePaxRecords(content) };
    if (type === "L") this.#pending = { ...this.#pending, name: textOf(content) };
    if (type === "K") this.#pending = { ...this.#pending, target: textOf(content) };
    this.#waitFor("header", BLOCK_BYTES);
  }

  #onEntry(header: RawHeader): void {
    const { pax, name, target } = this.#pending;
    this.#pending = { pax: {} };
    const full = applyPax(header, pax);
    const path = name || full.path;
    const kind = header.type === "\0" && path.endsWith("/") ? "directory" : kinds[header.type];
    if (kind === undefined) throw new LayerRefusal("it is of a kind that no layer should have", path);
    // Other kinds have no content, whatever their size is said to be.
    const bytes = kind === "file" ? full.bytes : 0;
    this.#sink.entry({ ...full, index: this.#index, kind, path, target: target || full.target, bytes });
    this.#index += 1;
    this.#paddingBytes = (BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES;
    if (bytes > 0) this.#waitFor("body", bytes);
    else this.#afterBody();
  }
}

/** Undefined for a block of zeroes: the end. */
function readHeader(block: Buffer): RawHeader | undefined {
  if (block[0] === 0 && block.every((byte) => byte === 0)) return undefined;
  if (!hasRightSum(block)) throw new LayerRefusal("a header is damaged: its checksum is wrong");
  const type = block.toString("latin1", 156, 157);
  return {
    type,
    path: pathOf(block),
    target: textOf(block.subarray(157, 257)),
    mode: numberOf(block, 100, 8) & 0o7777,
    uid: numberOf(block, 108, 8),
    gid: numberOf(block, 116, 8),
    bytes: numberOf(block, 124, 12),
    mtimeS: numberOf(block, 136, 12),
    xattrs: [],
  };
}

function pathOf(block: Buffer): string {
  const name = textOf(block.subarray(0, 100));
  if (block.toString("latin1", 257, 263) !== "ustar\0") return name;
  // Schily's star has two times where POSIX has the end of the prefix.
  const isStar = block.toString("latin1", 508, 512) === "tar\0";
  const prefix = textOf(block.subarray(345, 345 + (isStar ? 131 : 155)));
  return prefix === "" ? name : `${prefix}/${name}`;
}

/** Old programs summed signed bytes. */
function hasRightSum(block: Buffer): boolean {
  const wanted = numberOf(block, 148, 8);
  let [unsigned, signed] = [0, 0];
  for (let at = 0; at < BLOCK_BYTES; at++) {
    const byte = at >= 148 && at < 156 ? 0x20 : (block[at] ?? 0);
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  return wanted === unsigned || wanted === signed;
}

function textOf(field: Buffer): string {
  const end = field.indexOf(0);
  return field.toString("latin1", 0, end < 0 ? field.length : end);
}

/** Octal digits, or, with the highest bit set, binary of either sign. */
function numberOf(block: Buffer, start: number, length: number): number {
  const field = block.subarray(start, start + length);
  if (((field[0] ?? 0) & 0x80) !== 0) return binaryOf(field);
  const digits = field.toString("latin1").replace(/^[ \0]+|[ \0]+$/g, "");
  if (!/^[0-7]*$/.test(digits)) throw new LayerRefusal("a header is damaged: a number in it is none");
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

function binaryOf(field: Buffer): number {
  const bits = 8 * field.length - 1;
  const value = BigInt.asIntN(bits, BigInt(`0x${field.toString("hex")}`));
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new LayerRefusal("a header has a number that is too large");
  return number;
}
