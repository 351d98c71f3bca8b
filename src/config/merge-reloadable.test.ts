import { expect, test } from "vitest";
import { type Config, loadConfig } from "./load.ts";
import { mergeReloadable } from "./reload.ts";

async function config(yaml: string): Promise<Config> {
  return await loadConfig({ file: "/f.yaml", env: {}, readFile: async () => ({ text: yaml, mode: 0o600 }) });
}

const gitlab = "gitlab: { url: https://gitlab.example.com }\n";

test("a reload changes what is live and keeps what waits for a restart", async () => {
  const running = await config(
    `${gitlab}state: /a\nwebhook: { group: g, apiToken: one }\nhttp: { bodyLimit: 1MiB, listen: [] }`,
  );
  const next = await config(
    "gitlab: { url: https://other.example.com }\nstate: /b\n" +
      "webhook: { project: g/p, apiToken: two, token: hook-token, installation: i, sizes: { maxCpus: 2 } }\n" +
      "http: { bodyLimit: 2MiB, listen: [http://127.0.0.1:1], allow: [10.0.0.1], unprovenPerMinute: 7 }",
  );

  const now = mergeReloadable(running, next);

  expect(now).toMatchObject({ state: "/a", gitlab: { url: "https://gitlab.example.com" } });
  expect(now.http).toMatchObject({ bodyLimit: 1, listen: [], allow: ["10.0.0.1"], unprovenPerMinute: 7 });
  expect(now.webhook).toMatchObject({ group: "g", sizes: { maxCpus: 2 } });
  expect(now.webhook?.project ?? now.webhook?.installation).toBeUndefined();
  expect(now.webhook?.secrets.apiToken.reveal()).toBe("two");
});

test("jobs by tag neither begin nor end with a reload", async () => {
  const without = await config(`${gitlab}pools: { a: { runner: { token: t } } }`);
  const withIt = await config(`${gitlab}webhook: { group: g, apiToken: one }`);

  expect(mergeReloadable(without, withIt).webhook).toBeUndefined();
  expect(mergeReloadable(withIt, without).webhook).toBe(withIt.webhook);
});
