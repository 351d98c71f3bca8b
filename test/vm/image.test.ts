import { afterEach, describe, expect, test } from "vitest";
import type { BootImage } from "../../src/domain/images.ts";
import { createImageStore } from "../../src/image/store.ts";
import { type RunnerGitLab, startRunnerGitLab } from "../builders/runner-gitlab.ts";
import { testImageDirectory } from "../harness/image.ts";
import {
  beforeItsEnd,
  createHandMachine,
  HAND_MACHINE_ID,
  type HandMachine,
  handBootData,
  measureBareBootMs,
} from "./boot-by-hand.ts";

const open: AsyncDisposable[] = [];

afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each[Symbol.asyncDispose]();
});

async function baseImage(): Promise<BootImage> {
  return await createImageStore({ directory: testImageDirectory() }).resolve("base");
}

function aJob(script: string[]) {
  return {
    id: 7,
    token: "glcbt-jobtoken",
    runner_info: { timeout: 120 },
    git_info: { repo_url: "http://10.0.2.100/group/project.git", refspecs: [], sha: "0", ref: "main" },
    variables: [
      { key: "GIT_STRATEGY", value: "none" },
      { key: "CI_PROJECT_PATH", value: "group/project" },
    ],
    steps: [{ name: "script", script, when: "on_success" }],
  };
}

async function bootWithJob(
  script: string[],
  bootData = handBootData(),
): Promise<{ machine: HandMachine; gitlab: RunnerGitLab }> {
  const machine = await createHandMachine(await baseImage());
  open.push(machine);
  const gitlab = await startRunnerGitLab(aJob(script), { socketPath: machine.relaySocket, bootData });
  open.push(gitlab);
  machine.start();
  return { machine, gitlab };
}

/** Runs a script of lines `name: command` in a machine and gives what each command printed. */
async function askGuest(
  commands: Record<string, string>,
  bootData?: string,
): Promise<Record<string, string>> {
  const script = Object.entries(commands).map(([name, command]) => `echo "<${name}>$(${command})</${name}>"`);
  const { machine, gitlab } = await bootWithJob(script, bootData);
  expect(await beforeItsEnd(machine, gitlab.finished)).toMatchObject({ state: "success" });
  await machine.ended;
  const trace = gitlab.record.trace.toString("utf8");
  const answers = [...trace.matchAll(/<(\w+)>((?:(?!<\w+>)[^$])*?)<\/\1>/gs)];
  return Object.fromEntries(answers.map(([, name, text]) => [name, text]));
}

describe("a machine booted from the image", () => {
  test("runs a job as root in a system that looks like one, and powers off", async () => {
    const answers = await askGuest({
      user: "id -un; echo $HOME",
      folder: "pwd",
      host: "cat /proc/sys/kernel/hostname; getent hosts $(cat /proc/sys/kernel/hostname) | tr -s ' '",
      path: "echo $PATH",
      language: "echo $LANG",
      first: "cat /proc/1/comm",
      mounts:
        "for p in /proc /sys /sys/fs/cgroup /dev /dev/pts /dev/shm /run /builds /cache; do mountpoint -q $p || echo $p; done",
      writable: "touch /etc/x /usr/x /root/x /tmp/x /var/lib/x /dev/shm/x /run/x && echo yes",
      substitution: "cat <(echo through /dev/fd)",
      files: "ulimit -n",
      core: "ulimit -c",
      token: "env | grep -cE 'machine-token|RUNNER_ENV|OUTPUT_LIMIT|CUSTOM_BUILD'",
      zombies: "(sleep 0.1 & exec true); sleep 1; grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l",
      resolver: "wc -c </etc/resolv.conf",
      git: "git --version",
      tools:
        "for tool in git-lfs sudo ps unzip zip wget ssh python3 make jq ip xz less bzip2; do type -P $tool >/dev/null || echo $tool; done",
      lfs: "git config --system filter.lfs.smudge",
      sudo: "sudo -n id -un </dev/null 2>&1",
      loopback: "exec 3<>/dev/tcp/127.0.0.1/1 2>&1 | grep -c refused",
    });

    expect(answers).toMatchObject({
      user: "root\n/root",
      folder: "/builds/group/project",
      host: `${HAND_MACHINE_ID}\n127.0.1.1 ${HAND_MACHINE_ID}`,
      path: expect.stringMatching(/^\/usr\/local\/sbin:.*:\/bin$/),
      language: "C.UTF-8",
      first: "firerunner-init",
      mounts: "",
      writable: "yes",
      substitution: "through /dev/fd",
      files: "65536",
      core: "0",
      token: "0",
      zombies: "0",
      resolver: "0",
      git: expect.stringMatching(/^git version 2/),
      tools: "",
      lfs: "git-lfs smudge -- %f",
      sudo: "root",
    });
  });

  test("holds nothing of the computer it was built on", async () => {
    const answers = await askGuest({
      sources: "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null",
      aptConfiguration: "ls /etc/apt/apt.conf.d | grep -c mmdebstrap",
      machine: "wc -c </etc/machine-id",
      logs: "find /var/log -type f | wc -l",
      lists: "find /var/lib/apt/lists -type f ! -name lock | wc -l",
      archives: "find /var/cache/apt -name '*.deb' | wc -l",
    });

    expect(answers["sources"]).toMatch(/^(deb http:\/\/(deb\.debian\.org|archive\.ubuntu\.com)\S* .*\n?)+$/);
    expect(answers).toMatchObject({
      aptConfiguration: "0",
      machine: "0",
      logs: "0",
      lists: "0",
      archives: "0",
    });
  });

  test("takes the time and the proxy from its boot data", async () => {
    const nowMs = Date.UTC(2031, 4, 5);

    const answers = await askGuest(
      { year: "date -u +%Y-%m-%d", proxy: "echo $http_proxy $HTTPS_PROXY", direct: "echo $no_proxy" },
      handBootData({ nowMs, proxy: "http://10.0.2.100:80" }),
    );

    expect(answers).toEqual({
      year: "2031-05-05",
      proxy: "http://10.0.2.100:80 http://10.0.2.100:80",
      direct: "10.0.2.100,localhost,127.0.0.1",
    });
  });

  test("says on the console why it cannot start, and ends", async () => {
    const image = await baseImage();
    const lacking = await createHandMachine({ ...image, layers: image.layers.slice(0, 1) });
    open.push(lacking);
    lacking.start();

    await lacking.ended;

    expect(await lacking.console()).toMatch(
      /switch_root: can't execute '\/sbin\/firerunner-init'|cannot start/,
    );
  });

  test("does not work with the boot data of another machine", async () => {
    const { machine, gitlab } = await bootWithJob(
      ["echo never"],
      handBootData().replace(HAND_MACHINE_ID, "fr-zzzzzzzz"),
    );

    await machine.ended;

    expect(await machine.console()).toContain("the relay took this machine for “fr-zzzzzzzz”");
    expect(gitlab.record.jobRequest).toBeUndefined();
  });

  test("powers off at once when it is only to show that it can boot", async () => {
    expect(await measureBareBootMs(await baseImage())).toBeGreaterThan(0);
  });
});
