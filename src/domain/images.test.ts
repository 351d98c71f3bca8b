import { expect, test } from "vitest";
import { abilityNames, guestAbilities, lackingNote, wantedAbilities } from "./images.ts";

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
