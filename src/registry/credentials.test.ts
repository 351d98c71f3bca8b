import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import type { Credentials } from "./credentials.ts";
import { findCredentials } from "./credentials.ts";

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
const path = process.env["PATH"];
beforeEach(async () => {
  directory = await temporaryDirectory();
});
afterEach(async () => {
  process.env["PATH"] = path;
  await directory[Symbol.asyncDispose]();
});

const base64 = (text: string) => Buffer.from(text).toString("base64");

async function find(config: unknown, registry = "registry.example.org:5000") {
  const file = join(directory.path, "config.json");
  await writeFile(file, typeof config === "string" ? config : JSON.stringify(config));
  return revealed(await findCredentials(registry, file));
}

function revealed(found: Credentials | undefined) {
  if (found?.kind === "identity-token") return { token: found.token.reveal() };
  return found && { username: found.username, password: found.password.reveal() };
}

/** A credential helper that notes what it was asked. */
async function helper(name: string, script: string): Promise<void> {
  const bin = join(directory.path, "bin");
  await mkdir(bin, { recursive: true });
  await writeFile(join(bin, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`);
  await chmod(join(bin, `docker-credential-${name}`), 0o755);
  process.env["PATH"] = `${bin}:${path}`;
}

describe("credentials of a registry", () => {
  test("are none without a file, without an entry and with an empty one", async () => {
    expect(await findCredentials("r.example.org", join(directory.path, "absent"))).toBeUndefined();
    expect(await find({})).toBeUndefined();
    expect(await find({ auths: { "other.example.org": { auth: base64("a:b") } } })).toBeUndefined();
    expect(await find({ auths: { "registry.example.org:5000": {} } })).toBeUndefined();
  });

  test.each([
    "registry.example.org:5000",
    "https://registry.example.org:5000",
    "https://Registry.example.org:5000/v1/",
  ])("are found as %s", async (key) => {
    expect(await find({ auths: { [key]: { auth: base64("me:pass:word") } } })).toEqual({
      username: "me",
      password: "pass:word",
    });
  });

  test("may be an identity token", async () => {
    const entry = { auth: base64("me:"), identitytoken: "id-token" };

    expect(await find({ auths: { "registry.example.org:5000": entry } })).toEqual({ token: "id-token" });
  });

  test("come from the helper of that registry, else from the common store", async () => {
    await helper("one", `read -r host; printf '{"Username":"one","Secret":"%s"}' "$1 $host"`);
    await helper("all", `printf '{"Username":"<token>","Secret":"t"}'`);
    const config = { credHelpers: { "registry.example.org:5000": "one" }, credsStore: "all" };

    expect(await find(config)).toEqual({ username: "one", password: "get registry.example.org:5000" });
    expect(await find(config, "other.example.org")).toEqual({ token: "t" });
  });

  test("are none when the helper knows none", async () => {
    await helper("all", "echo credentials not found in native keychain; exit 1");

    expect(await find({ credsStore: "all" })).toBeUndefined();
  });

  test.each([
    ["no JSON", "{ secret-word"],
    ["a wrong entry", { auths: { "registry.example.org:5000": { auth: base64("secret-word") } } }],
    ["a helper that is not installed", { credsStore: "absent" }],
    ["a helper with a path in its name", { credsStore: "../x" }],
    ["a helper that fails", { credsStore: "fails" }],
    ["a helper that says something else", { credsStore: "babbles" }],
  ])("%s is an error, which tells no secret", async (_, config) => {
    await helper("fails", "echo secret-word; echo secret-word >&2; exit 1");
    await helper("babbles", "echo secret-word");

    const error = await find(config).catch((thrown: unknown) => thrown);

    expect(error).toMatchObject({ code: "registry_credentials", hint: expect.any(String) });
    expect(inspect(error, { depth: 9 })).not.toContain("secret-word");
  });
});
