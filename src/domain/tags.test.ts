import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readTag } from "./tags.ts";

const read = (tag: string, prefix = "firecracker") => readTag(tag, prefix);

describe("a tag that names a size", () => {
  test.each([
    ["firecracker-2cpu-4gb", 2, 4_096],
    ["Firecracker-2CPU-4GB", 2, 4_096],
    ["firecracker-1cpu-512mb", 1, 512],
    ["firecracker-0.5cpu-1.5gb", 0.5, 1_536],
    ["firecracker-1cpu-0.3gb", 1, 307],
    ["firecracker-02cpu-04gb", 2, 4_096],
    ["firecracker-100000cpu-1gb", 100_000, 1_024],
  ])("%s", (tag, cpus, memoryMib) => {
    expect(read(tag)).toEqual({ kind: "size", size: { cpus, memoryMib } });
  });

  test("its prefix is what the configuration says, in any case and with any dashes", () => {
    expect(read("VM-1cpu-1gb", "vm")).toMatchObject({ kind: "size" });
    expect(read("my-vm_2-1cpu-1gb", "my-VM_2")).toMatchObject({ kind: "size" });
    expect(read("firecracker-1cpu-1gb", "vm")).toEqual({ kind: "other" });
  });

  test("is read as it was written", () => {
    const tenths = fc.integer({ min: 1, max: 10_000 }).map((count) => count / 10);
    fc.assert(
      fc.property(tenths, tenths, fc.constantFrom("gb", "mb", "GB", "Mb"), (cpus, memory, unit) => {
        const wanted = Math.floor(memory * (unit.toLowerCase() === "gb" ? 1024 : 1));
        const reading = read(`firecracker-${cpus}cpu-${memory}${unit}`);
        if (wanted === 0) return reading.kind === "wrong";
        return reading.kind === "size" && reading.size.cpus === cpus && reading.size.memoryMib === wanted;
      }),
    );
  });
});

describe("a tag that means a size and is none says how to write it", () => {
  test.each([
    ["firecracker-2cpus-4gb", "firecracker-2cpu-4gb"],
    ["firecracker-2vcpu-4gib", "firecracker-2cpu-4gb"],
    ["firecracker-2cpu4gb", "firecracker-2cpu-4gb"],
    ["firecracker-2-cpu-4-gb", "firecracker-2cpu-4gb"],
    ["firecracker-2c-512m", "firecracker-2cpu-512mb"],
    ["firecracker-.5cpu-1,5gb", "firecracker-0.5cpu-1.5gb"],
    ["FIRECRACKER-2cores-4gb-ram", "firecracker-2cpu-4gb"],
  ])("%s → %s", (tag, meant) => {
    expect(read(tag)).toEqual({ kind: "wrong", reason: `${tag} is not a size: write ${meant}` });
  });

  test.each([
    "firecracker-",
    "firecracker-large",
    "firecracker-2cpu",
    "firecracker-4gb",
    "firecracker-4gb-2cpu",
    "firecracker-2cpu-4gb-",
    "firecracker--2cpu-4gb",
    "firecracker-2cpu-4tb",
    "firecracker-1e3cpu-4gb",
    "firecracker-+2cpu-4gb",
    "firecracker-0x2cpu-4gb",
    "firecracker-1.2.3cpu-4gb",
    "firecracker-٢cpu-٤gb",
    "firecracker-２cpu-４gb",
    "firecracker-2cpu-4gb\n",
  ])("%j", (tag) => {
    const reading = read(tag);

    expect(reading).toMatchObject({ kind: "wrong" });
    expect(reading.kind === "wrong" && reading.reason).toMatch(
      /is not a size: write such as firecracker-2cpu-4gb$/,
    );
  });

  test.each([
    ["firecracker-0cpu-4gb", "without a CPU"],
    ["firecracker-0.0cpu-4gb", "without a CPU"],
    [`firecracker-0.${"0".repeat(400)}1cpu-4gb`, "without a CPU"],
    ["firecracker-1cpu-0gb", "less than 1 MiB"],
    ["firecracker-1cpu-0.9mb", "less than 1 MiB"],
  ])("%s asks for a machine %s", (tag, expected) => {
    const reading = read(tag);

    expect(reading.kind === "wrong" && reading.reason).toContain(expected);
  });
});

describe("a tag of somebody else", () => {
  test.each(["", "docker", "firecracker", "firecrackers-2cpu-4gb", "2cpu-4gb", " firecracker-2cpu-4gb"])(
    "%j",
    (tag) => {
      expect(read(tag)).toEqual({ kind: "other" });
    },
  );

  test("may look like ours to an eye, and is not", () => {
    expect(read("firecrac\u212Aer-2cpu-4gb")).toEqual({ kind: "other" });
    expect(read("\uFB01recracker-2cpu-4gb")).toEqual({ kind: "other" });
  });
});

test("whatever a tag is, reading it neither throws nor takes long nor repeats what could move a cursor", () => {
  const tail = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.string({ unit: fc.constantFrom(..."0123456789.,-cpugbmv \u001b\n") }),
  );
  fc.assert(
    fc.property(tail, (text) => {
      const reading = read(`firecracker-${text}`);
      if (reading.kind === "wrong") expect(reading.reason).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}]/u);
      if (reading.kind === "size") {
        expect(reading.size.cpus).toBeGreaterThan(0);
        expect(reading.size.memoryMib).toBeGreaterThan(0);
      }
    }),
    { numRuns: 2_000 },
  );
  for (const long of ["1".repeat(200_000), "1.".repeat(100_000), `1cpu-${"9".repeat(200_000)}`]) {
    const reading = read(`firecracker-${long}`);
    expect(reading.kind === "wrong" && reading.reason.length).toBeLessThan(200);
  }
  expect(read(`firecracker-${"9".repeat(400)}cpu-4gb`)).toMatchObject({
    size: { cpus: Number.POSITIVE_INFINITY },
  });
});
