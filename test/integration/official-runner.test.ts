import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { guestFile } from "../../src/base/guest-files.ts";
import { ImagesConfig } from "../../src/image/config.ts";
import { chooseRunner, type RunnerChoice } from "../../src/image/runner.ts";
import { captureRunnerInfo } from "../../src/image/runner-info.ts";
import { listOf, paths, type RunnerMirror, startRunnerMirror } from "../servers/runner-mirror.ts";
import { makeSigningKey, type SigningKey } from "../servers/signing-key.ts";

const program = readFileSync(guestFile("stand-in-runner"));

let key: SigningKey;
let stranger: SigningKey;
let expired: SigningKey;
let mirror: RunnerMirror;
let directory: string;
let said: string[];

beforeAll(() => {
  key = makeSigningKey("gitlab");
  stranger = makeSigningKey("stranger");
  expired = makeSigningKey("expired", { madeAt: "20200101", life: "30d" });
});
afterAll(() => {
  for (const each of [key, stranger, expired]) each.remove();
});

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "fr-official-"));
  mirror = await startRunnerMirror(program, key);
  said = [];
});
afterEach(async () => {
  await mirror[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

async function choose(
  kind: "official" | "auto" = "official",
  settings: object = {},
  release = mirror.release,
) {
  const choice: RunnerChoice = { kind };
  const config = ImagesConfig.parse({ runnerMirror: mirror.url, ...settings });
  const context = {
    directory,
    architecture: "amd64",
    config,
    release,
    clock: systemClock,
    isBuilt: () => false,
  };
  return await chooseRunner(choice, context, ({ line }) => void (line && said.push(line)));
}

const downloads = () => join(directory, "downloads");
const cached = () => join(downloads(), `gitlab-runner-${mirror.release.version}-amd64`);

describe("the official runner", () => {
  test("comes from a mirror, is proved by its signature, can be executed, and says what it is", async () => {
    const chosen = await choose();

    expect(chosen).toMatchObject({ kind: "official", path: cached(), notes: [] });
    expect(readFileSync(chosen.path).equals(program)).toBe(true);
    expect(statSync(chosen.path).mode & 0o777).toBe(0o755);
    expect((await captureRunnerInfo(chosen.path)).info).toMatchObject({ executor: "shell" });
  });

  test("is taken from the cache without the network, with all of its proof", async () => {
    await choose();
    const before = mirror.asked().length;

    expect(await choose()).toMatchObject({ kind: "official", path: cached() });
    expect(await choose("auto")).toMatchObject({ kind: "official", path: cached() });

    expect(mirror.asked()).toHaveLength(before);
  });

  test.each([
    ["the program", () => cached(), Buffer.from("#!/bin/sh\necho evil\n")],
    [
      "the list",
      () => `${downloads()}/gitlab-runner-${mirror.release.version}.release.sha256`,
      Buffer.from(listOf(Buffer.from("evil"))),
    ],
    ["the key", () => `${downloads()}/gitlab-runner-key.gpg`, Buffer.from("no key")],
  ])(
    "whose cache was changed in %s is downloaded anew, and the change is told",
    async (_, place, content) => {
      await choose();
      chmodSync(place(), 0o755);
      writeFileSync(place(), content);

      const chosen = await choose();

      expect(readFileSync(chosen.path).equals(program)).toBe(true);
      expect(said.join("\n")).toMatch(/downloaded anew/);
    },
  );

  test("with a changed cache and no network is not used at all", async () => {
    await choose();
    writeFileSync(cached(), "#!/bin/sh\necho evil\n");
    mirror.files.clear();

    await expect(choose()).rejects.toMatchObject({ code: "image_download_failed" });
  });

  test("goes on when GitLab has prolonged its key: the copy that ran out is replaced", async () => {
    const release = { ...mirror.release, keyFingerprint: expired.fingerprint };
    mirror.files.set(paths.signature, expired.sign(listOf(program)));
    mirror.files.set(paths.key, expired.publicKey);
    await expect(choose("official", {}, release)).rejects.toMatchObject({ code: "image_key_expired" });

    const prolonged = makeSigningKey("prolonged", { madeAt: "20200101", life: "30d" });
    mirror.files.set(paths.signature, prolonged.sign(listOf(program)));
    const copies = Buffer.concat([stranger.publicKey, prolonged.publicKey, prolonged.prolong("never")]);
    mirror.files.set(paths.key, copies);

    const trusted = { ...mirror.release, keyFingerprint: prolonged.fingerprint };
    expect(await choose("official", {}, trusted)).toMatchObject({ kind: "official" });
    prolonged.remove();
  });

  test.each([
    ["as text", () => key.armoredKey],
    ["as text with Windows line ends", () => key.armoredKey.replaceAll("\n", "\r\n")],
    ["among others", () => Buffer.concat([stranger.publicKey, key.publicKey])],
  ])("takes its key from a file, %s", async (_, content) => {
    const keyFile = join(directory, "key");
    writeFileSync(keyFile, content());
    mirror.files.delete(paths.key);

    expect(await choose("official", { runnerKeyFile: keyFile })).toMatchObject({ kind: "official" });
  });

  test("is not GitLab's key that is missing, and says where it may come from", async () => {
    mirror.files.delete(paths.key);

    await expect(choose()).rejects.toMatchObject({
      code: "image_download_failed",
      hint: expect.stringMatching(/--runner-key FILE.*--runner PATH.*--runner stand-in/),
    });
  });
});

interface Fault {
  readonly of: string;
  readonly make: () => void;
  readonly code: string;
  readonly words: RegExp;
}

const evil = Buffer.from("#!/bin/sh\necho evil\n");
const endless = (response: import("node:http").ServerResponse) => {
  const more = () => void (response.destroyed || response.write(Buffer.alloc(1 << 20, "a"), more));
  response.writeHead(200);
  more();
};

const faults: readonly Fault[] = [
  {
    of: "a list that was changed after it was signed",
    make: () => mirror.files.set(paths.list, listOf(evil)).set(paths.program, evil),
    code: "image_signature_wrong",
    words: /changed since it was signed/,
  },
  {
    of: "a list that another key signed",
    make: () => mirror.files.set(paths.list, listOf(evil)).set(paths.signature, stranger.sign(listOf(evil))),
    code: "image_signature_wrong",
    words: /signed by another key \(/,
  },
  {
    of: "a mirror that serves another key with its own signature",
    make: () =>
      mirror.files.set(paths.key, stranger.publicKey).set(paths.signature, stranger.sign(listOf(program))),
    code: "image_key_wrong",
    words: /does not hold the key that signs GitLab's runner; it holds [0-9A-F]{40}/,
  },
  {
    of: "a mirror that adds a key of its own to the right one",
    make: () =>
      mirror.files
        .set(paths.key, Buffer.concat([stranger.publicKey, key.publicKey]))
        .set(paths.signature, stranger.sign(listOf(program))),
    code: "image_signature_wrong",
    words: /signed by another key/,
  },
  {
    of: "a key that is none",
    make: () => mirror.files.set(paths.key, "<html>sign in</html>"),
    code: "image_key_wrong",
    words: /is no file of public keys/,
  },
  {
    of: "a key that is cut off",
    make: () => mirror.files.set(paths.key, key.publicKey.subarray(0, 40)),
    code: "image_key_wrong",
    words: /damaged or cut off/,
  },
  {
    of: "a signature that is none",
    make: () => mirror.files.set(paths.signature, "not signed"),
    code: "image_signature_wrong",
    words: /no signature that can be checked/,
  },
  {
    of: "no signature",
    make: () => mirror.files.delete(paths.signature),
    code: "image_download_failed",
    words: /release\.sha256\.asc answered 404/,
  },
  {
    of: "a list without the program",
    make: () => mirror.files.set(paths.list, "").set(paths.signature, key.sign("")),
    code: "image_download_wrong",
    words: /does not name the expected gitlab-runner-linux-amd64/,
  },
  {
    of: "another program than the list names",
    make: () => mirror.files.set(paths.program, evil),
    code: "image_download_wrong",
    words: /its sha256 is/,
  },
  {
    of: "a program that is cut off",
    make: () => mirror.files.set(paths.program, program.subarray(0, 100)),
    code: "image_download_wrong",
    words: /its sha256 is/,
  },
  {
    of: "a list without end",
    make: () => mirror.files.set(paths.list, endless),
    code: "image_download_wrong",
    words: /longer than the 1 MiB/,
  },
  {
    of: "a key without end",
    make: () => mirror.files.set(paths.key, endless),
    code: "image_download_wrong",
    words: /test-key\.pub\.gpg is longer than the/,
  },
  {
    of: "a program that leads to an address without TLS",
    make: () =>
      mirror.files.set(paths.program, (response) =>
        response.writeHead(302, { location: "http://mirror.example.org/runner" }).end(),
      ),
    code: "image_download_insecure",
    words: /mirror\.example\.org/,
  },
];

describe("the official runner is refused, and no other takes its place, for", () => {
  test.each(faults)("$of", async ({ make, code, words }) => {
    make();

    await expect(choose()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(words),
      hint: expect.stringMatching(/\w/),
    });
    expect(existsSync(cached())).toBe(false);
    if (code === "image_download_failed") return;
    await expect(choose("auto")).rejects.toMatchObject({ code });
    expect(readdirSync(downloads()).filter((name) => name.endsWith(".part"))).toEqual([]);
  });

  test("a mirror without TLS on another computer", async () => {
    await expect(choose("official", { runnerMirror: "http://mirror.example.org/" })).rejects.toMatchObject({
      code: "image_download_insecure",
      hint: expect.stringContaining("--allow-http-mirror"),
    });
  });

  test("a digest that is not the pinned one", async () => {
    const release = { ...mirror.release, sha256: { amd64: "2".repeat(64) } };

    await expect(choose("official", {}, release)).rejects.toMatchObject({ code: "image_download_wrong" });
  });

  test("an expired copy of the key, in other words than for a wrong signature", async () => {
    const release = { ...mirror.release, keyFingerprint: expired.fingerprint };
    mirror.files.set(paths.signature, expired.sign(listOf(program))).set(paths.key, expired.publicKey);

    await expect(choose("official", {}, release)).rejects.toMatchObject({
      code: "image_key_expired",
      message: expect.stringMatching(/the signature is good, but .* ran out on 2020-01-31/),
      hint: expect.stringMatching(new RegExp(`${expired.fingerprint}.*--runner-key`)),
    });
  });
});

describe("the stand-in", () => {
  test("takes the place of a runner that cannot be had, where that was asked for, and says why", async () => {
    mirror.files.clear();

    const chosen = await choose("auto");

    expect(chosen.kind).toBe("stand-in");
    expect(chosen.notes.join()).toMatch(/stand-in runner, not the official gitlab-runner.*answered 404/);
  });

  test("does not take its place by itself: the way on is told", async () => {
    mirror.files.clear();

    await expect(choose()).rejects.toMatchObject({
      code: "image_download_failed",
      hint: expect.stringMatching(/--runner PATH.*--runner stand-in/),
    });
  });
});
