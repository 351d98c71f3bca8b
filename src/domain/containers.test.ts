import { expect, test } from "vitest";
import { usualContainers } from "../../test/builders/pool.ts";
import { containersUse, namesContainers } from "./containers.ts";

const able = { containerRunnerInfo: { name: "gitlab-runner" } };
const kind = { image: "base", driver: "qemu", containers: usualContainers };
const use = (said: object, image: object = able, driver = "qemu") =>
  containersUse({ ...kind, driver, containers: { ...usualContainers, ...said } }, image);

test("an image that can run containers does, unless somebody says otherwise", () => {
  expect(use({})).toEqual({ kind: "run", images: "disks" });
  expect(use({ enabled: true })).toEqual({ kind: "run", images: "disks" });
  expect(use({ enabled: false })).toMatchObject({
    kind: "refuse",
    reason: expect.stringMatching(/containers\.enabled: false/),
  });
  expect(use({ ignore: true })).toEqual({ kind: "ignore", unsaid: undefined });
  expect(use({ enabled: false, ignore: true })).toEqual({ kind: "ignore", unsaid: undefined });
});

test("an image that cannot is as it was, and a refusal where containers are asked for", () => {
  expect(use({}, {})).toMatchObject({ unsaid: expect.stringContaining("its image base runs none") });
  expect(use({ enabled: true }, {})).toMatchObject({
    kind: "refuse",
    reason: expect.stringMatching(/its image base runs none/),
  });
  expect(use({ enabled: false }, {})).toMatchObject({ kind: "refuse" });
});

test("machines of a fleet pull their images themselves", () => {
  expect(use({}, able, "flintlock")).toEqual({ kind: "run", images: "pulled" });
  expect(use({}, {}, "flintlock")).toMatchObject({ kind: "ignore" });
  expect(use({ enabled: false }, able, "flintlock")).toMatchObject({ kind: "refuse" });
});

test("Docker's engine has to be in the image that is asked for it", () => {
  const docker = { engine: "docker" };

  expect(use(docker, { ...able, abilities: ["lfs"] })).toMatchObject({
    kind: "refuse",
    reason: expect.stringMatching(/its image base has no Docker Engine/),
  });
  expect(use(docker, { ...able, abilities: ["docker-engine"] })).toMatchObject({ kind: "run" });
  expect(use(docker, {})).toMatchObject({ kind: "ignore" });
});

test.each([
  [{}, false],
  [{ image: null, services: null }, false],
  [{ image: { name: "" }, services: [] }, false],
  [{ image: { name: "node" } }, true],
  [{ services: [{ name: "redis" }] }, true],
])("%j names something that runs in containers: %s", (payload, expected) => {
  expect(namesContainers(payload)).toBe(expected);
});
