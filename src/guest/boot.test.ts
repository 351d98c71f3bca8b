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
    const print = `mkdir() { :; }; relay=10.0.2.100:80\n${mirror}\nmirror_registries || true`;
    const entry = (location: string, at: string) =>
      `[[registry]]\nlocation = "${location}"\n[[registry.mirror]]\nlocation = "10.0.2.100:80/${at}"\ninsecure = true\n`;

    expect(await readInGuest({ ...data, executor: "docker", containers }, print)).toBe(
      entry("docker.io", "docker.io") + entry("r.example.com:5000", "r.example.com__5000"),
    );
    expect(await readInGuest(data, print)).toBe("");
  });

  test("says that jobs have the engine's socket, and that Docker's engine is behind it, where they are", async () => {
    const containers = { imageDisks: 0, defaultImage: "a", privileged: true, socket: true };
    const print = 'echo "$boot_engine-$boot_socket"';

    expect(await readInGuest({ ...data, executor: "docker", containers }, print)).toBe("-true\n");
    expect(await readInGuest({ ...data, engine: "docker" }, print)).toBe("docker-\n");
    expect(renderBootData({ ...data, engine: "podman" })).toBe(renderBootData(data));
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

describe("what a pool gives its jobs", () => {
  const containers = { imageDisks: 0, defaultImage: "a", privileged: false };
  const settings = {
    environment: ["PLAIN=a b", 'ODD=$HOME \\n "%s" \\\\ é', "EMPTY=", "NO_PROXY=.company.test"],
    preGetSources: "echo one\n\n  echo '\\t two'\n",
    preBuild: "set -u",
    postBuild: "printf '%s\\n' \"$X\"",
  };

  /** The arguments that the runner in the machine gets, by the line. */
  async function runnerFlags(bootData: BootData, before = ""): Promise<string[]> {
    const names = [
      "client_flags",
      "script_flag",
      "pool_flags",
      "socket_flags",
      "authority_flags",
      "container_flags",
    ];
    const functions = await Promise.all(names.map((name) => guestFunction("firerunner-init", name)));
    const run = `flags=() ENGINE=/bin/sh no_proxy=relay NO_PROXY=relay; mkdir() { :; }; ${before}
      [[ $boot_executor == shell ]] || container_flags
      pool_flags
      printf '%s\\0' "\${flags[@]}"`;
    return (await readInGuest(bootData, [...functions, run].join("\n"))).split("\0").slice(0, -1);
  }

  const valuesOf = (flag: string, flags: readonly string[]) =>
    flags.flatMap((each, at) => (each === flag ? [flags[at + 1]] : []));

  test.each(["shell", "docker"] as const)(
    "reaches the runner to the byte, with the executor %s",
    async (executor) => {
      const more = executor === "docker" ? { containers } : {};

      const flags = await runnerFlags({ ...data, executor, ...more, runnerSettings: settings });

      const environment = valuesOf("--env", flags);
      expect(environment).toEqual(expect.arrayContaining(settings.environment.slice(0, 3)));
      // The relay is reached without a proxy all the same.
      expect(environment.at(-1)).toBe("NO_PROXY=.company.test,relay");
      expect(valuesOf("--pre-get-sources-script", flags)).toEqual([settings.preGetSources]);
      expect(valuesOf("--pre-build-script", flags)).toEqual([settings.preBuild]);
      expect(valuesOf("--post-build-script", flags)).toEqual([settings.postBuild]);
    },
  );

  test("is nothing where the pool says nothing", async () => {
    expect(await runnerFlags(data, "ENGINE=")).toEqual([
      "--env",
      "GIT_CLONE_PATH=$CI_BUILDS_DIR/$CI_PROJECT_PATH",
    ]);
  });

  test("has docker build by podman where that is what it finds", async () => {
    const inContainers = { ...data, executor: "docker", containers } as const;
    const withSocket = { ...data, executor: "docker", containers: { ...containers, socket: true } } as const;
    const plain = "DOCKER_BUILDKIT=0";

    expect(await runnerFlags(data)).toContain(plain);
    expect(await runnerFlags({ ...data, engine: "docker" })).not.toContain(plain);
    // A job with docker:dind has BuildKit.
    expect(await runnerFlags(inContainers)).not.toContain(plain);
    expect(await runnerFlags(withSocket)).toEqual(
      expect.arrayContaining([
        plain,
        "TESTCONTAINERS_HOST_OVERRIDE=host.docker.internal",
        "/run/podman.sock:/var/run/docker.sock",
      ]),
    );
    expect(await runnerFlags({ ...withSocket, engine: "docker" })).toEqual(
      expect.arrayContaining(["/run/docker.sock:/var/run/docker.sock"]),
    );
  });

  test("leads to the machine's authorities, in containers too", async () => {
    const trusting = "SSL_CERT_FILE=/a/all.crt NODE_EXTRA_CA_CERTS=/a/own.crt;";

    const flags = await runnerFlags({ ...data, executor: "docker", containers }, trusting);

    expect(valuesOf("--docker-volumes", flags)).toEqual(
      expect.arrayContaining([
        "/a/all.crt:/etc/ssl/firerunner/bundle.crt:ro",
        "/a/own.crt:/etc/ssl/firerunner/authorities.crt:ro",
      ]),
    );
    expect(valuesOf("--env", flags)).toEqual(
      expect.arrayContaining(["GIT_SSL_CAINFO=/etc/ssl/firerunner/bundle.crt"]),
    );
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
