/**
 * What podman needs to send a layer on exactly as it came (tar-split): all of the archive but the content of its files, and of each file its
 * name, size and checksum. Lines of JSON, gzipped, in pieces, so that little is held.
 */
import { gzipSync } from "node:zlib";
import { LayerRefusal } from "./refusal.ts";

export interface TarSplit {
  raw(bytes: Buffer): void;
  /** The content of a file that can be found under `path`. */
  file(path: string, bytes: number, checksum: Buffer): void;
  end(): Buffer;
}

/** Of the archive between two files; longer ones are told in pieces. */
const PIECE_BYTES = 64 * 1024;
const BLOCK_CHARACTERS = 1024 ** 2;
const FILE = 1;
const RAW = 2;
/** It is made for speed: nobody reads it but who pushes. */
const LEVEL = 1;

export function createTarSplit(bytesMax: number): TarSplit {
  const done: Buffer[] = [];
  let doneBytes = 0;
  let lines: string[] = [];
  let characters = 0;
  let held: Buffer[] = [];
  let heldBytes = 0;
  let position = 0;

  function line(text: string): void {
    lines.push(text);
    characters += text.length;
    position += 1;
    if (characters >= BLOCK_CHARACTERS) compress();
  }

  function compress(): void {
    if (lines.length === 0) return;
    // Several gzip streams behind each other are one.
    const block = gzipSync(`${lines.join("\n")}\n`, { level: LEVEL });
    done.push(block);
    doneBytes += block.length;
    [lines, characters] = [[], 0];
    if (doneBytes > bytesMax) throw new LayerRefusal("there is too much in it besides files");
  }

  function flushRaw(): void {
    if (heldBytes === 0) return;
    const payload = Buffer.concat(held, heldBytes).toString("base64");
    [held, heldBytes] = [[], 0];
    line(`{"type":${RAW},"payload":"${payload}","position":${position}}`);
  }

  return {
    raw(bytes) {
      held.push(Buffer.from(bytes));
      heldBytes += bytes.length;
      if (heldBytes >= PIECE_BYTES) flushRaw();
    },
    file(path, bytes, checksum) {
      flushRaw();
      const payload = checksum.toString("base64");
      line(
        `{"type":${FILE},${nameField(path)},"size":${bytes},"payload":"${payload}","position":${position}}`,
      );
    },
    end() {
      flushRaw();
      compress();
      return Buffer.concat(done, doneBytes);
    },
  };
}

function nameField(path: string): string {
  const raw = Buffer.from(path, "latin1");
  const text = raw.toString("utf8");
  const isUtf8 = Buffer.from(text, "utf8").equals(raw);
  return isUtf8 ? `"name":${JSON.stringify(text)}` : `"name_raw":"${raw.toString("base64")}"`;
}
