import { expect, test } from "vitest";
import { baseIngredients } from "./base-layer.ts";

const options = {
  architecture: "amd64",
  sources: { distribution: "debian", suite: "bookworm", build: [], guest: [] } as never,
  variant: "base",
  packages: ["ruby"],
  aptOptions: [],
} as const;

test("a layer is one for all the packages in it, those of every machine and those of the configuration", async () => {
  const { packages } = (await baseIngredients(options)) as { packages: string[] };

  expect(packages).toEqual(expect.arrayContaining(["bash", "socat", "git-lfs", "sudo", "ruby"]));
  expect(packages).not.toContain("build-essential");
});

test("the full variant also has what compiles", async () => {
  const { packages } = (await baseIngredients({ ...options, variant: "full" })) as { packages: string[] };

  expect(packages).toEqual(expect.arrayContaining(["bash", "git-lfs", "build-essential", "cmake"]));
});
