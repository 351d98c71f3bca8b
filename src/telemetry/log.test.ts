import { describe, expect, test } from "vitest";
import { Secret } from "../base/secret.ts";
import type { LogSettings } from "./config.ts";
import { createLog } from "./log.ts";

function open(settings: Partial<LogSettings> = {}, terminal = false) {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  const root = createLog({ settings: { level: "info", format: "auto", ...settings }, terminal, destination });
  return { ...root, lines, text: () => lines.join("") };
}

describe("the log", () => {
  test("is JSON lines with level, time, fields and message", () => {
    const { log, lines } = open();

    log.child({ component: "relay" }).info({ jobId: 7 }, "job claimed");

    expect(JSON.parse(lines[0] ?? "")).toMatchObject({
      level: "info",
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      component: "relay",
      jobId: 7,
      msg: "job claimed",
    });
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
});
