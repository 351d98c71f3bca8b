import { expect, test } from "vitest";
import { parseImageName, serverOf } from "./reference.ts";

const digest = `sha256:${"ab".repeat(32)}`;

test.each([
  ["node", "docker.io/library/node:latest"],
  ["node:24-slim", "docker.io/library/node:24-slim"],
  ["bitnami/redis", "docker.io/bitnami/redis:latest"],
  ["docker.io/node", "docker.io/library/node:latest"],
  ["index.docker.io/team/tool:1", "docker.io/team/tool:1"],
  ["localhost/tool", "localhost/tool:latest"],
  ["localhost:5000/tool:1", "localhost:5000/tool:1"],
  ["registry.example.org/a/b/c:V1.0_x", "registry.example.org/a/b/c:V1.0_x"],
  ["Registry.example.org/a", "registry.example.org/a:latest"],
  ["[::1]:5000/a", "[::1]:5000/a:latest"],
  [`node@${digest}`, `docker.io/library/node@${digest}`],
  [`node:24@${digest}`, `docker.io/library/node@${digest}`],
])("%s is %s", (text, name) => {
  expect(parseImageName(text).name).toBe(name);
});

test.each([
  "",
  "Node",
  "a//b",
  "a/../b",
  "a:b:c",
  "a@sha256:12",
  `a@${digest}@${digest}`,
  "a:",
  "a b",
  "-a/b",
  "example.org/",
  "http://example.org/a",
  `${"a".repeat(256)}`,
  "a:\u0000",
])("%j is refused", (text) => {
  expect(() => parseImageName(text)).toThrow(expect.objectContaining({ code: "container_bad_name" }));
});

test("Docker Hub answers elsewhere than at its name", () => {
  expect([serverOf("docker.io"), serverOf("example.org:5000")]).toEqual([
    "registry-1.docker.io",
    "example.org:5000",
  ]);
});
