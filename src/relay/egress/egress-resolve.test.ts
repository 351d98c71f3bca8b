import { createSocket, type Socket } from "node:dgram";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Resolve, resolveByDns, resolveBySystem } from "./addresses.ts";

const TYPE_A = 1;
const records: Readonly<Record<string, readonly number[]>> = {
  "both.example.com": [TYPE_A, 28],
  "old.example.com": [TYPE_A],
};

let server: Socket;
let resolve: Resolve;

beforeEach(async () => {
  server = createSocket("udp4");
  server.on("message", (query, from) => server.send(answerTo(query), from.port, from.address));
  await new Promise<void>((listening) => server.bind(0, "127.0.0.1", listening));
  resolve = resolveByDns([`127.0.0.1:${server.address().port}`]);
});

afterEach(() => {
  server.close();
});

/** One address for a type that a name has, and "no such name" for all else. */
function answerTo(query: Buffer): Buffer {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length));
    at += length + 1;
  }
  const type = query.readUInt16BE(at + 1);
  const question = query.subarray(12, at + 5);
  const isKnown = records[labels.join(".")]?.includes(type) ?? false;
  const head = Buffer.from([
    query[0] ?? 0,
    query[1] ?? 0,
    0x81,
    isKnown ? 0x80 : 0x83,
    0,
    1,
    0,
    isKnown ? 1 : 0,
    0,
    0,
    0,
    0,
  ]);
  if (!isKnown) return Buffer.concat([head, question]);
  const address = type === TYPE_A ? [192, 0, 2, 7] : [0x20, 1, 0x0d, 0xb8, ...Array<number>(11).fill(0), 7];
  const record = [0xc0, 12, 0, type, 0, 1, 0, 0, 0, 60, 0, address.length, ...address];
  return Buffer.concat([head, question, Buffer.from(record)]);
}

describe("resolving by DNS", () => {
  test("gives the addresses of both families", async () => {
    expect(await resolve("both.example.com")).toEqual(["192.0.2.7", "2001:db8::7"]);
  });

  test("is content with one family", async () => {
    expect(await resolve("old.example.com")).toEqual(["192.0.2.7"]);
  });

  test("of an unknown name throws", async () => {
    await expect(resolve("unknown.example.com")).rejects.toMatchObject({ code: "ENOTFOUND" });
  });
});

test("resolving by the system knows this computer's own tables", async () => {
  expect(await resolveBySystem("localhost")).toContain("127.0.0.1");
});
