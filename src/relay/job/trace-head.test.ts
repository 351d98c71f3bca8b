import { describe, expect, test } from "vitest";
import { aJob, someTime } from "../../../test/builders/job.ts";
import { aMachine } from "../../../test/builders/machine.ts";
import { aPayload } from "../../../test/builders/payload.ts";
import { composeTraceHead } from "./trace.ts";

const job = aJob({ state: "starting" });
const machine = aMachine({ state: "ready", driver: "qemu" });

interface Given {
  readonly traceHead?: string;
  readonly inContainers?: boolean;
  readonly whyNoCaches?: string;
}

function compose(
  payload: Parameters<typeof aPayload>[0] = {},
  { traceHead = "", inContainers = false, whyNoCaches }: Given = {},
): string {
  const own = { job: { ...job, traceHead }, machine, now: someTime + 9_000, inContainers, whyNoCaches };
  return composeTraceHead({ ...own, payload: JSON.stringify(aPayload(payload)) });
}

describe("the lines that open a trace", () => {
  test("say which machine, its size, where it runs, and how long it took", () => {
    expect(compose()).toBe(
      "\u001b[0;36mFireRunner: machine fr-aaaaaaaa (1 CPU, 1 GiB, qemu on local) was ready 2.9 s after the job was claimed, 1.9 s after it was created.\u001b[0;m\n",
    );
  });

  test("come once, after those of machines that died before", () => {
    const lost = "FireRunner: machine fr-bbbbbbbb was lost: killed; trying another machine\n";

    expect(compose({}, { traceHead: lost })).toContain("fr-aaaaaaaa");
    expect(compose({}, { traceHead: lost + compose() })).toBe("");
  });

  test("say that a proxy of the job's own cannot be reached from a machine of this computer", () => {
    const variables = [{ key: "http_proxy", value: "http://u:p@proxy.corp.example:3128", masked: false }];
    const payload = JSON.stringify(aPayload({ variables }));
    const elsewhere = aMachine({ state: "ready", driver: "flintlock", host: "metal-1" });

    expect(compose({ variables })).toContain(
      "the job sets http_proxy (proxy.corp.example:3128): this machine cannot",
    );
    expect(compose({ variables })).not.toContain("u:p@");
    expect(
      composeTraceHead({
        ...{ job, payload },
        machine: elsewhere,
        now: someTime,
        inContainers: false,
        whyNoCaches: undefined,
      }),
    ).not.toContain("http_proxy");
  });

  test("say that an image and services are ignored", () => {
    const text = compose({
      image: { name: "ruby:3.4" },
      services: [{ name: "postgres" }, { name: "redis" }],
    });

    expect(text).toMatch(/“image: ruby:3\.4” is ignored/);
    expect(text).toMatch(/“services: postgres, redis” is ignored/);
  });

  test("say nothing of the kind of a job in containers", () => {
    const job = { image: { name: "ruby" }, services: [{ name: "x" }], cache: [{ key: "k" }] };

    expect(compose(job, { inContainers: true })).not.toMatch(/ruby|services|cache/);
    expect(compose(job, { inContainers: true, whyNoCaches: "nobody keeps them" })).toMatch(
      /“cache: k” is ignored/,
    );
  });

  test("say why caches are not kept, where they are not, and nothing of a job without any", () => {
    const why = { whyNoCaches: "nobody keeps them" };
    const named = { cache: [{ key: "main-npm", paths: ["node_modules/"] }, { key: "main-pip" }] };

    expect(compose(named, why)).toMatch(/“cache: main-npm, main-pip” is ignored: nobody keeps them\./);
    expect(compose(named)).not.toMatch(/cache/);
    expect(compose({ cache: [{ key: null, paths: ["x"] }] }, why)).toMatch(/“cache” is ignored/);
    for (const nothing of [[], null, undefined])
      expect(compose({ cache: nothing }, why)).not.toMatch(/cache/);
    expect(compose({ cache: { of: "a shape to come" } }, why)).toMatch(/was ready/);
  });

  test("show no secret and no control character of a name", () => {
    const text = compose({ image: { name: `evil\u001b[2J\n${"masked-secret-of-the-job"}:1` } });

    expect(text).toContain("“image: evil [MASKED]:1”");
    expect(text.split("\n")).toHaveLength(3);
  });

  test("stay short, whatever the name", () => {
    expect(compose({ image: { name: "x".repeat(10_000) } }).length).toBeLessThan(700);
  });
});
