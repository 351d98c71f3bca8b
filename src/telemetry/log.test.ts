import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FireRunnerError } from "../base/errors.ts";
import { Secret } from "../base/secret.ts";
import type { LogSettings } from "./config.ts";
import { hiddenNames } from "./fields.ts";
import { formatFor } from "./formats.ts";
import { createLog } from "./log.ts";

function open(settings: Partial<LogSettings> = {}, terminal = false) {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  const root = createLog({
    settings: { level: "info", format: "auto", fields: "standard", ...settings },
    terminal,
    destination,
  });
  return { ...root, lines, text: () => lines.join("") };
}

const claimed = { jobId: 7, machineId: "fr-a", tookMs: 4, phases: { runMs: 1 } };

describe("the log", () => {
  test("is JSON lines with level, time, event, fields under their fixed names and message", () => {
    const { log, lines } = open();

    log.child({ component: "relay", machineId: "fr-b" }).info(claimed, "job claimed: twice");

    const { time, ...line } = JSON.parse(lines[0] ?? "");
    expect(time).toMatch(/^\d{4}-\d\d-\d\dT/);
    expect(line).toEqual({
      ...{ level: "info", component: "relay", event: "job-claimed", job_id: 7, machine_id: "fr-a" },
      ...{ duration_ms: 4, phases: { run_ms: 1 }, msg: "job claimed: twice" },
    });
  });

  test("has errors with their code and causes, and where bugs happened", () => {
    const { log, lines } = open();
    const cause = new Error("no route");

    log.warn({ err: new FireRunnerError("gitlab_unreachable", "asking failed", { cause }) }, "a");
    log.warn({ error: "in words" }, "b");
    log.error({ err: new TypeError("x is undefined") }, "c");

    const errors = lines.map((line) => JSON.parse(line).error);
    expect(errors[0]).toEqual({ code: "gitlab_unreachable", message: "asking failed: no route" });
    expect(errors[1]).toEqual({ message: "in words" });
    expect(errors[2]).toMatchObject({ type: "TypeError", stack: expect.stringContaining("log.test.ts") });
  });

  test("has the names of the release before for who asks for them", () => {
    const { log, lines } = open({ fields: "old" });

    log.child({ component: "relay" }).info({ ...claimed, err: new Error("no") }, "job claimed");

    const line = JSON.parse(lines[0] ?? "");
    expect(line).toMatchObject({
      ...claimed,
      component: "relay",
      err: { message: "no" },
      msg: "job claimed",
    });
    expect(line).not.toHaveProperty("event");
  });

  test("is name=value as logfmt, of which no value can make a second line or a second field", () => {
    const { log, text } = open({ format: "logfmt" });
    const name = 'a "b" c=d\n\u001b[31m\ttab';

    log.warn({ jobId: 7, name, list: [1, "x y"], phases: { runMs: 1 }, none: null }, "job failed");

    expect(text().replace(/time=\S+Z/, "time=")).toBe(
      String.raw`level=warn time= event=job-failed job_id=7 name="a \"b\" c=d\n\u001b[31m\ttab" list="[1,\"x y\"]" phases.run_ms=1 none=null msg="job failed"` +
        "\n",
    );
  });

  test("has a priority before each line for systemd's journal", () => {
    const { log, lines } = open({ format: "journald", level: "debug" });

    for (const level of ["debug", "info", "warn", "error"] as const) log[level]({}, "a\nb");

    expect(lines.map((line) => line.slice(0, 4))).toEqual(["<7>{", "<6>{", "<4>{", "<3>{"]);
    expect(lines.every((line) => line.indexOf("\n") === line.length - 1)).toBe(true);
    expect(JSON.parse(lines[0]?.slice(3) ?? "")).toMatchObject({ level: "debug" });
  });

  test.each([
    [{ terminal: true, journal: true }, "pretty"],
    [{ terminal: false, journal: true }, "journald"],
    [{ terminal: false, journal: false }, "json"],
    [{ terminal: false }, "json"],
  ] as const)("chooses by itself for %j", (outlet, format) => {
    expect(formatFor("auto", outlet)).toBe(format);
    expect(formatFor("logfmt", outlet)).toBe("logfmt");
  });

  test("is for people on a terminal", () => {
    const { log, text } = open({}, true);

    log.warn({ jobId: 7 }, "job cannot go on");

    expect(text()).toContain("job cannot go on");
    expect(() => JSON.parse(text())).toThrow();
  });

  test("changes its level for loggers that exist already", () => {
    const { log, lines, setLevel } = open({ level: "warn" });
    const child = log.child({ component: "vm" });

    child.info({}, "unheard");
    setLevel("debug");
    child.debug({}, "heard");
    setLevel("silent");
    child.error({}, "unheard");

    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain("heard");
  });

  test("prints causes of errors", () => {
    const { log, text } = open();

    log.error({ err: new Error("outer", { cause: new Error("inner") }) }, "failed");

    expect(text()).toContain("outer");
    expect(text()).toContain("inner");
  });

  test("never prints a secret", () => {
    const { log, text } = open();

    log.info({ token: "PLANTED", pool: { runnerToken: new Secret("PLANTED") } }, "a");
    log.info({ headers: { authorization: "Bearer PLANTED" } }, "b");
    log.info({ request: { headers: { authorization: "PLANTED" } }, secret: new Secret("PLANTED") }, "c");
    log.child({ password: "PLANTED" }).info({ any: [new Secret("PLANTED")] }, "d");

    expect(text()).not.toContain("PLANTED");
    expect(text().match(/\[secret\]/g)?.length).toBeGreaterThanOrEqual(6);
  });

  test("never prints a secret, whatever it is in, in any form", () => {
    const word = "PLANTEDvalue";
    const asToken = fc
      .constantFrom("glrt-", "glpat-", "glcbt-", "glrtr-", "gldt-t3_")
      .map((prefix) => `said ${prefix}${word}1234 and left`);
    const planted = fc.oneof(
      fc.constant(new Secret(word)),
      fc.constant(new Set([new Secret(word)])),
      fc.constant(new Map([["token", word]])),
      asToken,
      asToken.map((text) => new Error(text, { cause: new FireRunnerError("x", text) })),
      fc.constantFrom(...hiddenNames, "API_TOKEN", "private-token").map((name) => ({ [name]: word })),
    );
    const { value } = fc.letrec<{ value: unknown }>((tie) => ({
      value: fc.oneof(
        { maxDepth: 5 },
        planted,
        fc.array(tie("value"), { maxLength: 3 }),
        fc.dictionary(fc.string(), tie("value"), { maxKeys: 3 }),
      ),
    }));
    const forms = fc.constantFrom("json", "logfmt", "journald", "pretty");
    fc.assert(
      fc.property(value, forms, fc.string(), (given, format, name) => {
        const { log, lines, text } = open({ format });
        log.child({ within: given }).error({ [name]: given, err: given, list: [given] }, "failed");
        expect(text()).not.toContain("PLANTED");
        expect(lines).toHaveLength(1);
        if (format !== "pretty") expect(text().indexOf("\n")).toBe(text().length - 1);
      }),
      { numRuns: 300 },
    );
  });
});
