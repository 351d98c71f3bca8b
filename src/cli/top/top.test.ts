import { stripVTControlCharacters } from "node:util";
import { describe, expect, test } from "vitest";
import { aWaitingJob, aWebhookStatus } from "../../../test/builders/webhook-ports.ts";
import { aDaemonStatus } from "../../../test/harness/control-daemon.ts";
import { visibleWidth } from "../../base/text.ts";
import { JobView, type MachineView, type Status } from "../../views/api.ts";
import { snapshotOf } from "./rows.ts";
import { type ScreenSize, screenOf } from "./screen.ts";
import { atStart, type Key, press, selectedIndex, type TopState, type Wish } from "./state.ts";

const now = 1_700_000_100_000;
const size = { columns: 80, rows: 24 };

function aJobView(id: number, change: Partial<JobView> = {}): JobView {
  return JobView.parse({
    ...{ id, pool: "small", runner: "glrt-abcd", state: "running", name: `build-${id}`, stage: "test" },
    ...{
      project: "group/app",
      size: { cpus: 1, memoryMib: 1_024, diskMib: 4_096 },
      timeoutMs: 1,
      attempt: 1,
    },
    ...{
      machineId: "fr-aaaaaaaa",
      claimedAt: now - 60_000,
      startingAt: null,
      runningAt: null,
      failingAt: null,
    },
    ...{ finishedAt: null, reportAt: null, result: null, reason: null, ...change },
  });
}

const machine: MachineView = {
  ...{ id: "fr-aaaaaaaa", jobId: 1, pool: "small", driver: "qemu", host: "local", image: "sha256:0" },
  ...{
    size: { cpus: 1, memoryMib: 1_024, diskMib: 4_096 },
    state: "busy",
    reason: null,
    createdAt: now - 60_000,
  },
  ...{ bootingAt: null, heardAt: null, readyAt: null, busyAt: null, stoppingAt: null, goneAt: null },
};

function aStatus(change: Partial<Status> = {}): Status {
  const counts = { running: 2, starting: 0, queued: 1, waiting: 1 };
  return {
    ...aDaemonStatus,
    pools: aDaemonStatus.pools.map((pool) => ({ ...pool, ...counts })),
    unfinished: [aJobView(1), aJobView(2, { state: "starting", name: "évil\u001b[2J\nname" })],
    ...{ liveMachines: 1, publicServer: null, door: null },
    recent: [
      aJobView(3, { state: "finished", result: "failed", outcome: "failed (memory)", finishedAt: now }),
    ],
    webhook: {
      ...aWebhookStatus(),
      ...{ listeners: [], doors: [], lastDelivery: null, projects: { known: 1, due: 0 } },
      ...{
        runners: { creating: 0, active: 0, retiring: 0 },
        waiting: [aWaitingJob({ id: 4, createdAt: now - 5_000 })],
      },
    },
    ...change,
  };
}

const loaded = (status: Status = aStatus()): TopState => ({
  ...atStart,
  snapshot: snapshotOf({ status, machines: [machine], at: now }),
});

const keys: Readonly<Record<string, Key>> = {
  Enter: { name: "return", sequence: "\r" },
  Esc: { name: "escape", sequence: "\u001b" },
  Back: { name: "backspace", sequence: "\u007f" },
  Tab: { name: "tab", sequence: "\t" },
  BackTab: { name: "tab", sequence: "\u001b[Z", shift: true },
  Up: { name: "up", sequence: "\u001b[A" },
  Down: { name: "down", sequence: "\u001b[B" },
  End: { name: "end", sequence: "\u001b[F" },
  Home: { name: "home", sequence: "\u001b[H" },
  Break: { name: "c", sequence: "\u0003", ctrl: true },
};

/** Keys with spaces between: names of the table above, or letters. */
function pressAll(state: TopState, words: string): { state: TopState; wishes: Wish[] } {
  const wishes: Wish[] = [];
  for (const word of words.split(" ")) {
    const pressed = press(state, keys[word] ?? { name: word, sequence: word }, 10);
    state = pressed.state;
    if (pressed.wish) wishes.push(pressed.wish);
  }
  return { state, wishes };
}

const shown = (state: TopState, at: ScreenSize = size) =>
  screenOf(state, at, true).map(stripVTControlCharacters);

