import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { aKind, tagRules } from "../../test/builders/tag-rules.ts";
import { routeJob, tagPoolName } from "./routing.ts";

const rules = tagRules();

function refusal(tags: readonly string[], given = rules): string {
  const routing = routeJob(tags, given);
  expect(routing.kind).toBe("refused");
  return routing.kind === "refused" ? routing.reason : "";
}

describe("a job whose tags name a size", () => {
  test("gets a machine of that size, from a runner with exactly its tags", () => {
    expect(routeJob(["linux", "firecracker-2cpu-4gb", "amd64", "linux"], rules)).toEqual({
      kind: "route",
      route: {
        tags: ["amd64", "firecracker-2cpu-4gb", "linux"],
        size: { cpus: 2, memoryMib: 4_096, diskMib: 20_480 },
        kind: rules.kind,
      },
    });
  });

  test("keeps the spelling of its tags, which GitLab compares exactly", () => {
    const routing = routeJob(["FireCracker-2CPU-4gb"], rules);

    expect(routing).toMatchObject({ route: { tags: ["FireCracker-2CPU-4gb"] } });
  });

  test("may name one size twice in two spellings", () => {
    expect(routeJob(["firecracker-1cpu-1gb", "firecracker-1cpu-1024mb"], rules)).toMatchObject({
      kind: "route",
    });
  });

  test("whatever its tags are, its runner has each of them once, sorted", () => {
    const word = fc.string({ unit: fc.constantFrom(..."abAB01-_."), minLength: 1, maxLength: 6 });
    const number = fc.integer({ min: 1, max: 16 });
    fc.assert(
      fc.property(fc.array(word, { maxLength: 20 }), number, number, (words, cpus, memory) => {
        const tags = [...words, `firecracker-${cpus}cpu-${memory}gb`];
        const routing = routeJob(tags, rules);
        expect(routing).toEqual({
          kind: "route",
          route: {
            tags: [...new Set(tags)].sort(),
            size: { cpus, memoryMib: memory * 1_024, diskMib: 20_480 },
            kind: rules.kind,
          },
        });
        expect(routeJob(tags.toReversed(), rules)).toEqual(routing);
      }),
    );
  });
});

test("a size that no host could hold is refused with the host's words", () => {
  const hostProblem = ({ cpus }: { cpus: number }) =>
    cpus > 2 ? "no host has 4 CPUs (the largest has 2)" : undefined;

  expect(refusal(["firecracker-4cpu-4gb"], { ...rules, hostProblem })).toBe(
    "firecracker-4cpu-4gb cannot be served: no host has 4 CPUs (the largest has 2)",
  );
  expect(routeJob(["firecracker-2cpu-4gb"], { ...rules, hostProblem }).kind).toBe("route");
});

describe("rules for further tags", () => {
  const gpu = aKind({ image: "gpu", diskMib: 40_960 });
  const arm = aKind({ image: "arm", driver: "other" });
  const withRules = tagRules({
    rules: [
      { tag: "gpu", kind: gpu },
      { tag: "arm", kind: arm },
      { tag: "firecracker-nightly", kind: arm },
    ],
  });

  test("the first one whose tag the job has decides what machine it is", () => {
    expect(routeJob(["arm", "firecracker-1cpu-1gb", "gpu"], withRules)).toMatchObject({
      route: { kind: gpu, size: { diskMib: 40_960 }, tags: ["arm", "firecracker-1cpu-1gb", "gpu"] },
    });
    expect(routeJob(["firecracker-1cpu-1gb"], withRules)).toMatchObject({ route: { kind: withRules.kind } });
    expect(routeJob(["GPU", "firecracker-1cpu-1gb"], withRules)).toMatchObject({
      route: { kind: withRules.kind },
    });
  });

  test("a rule's tag may start as a size does", () => {
    expect(routeJob(["firecracker-nightly", "firecracker-1cpu-1gb"], withRules)).toMatchObject({
      route: { kind: arm },
    });
    expect(refusal(["firecracker-nightly"], withRules)).toBe(
      "no tag of the job names a size: add one such as firecracker-2cpu-4gb",
    );
  });

  test("the driver of the rule judges the size", () => {
    const whole = {
      ...withRules,
      sizeProblem: (driver: string, { cpus }: { cpus: number }) =>
        driver === "other" && !Number.isInteger(cpus) ? "machines of other have whole CPUs" : undefined,
    };

    expect(routeJob(["firecracker-0.5cpu-1gb"], whole).kind).toBe("route");
    expect(refusal(["firecracker-0.5cpu-1gb", "arm"], whole)).toBe(
      "firecracker-0.5cpu-1gb cannot be served: machines of other have whole CPUs",
    );
  });
});

