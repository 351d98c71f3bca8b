import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Secret } from "../base/secret.ts";
import type { TraceStatus } from "./runner-api.ts";
import { JobPayload } from "./runner-api.ts";
import { appendWithRecovery, crc32Combine, maskSecrets } from "./trace.ts";

/** A trace as GitLab keeps it: a patch must begin where the trace ends, or repeat its last bytes. */
function createTrace(content: string) {
  let stored = Buffer.from(content);
  let calls = 0;
  return {
    text: () => stored.toString(),
    calls: () => calls,
    async appendTrace({
      startBytes,
      bytes,
    }: {
      startBytes: number;
      bytes: Uint8Array;
    }): Promise<TraceStatus> {
      calls++;
      const endBytes = startBytes + bytes.length;
      const extendsTrace = startBytes === stored.length || endBytes === stored.length;
      if (!extendsTrace) return { kind: "elsewhere", sizeBytes: stored.length };
      stored = Buffer.concat([stored.subarray(0, startBytes), bytes]);
      return { kind: "accepted", sizeBytes: stored.length, status: "running", intervalMs: 3_000 };
    },
  };
}

const job = { jobId: 7, jobToken: new Secret("glcbt-1") };

describe("appendWithRecovery", () => {
  test("appends at the end of the trace", async () => {
    const trace = createTrace("head\n");

    const status = await appendWithRecovery({
      api: trace,
      ...job,
      startBytes: 5,
      bytes: Buffer.from("tail"),
    });

    expect(status).toEqual({ kind: "accepted", sizeBytes: 9, status: "running", intervalMs: 3_000 });
    expect(trace.text()).toBe("head\ntail");
  });

  test("leaves out what GitLab already has", async () => {
    const trace = createTrace("head\nta");

    const status = await appendWithRecovery({
      api: trace,
      ...job,
      startBytes: 5,
      bytes: Buffer.from("tail"),
    });

    expect(status).toMatchObject({ kind: "accepted", sizeBytes: 9 });
    expect(trace.text()).toBe("head\ntail");
  });

  test("counts bytes that GitLab has beyond the end as accepted", async () => {
    const trace = createTrace("head\ntail and more");

    const status = await appendWithRecovery({
      api: trace,
      ...job,
      startBytes: 5,
      bytes: Buffer.from("tail"),
    });

    expect(status).toMatchObject({ kind: "accepted", sizeBytes: 18 });
    expect(trace.text()).toBe("head\ntail and more");
  });

  test("says where to begin again when GitLab has less than expected", async () => {
    const trace = createTrace("he");

    const status = await appendWithRecovery({
      api: trace,
      ...job,
      startBytes: 5,
      bytes: Buffer.from("tail"),
    });

    expect(status).toEqual({ kind: "elsewhere", sizeBytes: 2 });
  });

  test("sends nothing when there is nothing to send", async () => {
    const trace = createTrace("head\n");

    const status = await appendWithRecovery({ api: trace, ...job, startBytes: 5, bytes: new Uint8Array() });

    expect(status).toMatchObject({ kind: "accepted", sizeBytes: 5 });
    expect(trace.calls()).toBe(0);
  });

  test("gives up when GitLab's size never settles", async () => {
    let sizeBytes = 5;
    const api = {
      appendTrace: async (): Promise<TraceStatus> => ({ kind: "elsewhere", sizeBytes: ++sizeBytes }),
    };

    const status = await appendWithRecovery({ api, ...job, startBytes: 5, bytes: Buffer.alloc(100) });

    expect(status).toMatchObject({ kind: "unavailable" });
  });

  test("passes on that the job is over", async () => {
    const api = { appendTrace: async (): Promise<TraceStatus> => ({ kind: "over", status: "canceled" }) };

    const status = await appendWithRecovery({ api, ...job, startBytes: 0, bytes: Buffer.from("x") });

    expect(status).toEqual({ kind: "over", status: "canceled" });
  });
});

test("crc32Combine gives the checksum of the whole from those of its parts", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3_000 }), fc.uint8Array({ maxLength: 3_000 }), (a, b) => {
      const combined = crc32Combine(crc32(a), crc32(b), b.length);

      expect(combined).toBe(crc32(Buffer.concat([a, b])));
    }),
  );
});

test("crc32Combine holds for lengths beyond 32 bits", () => {
  const lengthBytes = 2 ** 32 + 5;
  const empty = crc32("");
  const shiftedTwice = crc32Combine(crc32Combine(crc32("abc"), empty, 2 ** 31), empty, lengthBytes - 2 ** 31);

  expect(crc32Combine(crc32("abc"), empty, lengthBytes)).toBe(shiftedTwice);
});

describe("maskSecrets", () => {
  function payloadWith(variables: { key: string; value: string | null; masked?: boolean }[]) {
    return JobPayload.parse({
      id: 1,
      token: "glcbt-own-token",
      job_info: { name: "build" },
      variables,
      dependencies: [{ id: 2, name: "lint", token: "glcbt-other" }],
    });
  }

  test("hides tokens and masked values, and nothing else", () => {
    const payload = payloadWith([
      { key: "PASSWORD", value: "hunter2+(.*)", masked: true },
      { key: "COLOUR", value: "green", masked: false },
      { key: "EMPTY", value: null, masked: true },
    ]);

    const text = maskSecrets("green hunter2+(.*) glcbt-own-token glcbt-other hunter2", payload);

    expect(text).toBe("green [MASKED] [MASKED] [MASKED] hunter2");
  });

  test("hides a secret that contains another as a whole", () => {
    const payload = payloadWith([
      { key: "A", value: "secretsecret", masked: true },
      { key: "B", value: "secretsecret-long", masked: true },
    ]);

    expect(maskSecrets("x secretsecret-long y", payload)).toBe("x [MASKED] y");
  });

  test("hides values of several lines, whatever the line ends, and their lines alone", () => {
    const payload = payloadWith([{ key: "KEY", value: "first-line\nsecond-line\nend\n", masked: true }]);

    expect(maskSecrets("a first-line\r\nsecond-line\r\nend b", payload)).toBe("a [MASKED] b");
    expect(maskSecrets("a second-line end b", payload)).toBe("a [MASKED] end b");
  });
});
