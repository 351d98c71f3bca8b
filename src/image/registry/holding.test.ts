import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { askRegistry } from "./holding.ts";

const signal = new AbortController().signal;
const digest = `sha256:${"a".repeat(64)}`;
const asked: string[] = [];
let server: Server | undefined;

afterEach(() => {
  server?.close();
  asked.length = 0;
});

/** A registry that answers each question with the status for its repository. */
async function aRegistry(statuses: Readonly<Record<string, number>>): Promise<string> {
  const registry = createServer(({ method, url = "" }, response) => {
    asked.push(`${method} ${url}`);
    const [, repository = ""] = /^\/v2\/(.*)\/manifests\//.exec(url) ?? [];
    response.writeHead(statuses[repository] ?? 404).end();
  });
  await new Promise<void>((resolve) => registry.listen(0, "127.0.0.1", resolve));
  server = registry;
  return `localhost:${(registry.address() as AddressInfo).port}`;
}

/** As hosts call it, whose own registry it may be. */
const published = { kernel: `localhost:5000/fr/kernel@${digest}`, root: `localhost:5000/fr/root@${digest}` };

test("has what hosts pull, by the name that this computer has for their registry", async () => {
  const registry = await aRegistry({ "fr/kernel": 200, "fr/root": 200 });

  expect(await askRegistry({ ...published, registry }, signal)).toMatchObject({ state: "there" });
  expect(asked.toSorted()).toEqual([
    `HEAD /v2/fr/kernel/manifests/${digest}`,
    `HEAD /v2/fr/root/manifests/${digest}`,
  ]);
});

test.each([
  [404, "gone", "does not have localhost:5000/fr/root"],
  [403, "locked", "without a login"],
  [500, "unknown", "answers 500"],
])("one that answers %i for one of the two is %s", async (status, state, words) => {
  const registry = await aRegistry({ "fr/kernel": 200, "fr/root": status });

  expect(await askRegistry({ ...published, registry }, signal)).toMatchObject({
    state,
    words: expect.stringContaining(words),
  });
});

test("one that cannot be asked says nothing of the image", async () => {
  expect(await askRegistry(published, signal)).toMatchObject({
    state: "unknown",
    words: expect.stringContaining("of the host's own"),
  });
  const registry = "127.0.0.1:1";
  expect(await askRegistry({ ...published, registry }, signal)).toMatchObject({ state: "unknown" });
});
