import { describe, expect, test } from "vitest";
import { pulledRegistries } from "./pulled.ts";

const image = (name: string, ...policies: ("always" | "if-not-present" | "never")[]) => ({
  name,
  policies: policies.length === 0 ? (["always"] as const) : policies,
});

describe("the registries that a machine asks for the images that it pulls", () => {
  test("are each said once, as names have them", () => {
    const names = [
      "docker.io/library/a:1",
      "docker.io/b/c:1",
      "r.example.com:5000/d:1",
      "localhost:5000/e:1",
    ];

    expect(pulledRegistries(names.map((name) => image(name)))).toEqual([
      "docker.io",
      "r.example.com:5000",
      "localhost:5000",
    ]);
  });

  test("are none for an image that may only be there already: it is nowhere", () => {
    const never = image("docker.io/library/a:1", "never");

    expect(() => pulledRegistries([never])).toThrow(expect.objectContaining({ code: "container_not_here" }));
    expect(pulledRegistries([image("docker.io/library/a:1", "never", "always")])).toEqual(["docker.io"]);
  });

  test.each(["localhost/tool:1", "[2001:db8::1]:5000/tool:1"])(
    "%s is of none that the relay could be told of",
    (name) => {
      expect(() => pulledRegistries([image(name)])).toThrow(
        expect.objectContaining({ code: "container_bad_name" }),
      );
    },
  );
});
