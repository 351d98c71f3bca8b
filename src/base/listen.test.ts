import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { systemCode } from "./errors.ts";
import { listenOn, listenProblem } from "./listen.ts";

test("a port that is taken is said so, with the port and the setting", async () => {
  const [first, second] = [createServer(), createServer()];
  onTestFinished(() => void first.close());
  await listenOn(first, { host: "127.0.0.1", port: 0 });
  const { port } = first.address() as AddressInfo;
  const error = await listenOn(second, { host: "127.0.0.1", port }).catch((cause: unknown) => cause);

  const { why, hint } = listenProblem(systemCode(error), port, "http.listen");
  expect(why).toBe("another program listens there");
  expect(hint).toContain(`:${port}`);
  expect(hint).toContain("http.listen");
});

test.each([
  ["EACCES", "this user may not", "relay.listen"],
  ["EADDRNOTAVAIL", "this computer has no such address", "ip address"],
  ["EAFNOSUPPORT", "this computer has no such address", "ip address"],
  ["ENOTFOUND", "this computer has no such address", "ip address"],
  ["EIO", "the system refuses it (EIO)", "relay.listen"],
  [undefined, "the system refuses it (for an unknown reason)", "relay.listen"],
])("%s in words", (code, why, inHint) => {
  const problem = listenProblem(code, 443, "relay.listen");
  expect(problem.why).toBe(why);
  expect(problem.hint).toContain(inHint);
});
