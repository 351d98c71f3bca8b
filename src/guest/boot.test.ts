import { execFileSync } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { guestFunction } from "../../test/harness/guest-function.ts";
import { makeCertificateAuthority } from "../../test/servers/certificates.ts";
import { Secret } from "../base/secret.ts";
import { type BootData, renderBootData } from "./boot.ts";

const data = {
  machineId: "fr-abcdefgh",
  token: new Secret("machine=secret"),
  nowMs: 1_700_000_000_999,
  executor: "shell",
  logLimitKib: 4_096,
} as const;

/** The function of the guest's init that takes authorities in, with its paths below `root`. */
async function takeIn(root: string, authorities: string, then: string): Promise<string> {
  const body = await guestFunction("firerunner-init", "trust_authorities");
  const line = /^ca=(.*)$/m.exec(renderBootData({ ...data, authorities }))?.[1] ?? "";
  const script = `${body.replaceAll(/=\/(etc|usr)\//g, `=${root}/$1/`)}\nboot_ca=$1\ntrust_authorities\n${then}`;
  return execFileSync("bash", ["-euc", script, "init", line], { encoding: "utf8" });
}

test("a guest adds authorities to the bundle that its programs read, once, and names it to those that look elsewhere", async () => {
  await using authority = await makeCertificateAuthority();
  await using stranger = await makeCertificateAuthority();
  await using directory = await temporaryDirectory();
  const root = directory.path;
  const { cert } = await authority.issue("gitlab.company.test");
  await mkdir(join(root, "etc/ssl/certs"), { recursive: true });
  await writeFile(join(root, "etc/ssl/certs/ca-certificates.crt"), stranger.ca);
  await writeFile(join(root, "leaf.pem"), cert);

  const verify = `openssl verify -no-CApath -CAfile "$SSL_CERT_FILE" ${root}/leaf.pem; echo "$NODE_EXTRA_CA_CERTS"`;
  const said = await takeIn(root, authority.ca, verify);
  await takeIn(root, authority.ca, "true").catch(() => undefined);

  expect(said).toContain("leaf.pem: OK");
  expect(said).toContain("/usr/local/share/ca-certificates/firerunner.crt");
  const bundle = await readFile(join(root, "etc/ssl/certs/ca-certificates.crt"), "utf8");
  expect(bundle).toBe(stranger.ca + authority.ca);
});

describe("boot data", () => {
  test("is one name and value per line, the time in whole seconds", () => {
    expect(renderBootData(data)).toBe(
      "machine=fr-abcdefgh\ntoken=machine=secret\nnow=1700000000\nexecutor=shell\nlog_limit=4096\n",
    );
  });

  test("names the proxy only when there is one", () => {
    expect(renderBootData({ ...data, proxy: "http://10.0.2.100:80" })).toContain(
      "\nproxy=http://10.0.2.100:80\n",
    );
  });

  test("says of a job in containers how many disks have its images, and how it runs", async () => {
    const containers = { imageDisks: 3, defaultImage: "debian:13", privileged: true };
    const docker = { ...data, executor: "docker", containers } as const;

    expect(renderBootData(data)).not.toContain("images=");
    expect(
      await readInGuest(docker, 'echo "$boot_executor $boot_images $boot_default_image $boot_privileged"'),
    ).toBe("docker 3 debian:13 true\n");
  });

  test("names the registries of images that no disk has, which the engine asks through the relay", async () => {
    const registries = ["docker.io", "r.example.com:5000"];
    const containers = { imageDisks: 0, registries, defaultImage: "a", privileged: true };
    const mirror = (await guestFunction("firerunner-init", "mirror_registries")).replaceAll(
      ">/etc/containers/registries.conf.d/firerunner.conf",
      ">&1",
    );
    const print = `mkdir() { :; }; relay=10.0.2.100:80\n${mirror}\nmirror_registries`;
    const entry = (location: string, at: string) =>
      `[[registry]]\nlocation = "${location}"\n[[registry.mirror]]\nlocation = "10.0.2.100:80/${at}"\ninsecure = true\n`;

    expect(await readInGuest({ ...data, executor: "docker", containers }, print)).toBe(
      entry("docker.io", "docker.io") + entry("r.example.com:5000", "r.example.com__5000"),
    );
    expect(await readInGuest(data, print)).toBe("");
  });

  test("carries authorities on one line, which the guest makes whole again", async () => {
    const authorities = "-----BEGIN CERTIFICATE-----\nMIIB+/==\n-----END CERTIFICATE-----\n";

    expect(await readInGuest({ ...data, authorities }, `printf '%b' "$boot_ca"`)).toBe(authorities);
  });

  test("refuses a value that would become two lines", () => {
    expect(() => renderBootData({ ...data, proxy: "http://a\ntoken=other" })).toThrow("more than one line");
  });

  test("is split at the first =, and keeps all others", async () => {
    const proxy = "http://10.0.2.100:80/?x=";

    const read = await readInGuest({ ...data, proxy }, 'echo "$boot_token $boot_proxy"');

    expect(read).toBe(`machine=secret ${proxy}\n`);
  });
});

/** What guest/firerunner-init makes of it. */
async function readInGuest(bootData: BootData, print: string): Promise<string> {
  const script = [
    await guestFunction("firerunner-init", "read_boot_data"),
    `ask_relay() { answer=$(cat); }; machine=${bootData.machineId}; read_boot_data; ${print}`,
  ].join("\n");
  return execFileSync("bash", ["-c", script], { input: renderBootData(bootData), encoding: "utf8" });
}
