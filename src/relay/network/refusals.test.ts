import { expect, test } from "vitest";
import { createRecordingLog } from "../../../test/builders/recording-log.ts";
import { createManualClock } from "../../base/manual-clock.ts";
import { createRefusals } from "./refusals.ts";

test("a flood is told at once, and then in one line a minute with its counts", async () => {
  const { log, lines } = createRecordingLog();
  const clock = createManualClock();
  const refusals = createRefusals(log, clock);
  for (let at = 0; at < 500; at++) refusals.count("no guest");
  refusals.count("wrong secret");
  const before = [...lines];
  await clock.advance(60_000);
  refusals.tick();
  await clock.advance(60_000);
  refusals.tick();

  expect(before).toEqual([expect.stringContaining('{"connections":{"no guest":1}}')]);
  expect(lines.slice(1)).toEqual([expect.stringContaining('{"no guest":499,"wrong secret":1}')]);
});