describe("the screen", () => {
  test("has jobs that live, wait and ended, with the first selected", () => {
    const lines = shown(loaded());

    expect(lines).toHaveLength(24);
    expect(lines[0]).toContain("takes jobs  1 running, 1 starting, 1 waiting  FireRunner 1.2.3");
    expect(lines[1]).toBe("[1 jobs 4] 2 machines 1  3 hosts 1  4 pools 1 ");
    expect(lines[3]).toMatch(/^ {2}JOB +STATE +TIME/);
    expect(lines[4]).toMatch(/^> 1 +running +1m0s +small +group\/app +build-1/);
    expect(lines.slice(5, 8).map((line) => line.slice(0, 18).trim())).toEqual([
      expect.stringMatching(/^2 +starting/),
      expect.stringMatching(/^4 +waiting/),
      expect.stringMatching(/^3 +failed/),
    ]);
    expect(lines.at(-1)).toContain("q quit");
  });

  test.each([
    ["2", /^> fr-aaaaaaaa +busy +1m0s +1/],
    ["3", /^> local +ready +1\/4 +1\/8/],
    ["4", /^> small +ready +2\/4/],
  ])("has the other lists at %s", (key, first) => {
    expect(shown(pressAll(loaded(), key).state)[4]).toMatch(first);
  });

  test.each([
    [80, 24],
    [40, 10],
    [20, 5],
    [10, 2],
    [5, 1],
    [200, 60],
  ])("keeps to %i columns and %i rows, in every list and text", (columns, rows) => {
    const many = aStatus({
      unfinished: Array.from({ length: 500 }, (_, at) => aJobView(at + 10, { name: "測".repeat(60) })),
    });
    const subject = { kind: "job", jobId: 1, machineId: null } as const;
    const [title, lines] = ["x".repeat(300), ["y".repeat(300)]];
    const states: TopState[] = [
      atStart,
      { ...loaded(), problem: "FireRunner does not answer".repeat(9) },
      ...["1", "2", "3", "4", "d", "/ a b c"].map((words) => pressAll(loaded(many), words).state),
      { ...loaded(many), panel: { kind: "details", subject, title, lines, offset: 0 } },
      { ...loaded(aStatus({ gitlabProblem: "z".repeat(300) })), filter: "nothing like it" },
    ];
    for (const state of states)
      for (const hasColours of [true, false]) {
        const lines = screenOf(state, { columns, rows }, hasColours);
        expect(lines.length).toBeLessThanOrEqual(rows);
        expect(lines.filter((line) => visibleWidth(line) > columns)).toEqual([]);
      }
  });

  test("shows names without what steers a terminal", () => {
    const text = screenOf(loaded(), size, true).join("\n");

    expect(text).not.toContain("\u001b[2J");
    expect(text).toContain("évil name");
  });

  test("says that FireRunner is away, and keeps what it said last", () => {
    const lines = shown({ ...loaded(), problem: "no FireRunner runs; it is tried again" });

    expect(lines[0]).toBe("no FireRunner runs; it is tried again");
    expect(lines[4]).toContain("build-1");
  });

  test("scrolls so that the selected row is seen", () => {
    const unfinished = Array.from({ length: 100 }, (_, at) => aJobView(1_000 + at));
    const { state } = pressAll(loaded(aStatus({ unfinished })), "Down Down End Up Up");
    const marked = shown(state, { columns: 80, rows: 12 }).filter((line) => line.startsWith("> "));

    expect(marked).toEqual([expect.stringContaining("> 1099")]);
  });
});

