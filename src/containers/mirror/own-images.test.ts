import { expect, test } from "vitest";
import { parseImageName } from "../reference.ts";
import { createOwnImages } from "./own-images.ts";

const digest = (number: number) => `sha256:${number.toString(16).padStart(64, "0")}`;
const asked = (number: number, repository = "r.example.com/team/tool") =>
  parseImageName(`${repository}@${digest(number)}`);
const name = "r.example.com/team/tool:1";
const document = (value: object) => Buffer.from(JSON.stringify(value));
const part = (number: number) => ({ digest: digest(number), size: 1 });

test("what a document leads to is a part of its image, in its repository alone", () => {
  const own = createOwnImages([{ name, isTrusted: false }]);
  const [image] = own.unread(asked(0));
  if (image === undefined) throw new Error("it is not there");

  own.learn(image, digest(1), document({ manifests: [part(2)] }));
  own.learn(image, digest(2), document({ config: part(3), layers: [part(4), part(5)] }));

  expect([1, 2, 3, 4, 5].map((number) => own.find(asked(number)))).toEqual(Array(5).fill(image));
  expect(own.find(asked(6))).toBeUndefined();
  expect(own.find(asked(3, "r.example.com/team/other"))).toBeUndefined();
  expect(own.find(asked(3, "other.example.com/team/tool"))).toBeUndefined();
  own.markRead(image);
  expect(own.unread(asked(6))).toEqual([]);
});

test("of a part that two images have the operator's counts", () => {
  const own = createOwnImages([
    { name, isTrusted: false },
    { name: "r.example.com/team/tool:2", isTrusted: true },
  ]);
  const [plain, trusted] = own.unread(asked(0));
  if (plain === undefined || trusted === undefined) throw new Error("they are not there");

  own.learn(plain, digest(1), document({ layers: [part(3)] }));
  expect(own.find(asked(3))?.isTrusted).toBe(false);
  own.learn(trusted, digest(2), document({ layers: [part(3)] }));
  own.learn(plain, digest(1), document({ layers: [part(3)] }));

  expect(own.find(asked(3))?.isTrusted).toBe(true);
});

test("is to be had a number of times, and everything else is not counted", () => {
  const own = createOwnImages([{ name, isTrusted: false }]);
  const askFor = (text: string) => own.ask(parseImageName(text)) !== undefined;

  expect(Array.from({ length: 40 }, () => askFor(name)).filter(Boolean)).toHaveLength(32);
  expect(askFor("r.example.com/team/tool:2")).toBe(false);
});

test.each([
  ["{", 0],
  [JSON.stringify([1]), 0],
  [JSON.stringify({ layers: "many" }), 0],
  [JSON.stringify({ layers: Array.from({ length: 30_000 }, (_, at) => part(at + 100)) }), 4_000],
])("a document %.20s… opens no more than it may", (text, most) => {
  const own = createOwnImages([{ name, isTrusted: false }]);
  const [image] = own.unread(asked(0));
  if (image === undefined) throw new Error("it is not there");

  own.learn(image, digest(1), Buffer.from(text));

  expect(own.find(asked(1))).toBe(image);
  const opened = Array.from({ length: 30_000 }, (_, at) => own.find(asked(at + 100))).filter(Boolean);
  expect(opened.length).toBe(Math.max(0, most - 1));
});
