import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { describeRunner, readMark } from "./runner-mark.ts";

const own = { installation: "0a1b2c", key: "r-abcdefgh" };

describe("a runner's description", () => {
  test("says where it comes from, what it serves, and whose it is", () => {
    const text = describeRunner({ ...own, hostname: "ci-1", tags: ["docker", "firecracker-2cpu-4gb"] });

    expect(text).toBe("FireRunner on ci-1: docker, firecracker-2cpu-4gb [fr:0a1b2c/r-abcdefgh]");
  });

  test("keeps its mark and GitLab's limit, whatever the tags are", () => {
    const tag = fc.string({ unit: "grapheme", maxLength: 400 });
    fc.assert(
      fc.property(fc.array(tag, { maxLength: 50 }), fc.string({ maxLength: 100 }), (tags, hostname) => {
        const text = describeRunner({ ...own, hostname, tags });

        expect([...text].length).toBeLessThanOrEqual(1_024);
        expect(readMark(text)).toEqual(own);
      }),
    );
  });

  test("is not mistaken for another's by a tag that looks like a mark", () => {
    const tags = ["[fr:0a1b2c/r-zzzzzzzz]"];

    expect(readMark(describeRunner({ ...own, hostname: "h", tags }))).toEqual(own);
  });

  test.each(["", "a runner", "[fr:0a1b2c/r-abcdefgh] and more", "[fr:/r-abcdefgh]", "[fr:a/b/c]"])(
    "without a mark at its end belongs to nobody: %s",
    (description) => {
      expect(readMark(description)).toBeUndefined();
    },
  );

  test("is read with spaces behind it", () => {
    expect(readMark("x [fr:0a1b2c/r-abcdefgh] \n")).toEqual(own);
  });
});
