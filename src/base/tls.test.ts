import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { createFileBacked, validityOf } from "./tls.ts";
import { DAY_MS } from "./units.ts";

async function aFile() {
  const directory = await temporaryDirectory();
  onTestFinished(async () => await directory[Symbol.asyncDispose]());
  const path = join(directory.path, "file");
  const put = async (text: string) => {
    await writeFile(`${path}.new`, text);
    await rename(`${path}.new`, path);
  };
  return { path, put };
}

describe("what is read of files", () => {
  test("is read again when they have changed, and only then; what cannot be used leaves the last good one", async () => {
    const { path, put } = await aFile();
    await put("first");
    let next = "first";
    let reads = 0;
    const read = async () => {
      reads++;
      if (next === "bad") throw new Error("damaged");
      return next;
    };
    const kept = await createFileBacked({
      paths: () => [path],
      read,
      use: (text, before) => text !== before,
    });
    const outcomes = [await kept.refresh()];
    for (const text of ["second", "bad", "second", "third"]) {
      next = text;
      await put(text);
      outcomes.push(await kept.refresh(), await kept.refresh());
    }
    await rm(path);
    next = "bad";
    outcomes.push(await kept.refresh());

    const unusable = { unusable: new Error("damaged") };
    expect(outcomes).toEqual([
      "unchanged",
      ...["renewed", "unchanged"],
      ...[unusable, "unchanged"],
      ...["unchanged", "unchanged"],
      ...["renewed", "unchanged"],
      unusable,
    ]);
    expect(kept.value).toBe("third");
    expect(reads).toBe(6);
  });

  test("never goes back to an older one that was read more slowly", async () => {
    const { path, put } = await aFile();
    const slow = Promise.withResolvers<void>();
    const values = ["first", "older", "newer"];
    const read = async () => {
      const value = values.shift() ?? "";
      if (value === "older") await slow.promise;
      return value;
    };
    await put("1");
    const kept = await createFileBacked({ paths: () => [path], read });
    await put("22");
    const one = kept.refresh();
    await new Promise((resolve) => setTimeout(resolve, 20));
    await put("333");
    const other = kept.refresh();
    slow.resolve();
    await Promise.all([one, other]);

    expect(kept.value).toBe("newer");
  });

  test("is not there at all when it cannot be used from the start", async () => {
    const read = async () => await Promise.reject(new Error("damaged"));

    await expect(createFileBacked({ paths: () => [], read })).rejects.toThrow("damaged");
  });
});

test.each([
  [-1, "not yet valid"],
  [0, "good"],
  [16, "good"],
  [17, "ends soon"],
  [30, "ends soon"],
  [31, "has ended"],
])("a certificate of 31 days is after %i days: %s", (days, validity) => {
  const dates = { validFrom: 0, validUntil: 31 * DAY_MS };

  expect(validityOf(dates, days * DAY_MS + (days === 17 ? 1 : 0))).toBe(validity);
});
