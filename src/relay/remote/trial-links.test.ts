import { expect, test } from "vitest";
import { createManualClock } from "../../base/manual-clock.ts";
import { createTrialLinks } from "./remote-listener.ts";

const [one, two] = ["fr-aaaaaaaa", "fr-bbbbbbbb"];

test("only the machine's own secret opens, and the first time that it does is its first word", async () => {
  const clock = createManualClock();
  const links = createTrialLinks(clock);
  const secret = links.issue(one).reveal();
  links.issue(two);

  expect(secret).toMatch(/^[0-9a-f]{64}$/);
  expect(links.check(one, "0".repeat(64))).toBe(false);
  expect(links.check(two, secret)).toBe(false);
  expect(links.firstWordAt(one)).toBeUndefined();
  expect(links.check(one, secret)).toBe(true);
  const firstAt = clock.now();
  await clock.advance(1_000);
  expect(links.check(one, secret)).toBe(true);
  expect(links.firstWordAt(one)).toBe(firstAt);
});

test("a new secret takes the place of the old one, and a machine that is forgotten has none", () => {
  const links = createTrialLinks(createManualClock());
  const before = links.issue(one).reveal();
  const after = links.issue(one).reveal();

  expect([links.check(one, before), links.check(one, after)]).toEqual([false, true]);
  links.forget(one);
  expect([links.check(one, after), links.check(one, "")]).toEqual([false, false]);
});
