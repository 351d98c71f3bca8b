import { expect, test } from "vitest";
import { loadConfig } from "../config/load.ts";
import { oneUserProblem } from "./one-user.ts";

test.each([
  ["without root, with machines here", 1000, "qemu", true],
  ["without root, with machines on other hosts alone", 1000, "flintlock", false],
  ["as root", 0, "qemu", false],
])("that machines are the same user as FireRunner is told %s", async (_, uid, driver, told) => {
  const hosts =
    driver === "flintlock"
      ? "vm: { flintlock: { hosts: { a: { address: 'a:1', cpus: 1, memory: 4GiB } } } }\nrelay: { listen: ['0.0.0.0:1'], advertise: 'a.example.org:1' }"
      : "";
  const text = `gitlab: { url: https://g.example.org }\npools: { p: { driver: ${driver}, runner: { token: glrt-x } } }\n${hosts}`;
  const config = await loadConfig({
    file: "/f.yaml",
    env: {},
    readFile: async () => ({ text, mode: 0o600 }),
  });

  const found = oneUserProblem(config, uid);

  expect(found !== undefined).toBe(told);
  if (found) expect(found.problem).toMatch(/could read the key, the tokens.*change the images/);
});
