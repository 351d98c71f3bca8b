import { expect, test } from "vitest";
import { findConfigFile } from "./find-file.ts";

test("the file that is named wins, then the variable, then the defaults in order", () => {
  const env = { FIRERUNNER_CONFIG: "/by/variable" };
  const all = () => true;

  expect(findConfigFile("/by/option", env, all)).toBe("/by/option");
  expect(findConfigFile(undefined, env, all)).toBe("/by/variable");
  expect(findConfigFile(undefined, { FIRERUNNER_CONFIG: "" }, all)).toBe("/etc/firerunner/config.yaml");
  expect(findConfigFile(undefined, {}, (path) => path.startsWith("./"))).toBe("./firerunner.yaml");
  expect(findConfigFile(undefined, {}, () => false)).toBeUndefined();
});
