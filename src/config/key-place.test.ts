import { expect, test } from "vitest";
import { findSigningKeyFile } from "./key-place.ts";

async function find(text: string, env: NodeJS.ProcessEnv = {}): Promise<string | undefined> {
  const readFile = async () => ({ text, mode: 0o600 });
  return await findSigningKeyFile({ file: "/etc/firerunner/config.yaml", env, readFile });
}

test("the key's file is looked for beside the configuration, whatever else is unfinished", async () => {
  expect(await find("webhook: { signingKeyFile: hook.key, group: }")).toBe("/etc/firerunner/hook.key");
  expect(await find("webhook: { signingKeyFile: /run/hook.key }")).toBe("/run/hook.key");
});

test("the environment has the last word", async () => {
  const env = { FIRERUNNER_WEBHOOK__SIGNING_KEY_FILE: "/run/other.key" };

  expect(await find("webhook: { signingKeyFile: hook.key }", env)).toBe("/run/other.key");
});

test.each(["webhook: { signingKey: whsec_x }", "pools: {}", "[", "- a list", ""])(
  "there is none in “%s”",
  async (text) => {
    expect(await find(text)).toBeUndefined();
  },
);