describe("keys", () => {
  test("go through the views, forth and back", () => {
    expect(pressAll(loaded(), "Tab").state.view).toBe("machines");
    expect(pressAll(loaded(), "Tab Tab Tab Tab").state.view).toBe("jobs");
    expect(pressAll(loaded(), "BackTab").state.view).toBe("pools");
  });

  test("keep the selected row when others come and go, and the place when it goes", () => {
    const { state } = pressAll(loaded(), "Down Down");
    const more = aStatus({ unfinished: [aJobView(9), ...aStatus().unfinished] });
    const gone = aStatus({ webhook: null });

    expect(selectedIndex(state)).toBe(2);
    expect(selectedIndex({ ...state, snapshot: loaded(more).snapshot })).toBe(3);
    expect(selectedIndex({ ...state, snapshot: loaded(gone).snapshot })).toBe(2);
    expect(
      selectedIndex({
        ...state,
        snapshot: loaded(aStatus({ unfinished: [], recent: [], webhook: null })).snapshot,
      }),
    ).toBeUndefined();
  });

  test("filter while they are typed, by any cell and in any case", () => {
    const { state } = pressAll(loaded(), "/ B U I L D - 1 x Back");

    expect(shown(state)[4]).toContain("> 1 ");
    expect(shown(state)[5]?.trim()).toBe("");
    expect(shown(state).at(-1)).toContain("/BUILD-1_");
    // While it is typed q is a letter.
    expect(pressAll(loaded(), "/ q").wishes).toEqual([]);
    expect(shown(pressAll(state, "Enter").state)[1]).toContain("/BUILD-1");
    expect(pressAll(state, "Enter Esc").state.filter).toBe("");
    expect(shown(pressAll(state, "x y").state)[3]).toContain("No jobs with “BUILD-1xy”");
  });

  test("open the story of a job, and its log, and lead back", () => {
    const { state, wishes } = pressAll(loaded(), "Down Enter");
    expect(wishes).toEqual([{ kind: "read" }]);
    expect(state.panel).toMatchObject({ kind: "details", title: "Job 2" });
    expect(pressAll(state, "l").state.panel).toMatchObject({ kind: "log", title: "Log of job 2" });
    expect(pressAll(state, "q").state.panel).toBeUndefined();
    expect(pressAll(state, "q q").wishes).toEqual([{ kind: "quit" }]);
    expect(pressAll(loaded(), "2 l").state.panel).toMatchObject({ title: "Console of fr-aaaaaaaa" });
    expect(pressAll(loaded(), "4 l").state).toMatchObject({
      panel: undefined,
      message: "Jobs and machines have logs.",
    });
  });

  test("scroll a log from its end and a story from its beginning, and no further than they go", () => {
    const lines = Array.from({ length: 50 }, (_, at) => `line ${at}`);
    const open = (words: string): TopState => {
      const { state } = pressAll(loaded(), words);
      return state.panel ? { ...state, panel: { ...state.panel, lines } } : state;
    };
    const low = { columns: 80, rows: 14 };

    expect(shown(open("l"), low)[12]).toBe("line 49");
    expect(shown(pressAll(open("l"), "Up Up").state, low)[12]).toBe("line 47");
    expect(shown(pressAll(open("l"), "Home Home").state, low)[3]).toBe("line 0");
    expect(shown(open("Enter"), low)[3]).toBe("line 0");
    expect(shown(pressAll(open("Enter"), "End").state, low)[12]).toBe("line 49");
  });

  test("drain only after a question, and only for y", () => {
    const { state, wishes } = pressAll(loaded(), "d");
    expect([state.question?.text, wishes]).toEqual(["Take no new jobs? Running ones go on.", []]);
    expect(pressAll(state, "n")).toMatchObject({
      state: { question: undefined, message: "Nothing was done." },
      wishes: [],
    });
    expect(pressAll(state, "Enter").wishes).toEqual([]);
    expect(pressAll(state, "y").wishes).toEqual([{ kind: "drain", host: undefined }]);
    expect(pressAll(loaded(aStatus({ mode: "drain" })), "d y").wishes).toEqual([
      { kind: "resume", host: undefined },
    ]);
    expect(pressAll(loaded(), "3 d y").wishes).toEqual([{ kind: "drain", host: "qemu" }]);
    expect(pressAll({ ...loaded(), problem: "away" }, "d")).toMatchObject({ state: { question: undefined } });
  });

  test("end it from everywhere", () => {
    for (const words of ["Break", "/ a Break", "Enter Break", "d Break"])
      expect(pressAll(loaded(), words).wishes.at(-1)).toEqual({ kind: "quit" });
  });

  test("that mean nothing do nothing", () => {
    for (const word of ["x", "9", "0", "constructor", "toString", "%"])
      expect(pressAll(loaded(), word)).toMatchObject({
        state: { view: "jobs", panel: undefined },
        wishes: [],
      });
  });
});
