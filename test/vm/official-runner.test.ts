import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { guestFile } from "../../src/base/guest-files.ts";
import { buildImage } from "../../src/image/build.ts";
import { ImagesConfig } from "../../src/image/config.ts";
import { createImageStore } from "../../src/image/store.ts";
import { startRunnerGitLab } from "../builders/runner-gitlab.ts";
import { testImageDirectory } from "../harness/image.ts";
import { startRunnerMirror } from "../servers/runner-mirror.ts";
import { makeSigningKey } from "../servers/signing-key.ts";
import { beforeItsEnd, createHandMachine, handBootData } from "./boot-by-hand.ts";

/** Says in the job's log that it is the one from the mirror. */
const program = Buffer.from(
  readFileSync(guestFile("stand-in-runner"), "utf8").replace(
    "my $VERSION = '1.0.0';",
    "my $VERSION = '18.0.0';",
  ),
);

test.runIf(process.env["FIRERUNNER_SLOW_MACHINES"])(
  "a runner that is downloaded and proved is asked what it can do, built into an image, and runs a job in a machine of it",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "fr-official-vm-"));
    const key = makeSigningKey("gitlab");
    const mirror = await startRunnerMirror(program, key);
    try {
      // The base layer is there already: what is new is the runner.
      const tested = await createImageStore({ directory: testImageDirectory() }).find("base");
      if (!tested) throw new Error("there is no test image");
      cpSync(tested.directory, join(directory, tested.manifest.digest.slice(7, 19)), { recursive: true });

      const config = ImagesConfig.parse({ runnerMirror: mirror.url });
      const release = mirror.release;
      const built = await buildImage(
        { directory, name: "base", config, runner: { kind: "official" }, release, clock: systemClock },
        () => {},
      );

      expect(built).toMatchObject({ built: true, notes: [] });
      expect(built.manifest.runner).toMatchObject({ kind: "official", version: "18.0.0" });
      await using machine = await createHandMachine(built.image);
      await using gitlab = await startRunnerGitLab(aJob(), {
        socketPath: machine.relaySocket,
        bootData: handBootData(),
      });
      machine.start();
      expect(await beforeItsEnd(machine, gitlab.finished)).toMatchObject({ state: "success" });
      expect(gitlab.record.trace.toString("utf8")).toContain("ran in a machine");
      expect(JSON.stringify(gitlab.record.jobRequest)).toContain("18.0.0");
    } finally {
      await mirror[Symbol.asyncDispose]();
      key.remove();
      rmSync(directory, { recursive: true, force: true });
    }
  },
);

function aJob() {
  return {
    id: 7,
    token: "glcbt-jobtoken",
    runner_info: { timeout: 120 },
    git_info: { repo_url: "http://10.0.2.100/group/project.git", refspecs: [], sha: "0", ref: "main" },
    variables: [{ key: "GIT_STRATEGY", value: "none" }],
    steps: [{ name: "script", script: ["echo ran in a machine"], when: "on_success" }],
  };
}
