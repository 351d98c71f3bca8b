import { Readable, type Transform } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { createChunkedWork } from "../gateway/admission.ts";
import { createHrefRewriter } from "./git.ts";

const rewrite = (href: string) =>
  href.startsWith("https://gitlab") ? `http://relay/?${href.length}` : undefined;

/** `json` in pieces of `size` bytes. */
async function rewritten(json: string, size = json.length): Promise<string> {
  const bytes = Buffer.from(json);
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
  return await text(Readable.from(pieces).pipe(createHrefRewriter(rewrite, async () => {})));
}

/** As it would be if the whole were held. */
function expected(json: string): unknown {
  return JSON.parse(json, (key, value) =>
    key === "href" && typeof value === "string" ? (rewrite(value) ?? value) : value,
  );
}

const batch = JSON.stringify({
  transfer: "basic",
  objects: [
    {
      oid: "a",
      size: 1,
      actions: {
        download: { href: 'https://gitlab.example.com/ä/"x\\', header: { href: "https://gitlab" } },
        verify: { href: "https://elsewhere.example.com" },
      },
    },
    { oid: 'href": "https://gitlab.example.com', error: { message: "href", href: ["https://gitlab"] } },
    { href: { href: null }, "href ": "https://gitlab", xhref: "https://gitlab" },
  ],
});

describe("the links of a batch", () => {
  test.each([1, 2, 3, 7, 64, 10_000])("are changed in pieces of %i bytes", async (size) => {
    expect(JSON.parse(await rewritten(batch, size))).toEqual(expected(batch));
  });

  test.each([
    ["the name escaped", '{"\\u0068re\\u0066" : "https://gitlab.example.com"}'],
    ["space and lines between", '{ "href"\n\t : \r\n "https://gitlab.example.com" , "a":1}'],
    ["the link escaped", '{"href":"https:\\/\\/gitlab.example.com"}'],
    ["the name as a value", '{"a":"href","b":"https://gitlab"}'],
    ["the name in a list", '["href","https://gitlab"]'],
    ["the name as a number's", '{"href":1,"b":"https://gitlab"}'],
    ["a list under the name", '{"href":["https://gitlab"]}'],
    ["quotes escaped", '{"a":"\\"href\\":\\"https://gitlab\\"","href":"https://gitlab\\""}'],
  ])("are the same as if the whole were held: %s", async (_what, json) => {
    for (const size of [1, 5, 1_000]) {
      expect(JSON.parse(await rewritten(json, size))).toEqual(expected(json));
    }
  });

  test("stay as they are when they are longer than a link can be", async () => {
    const json = JSON.stringify({
      href: `https://gitlab${"x".repeat(9_000)}`,
      b: { href: "https://gitlab" },
    });

    expect(await rewritten(json, 1_000)).toBe(json.replace('"https://gitlab"', '"http://relay/?14"'));
  });

  test("are found at any depth", async () => {
    const depth = 200_000;
    const json = `${'{"a":['.repeat(depth)}{"href":"https://gitlab"}${"]}".repeat(depth)}`;

    expect(await rewritten(json, 65_536)).toBe(json.replace("https://gitlab", "http://relay/?14"));
  });

  test("of many lists at once leave others their turn between two pieces", async () => {
    const work = createChunkedWork();
    const piece = Buffer.from(`${'"href":"https://gitlab/long",'.repeat(2_000)}\n`);
    let pieces = 0;
    const lists = Array.from({ length: 20 }, () => {
      const rewriter: Transform = createHrefRewriter(rewrite, () => work.turn(rewriter));
      rewriter.on("data", () => pieces++);
      return text(Readable.from(Array.from({ length: 5 }, () => piece)).pipe(rewriter));
    });
    let most = 0;
    for (let before = 0; pieces < 100; before = pieces) {
      await new Promise((resolve) => setImmediate(resolve));
      most = Math.max(most, pieces - before);
    }
    await Promise.all(lists);

    expect(most).toBe(1);
  });

  test.each(["", "no JSON", '{"href":"https://gitlab', '{"href":"bad \\q escape"}', "\u0000\u00ff"])(
    "of what is no JSON (%j) are left alone",
    async (broken) => {
      for (const size of [1, 100]) expect(await rewritten(broken, size)).toBe(broken);
    },
  );
});