describe("a job that asks for what cannot be had", () => {
  test("is told which limit it meets", () => {
    expect(refusal(["firecracker-17cpu-1gb"])).toBe(
      "firecracker-17cpu-1gb cannot be served: webhook.sizes.maxCpus allows 16",
    );
    expect(refusal(["firecracker-1cpu-65gb"])).toBe(
      "firecracker-1cpu-65gb cannot be served: webhook.sizes.maxMemory allows 64 GiB",
    );
    expect(routeJob(["firecracker-16cpu-64gb"], rules).kind).toBe("route");
  });

  test("meets a limit with numbers beyond all numbers too", () => {
    const nines = "9".repeat(400);

    expect(refusal([`firecracker-${nines}cpu-1gb`])).toContain("maxCpus");
    expect(refusal([`firecracker-1cpu-${nines}gb`])).toContain("maxMemory");
  });

  test("is told that it names two sizes", () => {
    expect(refusal(["firecracker-2cpu-4gb", "firecracker-2cpu-8gb"])).toBe(
      "firecracker-2cpu-4gb and firecracker-2cpu-8gb are two sizes: keep one of the two tags",
    );
  });

  test("is told that a tag beside a size is none", () => {
    expect(refusal(["firecracker-2cpu-4gb", "firecracker-2cpus-4gb"])).toContain("is not a size");
  });

  test("is told that it has more tags than a runner can have", () => {
    const many = (count: number) => [...Array(count).keys()].map((index) => `t${index}`);

    expect(routeJob(["firecracker-2cpu-4gb", ...many(49)], rules).kind).toBe("route");
    expect(refusal(["firecracker-2cpu-4gb", ...many(50)])).toContain(
      "51 tags, and a GitLab runner can have 50",
    );
  });

  test.each(["a,b", " a", "a ", ""])("is told that %j cannot be a tag of a runner", (tag) => {
    expect(refusal(["firecracker-2cpu-4gb", tag])).toContain("cannot be given to a runner");
  });
});

test.each([[[]], [["docker", "linux"]], [["firecracker"]]])("%j is somebody else's job", (tags) => {
  expect(routeJob(tags, rules)).toEqual({ kind: "foreign" });
});

test("no tags make the routing throw, and only one kind of answer names a machine", () => {
  const tag = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.string({ unit: "binary" }).map((text) => `firecracker-${text}`),
    fc.constantFrom("firecracker-2cpu-4gb", "firecracker-1cpu-1gb", "__proto__", "constructor"),
  );
  fc.assert(
    fc.property(fc.array(tag, { maxLength: 60 }), (tags) => {
      const routing = routeJob(tags, rules);
      if (routing.kind === "route") expect(tags).toContain(routing.route.tags[0]);
      if (routing.kind === "refused") expect(routing.reason.length).toBeLessThan(400);
    }),
    { numRuns: 2_000 },
  );
});

test("jobs with the same tags share a pool, whatever the order", () => {
  expect(tagPoolName(["b", "a"])).toBe("tags:a,b");
  expect(tagPoolName(["a", "b"])).toBe(tagPoolName(["b", "a"]));
});
