import { expect, test } from "vitest";
import { usualContainers } from "../../test/builders/pool.ts";
import {
  abilitiesOf,
  abilityNames,
  askedBy,
  guestAbilities,
  lackingNote,
  wantedAbilities,
} from "./images.ts";

test("an image with all abilities is not spoken of", () => {
  expect(lackingNote({ name: "base", abilities: abilityNames }, wantedAbilities())).toBeUndefined();
});

test("an image of before abilities is named with what follows and the command that builds it", () => {
  const note = lackingNote({ name: "builds", variant: "full", abilities: [] }, ["log-limit", "lfs"]);

  expect(note?.problem).toContain(
    "the image builds was built by an earlier release (it lacks log-limit, lfs)",
  );
  expect(note?.problem).toContain(guestAbilities.lfs.without);
  expect(note?.hint).toMatch(/: firerunner image build full --name builds$/);
});

test("an ability that this release does not know is no trouble", () => {
  expect(
    lackingNote({ name: "base", abilities: [...abilityNames, "of-tomorrow"] }, wantedAbilities()),
  ).toBeUndefined();
});

test("a pool asks for what its own settings need, and for nothing else", () => {
  const runnerSettings = { environment: ["A=b"] };

  expect(askedBy({ containers: usualContainers })).toEqual([]);
  expect(askedBy({ containers: { ...usualContainers, socket: true }, runnerSettings })).toEqual([
    "runner-settings",
    "docker-socket",
  ]);
});

test("an image without Docker's engine is no old one: another variant has it", () => {
  const wanted = askedBy({ containers: { ...usualContainers, engine: "docker" } });
  const noteOf = (variant: string) =>
    lackingNote({ name: "ci", variant, abilities: abilitiesOf(variant) }, wanted);

  expect(noteOf("containers")).toMatchObject({
    problem: expect.stringContaining("the image ci has no Docker Engine"),
    hint: expect.stringMatching(/firerunner image build docker$/),
  });
  expect(noteOf("docker")).toBeUndefined();
  const old = lackingNote({ name: "docker", variant: "docker", abilities: [] }, wanted);
  expect(old?.problem).toContain("built by an earlier release");
});
