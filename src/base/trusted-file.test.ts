import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { changeableBy, readableBy, readTrusted, requireTrusted, type Us } from "./trusted-file.ts";

const root: Us = { uid: 0, gid: 0, groups: new Set([0]) };
const service: Us = { uid: 990, gid: 990, groups: new Set([990, 44]) };
const person: Us = { uid: 1000, gid: 100, groups: new Set([100]) };

describe("who may change a file", () => {
  test.each([
    ["root's, 0644", { uid: 0, gid: 0, mode: 0o644 }, service, undefined],
    ["ours, 0600", { uid: 990, gid: 990, mode: 0o600 }, service, undefined],
    ["a credential of systemd, 0440", { uid: 0, gid: 0, mode: 0o440 }, service, undefined],
    ["a secret of Kubernetes, 0440 for our group", { uid: 0, gid: 44, mode: 0o440 }, service, undefined],
    [
      "somebody's",
      { uid: 1000, gid: 1000, mode: 0o600 },
      service,
      /belongs to user 1000, not to root or the user FireRunner runs as \(990\)/,
    ],
    ["a user's, for root", { uid: 1000, gid: 1000, mode: 0o600 }, root, /belongs to user 1000, not to root/],
    [
      "world-writable",
      { uid: 0, gid: 0, mode: 0o666 },
      root,
      /everyone on this computer may write to it \(mode 0666\)/,
    ],
    ["group-writable", { uid: 0, gid: 0, mode: 0o664 }, root, /group 0 may write/],
    ["group-writable by our group", { uid: 990, gid: 44, mode: 0o660 }, service, /group 44 may write/],
    [
      "group-writable by the group that is ours alone",
      { uid: 990, gid: 990, mode: 0o664 },
      service,
      undefined,
    ],
    [
      "group-writable by a group of many",
      { uid: 1000, gid: 100, mode: 0o664 },
      person,
      /group 100 may write/,
    ],
  ] as const)("%s", (_, standing, us, problem) => {
    const found = changeableBy("/f", standing, us);
    if (problem === undefined) expect(found).toBeUndefined();
    else expect(found?.problem).toMatch(problem);
    if (found) expect(found.remedy).toMatch(/^ch(own|mod) \S+ \/f/);
  });
});

describe("who may read a secret", () => {
  test.each([
    ["its owner", { gid: 0, mode: 0o600 }, service, true],
    ["root's group", { gid: 0, mode: 0o440 }, service, true],
    ["a group of ours", { gid: 44, mode: 0o640 }, service, true],
    ["a group of others", { gid: 100, mode: 0o640 }, service, false],
    ["a group of others, for root", { gid: 100, mode: 0o640 }, root, false],
    ["everyone", { gid: 0, mode: 0o644 }, service, false],
    ["everyone but its group", { gid: 0, mode: 0o604 }, service, false],
  ] as const)("%s", (_, standing, us, good) => {
    expect(readableBy("/f", standing, us) === undefined).toBe(good);
  });
});

describe.runIf(process.getuid?.() === 0)("the way to a file", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "fr-trust-"));
    writeFileSync(at("file"), "content", { mode: 0o600 });
    mkdirSync(at("inner"), { mode: 0o755 });
    writeFileSync(at("inner/file"), "content", { mode: 0o600 });
  });
  afterEach(() => rmSync(directory, { recursive: true }));
  const at = (name: string) => join(directory, name);
  const read = (name: string) => readTrusted(at(name), { maxBytes: 100, secret: true });
  const refused = (problem: RegExp, hint: string) => ({
    code: "untrusted_file",
    message: expect.stringMatching(problem),
    hint: expect.stringContaining(hint),
  });

  test("that is all root's is trusted, through /tmp too", async () => {
    expect((await read("inner/file")).toString()).toBe("content");
  });

  test.each([
    ["is another's", () => chownSync(at("inner"), 1234, 0), /inner belongs to user 1234/, "chown root"],
    ["is open to all", () => chmodSync(at("inner"), 0o777), /may change \S*inner: everyone/, "chmod go-w"],
    ["is open to a group", () => chmodSync(at("inner"), 0o775), /may change \S*inner: group 0/, "chmod go-w"],
    [
      "is another's with the sticky bit",
      () => {
        chownSync(at("inner"), 1234, 0);
        chmodSync(at("inner"), 0o1777);
      },
      /belongs to user 1234/,
      "chown root",
    ],
  ])("with a directory that %s is not", async (_, change, problem, hint) => {
    change();

    await expect(read("inner/file")).rejects.toMatchObject(refused(problem, hint));
    await expect(requireTrusted(at("inner/file"))).rejects.toMatchObject(refused(problem, hint));
  });

  test("with a directory of root's that is open to all and has the sticky bit is trusted", async () => {
    chmodSync(at("inner"), 0o1777);

    expect((await read("inner/file")).toString()).toBe("content");
  });

  test("through links is followed to its end", async () => {
    mkdirSync(at("open"), { mode: 0o700 });
    writeFileSync(at("open/real"), "content", { mode: 0o600 });
    chmodSync(at("open"), 0o777);
    symlinkSync("../open", at("inner/data"));
    symlinkSync(at("inner/data/real"), at("link"));

    await expect(read("link")).rejects.toMatchObject(refused(/may change \S*open: everyone/, "chmod go-w"));

    chmodSync(at("open"), 0o1777);
    expect((await read("link")).toString()).toBe("content");
  });

  test("by a link that somebody else made is not", async () => {
    symlinkSync(at("file"), at("link"));
    lchownSync(at("link"), 1234, 0);

    await expect(read("link")).rejects.toMatchObject(
      refused(/the link \S*link belongs to user 1234/, "chown -h root"),
    );
  });

  test("that never ends is an error of the system", async () => {
    symlinkSync(at("b"), at("a"));
    symlinkSync(at("a"), at("b"));

    await expect(read("a")).rejects.toMatchObject({ code: "ELOOP" });
  });

  test("to a pipe or a directory ends at once", async () => {
    const { execFileSync } = await import("node:child_process");
    execFileSync("mkfifo", ["-m", "600", at("pipe")]);

    await expect(read("pipe")).rejects.toMatchObject({ code: "EINVAL" });
    await expect(read("inner")).rejects.toMatchObject({ code: "EISDIR" });
  });
});
