import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ConfigError } from "../../src/config/errors.ts";
import { loadConfig } from "../../src/config/load.ts";
import { openBuildDirectory } from "../../src/image/build-directory.ts";
import { acquireStateLock } from "../../src/store/installation-key.ts";
import { unbroken } from "../harness/unbroken.ts";

const main = join(import.meta.dirname, "../../src/main.ts");

let directory: string;
const at = (name: string) => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "fr-trusted-"));
  mkdirSync(at("etc"), { mode: 0o755 });
  mkdirSync(at("state"), { mode: 0o711 });
  writeFileSync(at("etc/token"), "glrt-one", { mode: 0o600 });
  const pools = "pools: { small: { runner: { tokenFile: token } } }";
  const text = `gitlab: { url: http://127.0.0.1:9 }\n${pools}\nstate: ${at("state")}\n`;
  writeFileSync(at("etc/config.yaml"), text, { mode: 0o600 });
});
afterEach(() => rmSync(directory, { recursive: true }));

function firerunner(...words: string[]) {
  const options = { encoding: "utf8", timeout: 50_000 } as const;
  return spawnSync(process.execPath, [main, "--config", at("etc/config.yaml"), ...words], options);
}

const ofFiles: readonly (readonly [string, () => void, RegExp])[] = [
  ["a configuration for all", () => chmodSync(at("etc/config.yaml"), 0o666), /chmod go-w \S+config\.yaml/],
  ["a directory above it for all", () => chmodSync(at("etc"), 0o777), /chmod go-w \S+etc/],
  ["a token of a stranger", () => chownSync(at("etc/token"), 1234, 1234), /chown root \S+token/],
  ["a token for all to read", () => chmodSync(at("etc/token"), 0o644), /chmod 600 \S+token/],
  [
    "a token for a group of strangers",
    () => {
      chownSync(at("etc/token"), 0, 1234);
      chmodSync(at("etc/token"), 0o640);
    },
    /group 1234.*chmod 600 \S+token/,
  ],
];

describe.runIf(process.getuid?.() === 0)("what others can change is refused", () => {
  test("at start: a state directory of somebody else, with a key of zeros", () => {
    writeFileSync(at("state/key"), Buffer.alloc(32), { mode: 0o600 });
    chownSync(at("state"), 1234, 1234);

    const { status, stderr, stdout } = firerunner("start");

    expect(status).toBeGreaterThan(0);
    expect(unbroken(stderr)).toMatch(/belongs to user 1234/);
    expect(unbroken(stderr)).toMatch(/chown root \S+state/);
    expect(stdout).not.toContain("started");
  });

  test("at start: a state directory for all", async () => {
    chmodSync(at("state"), 0o777);

    await expect(acquireStateLock(at("state"))).rejects.toMatchObject({
      code: "untrusted_file",
      hint: expect.stringMatching(/chmod go-w \S+state/),
    });
  });

  test.each(ofFiles)("by whatever reads the configuration: %s", async (_, make, words) => {
    expect((await loadConfig({ file: at("etc/config.yaml"), env: {} })).pools.size).toBe(1);
    make();

    const error = await loadConfig({ file: at("etc/config.yaml"), env: {} }).catch((cause: unknown) => cause);

    const { message, hint } = error as ConfigError;
    expect(`${message} → ${hint}`).toMatch(words);
  });

  test("by image build: an image directory for all", async () => {
    mkdirSync(at("images"));
    chmodSync(at("images"), 0o777);

    await expect(openBuildDirectory(at("images"))).rejects.toMatchObject({
      code: "untrusted_file",
      hint: expect.stringMatching(/chmod go-w \S+images/),
    });
  });
});
