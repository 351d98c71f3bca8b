import { expect, test } from "vitest";
import { type Config, loadConfig } from "../../config/load.ts";
import { doctorChecks } from "./doctor-checks.ts";

async function config(text: string): Promise<Config> {
  const whole = `gitlab: { url: "http://127.0.0.1:9" }\nstate: /no/such/state\n${text}`;
  return await loadConfig({
    file: "/f.yaml",
    env: {},
    readFile: async () => ({ text: whole, mode: 0o600 }),
  });
}

test("with nothing but pools only they are asked about", async () => {
  const pools = "pools: { a: { runner: { token: t } }, b: { runner: { token: u }, image: big } }";

  expect(doctorChecks(await config(pools)).map(({ name }) => name)).toEqual([
    "gitlab",
    "user",
    "image base",
    "image big",
    "machines of pool a",
    "machines of pool b",
    "room for pool a",
    "room for pool b",
    "images of jobs",
    "runner of pool a",
    "runner of pool b",
    "clock",
  ]);
});

test("with jobs by tag every kind of machine that a tag can choose is tried", async () => {
  const rules = "rules: [{ tag: docker, image: docker }, { tag: big, pool: b }]";
  const webhook = `webhook: { group: g, apiToken: glpat-x, token: hush-hush-hush-hush, url: "https://h.example.org/webhook", ${rules} }`;
  const text = `pools: { b: { image: big } }\n${webhook}\nhttp: { listen: ["http://127.0.0.1:8080"] }`;

  expect(doctorChecks(await config(text)).map(({ name }) => name)).toEqual([
    "gitlab",
    "user",
    "image base",
    "image docker",
    "image big",
    "machines by tag",
    "machines of tag docker",
    "machines of tag big",
    "images of jobs",
    "API token",
    "scope",
    "runners",
    "webhook",
    "listen 127.0.0.1:8080",
    "webhook.url",
    "clock",
  ]);
});

test("a rule whose image is not there is named, and others are not", async () => {
  const webhook = "webhook: { group: g, apiToken: glpat-x, rules: [{ tag: docker, image: dokcer }] }";
  const checks = doctorChecks(await config(webhook));
  const find = checks.find(({ name }) => name === "machines of tag docker");

  expect(await find?.run(AbortSignal.timeout(10_000))).toMatchObject({
    level: "fail",
    message: expect.stringContaining("dokcer"),
  });
});

test("a GitLab that cannot be asked is told once, and others refer to it", async () => {
  const checks = doctorChecks(await config("pools: { a: { runner: { token: t } } }"));
  const signal = AbortSignal.timeout(10_000);
  const asked = checks.filter(({ name }) => ["gitlab", "runner of pool a", "clock"].includes(name));
  const [gitlab, ...others] = await Promise.all(asked.map(({ run }) => run(signal)));

  expect(gitlab).toMatchObject({ level: "fail", message: expect.stringContaining("refused") });
  expect(others).toHaveLength(2);
  for (const each of others) expect(each).toMatchObject({ level: "warn", hint: "See “gitlab” above." });
});
