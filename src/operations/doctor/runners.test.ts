import { expect, test } from "vitest";
import { describeRunner } from "../../runners/runner-mark.ts";
import { evaluateRunners, type RunnersSeen } from "./tagged.ts";

function runners(ours: number, others = 0): RunnersSeen["runners"] {
  const mark = { hostname: "host", tags: ["firecracker-2cpu-4gb"] };
  const descriptions = [
    ...Array.from({ length: ours }, (_, i) => describeRunner({ ...mark, installation: "me", key: `r-${i}` })),
    ...Array.from({ length: others }, () => "made by hand"),
    describeRunner({ ...mark, installation: "other", key: "r-1" }),
  ];
  return descriptions.map((description, id) => ({ id, description, paused: false, online: true }));
}

const seen = {
  scope: { kind: "group", id: 1, path: "example" },
  mark: "me",
  most: 50,
  hostname: "gitlab.example.org",
} as const;

test("runners are counted, those of this installation apart", () => {
  expect(evaluateRunners({ ...seen, runners: runners(3, 2) })).toEqual({
    level: "ok",
    message: "GitLab lists 6 for group example, 3 of them FireRunner's; webhook.runners.most is 50",
  });
  expect(evaluateRunners({ ...seen, mark: "", runners: runners(3, 2) }).message).toContain("4 of them");
});

test.each([
  ["our own limit is near", { runners: runners(9), most: 10 }, "9 of the 10 runners", "runner prune"],
  [
    "GitLab.com's free plan is nearly full",
    { runners: runners(1, 44), hostname: "gitlab.com" },
    "may allow 50",
    "paid",
  ],
  ["GitLab's own limit is near", { runners: runners(1, 900) }, "may allow 1000", "administrator"],
])("%s", (_what, changes, words, hint) => {
  const finding = evaluateRunners({ ...seen, ...changes });

  expect(finding).toMatchObject({ level: "warn", hint: expect.stringContaining(hint) });
  expect(finding.message).toContain(words);
});

test.each([
  ["a plan with more runners than the free one allows", { runners: runners(1, 100), hostname: "gitlab.com" }],
  ["a GitLab of one's own", { runners: runners(1, 47) }],
  ["a whole GitLab", { runners: runners(1, 2_000), scope: { kind: "instance" } as const }],
])("%s is no reason to warn", (_what, changes) => {
  expect(evaluateRunners({ ...seen, ...changes }).level).toBe("ok");
});
